"""What comes on a connection, as requests: heads, bodies, and where one ends. No limits in time, no answers."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import httptools

from flatfee.server.call import Scope
from flatfee.server.faults import Fault
from flatfee.server.http.exchange import Exchange
from flatfee.wire import ErrorCode

if TYPE_CHECKING:
    from flatfee.server.http.connection import GuardedConnection

MAX_REQUEST_LINE: Final = 8192
"""Bytes of a request's path and query."""

_WISHES: Final = frozenset({b"connection", b"upgrade", b"http2-settings"})
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class Part(Enum):
    """What the bytes that come next belong to."""

    BETWEEN = "between requests"
    HEAD = "head"
    BODY = "body"


BETWEEN, HEAD, BODY = Part


class Reader:
    """Reads requests and hands them to their connection.

    ``last`` is the request that came last, ``loose`` counts the bytes that have come since the last of which
    anything was made. ``peers`` says who speaks with whom, as ASGI has it.
    """

    __slots__ = (
        "_connection",
        "_expects",
        "_headers",
        "_parser",
        "_peers",
        "_plain_head",
        "_url",
        "last",
        "loose",
        "part",
    )

    def __init__(self, connection: GuardedConnection, peers: dict[str, Any]) -> None:
        self._connection = connection
        self._peers = peers
        self._parser = self._new_parser()
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects = False
        self._plain_head = b""  # of a request that asks for another protocol, until it is read again
        self.part = BETWEEN
        self.loose = 0
        self.last: Exchange | None = None

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    @property
    def owed(self) -> bool:
        """Whether a head was begun and is not whole."""
        return self.part is HEAD or (self.loose > 0 and self.part is BETWEEN)

    @property
    def unread(self) -> bool:
        """Whether what comes is the rest of a body that was answered already."""
        return self.part is BODY and self.last is not None and self.last.over

    def end(self) -> None:
        """Let go of everything: nothing is to wait for the garbage collector."""
        del self._parser, self._connection
        self.last = None

    def feed(self, data: bytes) -> None:
        """Read what came.

        The parser stops behind the head of a request that asks for another protocol, and takes what follows for that
        protocol. Here only HTTP/1.1 is spoken: such a request is read again without its wish, body and all.

        Raises:
            httptools.HttpParserError: it is no HTTP; or no request of ours, and then its context is a ``Fault``.
        """
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                data = self._plain_head + data[stopped.args[0] :]
                self._plain_head = b""
                self._parser = self._new_parser()  # the other one is done if no request may follow
            else:
                return

    def _without_wishes(self) -> bytes:
        """Return the head that was read, without the wish for another protocol."""
        headers = [(name, value) for name, value in self._headers if name not in _WISHES]
        if not self._parser.should_keep_alive():
            headers.append((b"connection", b"close"))
        lines = [b"%b: %b\r\n" % header for header in headers]
        version = self._parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self._parser.get_method(), self._url, version, b"".join(lines))

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.part = HEAD
        self._url = b""
        self._headers = []
        self._expects = False

    def on_url(self, url: bytes) -> None:
        """Take a part of the first line."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        name = name.lower()
        if name == b"expect":
            self._expects = value.lower() == b"100-continue"
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin a request, unless it can be none or its first line is too long."""
        parser = self._parser
        method = parser.get_method()
        if method == b"CONNECT":
            raise Fault(ErrorCode.INVALID_REQUEST, "This is no proxy; send requests to the gateway itself.")
        if len(self._url) > MAX_REQUEST_LINE:
            raise Fault(ErrorCode.HEADERS_TOO_LARGE, f"The path exceeds {MAX_REQUEST_LINE} bytes; send less.")
        if parser.should_upgrade():
            self._plain_head = self._without_wishes()
            return
        version = parser.get_http_version()
        old = version == "1.0"
        exchange = Exchange(
            self._connection,
            without_body=method == b"HEAD",
            old=old,
            keep_alive=not old and parser.should_keep_alive(),
            expects=self._expects and not old,
        )
        self._connection.take_on(exchange, self._scope(method, version))
        self.last = exchange
        self.part = BODY
        self.loose = 0
        self._headers = []  # for trailers, which must never become headers of the request that runs already

    def _scope(self, method: bytes, version: str) -> Scope:
        url = httptools.parse_url(self._url)
        path = url.path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            **self._peers,
            "scheme": "http",
            "method": method.decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self._headers,
        }

    def on_body(self, body: bytes) -> None:
        """Take a part of a body; of one that was answered already, let it pass."""
        self.loose = 0
        if self.last is not None and not self.last.over:
            self.last.take(body)

    def on_message_complete(self) -> None:
        """End a request, unless a trailer says of the connection what only a head may."""
        last = self.last
        if self._plain_head or last is None:
            return
        if last.keep_alive and not self._parser.should_keep_alive():  # the parser has obeyed, and hears no more
            raise Fault(ErrorCode.INVALID_REQUEST, "A trailer says 'Connection: close'; say it in the head.")
        self.part = BETWEEN
        self.loose = 0
        if not last.over:
            last.end_body()
