"""``client.usage``: what is left of the plan."""

from __future__ import annotations

from typing import Unpack

from flatfee.client.exchange import Call, reader
from flatfee.client.raw_cores import (
    AsyncRawCore,
    AsyncStreamedCore,
    RawCore,
    StreamedCore,
    raw,
    raw_async,
    streamed,
    streamed_async,
)
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.client.resources.options import plain_parts
from flatfee.types.gateway import Usage
from flatfee.types.params import CallOptions

_read_usage = reader(Usage)


def retrieval(options: CallOptions) -> Call[Usage]:
    """Return the call of the account's usage."""
    return Call(method="GET", path="/usage", read=_read_usage, **plain_parts(options))


class UsageResource:
    """Fair-use, continuation and workflows of the current window."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def with_raw_response(self) -> RawUsageResource:
        """The same methods, each answering the HTTP response with the answer in it."""
        return RawUsageResource(UsageResource(RawCore(self._core)))

    @property
    def with_streaming_response(self) -> StreamedUsageResource:
        """The same methods, each a context manager of the HTTP response, whose body is read when asked for."""
        return StreamedUsageResource(UsageResource(StreamedCore(self._core)))

    def retrieve(self, **options: Unpack[CallOptions]) -> Usage:
        """Return what was used and what is left."""
        return self._core.send(retrieval(options))


class AsyncUsageResource:
    """Fair-use, continuation and workflows of the current window."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    @property
    def with_raw_response(self) -> AsyncRawUsageResource:
        """The same methods, each answering the HTTP response with the answer in it."""
        return AsyncRawUsageResource(AsyncUsageResource(AsyncRawCore(self._core)))

    @property
    def with_streaming_response(self) -> AsyncStreamedUsageResource:
        """The same methods, each a context manager of the HTTP response, whose body is read when asked for."""
        return AsyncStreamedUsageResource(AsyncUsageResource(AsyncStreamedCore(self._core)))

    async def retrieve(self, **options: Unpack[CallOptions]) -> Usage:
        """Return what was used and what is left."""
        return await self._core.send(retrieval(options))


class RawUsageResource:
    """``with_raw_response`` of usage."""

    def __init__(self, over: UsageResource) -> None:
        self.retrieve = raw(over.retrieve)


class StreamedUsageResource:
    """``with_streaming_response`` of usage."""

    def __init__(self, over: UsageResource) -> None:
        self.retrieve = streamed(over.retrieve)


class AsyncRawUsageResource:
    """``with_raw_response`` of usage."""

    def __init__(self, over: AsyncUsageResource) -> None:
        self.retrieve = raw_async(over.retrieve)


class AsyncStreamedUsageResource:
    """``with_streaming_response`` of usage."""

    def __init__(self, over: AsyncUsageResource) -> None:
        self.retrieve = streamed_async(over.retrieve)
