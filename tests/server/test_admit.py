"""Refusals of the ledger in words."""

from __future__ import annotations

import pytest
from tests.server.store.rows import make_known

from flatfee.server.keys import KeyKind
from flatfee.server.stages.admit import Refused, admit
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Caller, Offer, Purse, Reservation, Terms, Ticket
from flatfee.server.windows import Calendar
from flatfee.wire import Billing, ErrorCode, Lane, Reason

CALLER = Caller(
    key_id="k",
    kind=KeyKind.PROJECT,
    account="acme",
    project="ci",
    plan="pro",
    billing=Billing.ACTIVE,
    billing_day=1,
)


def a_wish(request_id: str, *, workflow: str | None = None, units: int = 60, rate: int | None = None) -> Reservation:
    offer = Offer(lane=Lane.PREMIUM, reason=Reason.REQUESTED, purse=Purse.FAIR_USE, units=units)
    return Reservation(
        request_id=request_id,
        caller=CALLER,
        terms=Terms(
            unit="token",
            fair_use=100,
            continuation_limit=None,
            workflows=1,
            fanout=1,
            idle=60.0,
            requests_per_minute=rate,
        ),
        calendar=Calendar("month", 1),
        workflow=workflow,
        offers=(offer,),
        model_requested="premium",
        lease=60.0,
    )


def a_store() -> MemoryStore:
    store = MemoryStore(lambda: 0.0)
    make_known(store._book, CALLER, b"digest")
    return store


async def refused(store: MemoryStore, want: Reservation) -> Refused:
    with pytest.raises(Refused) as caught:
        await admit(want, store)
    return caught.value


async def test_what_fits_gets_a_ticket() -> None:
    ticket = await admit(a_wish("1"), a_store())
    assert isinstance(ticket, Ticket)
    assert (ticket.offer.lane, ticket.standing.remaining) == (Lane.PREMIUM, 40)


async def test_units_that_do_not_fit_are_told_with_what_is_left() -> None:
    refusal = await refused(a_store(), a_wish("1", units=101))
    assert refusal.code is ErrorCode.FAIR_USE_EXHAUSTED
    assert refusal.message.startswith("100 of 100 fair-use units are left, and this request needs 101;")
    assert refusal.retry_after is None
    assert refusal.told["x-flatfee-fair-use-remaining"] == "100"
    assert refusal.receipt is not None
    assert refusal.receipt.model_dump(mode="json", exclude_unset=True) == {
        "request_id": "1",
        "state": "refused",
        "model_requested": "premium",
        "fair_use": {
            "unit": "token",
            "charged": 0,
            "remaining": 100,
            "limit": 100,
            "resets_at": "1970-02-01T00:00:00Z",
        },
        "workflow": {"active": 0, "limit": 1},
    }


async def test_a_workflow_too_many_is_told_when_to_come_again() -> None:
    store = a_store()
    await admit(a_wish("1", workflow="a", units=1), store)
    refusal = await refused(store, a_wish("2", workflow="b", units=1))
    assert (refusal.code, refusal.retry_after) == (ErrorCode.WORKFLOW_LIMIT, 60)
    assert refusal.message.startswith("1 of 1 workflows run at once")
    assert "Wait 60 s" in refusal.message


async def test_a_request_too_soon_is_told_when_to_come_again() -> None:
    store = a_store()
    await admit(a_wish("1", units=1, rate=1), store)
    refusal = await refused(store, a_wish("2", units=1, rate=1))
    assert (refusal.code, refusal.retry_after) == (ErrorCode.RATE_LIMITED, 60)
    assert refusal.message == "This key may send 1 requests per minute. Wait 60 s and try again."
