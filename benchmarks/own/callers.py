"""Callers on raw connections: each asks, and tells when the first byte and the end of the answer came.

It reads the HTTP that our own servers write (a length, or chunks), not HTTP at large.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from typing import Final, cast

from benchmarks.children import BenchmarkFailed
from benchmarks.own.provider import Manner, request_body

PATIENCE: Final = 60.0
_HEAD_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"


def request(key: str, manner: Manner | None = None) -> bytes:
    """Render a completion request."""
    body = request_body(manner)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def query(key: str, path: str) -> bytes:
    """Render a request that reads."""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n\r\n".encode()


class Caller(asyncio.Protocol):
    """One connection. ``first`` is when the first event or body byte of the current answer came, 0 until then."""

    def __init__(self) -> None:
        self.first = 0.0
        self.answered: Callable[[Caller], None] | None = None
        self.body = b""
        self._buffer = bytearray()
        self._head_end = 0
        self._length: int | None = None
        self._whole: asyncio.Future[None] | None = None
        self._begun: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, port: int, *, window: int | None = None) -> Caller:
        """Connect; with ``window`` the system keeps about so many bytes for it."""
        bare = socket.socket()
        if window is not None:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        bare.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(bare, ("127.0.0.1", port))
        _, caller = await loop.create_connection(cls, sock=bare)
        return caller

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports have no common base

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell who waits that no more comes."""
        for waiting in (self._begun, self._whole):
            if waiting is not None and not waiting.done():
                waiting.set_exception(BenchmarkFailed("the connection was closed before the answer was whole"))

    def data_received(self, data: bytes) -> None:
        """Gather one answer."""
        self._buffer += data
        if not self._head_end and not self._read_head():
            return
        if not self.first and len(self._buffer) > self._head_end:
            self.first = time.perf_counter()
            if self._begun is not None and not self._begun.done():
                self._begun.set_result(None)
        if self._complete():
            self.body = bytes(self._buffer[self._head_end :])
            if self.answered is not None:
                self.answered(self)
            elif self._whole is not None and not self._whole.done():
                self._whole.set_result(None)

    def send(self, data: bytes) -> None:
        """Ask, without waiting."""
        if self._transport is None or self._transport.is_closing():
            raise BenchmarkFailed("the connection was closed before the next request")
        self._buffer, self._head_end, self._length, self.first = bytearray(), 0, None, 0.0
        self._transport.write(data)

    async def ask(self, data: bytes) -> bytes:
        """Ask, and return the body of the answer, its chunks included."""
        self._whole = asyncio.get_running_loop().create_future()
        self.send(data)
        async with asyncio.timeout(PATIENCE):
            await self._whole
        return self.body

    async def begin(self, data: bytes) -> None:
        """Ask, and return once the answer has begun."""
        self._begun = asyncio.get_running_loop().create_future()
        self.send(data)
        async with asyncio.timeout(PATIENCE):
            await self._begun

    def stall(self) -> None:
        """Read no more."""
        assert self._transport is not None
        self._transport.pause_reading()

    def leave(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _read_head(self) -> bool:
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return False
        if bytes(self._buffer[9:12]) != b"200":
            raise BenchmarkFailed(f"status {bytes(self._buffer[9:12])!r} where 200 was expected")
        self._head_end = end + len(_HEAD_END)
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"\r\ncontent-length:")
        self._length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else None
        return True

    def _complete(self) -> bool:
        if self._length is None:
            return self._buffer.endswith(_LAST_CHUNK)
        return len(self._buffer) >= self._head_end + self._length


async def connected(port: int, count: int, *, window: int | None = None) -> list[Caller]:
    """Open ``count`` connections, a few at a time."""
    callers: list[Caller] = []
    while len(callers) < count:
        some = min(50, count - len(callers))
        callers += await asyncio.gather(*(Caller.connect(port, window=window) for _ in range(some)))
    return callers


async def warm(port: int, data: bytes, requests: int, connections: int = 16) -> None:
    """Ask ``requests`` times, on connections that are closed then."""
    callers = await connected(port, connections)

    async def each(caller: Caller) -> None:
        for _ in range(requests // connections):
            await caller.ask(data)

    await asyncio.gather(*(each(caller) for caller in callers))
    leave(callers)


def leave(callers: Iterable[Caller]) -> None:
    """End every connection."""
    for caller in callers:
        caller.leave()
