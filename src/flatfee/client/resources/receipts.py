"""``client.receipts``: the account of requests that were made."""

from __future__ import annotations

from typing import Unpack

from pydantic import ValidationError

from flatfee.client.exchange import Call, Reply, invalid, read_nothing, segment
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.client.resources.options import plain_parts
from flatfee.client.resources.pages import AsyncPages, Page, PageCall, page_reader
from flatfee.receipt import Receipt
from flatfee.types.params import CallOptions
from flatfee.wire import Lane

_read_page = page_reader(Receipt)


def _read_receipt(reply: Reply) -> Receipt:
    read_nothing(reply)
    try:
        return Receipt.model_validate_json(reply.body)
    except ValidationError as error:
        raise invalid("Receipt", error, reply) from error


def listing(
    workflow: str | None, lane: Lane | str | None, limit: int | None, after: str | None, options: CallOptions
) -> PageCall[Receipt]:
    """Return the call of a list of receipts."""
    query = {"workflow": workflow, "lane": lane, "limit": limit, "after": after}
    return PageCall(
        Call(method="GET", path="/receipts", read=_read_page, **plain_parts(options, query=query)),
        cursor=lambda receipt: receipt.request_id,
    )


def retrieval(request_id: str, options: CallOptions) -> Call[Receipt]:
    """Return the call of one receipt."""
    path = f"/receipts/{segment('request_id', request_id)}"
    return Call(method="GET", path=path, read=_read_receipt, **plain_parts(options))


class Receipts:
    """Receipts of the caller's own project."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def retrieve(self, request_id: str, **options: Unpack[CallOptions]) -> Receipt:
        """Return the receipt of one request. Raises ``NotFoundError`` if it is not this project's."""
        return self._core.send(retrieval(request_id, options))

    def list(
        self,
        *,
        workflow: str | None = None,
        lane: Lane | str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Page[Receipt]:
        """List receipts, ``limit`` on a page; iterating goes on over all pages."""
        return Page(self._core, listing(workflow, lane, limit, after, options))


class AsyncReceipts:
    """Receipts of the caller's own project."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def retrieve(self, request_id: str, **options: Unpack[CallOptions]) -> Receipt:
        """Return the receipt of one request. Raises ``NotFoundError`` if it is not this project's."""
        return await self._core.send(retrieval(request_id, options))

    def list(
        self,
        *,
        workflow: str | None = None,
        lane: Lane | str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncPages[Receipt]:
        """List receipts, ``limit`` on a page; ``async for`` goes on over all pages."""
        return AsyncPages(self._core, listing(workflow, lane, limit, after, options))
