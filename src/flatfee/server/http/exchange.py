"""One request and its answer, as ASGI has them: what came of a body, and what is said. No bytes of the head, no order.

An answer's head waits for the first part of its body, and both leave as one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from flatfee.server.call import WHEN_GONE, Message, Receive, Scope, Send
from flatfee.server.http.framing import CONTINUE, LAST_CHUNK, chunk, head

if TYPE_CHECKING:
    from flatfee.server.http.connection import GuardedConnection

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_GONE: Final[Message] = {"type": "http.disconnect"}
_CLOSE: Final = b"connection: close"
_CHUNKED: Final = b"transfer-encoding: chunked"
_BODILESS: Final = frozenset({204, 304})


class Exchange:
    """One request and its answer.

    ``more_body`` says whether the rest of the request's body is still to come, ``held`` how many bytes of it
    the app has not taken. ``started``, ``over`` and ``keep_alive`` tell of the answer; ``disconnected``: nobody
    hears it.
    """

    __slots__ = (
        *("_chunked", "_connection", "_expects", "_head", "_headless", "_left", "_news", "_old", "_parts"),
        *("_told_all", "_when_gone", "disconnected", "held", "keep_alive", "more_body", "over", "started", "task"),
    )

    def __init__(
        self, connection: GuardedConnection, *, without_body: bool, old: bool, keep_alive: bool, expects: bool
    ) -> None:
        self._connection = connection
        self._headless = without_body
        self._old = old
        self._expects = expects
        self._parts: list[bytes] = []
        self._told_all = False
        self._news: asyncio.Event | None = None
        self._when_gone: Callable[[], object] | None = None
        self._head = b""
        self._chunked = False
        self._left: int | None = None
        self.task: asyncio.Task[None] | None = None
        self.held = 0
        self.more_body = True
        self.keep_alive = keep_alive
        self.started = False
        self.over = False
        self.disconnected = False

    # What comes

    def take(self, body: bytes) -> None:
        """Take a part of the body."""
        self._parts.append(body)
        self.held += len(body)
        self._connection.holds(len(body))
        self._tell()

    def end_body(self) -> None:
        """Note that the body is whole."""
        self.more_body = False
        self._tell()

    def leave(self) -> None:
        """Tell the app that the caller has left."""
        self.disconnected = True
        self._expects = False
        self._tell()
        if self._when_gone is not None:
            self._when_gone()

    def when_gone(self, call: Callable[[], object]) -> bool:
        """Have something called once the caller leaves, as ``receive`` would tell; if it has left, return ``False``."""
        self._when_gone = call
        return not self.disconnected

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()

    # The app's side

    async def run(self, app: App, scope: Scope) -> None:
        """Have the app serve the request."""
        scope["extensions"] = {WHEN_GONE: self.when_gone}
        connection = self._connection
        try:
            await app(scope, self.receive, self.send)
            if not self.over and not self.disconnected:
                raise RuntimeError("The app returned before its answer was whole.")
        except Exception as error:  # noqa: BLE001 - whatever the app raises, its caller is told or cut off
            connection.crashed(self, error)
        except asyncio.CancelledError:
            connection.transport.close()
            raise
        finally:
            connection.tasks.discard(self.task)
            self._when_gone = None  # it knows this exchange: nothing is to wait for the garbage collector

    async def receive(self) -> Message:
        """Return what came of the body, once something did, or that the caller has left or its answer is over."""
        connection = self._connection
        if self._expects and not connection.transport.is_closing():
            connection.transport.write(CONTINUE)
            self._expects = False
        while not (self.disconnected or self.over):
            if self._parts or not (self.more_body or self._told_all):
                return self._taken()
            connection.read_on()
            if self._news is None:
                self._news = asyncio.Event()
            self._news.clear()
            await self._news.wait()
        return _GONE

    def _taken(self) -> Message:
        body = b"".join(self._parts)
        self._parts.clear()
        self._connection.took(self.held)
        self.held = 0
        self._told_all = not self.more_body
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """Say a part of the answer; waits while the caller reads slowly.

        Raises:
            RuntimeError: it is not its turn, or not as long as was said.
        """
        departure = self._connection.departure
        if departure.paused and not self.disconnected:
            await departure.room()
        if self.disconnected:
            return
        if self.over or self.started is (message["type"] == "http.response.start"):
            raise RuntimeError(f"It is not the turn of {message['type']!r}.")
        if self.started:
            self._go_on(message.get("body", b""), more=message.get("more_body", False))
        else:
            self._start(message["status"], message.get("headers", ()))

    def _start(self, status: int, headers: Any) -> None:
        told: dict[bytes, bytes] = dict(headers)
        more: list[bytes] = []
        if b"close" in map(bytes.strip, told.get(b"connection", b"").lower().split(b",")):
            self.keep_alive = False
        elif not self.keep_alive:
            more.append(_CLOSE)
        length = told.get(b"content-length")
        if length is not None:
            self._left = int(length)
        elif status in _BODILESS:
            self._left = 0
        elif not (self._headless or self._old):
            self._chunked = True
            more.append(_CHUNKED)
        self._head = head(status, headers, *more)
        self.started = True
        self._expects = False

    def _go_on(self, body: bytes, *, more: bool) -> None:
        out = b"" if self._headless else self._framed(body, more=more)
        if self._head:
            out, self._head = self._head + out, b""
        self._connection.transport.write(out)
        if not more:
            self.over = True
            self._parts.clear()
            self._tell()
            self._connection.answered(self)

    def _framed(self, body: bytes, *, more: bool) -> bytes:
        if self._chunked:
            return chunk(body) if more else chunk(body) + LAST_CHUNK
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("The body is not as long as its Content-Length says.")
        return body
