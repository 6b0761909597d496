"""One connection to a provider: a request goes out, its answer is taken as it comes. Whose turn it is, is the pool's.

Nothing here runs between two requests, and one future at a time is what a request waits for.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final, cast

from flatfee.server.providers.http1.incoming import Incoming

READ_AHEAD: Final = 16 * 1024
"""Bytes of an answer that may wait for a slow reader before no more are read."""

READ_AT_ONCE: Final = 32 * 1024
"""Bytes of the buffer that a pool's connections are read into, one after the other. Twice as many bytes take fewer
calls, but whoever reads slowly then holds twice as many."""

AT_ONCE: Final = 64 * 1024
"""Bytes of a body that are written together with the head; of a larger one, so many at a time."""


class Broken(Exception):
    """An answer ended before its end. The words say why."""


class Connection(asyncio.BufferedProtocol):
    """A connection, from when it is made until it is lost.

    ``busy``: a request is under way. ``idle_since`` is on the loop's clock.
    """

    __slots__ = (
        "_ahead",
        "_buffer",
        "_forget",
        "_full",
        "_loop",
        "_paused",
        "_transport",
        "_unread",
        "_waiter",
        "answer",
        "busy",
        "idle_since",
        "lost",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, buffer: memoryview, forget: Callable[[Connection], None]
    ) -> None:
        self._buffer = buffer
        self.answer = Incoming()
        self.lost = False
        self.idle_since = 0.0
        self._loop = loop
        self._forget = forget
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._unread: select.poll | None = None
        self._ahead = 0
        self.busy = self._full = self._paused = False

    # --- called by the loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's have no base in common with asyncio's

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return where the next bytes are put: all that are read are read from there before others come."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read a part of the answer; without a request, whatever it is spoils the connection."""
        answer = self.answer
        if not self.busy or answer.done:
            answer.keeps = False
            self.drop()
            return
        answer.feed(self._buffer[:nbytes])
        if answer.broken is not None:
            self.drop()
        elif answer.status and not answer.done:
            self._ahead += nbytes
            if self._ahead > READ_AHEAD and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer, if there is one."""
        self.lost = True
        self._transport = None
        self.answer.end(cleanly=exc is None)
        self.answer.forget()
        self._forget(self)
        self._wake()

    def eof_received(self) -> None:
        """End the answer; what was not sent of the request is sent no more."""
        self.answer.end(cleanly=True)
        self.drop()
        self._wake()

    def pause_writing(self) -> None:
        """Wait with the rest of a large body."""
        self._full = True

    def resume_writing(self) -> None:
        """Go on with it."""
        self._full = False
        self._wake()

    # --- called by who asks ---

    def ready(self) -> bool:
        """Return whether a request may go out: nothing came since the last answer, the end included.

        The loop tells of it in its next turn only; what a provider said twice would be the next caller's answer
        till then. The question takes half a microsecond.
        """
        if self._transport is None:
            return False
        if self._unread is None:
            self._unread = select.poll()
            self._unread.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return not self._unread.poll(0)

    async def ask(self, head: bytes, body: bytes) -> None:
        """Send a request, and wait until the head of its answer is there.

        Raises:
            Broken: it will not be.
        """
        answer = self.answer
        answer.begin()
        self.busy = True
        if self._transport is None:
            answer.end(cleanly=False)
        elif len(body) <= AT_ONCE:
            self._transport.write(head + body)
        else:
            await self._send(head, memoryview(body))
        while not answer.status:
            if answer.broken is not None:
                raise Broken(answer.broken)
            await self._wait()

    async def _send(self, head: bytes, rest: memoryview) -> None:
        """Write as fast as the provider reads; all at once, if it answers before it has read all."""
        answer = self.answer
        data: bytes | memoryview = head
        while self._transport is not None and answer.broken is None:
            self._transport.write(data)
            if not rest:
                return
            while self._full and not answer.status and answer.broken is None:
                await self._wait()
            data, rest = rest[:AT_ONCE], rest[AT_ONCE:]

    async def take(self) -> bytes:
        """Return what is there of the body, once something is; nothing at its end.

        Raises:
            Broken: its end will not come.
        """
        answer = self.answer
        parts = answer.parts
        while not parts:
            if answer.done:
                return b""
            if answer.broken is not None:
                raise Broken(answer.broken)
            self._read_on()
            await self._wait()
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._ahead = 0
        return data

    def finish(self) -> bool:
        """End the request; return whether another may follow. If not, the connection is dropped."""
        self.busy = False
        self.answer.parts.clear()
        whole = self.answer.done and self.answer.keeps
        if whole and self._transport is not None and not self._transport.get_write_buffer_size():
            self._ahead = 0
            self._read_on()
            return True
        self.drop()
        return False

    def drop(self) -> None:
        """End the connection at once, and with it the answer that is under way."""
        self.lost = True
        self.answer.end(cleanly=False)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _read_on(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    async def _wait(self) -> None:
        """Wait until something happens."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
