"""The ledger's transactions, over any ``Book`` of rows. No I/O of its own; time comes in.

Each function is one transaction: the store runs it alone, and keeps all of its writes or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from flatfee.receipt import FairUse, Receipt, WorkflowState
from flatfee.server.store import ledger
from flatfee.server.store.base import StoreDown
from flatfee.server.store.ledger import Balance, Slots
from flatfee.server.store.records import Caller, Offer, Outcome, Purse, Refusal, Reservation, Settlement, Ticket
from flatfee.wire import ErrorCode, Lane, Reason, ReceiptState


class SlotKey(NamedTuple):
    """Whose workflow it is: projects choose their ids without knowing of each other's. ``None``: a team key's."""

    account: str
    project: str | None
    workflow: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTicket:
    """A reservation as a book keeps it until it is settled."""

    request_id: str
    account: str
    project: str | None
    workflow: str | None
    lane: Lane
    reason: Reason
    purse: Purse
    units: int
    unit: str
    window_start: int
    model_requested: str
    created_at: float
    expires_at: float
    dispatched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReceipt:
    """A receipt as a book keeps it: its JSON, and the columns it is found by."""

    request_id: str
    account: str
    project: str | None
    workflow: str | None
    lane: str | None
    json: bytes


class Book(Protocol):
    """Rows of the ledger, read and written within one transaction. Times are epoch seconds."""

    def balance(self, account: str, window_start: int) -> Balance: ...
    def set_balance(self, account: str, window_start: int, balance: Balance) -> None: ...
    def arrival(self, key_id: str) -> float | None: ...
    def set_arrival(self, key_id: str, arrival: float) -> None: ...
    def drop_arrivals(self, now: float) -> None:
        """Forget the keys that are at rest: an arrival in the past says no more than none."""
        ...

    def slots(self, account: str, key: SlotKey | None, now: float) -> Slots: ...
    def hold_slot(self, key: SlotKey, now: float, expires_at: float) -> None:
        """Take a slot, or take it up again: whatever was released is held anew."""
        ...

    def touch_slot(self, key: SlotKey, now: float, until: float | None, route: str | None) -> None:
        """Set until when a live slot is held, and its last route; ``None`` leaves either as it is."""
        ...

    def mark_released(self, key: SlotKey) -> None: ...
    def drop_slot(self, key: SlotKey) -> None: ...
    def drop_slots(self, now: float) -> None:
        """Free the slots that ran out, and those that were released and whose requests have all ended."""
        ...

    def add_ticket(self, ticket: OpenTicket) -> None: ...
    def mark_dispatched(self, request_id: str) -> bool: ...
    def extend_ticket(self, request_id: str, expires_at: float) -> None: ...
    def take_ticket(self, request_id: str) -> bool: ...
    def expired_tickets(self, now: float) -> list[OpenTicket]: ...
    def add_receipt(self, receipt: KeptReceipt) -> None: ...
    def receipt_json(self, request_id: str) -> bytes | None: ...


def reserve(book: Book, want: Reservation, now: float) -> Ticket | Refusal:
    """Grant the first offer that fits, with a slot, or say why none can be granted."""
    account, terms, start = want.caller.account, want.terms, want.window.start
    balance = book.balance(account, start)
    key = SlotKey(account, want.caller.project, want.workflow) if want.workflow is not None else None
    slots = book.slots(account, key, now)
    standing = ledger.standing(balance, terms, want.window, slots.active)
    if terms.requests_per_minute is not None:
        arrival, wait = ledger.next_arrival(book.arrival(want.caller.key_id), terms.requests_per_minute, now)
        if wait is not None:
            return Refusal(code=ErrorCode.RATE_LIMITED, standing=standing, retry_after=wait)
        book.set_arrival(want.caller.key_id, arrival)
    refusal = ledger.refuse_slot(want, slots, now, standing)
    if refusal is not None:
        return refusal
    choice = ledger.first_fit(want.offers, balance, terms)
    if choice is None:
        return Refusal(code=ErrorCode.FAIR_USE_EXHAUSTED, standing=standing)
    offer = want.offers[choice]
    balance = balance.held(offer)
    if offer.purse is not Purse.NONE:
        book.set_balance(account, start, balance)
    if key is not None:
        book.hold_slot(key, now, now + max(want.lease, terms.idle))
    book.add_ticket(_open_ticket(want, choice, now))
    active = slots.active + (0 if slots.holds_one else 1)
    return Ticket(
        request_id=want.request_id,
        account=account,
        project=want.caller.project,
        workflow=want.workflow,
        choice=choice,
        offer=offer,
        terms=terms,
        window=want.window,
        created_at=now,
        standing=ledger.standing(balance, terms, want.window, active),
    )


def _open_ticket(want: Reservation, choice: int, now: float) -> OpenTicket:
    offer = want.offers[choice]
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
        window_start=want.window.start,
        model_requested=want.model_requested,
        created_at=now,
        expires_at=now + want.lease,
    )


def dispatch(book: Book, ticket: Ticket) -> None:
    """Note that a request's money is about to be spent, if it still holds any.

    Raises:
        StoreDown: its lease ran out and it was swept; sent now, it would be unmetered.
    """
    if not book.mark_dispatched(ticket.request_id):
        raise StoreDown("the request's lease ran out before it was dispatched")


def settle(book: Book, ticket: Ticket, outcome: Outcome, now: float) -> Settlement:
    """Post the charge, free the reservation, keep the receipt; if that was done before, tell what was kept."""
    if not book.take_ticket(ticket.request_id):
        kept = book.receipt_json(ticket.request_id) or b"{}"
        return Settlement(receipt=Receipt.model_validate_json(kept), json=kept)
    start = ticket.window.start
    balance = book.balance(ticket.account, start)
    if ticket.offer.purse is not Purse.NONE:
        balance = balance.settled(ticket.offer, outcome.charged)
        book.set_balance(ticket.account, start, balance)
    active = _leave_slot(book, ticket, outcome.route, now)
    standing = ledger.standing(balance, ticket.terms, ticket.window, active)
    charged = outcome.charged if ticket.offer.purse is Purse.FAIR_USE else 0
    receipt = outcome.receipt.model_copy(
        update={
            "fair_use": ledger.fair_use(standing, charged),
            "workflow": ledger.workflow_state(ticket.workflow, standing),
        }
    )
    json = keep(book, receipt, ticket.account, ticket.project)
    return Settlement(receipt=receipt, json=json)


def _leave_slot(book: Book, ticket: Ticket, route: str | None, now: float) -> int:
    """Note that a request of a workflow has ended; return how many slots its account holds then."""
    key = _slot_key(ticket)
    slots = book.slots(ticket.account, key, now)
    if key is None or not slots.holds_one:
        return slots.active
    if slots.released and not slots.in_flight:
        book.drop_slot(key)
        return slots.active - 1
    # A workflow is idle from its last answer on; while others run, the slot stays as they hold it.
    book.touch_slot(key, now, None if slots.in_flight else now + ticket.terms.idle, route)
    return slots.active


def _slot_key(ticket: Ticket) -> SlotKey | None:
    return SlotKey(ticket.account, ticket.project, ticket.workflow) if ticket.workflow is not None else None


def release(book: Book, key: SlotKey, now: float) -> bool:
    """End a slot's idle hold; false if it is not held.

    Requests that run keep it: a slot that was free before they end would let the limit be passed by.
    """
    slots = book.slots(key.account, key, now)
    if slots.holds_one and slots.in_flight:
        book.mark_released(key)
    elif slots.holds_one:
        book.drop_slot(key)
    return slots.holds_one


def keep(book: Book, receipt: Receipt, account: str, project: str | None) -> bytes:
    """Write a receipt to the book and return its JSON. What was not set is left out."""
    json = receipt.model_dump_json(exclude_unset=True).encode()
    book.add_receipt(
        KeptReceipt(
            request_id=receipt.request_id or "",
            account=account,
            project=project,
            workflow=receipt.workflow.id if receipt.workflow else None,
            lane=receipt.lane,
            json=json,
        )
    )
    return json


def heartbeat(book: Book, tickets: Sequence[Ticket], lease: float, now: float) -> None:
    """Extend running requests and their workflows."""
    for ticket in tickets:
        book.extend_ticket(ticket.request_id, now + lease)
        key = _slot_key(ticket)
        if key is not None:
            book.touch_slot(key, now, now + max(lease, ticket.terms.idle), None)


def sweep(book: Book, now: float) -> int:
    """End the requests whose holders were lost, free idle workflows, forget keys at rest."""
    lost = book.expired_tickets(now)
    for ticket in lost:
        book.take_ticket(ticket.request_id)
        charged = ticket.units if ticket.dispatched else 0
        _post(book, ticket, charged)
        receipt = running_receipt(ticket).model_copy(
            update={
                "state": ReceiptState.ESTIMATED if ticket.dispatched else ReceiptState.REFUSED,
                "fair_use": FairUse(unit=ticket.unit, charged=charged if ticket.purse is Purse.FAIR_USE else 0),
            }
        )
        keep(book, receipt, ticket.account, ticket.project)
    book.drop_slots(now)
    book.drop_arrivals(now)
    return len(lost)


def _post(book: Book, ticket: OpenTicket, charged: int) -> None:
    if ticket.purse is Purse.NONE:
        return
    balance = book.balance(ticket.account, ticket.window_start)
    offer = Offer(lane=ticket.lane, reason=ticket.reason, purse=ticket.purse, units=ticket.units)
    book.set_balance(ticket.account, ticket.window_start, balance.settled(offer, charged))


def running_receipt(ticket: OpenTicket) -> Receipt:
    """Return the receipt of a request that has not ended."""
    facts: dict[str, object] = {
        "request_id": ticket.request_id,
        "lane": ticket.lane,
        "reason": ticket.reason,
        "state": ReceiptState.IN_FLIGHT,
        "model_requested": ticket.model_requested,
        "created_at": ledger.moment(ticket.created_at),
    }
    if ticket.workflow is not None:
        facts["workflow"] = WorkflowState(id=ticket.workflow)
    return Receipt.model_validate(facts)


def may_see(caller: Caller, account: str, project: str | None) -> bool:
    """Tell whether a caller may see what belongs to a project: its own; with a team key, the account's."""
    return caller.account == account and (caller.project is None or caller.project == project)
