"""The ledger's transactions, over any ``Book`` of rows. No I/O of its own; time comes in.

Each function is one transaction: the store runs it alone, and keeps all of its writes or none.
Whatever may fail is checked before the first write.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from flatfee.receipt import Receipt
from flatfee.server.clocks import Moment
from flatfee.server.statement import Statement
from flatfee.server.store import entries, ledger
from flatfee.server.store.base import ForeignTicket, StoreDown
from flatfee.server.store.book import Book, Claim, ClaimKey, OpenTicket, SlotKey
from flatfee.server.store.ledger import NO_CHANGE, Balance, Slots
from flatfee.server.store.records import (
    Changed,
    Idempotency,
    Offer,
    Outcome,
    Purse,
    Refusal,
    Repeat,
    Reservation,
    Settlement,
    Standing,
    Terms,
    Ticket,
    Usage,
)
from flatfee.server.windows import Calendar, Window
from flatfee.wire import ErrorCode

REMEMBER_SECONDS: Final = 25 * 3600
"""How long an idempotency key is remembered: a day, and an hour more for a clock that is put forward."""

_LAPSED_AT_ONCE: Final = 20
"""So many lost requests are ended before it is looked again whether one that came fits now."""

_KEEP_BALANCES: Final = 86_400
"""Balances of windows that ended longer ago are read from their entries."""

Admission = Ticket | Refusal | Repeat | Changed


class _View(msgspec.Struct, frozen=True, gc=False):
    """What a reservation is decided on: the account as it stands."""

    key: SlotKey | None
    window: Window
    balance: Balance
    slots: Slots
    terms: Terms

    @property
    def standing(self) -> Standing:
        """How the account stands, for one that is refused."""
        return ledger.standing(self.balance, self.terms, self.window, self.slots.active)


def reserve(book: Book, want: Reservation, now: Moment) -> Admission:
    """Grant the first offer that fits, with a slot, or say why none can be granted."""
    caller = book.caller(want.caller.key_id, now.wall)
    if caller is None or (caller is not want.caller and caller != want.caller):
        return Changed(caller)
    book.used(caller.key_id, now.wall)
    key = SlotKey(caller.account, caller.project, want.workflow) if want.workflow is not None else None
    view = _look(book, want, key, now)
    refusal = _refuse_rate(book, want, view, now)
    if refusal is not None:
        return refusal
    choice = _choose(book, want, view, now)
    while choice != 0 and _lapse_expired(book, now, _LAPSED_AT_ONCE):
        # What lost requests held is free once their lease is over, whether or not a sweep has come by.
        view = _look(book, want, key, now)
        choice = _choose(book, want, view, now)
    if isinstance(choice, int):
        return _grant(book, want, choice, view, now)
    return _within_rate(book, want, choice, now) if isinstance(choice, Refusal) else choice


def _look(book: Book, want: Reservation, key: SlotKey | None, now: Moment) -> _View:
    account, window = want.caller.account, want.calendar.at(now.wall)
    balance = book.open_balance(account, want.terms.unit, window)
    slots = book.slots(account, key, now.steady)
    return _View(key, window, balance, slots, want.terms)


def _choose(book: Book, want: Reservation, view: _View, now: Moment) -> int | Refusal | Repeat:
    """Return the index of the offer that is granted, or why none is."""
    if want.idempotency is not None:
        used = _used_before(book, want, want.idempotency, now, view)
        if used is not None:
            return used
    refusal = _refuse_slot(book, want, view, now.steady)
    if refusal is not None:
        return refusal
    choice = ledger.first_fit(want.offers, view.balance, want.terms)
    return choice if choice is not None else Refusal(code=ErrorCode.FAIR_USE_EXHAUSTED, standing=view.standing)


def _refuse_slot(book: Book, want: Reservation, view: _View, now: float) -> Refusal | None:
    """Say until when a request gets no workflow slot, or ``None`` if it may have one."""
    number = ledger.leases_to_end(want.terms, view.slots)
    if number < 1:
        return None
    if view.key is not None and view.slots.holds_one:
        return ledger.full(book.request_end(view.key, number), now, view.standing)
    return ledger.full(book.slot_end(want.caller.account, now, number), now, view.standing)


def _refuse_rate(book: Book, want: Reservation, view: _View, now: Moment) -> Refusal | None:
    """Count a request against its key's rate; one that must wait for a slot as well is told the longer wait."""
    per_minute, key_id = want.terms.requests_per_minute, want.caller.key_id
    if per_minute is None:
        return None
    arrival, wait = ledger.next_arrival(book.arrival(key_id), per_minute, now.steady)
    if wait is None:
        book.set_arrival(key_id, arrival)
        return None
    slot = _refuse_slot(book, want, view, now.steady)
    longer = max(wait, (slot.retry_after or 0) if slot is not None else 0)
    return Refusal(code=ErrorCode.RATE_LIMITED, standing=view.standing, retry_after=longer)


def _within_rate(book: Book, want: Reservation, refusal: Refusal, now: Moment) -> Refusal:
    """Let nobody come again when one limit allows it, only to be refused for the rate."""
    per_minute = want.terms.requests_per_minute
    if per_minute is None or refusal.retry_after is None:
        return refusal
    _, wait = ledger.next_arrival(book.arrival(want.caller.key_id), per_minute, now.steady)
    return replace(refusal, retry_after=max(refusal.retry_after, wait or 0))


def _used_before(
    book: Book, want: Reservation, idempotency: Idempotency, now: Moment, view: _View
) -> Refusal | Repeat | None:
    """Say what an idempotency key was used for; ``None`` if it may be used now."""
    key = ClaimKey(want.caller.account, want.caller.project, idempotency.key)
    claim = book.claim(key)
    if claim is None or claim.at <= now.wall - REMEMBER_SECONDS:
        return None
    if claim.body != idempotency.body:
        return Refusal(code=ErrorCode.IDEMPOTENCY_MISMATCH, standing=view.standing)
    running = book.find_ticket(claim.request_id)
    if running is not None:
        # How long it still runs nobody knows; as long as it has run already is a guess that ends soon.
        wait = math.ceil(min(now.wall - running.at, running.expires_at - now.steady))
        return Refusal(code=ErrorCode.IDEMPOTENCY_IN_FLIGHT, standing=view.standing, retry_after=max(1, wait))
    kept = book.kept_receipt(claim.request_id)
    told = entries.owned(book, kept).json if kept is not None else entries.as_json(Receipt(request_id=claim.request_id))
    return Repeat(request_id=claim.request_id, holder=claim.holder, receipt=entries.told(told))


def _grant(book: Book, want: Reservation, choice: int, view: _View, now: Moment) -> Ticket:
    caller, terms, offer = want.caller, want.terms, want.offers[choice]
    held = ledger.change(offer.purse, pending=offer.units)
    book.shift_balance(caller.account, terms.unit, now.wall, held)
    if view.key is not None:
        book.hold_slot(view.key, now, now.steady + max(want.lease, terms.idle))
    _claim(book, want, now)
    book.add_ticket(_open_ticket(want, offer, now))
    active = view.slots.active + (0 if view.slots.holds_one else 1)
    return Ticket(
        request_id=want.request_id,
        account=caller.account,
        project=caller.project,
        workflow=want.workflow,
        choice=choice,
        offer=offer,
        terms=terms,
        window=view.window,
        created_at=now.wall,
        standing=ledger.standing(view.balance + held, terms, view.window, active),
        reduced=want.reduced,
    )


def _claim(book: Book, want: Reservation, now: Moment) -> None:
    caller, idempotency = want.caller, want.idempotency
    if idempotency is not None:
        claim = Claim(request_id=want.request_id, body=idempotency.body, at=now.wall, holder=idempotency.holder)
        book.set_claim(ClaimKey(caller.account, caller.project, idempotency.key), claim)


def _open_ticket(want: Reservation, offer: Offer, now: Moment) -> OpenTicket:
    return OpenTicket(
        request_id=want.request_id,
        account=want.caller.account,
        project=want.caller.project,
        workflow=want.workflow,
        lane=offer.lane,
        reason=offer.reason,
        purse=offer.purse,
        units=offer.units,
        unit=want.terms.unit,
        model_requested=want.model_requested,
        at=now.wall,
        expires_at=now.steady + want.lease,
        claim=want.idempotency.key if want.idempotency is not None else None,
        reduced=want.reduced,
    )


def dispatch(book: Book, ticket: Ticket) -> None:
    """Note that a request's money is about to be spent, if it still holds any.

    Raises:
        StoreDown: its lease ran out and it was swept; sent now, it would be unmetered.
    """
    if not book.mark_dispatched(ticket.request_id):
        raise StoreDown("the request's lease ran out before it was dispatched")


def settle(book: Book, ticket: Ticket, outcome: Outcome, now: Moment) -> Settlement:
    """Post the charge, free the reservation, keep the receipt; if that was done before, tell what was kept.

    What is freed, and from which balance, is what the book says of the ticket, not what its holder says.

    Raises:
        ForeignTicket: this ledger never granted the ticket.
    """
    held = book.take_ticket(ticket.request_id, ticket.account)
    if held is None:
        return _settle_late(book, ticket, outcome, now)
    charged = outcome.charged if held.purse is not Purse.NONE else 0
    _post(book, held, charged)
    if not (charged or outcome.answered):
        _free_claim(book, held)
    _leave_slot(book, held, ticket, outcome.route, now.steady)
    standing = _standing(book, ticket)
    receipt = _final_receipt(ticket, outcome, standing, charged if held.purse is Purse.FAIR_USE else 0)
    json = entries.enter(book, held, receipt, charged, outcome.beside, now.wall)
    return Settlement(json=json, remaining=standing.remaining)


def _post(book: Book, held: OpenTicket, charged: int) -> None:
    """Free what a ticket holds back and post what it is charged."""
    spent = ledger.change(held.purse, pending=-held.units, posted=charged)
    book.shift_balance(held.account, held.unit, held.at, spent)


def _free_claim(book: Book, held: OpenTicket) -> None:
    if held.claim is not None:
        book.drop_claim(ClaimKey(held.account, held.project, held.claim), held.request_id)


def _final_receipt(ticket: Ticket, outcome: Outcome, standing: Standing, charged: int) -> Receipt | Statement:
    receipt = outcome.receipt
    if isinstance(receipt, Statement):
        return receipt.completed(ticket.workflow, standing, charged)
    return receipt.model_copy(
        update={
            "fair_use": ledger.fair_use(standing, charged),
            "workflow": ledger.workflow_state(ticket.workflow, standing),
        }
    )


def _standing(book: Book, ticket: Ticket, correction: Balance = NO_CHANGE) -> Standing:
    balance = book.balance(ticket.account, ticket.terms.unit, ticket.window) + correction
    return ledger.standing(balance, ticket.terms, ticket.window, ticket.standing.workflows_active)


def _settle_late(book: Book, ticket: Ticket, outcome: Outcome, now: Moment) -> Settlement:
    """Settle a ticket that is no longer open: its lease ran out, or it was settled before."""
    kept = book.kept_receipt(ticket.request_id)
    if kept is None or not entries.belongs_to(kept, ticket):
        raise ForeignTicket(ticket.request_id)
    before = book.adjustments(ticket.request_id)
    if kept.lapsed and not any(entry.kind == entries.LATE for entry in before):
        units = entries.correction(kept, before, outcome.charged)
        charged = entries.net(kept, before) + units if kept.purse is Purse.FAIR_USE else 0
        standing = _standing(book, ticket, ledger.change(kept.purse, posted=units))
        receipt = _final_receipt(ticket, outcome, standing, charged)
        entries.correct(book, kept, receipt, units, outcome.beside, now, reduced=ticket.reduced)
        before = book.adjustments(ticket.request_id)
    return entries.settlement_of(kept, before)


def _leave_slot(book: Book, held: OpenTicket, ticket: Ticket, route: str | None, now: float) -> None:
    """Note that a request of a workflow has ended."""
    if held.workflow is None:
        return
    key = SlotKey(held.account, held.project, held.workflow)
    slots = book.slots(held.account, key, now)
    if not slots.holds_one:
        return
    if slots.released and not slots.in_flight:
        book.drop_slot(key)
        return
    # A workflow is idle from its last answer on; while others run, the slot stays as they hold it.
    book.touch_slot(key, now, None if slots.in_flight else now + ticket.terms.idle, route)


def release(book: Book, key: SlotKey, now: Moment) -> bool:
    """End a slot's idle hold; false if it is not held.

    Requests that run keep it: a slot that was free before they end would let the limit be passed by.
    """
    slots = book.slots(key.account, key, now.steady)
    if slots.holds_one and slots.in_flight:
        book.mark_released(key)
    elif slots.holds_one:
        book.drop_slot(key)
    return slots.holds_one


def heartbeat(book: Book, tickets: Sequence[Ticket], lease: float, now: Moment) -> None:
    """Extend running requests and their workflows. What has run out stays so: others may hold it already."""
    for ticket in tickets:
        extended = book.extend_ticket(ticket.request_id, now.steady, now.steady + lease)
        if extended and ticket.workflow is not None:
            key = SlotKey(ticket.account, ticket.project, ticket.workflow)
            book.touch_slot(key, now.steady, now.steady + max(lease, ticket.terms.idle), None)


def sweep(book: Book, now: Moment) -> int:
    """End the requests whose holders were lost, free idle workflows, forget what no longer matters."""
    lost = _lapse_expired(book, now)
    book.drop_slots(now.steady)
    book.drop_arrivals(now.steady)
    book.drop_claims(now.wall - REMEMBER_SECONDS)
    book.drop_balances(now.wall - _KEEP_BALANCES)
    return lost


def _lapse_expired(book: Book, now: Moment, most: int = -1) -> int:
    """End the requests whose holders were lost; return how many. ``most`` bounds it."""
    lost = book.expired_tickets(now.steady, most)
    for ticket in lost:
        _lapse(book, ticket)
    return len(lost)


def usage(book: Book, account: str, unit: str, calendar: Calendar, now: Moment) -> Usage:
    """Tell an account's use of its window of this moment. Reads only."""
    window = calendar.at(now.wall)
    balance = book.balance(account, unit, window)
    return Usage(
        window=window,
        fair_use_used=balance.posted,
        fair_use_pending=balance.pending,
        continuation_used=balance.continuation_posted,
        continuation_pending=balance.continuation_pending,
        workflows_active=book.slots(account, None, now.steady).active,
    )


def _lapse(book: Book, ticket: OpenTicket) -> None:
    """End a request whose lease ran out: void if it was never dispatched, else its estimate stays charged."""
    book.take_ticket(ticket.request_id, ticket.account)
    charged = ticket.units if ticket.dispatched else 0
    _post(book, ticket, charged)
    if not charged:
        _free_claim(book, ticket)
    entries.enter_lapsed(book, ticket, charged)
