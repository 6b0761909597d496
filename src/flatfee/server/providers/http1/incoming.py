"""The answers that come on one connection, read from its bytes as they come. Pure: nothing is sent or waited for.

How bytes are cut makes no difference to what is read. What can be read in two ways is refused, not guessed at.
"""

from __future__ import annotations

from typing import Final

import httptools

MAX_HEADER_LINE: Final = 32 * 1024
"""Bytes of one line of an answer's head; some gateways put their whole policy into one."""

MAX_HEAD: Final = 64 * 1024
"""Bytes of an answer's head, with all that was said before it; and of whatever else comes without a byte of a body."""

_SWITCHING: Final = 101
_FRAMES: Final = frozenset({b"content-length", b"transfer-encoding"})

NO_HTTP: Final = "what came is no HTTP"
TOO_LONG: Final = "its head is too long"
ENDED: Final = "the connection ended"


class Incoming:
    """One answer at a time: ``begin`` it, ``feed`` it, look at what is there.

    ``status`` is 0 until the head is whole. ``parts`` hold what came of the body and was not taken away; they are
    always the same list. ``done``: the body is whole. ``broken`` says why it never will be. ``heard``: a byte of
    it came. ``keeps``: once it is whole, another may follow on this connection.
    """

    __slots__ = (
        "_interim",
        "_loose",
        "_parser",
        "_size",
        "broken",
        "done",
        "fields",
        "heard",
        "keeps",
        "on_body",
        "parts",
        "status",
    )

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.on_body = self.parts.append  # the parser looks its callbacks up once, and calls this for each chunk
        self._parser = httptools.HttpResponseParser(self)
        # What servers are known to do, and what cannot be read in two ways.
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)
        self.begin()

    def begin(self) -> None:
        """Expect an answer."""
        self.parts.clear()
        self.fields: list[tuple[bytes, bytes]] = []
        self.status = 0
        self.done = self.heard = self.keeps = self._interim = False
        self.broken: str | None = None
        self._loose = self._size = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Read what came; nothing of it is kept but copies."""
        if self.done or self.broken is not None:
            self.keeps = False  # nobody asked for it
            return
        self.heard = True
        self._size = len(data)
        before = len(self.parts), self.status
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.done, self.keeps = True, False
        except httptools.HttpParserError as error:
            self.keeps = False
            if not self.done:
                self._break(TOO_LONG if isinstance(error.__context__, _TooLongError) else NO_HTTP)
        if self.done:
            return
        if before != (len(self.parts), self.status):
            self._loose = 0
            return
        self._loose += self._size
        if self._loose > MAX_HEAD:
            self._break(TOO_LONG)

    def end(self, *, cleanly: bool) -> None:
        """Note that nothing more comes; that ends a body that has no other end."""
        self.keeps = False
        if self.done or self.broken is not None:
            return
        if cleanly and self.status and not any(name.lower() in _FRAMES for name, _ in self.fields):
            self.done = True
        else:
            self._break(ENDED)

    def forget(self) -> None:
        """Let go of the parser once nothing more comes: it and this hold each other."""
        del self._parser

    def _break(self, why: str) -> None:
        if self.broken is None:
            self.broken, self.keeps = why, False

    # --- called by the parser ---

    def on_message_begin(self) -> None:
        if self.done:
            raise _UnaskedError

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # else it stands behind the body, where nothing that matters does
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self._loose + self._size > MAX_HEADER_LINE:
            _bound(self.fields)
        status = self._parser.get_status_code()
        if status < 100:
            raise ValueError(f"{status} is no status")  # and what follows would not be the answer's own body
        if status < 200 and status != _SWITCHING:
            self._interim = True
            self.fields.clear()
            return
        self.status = status
        self.keeps = status != _SWITCHING and self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        self.done = not self._interim
        self._interim = False
        if self.keeps:
            self.keeps = self._parser.should_keep_alive()  # a trailer may have said so, too, and the parser listens


class _UnaskedError(Exception):
    """An answer came that nobody asked for."""


class _TooLongError(Exception):
    """A head is longer than it may be."""


def _bound(fields: list[tuple[bytes, bytes]]) -> None:
    sizes = [len(name) + len(value) + 4 for name, value in fields]
    if max(sizes, default=0) > MAX_HEADER_LINE or sum(sizes) > MAX_HEAD:
        raise _TooLongError
