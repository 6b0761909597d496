"""``client.receipts``: the account of requests that were made."""

from __future__ import annotations

from operator import attrgetter
from typing import Unpack

from pydantic import ValidationError

from flatfee.client.exchange import Call, Reply, invalid, read_nothing, segment
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
        cursor=attrgetter("request_id"),
    )


def retrieval(request_id: str, options: CallOptions) -> Call[Receipt]:
    """Return the call of one receipt."""
    path = f"/receipts/{segment('request_id', request_id)}"
    return Call(method="GET", path=path, read=_read_receipt, **plain_parts(options))


class Receipts:
    """Receipts of the caller's own project."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def with_raw_response(self) -> RawReceipts:
        """The same methods, each answering the HTTP response with the answer in it."""
        return RawReceipts(Receipts(RawCore(self._core)))

    @property
    def with_streaming_response(self) -> StreamedReceipts:
        """The same methods, each a context manager of the HTTP response, whose body is read when asked for."""
        return StreamedReceipts(Receipts(StreamedCore(self._core)))

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
        return Page.ask(self._core, listing(workflow, lane, limit, after, options))


class AsyncReceipts:
    """Receipts of the caller's own project."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    @property
    def with_raw_response(self) -> AsyncRawReceipts:
        """The same methods, each answering the HTTP response with the answer in it."""
        return AsyncRawReceipts(AsyncReceipts(AsyncRawCore(self._core)))

    @property
    def with_streaming_response(self) -> AsyncStreamedReceipts:
        """The same methods, each a context manager of the HTTP response, whose body is read when asked for."""
        return AsyncStreamedReceipts(AsyncReceipts(AsyncStreamedCore(self._core)))

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


class RawReceipts:
    """``with_raw_response`` of receipts."""

    def __init__(self, over: Receipts) -> None:
        self.list = raw(over.list)
        self.retrieve = raw(over.retrieve)


class StreamedReceipts:
    """``with_streaming_response`` of receipts."""

    def __init__(self, over: Receipts) -> None:
        self.list = streamed(over.list)
        self.retrieve = streamed(over.retrieve)


class AsyncRawReceipts:
    """``with_raw_response`` of receipts."""

    def __init__(self, over: AsyncReceipts) -> None:
        self.list = raw_async(over.list)
        self.retrieve = raw_async(over.retrieve)


class AsyncStreamedReceipts:
    """``with_streaming_response`` of receipts."""

    def __init__(self, over: AsyncReceipts) -> None:
        self.list = streamed_async(over.list)
        self.retrieve = streamed_async(over.retrieve)
