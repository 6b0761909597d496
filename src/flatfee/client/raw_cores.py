"""Cores that hand out an answer together with its response, and what tells type checkers of it.

``with_raw_response`` and ``with_streaming_response`` are such a core over the client's core: the same method of
the same resource makes the same call. What is handed out is in ``client.raw``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from flatfee.client.config import ClientConfig
from flatfee.client.exchange import Call, Reply
from flatfee.client.raw import AsyncStreamedResponse, RawResponse, StreamedResponse
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.client.stream import AsyncBody, AsyncStream, Body, Stream

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def _raw(read: Callable[[Reply], T], reply: Reply) -> RawResponse[T]:
    return RawResponse(read(reply), reply)


def _begun(stream: Any) -> RawResponse[Any]:
    response = stream.response
    return RawResponse(stream, Reply(response.status_code, response.headers, b"", response))


@dataclass(frozen=True, slots=True)
class RawCore:
    """Hands out a ``RawResponse`` where the core hands out the answer; ``raw`` tells it to type checkers."""

    core: Core

    @property
    def plain(self) -> Core:
        """The core below."""
        return self.core

    @property
    def config(self) -> ClientConfig:
        """The settings of the core below."""
        return self.core.config

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of the core below."""
        return self.core.clock

    def send(self, call: Call[T]) -> T:
        """Return the answer's ``RawResponse``."""
        return cast("T", self.core.send(call.reading(partial(_raw, call.read))))

    def open(self, call: Call[Any]) -> Stream:
        """Return the stream's ``RawResponse``."""
        return cast("Stream", _begun(self.core.open(call)))

    def begin(self, call: Call[Any]) -> Body:
        """Return the response, unread."""
        return self.core.begin(call)


@dataclass(frozen=True, slots=True)
class AsyncRawCore:
    """``RawCore`` for coroutines."""

    core: AsyncCore

    @property
    def plain(self) -> AsyncCore:
        """The core below."""
        return self.core

    @property
    def config(self) -> ClientConfig:
        """The settings of the core below."""
        return self.core.config

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of the core below."""
        return self.core.clock

    async def send(self, call: Call[T]) -> T:
        """Return the answer's ``RawResponse``."""
        return cast("T", await self.core.send(call.reading(partial(_raw, call.read))))

    async def open(self, call: Call[Any]) -> AsyncStream:
        """Return the stream's ``RawResponse``."""
        return cast("AsyncStream", _begun(await self.core.open(call)))

    async def begin(self, call: Call[Any]) -> AsyncBody:
        """Return the response, unread."""
        return await self.core.begin(call)


@dataclass(frozen=True, slots=True)
class StreamedCore(RawCore):
    """Hands out a ``StreamedResponse`` where the core hands out the answer."""

    def send(self, call: Call[T]) -> T:
        """Return the response of an answer that was not read yet."""
        return cast("T", StreamedResponse(call, self.core.begin(call)))

    def open(self, call: Call[Any]) -> Stream:
        """Return the response of a stream that has started."""
        stream = self.core.open(call)
        return cast("Stream", StreamedResponse(call, stream._body, stream))


@dataclass(frozen=True, slots=True)
class AsyncStreamedCore(AsyncRawCore):
    """``StreamedCore`` for coroutines."""

    async def send(self, call: Call[T]) -> T:
        """Return the response of an answer that was not read yet."""
        return cast("T", AsyncStreamedResponse(call, await self.core.begin(call)))

    async def open(self, call: Call[Any]) -> AsyncStream:
        """Return the response of a stream that has started."""
        stream = await self.core.open(call)
        return cast("AsyncStream", AsyncStreamedResponse(call, stream._body, stream))


def raw(method: Callable[P, R]) -> Callable[P, RawResponse[R]]:
    """Tell type checkers what a method of a resource over a ``RawCore`` returns."""
    return cast("Callable[P, RawResponse[R]]", method)


def raw_async(method: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[RawResponse[R]]]:
    """Tell type checkers what a method of a resource over an ``AsyncRawCore`` returns."""
    return cast("Callable[P, Awaitable[RawResponse[R]]]", method)


def streamed(method: Callable[P, R]) -> Callable[P, AbstractContextManager[StreamedResponse[R]]]:
    """Make a context manager of a method of a resource over a ``StreamedCore``; what it opens is closed at the end."""

    @contextmanager
    def opened(*arguments: P.args, **options: P.kwargs) -> Generator[StreamedResponse[R]]:
        response = cast("StreamedResponse[R]", method(*arguments, **options))
        try:
            yield response
        finally:
            response.close()

    return opened


def streamed_async(
    method: Callable[P, Awaitable[R]],
) -> Callable[P, AbstractAsyncContextManager[AsyncStreamedResponse[R]]]:
    """Do what ``streamed`` does, for coroutines."""

    @asynccontextmanager
    async def opened(*arguments: P.args, **options: P.kwargs) -> AsyncGenerator[AsyncStreamedResponse[R]]:
        response = cast("AsyncStreamedResponse[R]", await method(*arguments, **options))
        try:
            yield response
        finally:
            await response.close()

    return opened
