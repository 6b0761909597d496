"""What a resource needs of a client: to send a call, and to open a stream. Implemented by the shells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from flatfee.client.config import ClientConfig
from flatfee.client.exchange import Call
from flatfee.client.stream import AsyncBody, AsyncStream, Body, Stream

T = TypeVar("T")


class Core(Protocol):
    """The blocking shell."""

    @property
    def plain(self) -> Core:
        """The core that hands out answers as they are: itself, or the one that it stands over."""
        ...

    @property
    def config(self) -> ClientConfig:
        """The client's settings."""
        ...

    @property
    def clock(self) -> Callable[[], float]:
        """Tells the seconds that deadlines are counted by."""
        ...

    def send(self, call: Call[T]) -> T:
        """Return the typed answer; tries again where that is safe."""
        ...

    def open(self, call: Call[Any]) -> Stream:
        """Return the stream once its response has started; tries again until then."""
        ...

    def begin(self, call: Call[Any]) -> Body:
        """Return the response, its body unread; tries again until it has started, and is no error."""
        ...


class AsyncCore(Protocol):
    """The shell for coroutines."""

    @property
    def plain(self) -> AsyncCore:
        """The core that hands out answers as they are: itself, or the one that it stands over."""
        ...

    @property
    def config(self) -> ClientConfig:
        """The client's settings."""
        ...

    @property
    def clock(self) -> Callable[[], float]:
        """Tells the seconds that deadlines are counted by."""
        ...

    async def send(self, call: Call[T]) -> T:
        """Return the typed answer; tries again where that is safe."""
        ...

    async def open(self, call: Call[Any]) -> AsyncStream:
        """Return the stream once its response has started; tries again until then."""
        ...

    async def begin(self, call: Call[Any]) -> AsyncBody:
        """Return the response, its body unread; tries again until it has started, and is no error."""
        ...
