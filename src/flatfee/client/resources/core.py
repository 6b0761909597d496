"""What a resource needs of a client: to send a call, and to open a stream. Implemented by the shells."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from flatfee.client.exchange import Call
from flatfee.client.stream import AsyncStream, Stream

T = TypeVar("T")


class Core(Protocol):
    """The blocking shell."""

    def send(self, call: Call[T]) -> T:
        """Return the typed answer; tries again where that is safe."""
        ...

    def open(self, call: Call[Any]) -> Stream:
        """Return the stream once its response has started; tries again until then."""
        ...


class AsyncCore(Protocol):
    """The shell for coroutines."""

    async def send(self, call: Call[T]) -> T:
        """Return the typed answer; tries again where that is safe."""
        ...

    async def open(self, call: Call[Any]) -> AsyncStream:
        """Return the stream once its response has started; tries again until then."""
        ...
