"""The rules of the ledger. Pure: no I/O, no clock. Every store decides with these functions.

A store reads the account's state, asks here what may happen and writes the answer, all within
one transaction. So the stores differ in where they keep rows, never in what they allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from flatfee.receipt import FairUse, WorkflowState
from flatfee.server.store.records import Offer, Purse, Refusal, Standing, Terms
from flatfee.server.windows import Window
from flatfee.wire import ErrorCode, Lane

_CLOCK_ERROR: Final = 1e-3


class Balance(msgspec.Struct, frozen=True, gc=False):
    """An account's use of one window, in units of its plan's meter; never negative, unless it is a change."""

    posted: int = 0
    pending: int = 0
    continuation_posted: int = 0
    continuation_pending: int = 0

    def __add__(self, change: Balance) -> Balance:
        """Return the balance after a change."""
        return Balance(
            self.posted + change.posted,
            self.pending + change.pending,
            self.continuation_posted + change.continuation_posted,
            self.continuation_pending + change.continuation_pending,
        )


NO_CHANGE: Final = Balance()


def change(purse: Purse, *, pending: int = 0, posted: int = 0) -> Balance:
    """Return what units held back and units posted change of a balance; either may be below zero."""
    match purse:
        case Purse.FAIR_USE:
            return Balance(posted=posted, pending=pending)
        case Purse.CONTINUATION:
            return Balance(continuation_posted=posted, continuation_pending=pending)
        case Purse.NONE:
            return NO_CHANGE


class Slots(msgspec.Struct, frozen=True, gc=False):
    """Who holds workflow slots; all but ``active`` is of the workflow that was asked about."""

    active: int
    holds_one: bool
    in_flight: int
    released: bool = False


def disagreement(account: str, unit: str, window: Window, kept: Balance, rebuilt: Balance) -> str | None:
    """Say how a kept balance differs from what its entries and open tickets come to; ``None`` if it does not."""
    if kept == rebuilt and min(kept.posted, kept.pending, kept.continuation_posted, kept.continuation_pending) >= 0:
        return None
    return f"account {account!r}, {unit}s of {window.start}..{window.end}: kept {kept}, by its entries {rebuilt}"


def first_fit(offers: Sequence[Offer], balance: Balance, terms: Terms) -> int | None:
    """Return the index of the first offer that the balance allows, or ``None``."""
    for index, offer in enumerate(offers):
        if _fits(offer, balance, terms):
            return index
    return None


def _fits(offer: Offer, balance: Balance, terms: Terms) -> bool:
    match offer.purse:
        case Purse.FAIR_USE:
            return balance.posted + balance.pending + offer.units <= terms.fair_use
        case Purse.CONTINUATION:
            used = balance.continuation_posted + balance.continuation_pending
            return terms.continuation_limit is None or used + offer.units <= terms.continuation_limit
        case Purse.NONE:
            # The budget lane is for accounts with fair-use left; after that, continuation's own cap holds.
            return offer.lane is not Lane.BUDGET or balance.posted + balance.pending < terms.fair_use


def leases_to_end(terms: Terms, slots: Slots) -> int:
    """Return how many leases must end before there is room: for a workflow that holds a slot, of its requests.

    More than one, after the plan has become smaller. Below one, there is room.
    """
    if slots.holds_one:
        return slots.in_flight - terms.fanout + 1
    return slots.active - terms.workflows + 1


def full(until: float | None, now: float, standing: Standing) -> Refusal:
    """Refuse until a lease ends: who comes then gets in, if nobody extended one or came before."""
    wait = math.ceil(until - now) if until is not None else 1
    return Refusal(code=ErrorCode.WORKFLOW_LIMIT, standing=standing, retry_after=max(1, wait))


def next_arrival(arrival: float | None, requests_per_minute: int, now: float) -> tuple[float, int | None]:
    """Apply GCRA: return the key's next theoretical arrival time, and the wait if it must wait.

    A key may burst to a full minute's requests and then send at an even pace
    (generic cell rate algorithm, ITU-T I.371).
    """
    # Sums of fractions of a second are not exact: a millisecond early is on time.
    pace = 60.0 / requests_per_minute
    burst = 60.0 - pace
    expected = max(arrival or now, now)
    early = expected - burst - now
    if early > _CLOCK_ERROR:
        return expected, max(1, math.ceil(early))
    return expected + pace, None


def standing(balance: Balance, terms: Terms, window: Window, active: int) -> Standing:
    """Return how the account stands, for headers and receipts."""
    return Standing(
        unit=terms.unit,
        remaining=max(0, terms.fair_use - balance.posted - balance.pending),
        limit=terms.fair_use,
        resets_at=window.end,
        workflows_active=active,
        workflows_limit=terms.workflows,
    )


def fair_use(now: Standing, charged: int | None) -> FairUse:
    """Return the fair-use part of a receipt; ``charged`` is left out while it is not known."""
    figures = {"unit": now.unit, "remaining": now.remaining, "limit": now.limit, "resets_at": now.resets_at}
    return FairUse.model_validate(figures if charged is None else figures | {"charged": charged})


def workflow_state(workflow: str | None, now: Standing) -> WorkflowState:
    """Return the workflow part of a receipt; a request that sent no id shows none."""
    if workflow is None:
        return WorkflowState(active=now.workflows_active, limit=now.workflows_limit)
    return WorkflowState(id=workflow, active=now.workflows_active, limit=now.workflows_limit)


def moment(at: float) -> datetime:
    """Return a time as receipts tell it: to the millisecond, so that a request's is the same in each of its states."""
    return datetime.fromtimestamp(int(at * 1000) / 1000, UTC)
