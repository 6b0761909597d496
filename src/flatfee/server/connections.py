"""One connection: what uvicorn leaves unbounded, bounded; what it answers as text, in our envelope.

A request's head and everything else that is not a body is bounded in bytes and time while it arrives, a
reader that takes nothing in time, requests sent ahead in number. What is no HTTP is refused here, after the
answers to what came before it. What a whole request may say is the app's part.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from flatfee.server.call import BODY_SECONDS
from flatfee.server.faults import Fault, answer_alone
from flatfee.server.outgoing import OldOutgoing, Outgoing
from flatfee.wire import ErrorCode

if TYPE_CHECKING:
    from flatfee.server.app import App

log = logging.getLogger("flatfee.server")

HEAD_SECONDS: Final = 30.0
"""A request's head gets this long."""

WRITE_SECONDS: Final = 60.0
"""A caller that takes no byte for this long, while bytes wait for it, is gone."""

LINGER_SECONDS: Final = 5.0
"""After a refusal a connection is read for this long: closing it at once could destroy the answer on its way."""

HALF_CLOSED_SECONDS: Final = 0.5
"""Who said that it sends no more gets an answer that is there within this time. Most who say so have left."""

MAX_REQUEST_LINE: Final = 8192
"""Bytes of a request's path and query."""

MAX_AHEAD: Final = 16
"""So many requests may wait behind the one that is served on their connection."""

WRITE_AHEAD: Final = 16 * 1024
"""So many bytes may wait for a caller before no more are taken from its provider."""

UNSENT: Final = 16 * 1024
"""Bytes that the system keeps for a connection besides; left alone, it keeps megabytes for who does not read, and
takes more in steps so large that a slow reader seems to have stopped."""

_LOOKS: Final = 4
"""How often within ``WRITE_SECONDS`` it is looked whether bytes leave."""

_NOTSENT_LOWAT: Final[int | None] = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS have it
_WISHES: Final = frozenset({b"connection", b"upgrade", b"http2-settings"})


class Timer(Protocol):
    """What was put off."""

    def cancel(self) -> None:
        """Never do it."""
        ...


class _Part(Enum):
    """What the bytes that come next belong to."""

    BETWEEN = "between requests"
    HEAD = "head"
    BODY = "body"


_BETWEEN, _HEAD, _BODY = _Part


class GuardedConnection(HttpToolsProtocol):
    """A connection that neither holds memory nor time for a caller beyond fixed bounds.

    It has two timers, and neither runs while a connection is well: ``_arrival`` waits for what the caller
    owes, ``_departure`` looks whether bytes that wait for the caller leave.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gateway = cast("App", self.config.app).gateway
        self._most = self._gateway.settings.server.max_header_bytes + MAX_REQUEST_LINE
        self._part = _BETWEEN
        self._loose = 0  # bytes that have come since the last of which anything was made
        self._serving: RequestResponseCycle | None = None
        self._refusal: Fault | None = None
        self._plain_head = b""  # of a request that asks for another protocol, until it is read again
        self._deaf = False
        self._heard_end = False
        self._arrival: Timer | None = None
        self._departure: Timer | None = None
        self._unsent = 0
        self._looks_left = _LOOKS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        """Wait for a first request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_AHEAD)
        connected: socket.socket = transport.get_extra_info("socket")
        if _NOTSENT_LOWAT is not None:
            with suppress(OSError):  # it may have ended already
                connected.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT)
        self._expect(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is served: uvicorn tells only the one that came last."""
        self._expect(None)
        self._stop_looking()
        self.pipeline.clear()
        if self._serving is not None:
            if not self._serving.response_complete:
                self._leave(self._serving)
            self._serving.transport = self.transport  # so that nothing waits for the garbage collector
            self._serving = None
        super().connection_lost(exc)
        last = cast("RequestResponseCycle | None", self.cycle)
        if last is not None:
            last.transport = self.transport

    def data_received(self, data: bytes) -> None:
        """Read what came, within the bounds."""
        self._unset_keepalive_if_required()
        if self._deaf or self._refusal is not None:
            return
        self._loose += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(_fault_of(error))
            return
        if self._loose > self._most:
            self._refuse(_too_large(self._gateway.settings.server.max_header_bytes))
        elif self._part is _HEAD or (self._loose and self._part is _BETWEEN):
            if self._arrival is None:
                self._expect(HEAD_SECONDS)
        elif self._arrival is not None and not self._unread():
            self._expect(None if self._busy() else self.timeout_keep_alive)

    def _feed(self, data: bytes) -> None:
        """Feed the parser.

        It stops behind the head of a request that asks for another protocol, and takes what follows for that
        protocol. Here only HTTP/1.1 is spoken: such a request is read again without its wish, body and all.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                data = self._plain_head + data[stopped.args[0] :]
                self._plain_head = b""
                self.parser = httptools.HttpRequestParser(self)  # the other one is done if no request may follow
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            else:
                return

    def _without_wishes(self) -> bytes:
        """Return the head that was read, without the wish for another protocol."""
        headers = [(name, value) for name, value in self.headers if name not in _WISHES]
        if not self.parser.should_keep_alive():
            headers.append((b"connection", b"close"))
        lines = [b"%b: %b\r\n" % header for header in headers]
        version = self.parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, b"".join(lines))

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's closes at once, whatever is served
        """Hear that the caller sends no more; it may still read."""
        self._heard_end = True
        if self._deaf:
            return False
        if self._part is not _BETWEEN and self._refusal is None and not self._unread():
            self._refuse(Fault(ErrorCode.INVALID_REQUEST, "The request ended before it was whole; send all of it."))
        elif not self._busy():
            return False
        if self._busy():
            self._expect(HALF_CLOSED_SECONDS)
        return True

    # What the parser finds

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._part = _HEAD
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin a request, unless it can be none, too many wait already or its first line is too long."""
        if self.parser.get_method() == b"CONNECT":
            raise Fault(ErrorCode.INVALID_REQUEST, "This is no proxy; send requests to the gateway itself.")
        if len(self.pipeline) >= MAX_AHEAD:
            raise Fault(
                ErrorCode.INVALID_REQUEST, f"More than {MAX_AHEAD} requests were sent ahead; wait for their answers."
            )
        if len(self.url) > MAX_REQUEST_LINE:
            raise Fault(ErrorCode.HEADERS_TOO_LARGE, f"The path exceeds {MAX_REQUEST_LINE} bytes; send less.")
        if self.parser.should_upgrade():
            self._plain_head = self._without_wishes()
            return
        old = self.parser.get_http_version() == "1.0"
        self.expect_100_continue = self.expect_100_continue and not old
        super().on_headers_complete()
        self._part = _BODY
        self._loose = 0
        self.headers = []  # for trailers, which must never become headers of the request that runs already
        self.cycle.transport = cast("asyncio.Transport", (OldOutgoing if old else Outgoing)(self))

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._loose = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self._plain_head:
            return
        self._part = _BETWEEN
        self._loose = 0
        super().on_message_complete()

    # What the answers do

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._serving = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with what waits: the next request, a refusal, the rest of a body, the caller's end."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._look_out()
        elif self._busy() or self._deaf:
            return
        elif self._refusal is not None:
            self._say(self._refusal)
        elif self._heard_end:
            self.close_when_taken()
        elif self._unread():
            self._expect(BODY_SECONDS)

    def close_when_answered(self) -> None:
        """End the connection behind an answer that is its last, whose request may go on."""
        if self._serving is not None and self._serving.more_body and not self.transport.is_closing():
            self.close_when_heard()
        else:
            self.transport.close()

    def close_when_taken(self) -> None:
        """Close the connection once what waits for the caller has left, or does not leave."""
        self._expect(None)
        self.transport.close()
        self._look_out()

    def close_when_heard(self) -> None:
        """Say no more, hear what the caller still sends, and close the connection then."""
        self._deaf = True
        self._unset_keepalive_if_required()
        if self._heard_end:
            self.close_when_taken()
            return
        self.flow.resume_reading()
        self.transport.write_eof()
        self._expect(LINGER_SECONDS)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; of one that has not taken its last answer, see whether it does."""
        if not self.transport.is_closing():
            self.close_when_taken()

    # Refusals

    def _refuse(self, fault: Fault) -> None:
        """Read no more, and refuse what came last, after the answers to what came before."""
        self._refusal = fault
        self._expect(None)
        if self._part is _BODY:
            self._take_back(self.cycle)
        if not self._busy() and not self._deaf:
            self._say(fault)

    def _take_back(self, broken: RequestResponseCycle) -> None:
        """Take back a request whose body is broken, as far as it was served."""
        if broken is not self._serving:
            self.pipeline.popleft()
        elif broken.response_complete:
            self.close_when_heard()
        elif broken.response_started:
            broken.keep_alive = False
        else:
            self._leave(broken)
            self._serving = None

    def _say(self, fault: Fault) -> None:
        now = self._gateway.store.now()
        known: str = self._gateway.new_id(now)
        log.info("connection.refused", extra={"request_id": known, "code": fault.code})
        self.transport.write(answer_alone(fault, known, now))
        self.close_when_heard()

    def _busy(self) -> bool:
        return self._serving is not None and not self._serving.response_complete

    def _unread(self) -> bool:
        """Tell whether what comes is the rest of a body that was answered already."""
        return self._part is _BODY and self.cycle.response_complete

    @staticmethod
    def _leave(cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()

    # The two timers

    def _later(self, seconds: float, call: Callable[[], object]) -> Timer:
        return self.loop.call_later(seconds, call)

    def _expect(self, seconds: float | None) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
        self._arrival = None if seconds is None else self._later(seconds, self._too_late)

    def _too_late(self) -> None:
        self._arrival = None
        if self._deaf or self._heard_end or self._unread():
            self.transport.abort()
        elif self._part is _BETWEEN and not self._loose:
            self.transport.close()
        else:
            self._refuse(
                Fault(ErrorCode.INVALID_REQUEST, f"The headers did not arrive within {HEAD_SECONDS:.0f} seconds.")
            )

    def pause_writing(self) -> None:
        """See whether the caller reads."""
        super().pause_writing()
        self._look_out()

    def resume_writing(self) -> None:
        """See that it does. At a connection's end the last bytes must leave as well."""
        if not self.transport.is_closing():
            self._stop_looking()
        super().resume_writing()

    def shutdown(self) -> None:
        """End what is not served."""
        if self._deaf:
            self.transport.close()
        else:
            super().shutdown()

    def _look_out(self) -> None:
        self._stop_looking()
        self._unsent = self.transport.get_write_buffer_size()
        self._looks_left = _LOOKS
        self._departure = self._later(WRITE_SECONDS / _LOOKS, self._look)

    def _look(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        self._looks_left = _LOOKS if unsent < self._unsent else self._looks_left - 1
        self._unsent = unsent
        if self._looks_left:
            self._departure = self._later(WRITE_SECONDS / _LOOKS, self._look)
            return
        log.info("connection.not_read", extra={"unsent": unsent})
        self.transport.abort()

    def _stop_looking(self) -> None:
        if self._departure is not None:
            self._departure.cancel()
            self._departure = None


def _fault_of(error: httptools.HttpParserError) -> Fault:
    if isinstance(error.__context__, Fault):
        return error.__context__
    return Fault(ErrorCode.INVALID_REQUEST, "This is not a valid HTTP/1.1 request; the connection is closed.")


def _too_large(most: int) -> Fault:
    return Fault(ErrorCode.HEADERS_TOO_LARGE, f"The headers exceed {most} bytes; send less.")
