"""``client.models``: what may be asked for."""

from __future__ import annotations

from operator import attrgetter
from typing import Unpack

from flatfee.client.exchange import Call, reader, segment
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
from flatfee.client.resources.pages import AsyncPages, Page, PageCall, page_reader
from flatfee.types.gateway import Model
from flatfee.types.params import CallOptions

_read_page = page_reader(Model)
_read_model = reader(Model)


def listing(options: CallOptions) -> PageCall[Model]:
    """Return the call of the list of models."""
    return PageCall(
        Call(method="GET", path="/models", read=_read_page, **plain_parts(options)),
        cursor=attrgetter("id"),
    )


def retrieval(model: str, options: CallOptions) -> Call[Model]:
    """Return the call of one model."""
    return Call(method="GET", path=f"/models/{segment('model', model)}", read=_read_model, **plain_parts(options))


class Models:
    """``auto``, ``premium``, ``economy`` and the operator's aliases."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def with_raw_response(self) -> RawModels:
        """The same methods, each answering the HTTP response with the answer in it."""
        return RawModels(Models(RawCore(self._core)))

    @property
    def with_streaming_response(self) -> StreamedModels:
        """The same methods, each a context manager of the HTTP response, whose body is read when asked for."""
        return StreamedModels(Models(StreamedCore(self._core)))

    def list(self, **options: Unpack[CallOptions]) -> Page[Model]:
        """List the models that this key may ask for."""
        return Page.ask(self._core, listing(options))

    def retrieve(self, model: str, **options: Unpack[CallOptions]) -> Model:
        """Return one model. Raises ``NotFoundError`` if there is no such model."""
        return self._core.send(retrieval(model, options))


class AsyncModels:
    """``auto``, ``premium``, ``economy`` and the operator's aliases."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    @property
    def with_raw_response(self) -> AsyncRawModels:
        """The same methods, each answering the HTTP response with the answer in it."""
        return AsyncRawModels(AsyncModels(AsyncRawCore(self._core)))

    @property
    def with_streaming_response(self) -> AsyncStreamedModels:
        """The same methods, each a context manager of the HTTP response, whose body is read when asked for."""
        return AsyncStreamedModels(AsyncModels(AsyncStreamedCore(self._core)))

    def list(self, **options: Unpack[CallOptions]) -> AsyncPages[Model]:
        """List the models that this key may ask for."""
        return AsyncPages(self._core, listing(options))

    async def retrieve(self, model: str, **options: Unpack[CallOptions]) -> Model:
        """Return one model. Raises ``NotFoundError`` if there is no such model."""
        return await self._core.send(retrieval(model, options))


class RawModels:
    """``with_raw_response`` of models."""

    def __init__(self, over: Models) -> None:
        self.list = raw(over.list)
        self.retrieve = raw(over.retrieve)


class StreamedModels:
    """``with_streaming_response`` of models."""

    def __init__(self, over: Models) -> None:
        self.list = streamed(over.list)
        self.retrieve = streamed(over.retrieve)


class AsyncRawModels:
    """``with_raw_response`` of models."""

    def __init__(self, over: AsyncModels) -> None:
        self.list = raw_async(over.list)
        self.retrieve = raw_async(over.retrieve)


class AsyncStreamedModels:
    """``with_streaming_response`` of models."""

    def __init__(self, over: AsyncModels) -> None:
        self.list = streamed_async(over.list)
        self.retrieve = streamed_async(over.retrieve)
