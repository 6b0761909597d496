"""Receipts of every account, and giving units back: shapes and handlers."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from flatfee.receipt import Receipt
from flatfee.server.admin.endpoint import Body, Endpoint, ListOf, Nothing, OwnedQuery, Visit, listed
from flatfee.server.keys import shown
from flatfee.server.store.accounts import NoSuch
from flatfee.server.store.ledger_commands import Refund
from flatfee.server.store.records import LedgerQuery, OwnedReceipt

_Text = Annotated[str, Field(min_length=1, max_length=128)]


class OwnedReceiptObject(Receipt):
    """A receipt, and whose it is; without a project, a team key's. What was not told is left out."""

    account: str
    project: str | None


class ReceiptsQuery(OwnedQuery):
    """Which receipts to list."""

    workflow: _Text | None = None
    lane: _Text | None = None
    order: Literal["asc", "desc"] = "desc"


class RefundBody(Body):
    """How many units to give back: all that were charged, unless said otherwise; and why."""

    units: Annotated[int, Field(ge=1, le=1 << 53)] | None = None
    note: Annotated[str, Field(max_length=200)] | None = None


def _shown(found: OwnedReceipt) -> OwnedReceiptObject:
    told = Receipt.model_validate_json(found.json).model_dump(exclude_unset=True)
    return OwnedReceiptObject.model_validate({"account": found.account, "project": found.project, **told})


async def _list_receipts(visit: Visit[ReceiptsQuery, Nothing]) -> ListOf[OwnedReceiptObject]:
    query = visit.query
    wanted = LedgerQuery(
        account=query.account,
        project=query.project,
        workflow=query.workflow,
        lane=query.lane,
        limit=query.limit,
        after=query.after,
        oldest_first=query.order == "asc",
    )
    found, more = await visit.gateway.store.all_receipts(wanted)
    return listed([_shown(receipt) for receipt in found], more=more)


async def _get_receipt(visit: Visit[Any, Any]) -> OwnedReceiptObject:
    request_id = visit.names["request_id"]
    found = await visit.gateway.store.any_receipt(request_id)
    if found is None:
        raise NoSuch(f"There is no receipt {shown(request_id, 40)}; list them with GET /admin/v1/receipts.")
    return _shown(found)


async def _refund(visit: Visit[Nothing, RefundBody]) -> OwnedReceiptObject:
    body = visit.body
    await visit.do(Refund(request_id=visit.names["request_id"], units=body.units, note=body.note or ""))
    return await _get_receipt(visit)


ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    Endpoint(
        method="GET",
        path="/receipts",
        summary="List receipts of every account, newest first; with order=asc, oldest first.",
        handler=_list_receipts,
        query=ReceiptsQuery,
        answers=ListOf[OwnedReceiptObject],
    ),
    Endpoint(
        method="GET",
        path="/receipts/{request_id}",
        summary="Show a receipt, also of a running request.",
        handler=_get_receipt,
        answers=OwnedReceiptObject,
    ),
    Endpoint(
        method="POST",
        path="/receipts/{request_id}/refund",
        summary="Give units of a request back to its account.",
        handler=_refund,
        takes=RefundBody,
        answers=OwnedReceiptObject,
    ),
)
