"""The rows of the ledger, as its transactions see them: what a store must be able to read and write.

A ``Book`` is used within one transaction. Nothing is decided here: that is for ``transactions``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from flatfee.server.clocks import Moment
from flatfee.server.store.ledger import Balance, Slots
from flatfee.server.store.records import Caller, LedgerQuery, Purse, WorkflowLease
from flatfee.server.windows import Window
from flatfee.wire import Lane, Reason


class SlotKey(NamedTuple):
    """Whose workflow it is: projects choose their ids without knowing of each other's. ``None``: a team key's."""

    account: str
    project: str | None
    workflow: str


class ClaimKey(NamedTuple):
    """Whose idempotency key it is, and its digest. ``None``: a team key's."""

    account: str
    project: str | None
    key: bytes


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An idempotency key that was used: for which request and body, when (wall), and by whom its answer is kept."""

    request_id: str
    body: bytes
    at: float
    holder: str


class OpenTicket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A reservation as a book keeps it until it ends. ``at`` is wall time, ``expires_at`` steady time.

    ``claim`` is the digest of its idempotency key; ``reduced`` says that little is to be kept of it.
    """

    request_id: str
    account: str
    project: str | None
    workflow: str | None
    lane: Lane
    reason: Reason
    purse: Purse
    units: int
    unit: str
    model_requested: str
    at: float
    expires_at: float
    claim: bytes | None = None
    reduced: bool = False
    dispatched: bool = False


class KeptReceipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A receipt as a book keeps it, once and for ever: an entry of the ledger, and the JSON that tells of it.

    ``at`` is when its units were reserved (wall time): its window is the one that holds that moment.
    ``lapsed`` means that its lease ran out before anybody settled it.
    """

    request_id: str
    account: str
    project: str | None
    workflow: str | None
    lane: str | None
    json: bytes
    at: float
    purse: Purse = Purse.NONE
    unit: str = ""
    charged: int = 0
    lapsed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """An entry beside a receipt's: a late settlement or a refund. ``units`` is what it adds, so below zero.

    ``json`` replaces what the receipt told, but for what is charged: that is the sum of all entries.
    """

    request_id: str
    account: str
    purse: Purse
    unit: str
    units: int
    at: float
    made_at: float
    kind: str
    note: str = ""
    json: bytes | None = None


class Entries(Protocol):
    """Receipts and adjustments, and the balances that follow from them."""

    def balance(self, account: str, unit: str, window: Window) -> Balance:
        """Return an account's use of a window: what its entries and open tickets come to."""
        ...

    def open_balance(self, account: str, unit: str, window: Window) -> Balance:
        """Return the same, and keep it from now on: later changes are added to what is kept."""
        ...

    def shift_balance(self, account: str, unit: str, at: float, change: Balance) -> None:
        """Add a change to every balance that is kept of a window around ``at``."""
        ...

    def drop_balances(self, before: float) -> None:
        """Forget the balances of windows that ended before a moment: their entries still tell them."""
        ...

    def add_receipt(self, receipt: KeptReceipt) -> None:
        """Keep a receipt, unless there is one of that request."""
        ...

    def kept_receipt(self, request_id: str) -> KeptReceipt | None: ...
    def add_adjustment(self, adjustment: Adjustment) -> None: ...
    def adjustments(self, request_id: str) -> list[Adjustment]:
        """Return a receipt's adjustments in the order in which they were made."""
        ...

    def kept_receipts(self, query: LedgerQuery) -> list[KeptReceipt]:
        """Return a page of receipts, newest first, and one more if more follow."""
        ...

    def disagreements(self) -> list[str]:
        """Say which balances do not follow from their entries."""
        ...

    def prune(self, before: float, most: int) -> int:
        """Forget receipts of requests from before a moment, with their adjustments; return how many."""
        ...


class Book(Entries, Protocol):
    """Everything one transaction of the ledger may touch."""

    def caller(self, key_id: str, now: float) -> Caller | None:
        """Return what a key stands for now (wall time); ``None`` if it is unknown, revoked or expired."""
        ...

    def used(self, key_id: str, now: float) -> None:
        """Note that a key was used."""
        ...

    def arrival(self, key_id: str) -> float | None: ...
    def set_arrival(self, key_id: str, arrival: float) -> None: ...
    def drop_arrivals(self, now: float) -> None:
        """Forget the keys that are at rest: an arrival in the past says no more than none."""
        ...

    def slots(self, account: str, key: SlotKey | None, now: float) -> Slots: ...
    def slot_end(self, account: str, now: float, number: int) -> float | None:
        """Return when the lease ends that is the ``number``-th (from 1) of an account's slots to do so."""
        ...

    def request_end(self, key: SlotKey, number: int) -> float | None:
        """Return the same of the requests of a workflow."""
        ...

    def hold_slot(self, key: SlotKey, now: Moment, expires_at: float) -> None:
        """Take a slot, or take it up again: whatever was released is held anew."""
        ...

    def touch_slot(self, key: SlotKey, now: float, until: float | None, route: str | None) -> None:
        """Set until when a live slot is held, and its last route; ``None`` leaves either as it is."""
        ...

    def leases(self, now: Moment, account: str | None) -> list[WorkflowLease]:
        """Return live slots, oldest first: an account's, or all."""
        ...

    def mark_released(self, key: SlotKey) -> None: ...
    def drop_slot(self, key: SlotKey) -> None: ...
    def drop_slots(self, now: float) -> None:
        """Free the slots that ran out, and those that were released and whose requests have all ended."""
        ...

    def add_ticket(self, ticket: OpenTicket) -> None: ...
    def mark_dispatched(self, request_id: str) -> bool: ...
    def extend_ticket(self, request_id: str, now: float, expires_at: float) -> bool:
        """Extend a lease that has not run out; false if it has, or the request has ended."""
        ...

    def find_ticket(self, request_id: str) -> OpenTicket | None: ...
    def take_ticket(self, request_id: str, account: str) -> OpenTicket | None:
        """Take an account's ticket out of the book; ``None`` if it has none of that id."""
        ...

    def expired_tickets(self, now: float, most: int = -1) -> list[OpenTicket]:
        """Return tickets whose lease has run out; ``most`` of them if that is not below zero."""
        ...

    def claim(self, key: ClaimKey) -> Claim | None: ...
    def set_claim(self, key: ClaimKey, claim: Claim) -> None: ...
    def drop_claim(self, key: ClaimKey, request_id: str) -> None:
        """Free an idempotency key that a request had used."""
        ...

    def drop_claims(self, before: float) -> None: ...
