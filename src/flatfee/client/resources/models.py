"""``client.models``: what may be asked for."""

from __future__ import annotations

from typing import Unpack

from flatfee.client.exchange import Call, reader, segment
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
        cursor=lambda model: model.id,
    )


def retrieval(model: str, options: CallOptions) -> Call[Model]:
    """Return the call of one model."""
    return Call(method="GET", path=f"/models/{segment('model', model)}", read=_read_model, **plain_parts(options))


class Models:
    """``auto``, ``premium``, ``economy`` and the operator's aliases."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def list(self, **options: Unpack[CallOptions]) -> Page[Model]:
        """List the models that this key may ask for."""
        return Page(self._core, listing(options))

    def retrieve(self, model: str, **options: Unpack[CallOptions]) -> Model:
        """Return one model. Raises ``NotFoundError`` if there is no such model."""
        return self._core.send(retrieval(model, options))


class AsyncModels:
    """``auto``, ``premium``, ``economy`` and the operator's aliases."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    def list(self, **options: Unpack[CallOptions]) -> AsyncPages[Model]:
        """List the models that this key may ask for."""
        return AsyncPages(self._core, listing(options))

    async def retrieve(self, model: str, **options: Unpack[CallOptions]) -> Model:
        """Return one model. Raises ``NotFoundError`` if there is no such model."""
        return await self._core.send(retrieval(model, options))
