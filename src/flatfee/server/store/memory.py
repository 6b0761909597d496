"""A store in this process's memory: for tests, demos and CI. Everything is gone with the process.

Transactions run on the event loop without an ``await`` inside, so each is atomic by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from flatfee.receipt import Receipt
from flatfee.server.store import transactions
from flatfee.server.store.ledger import Balance, Slots
from flatfee.server.store.memory_directory import MemoryDirectory
from flatfee.server.store.records import (
    Caller,
    Outcome,
    ReceiptQuery,
    Refusal,
    Reservation,
    Settlement,
    Ticket,
    Usage,
    WorkflowLease,
)
from flatfee.server.store.shared_directory import SharedDirectory
from flatfee.server.store.transactions import KeptReceipt, OpenTicket, SlotKey, may_see
from flatfee.server.windows import Window

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Slot:
    started_at: float
    expires_at: float
    route: str | None = None
    released: bool = False


class MemoryBook(MemoryDirectory):
    """The rows, in dictionaries. Of the receipts, the newest are kept."""

    def __init__(self, max_receipts: int) -> None:
        super().__init__()
        self.max_receipts = max_receipts
        self.balances: dict[tuple[str, int], Balance] = {}
        self.arrivals: dict[str, float] = {}
        self.held: dict[SlotKey, _Slot] = {}
        self.tickets: dict[str, OpenTicket] = {}
        self.receipts: dict[str, KeptReceipt] = {}

    def balance(self, account: str, window_start: int) -> Balance:
        return self.balances.get((account, window_start), Balance())

    def set_balance(self, account: str, window_start: int, balance: Balance) -> None:
        self.balances[account, window_start] = balance

    def arrival(self, key_id: str) -> float | None:
        return self.arrivals.get(key_id)

    def set_arrival(self, key_id: str, arrival: float) -> None:
        self.arrivals[key_id] = arrival

    def drop_arrivals(self, now: float) -> None:
        self.arrivals = {key_id: arrival for key_id, arrival in self.arrivals.items() if arrival > now}

    def slots(self, account: str, key: SlotKey | None, now: float) -> Slots:
        named = {key: slot for key, slot in self.held.items() if key.account == account and slot.expires_at > now}
        single = [
            ticket.expires_at
            for ticket in self.tickets.values()
            if ticket.account == account and ticket.workflow is None and ticket.expires_at > now
        ]
        ends = [*(slot.expires_at for slot in named.values()), *single]
        own = named.get(key) if key is not None else None
        return Slots(
            active=len(ends),
            holds_one=own is not None,
            in_flight=self.in_flight(key) if key is not None else 0,
            frees_at=min(ends, default=None),
            released=own is not None and own.released,
        )

    def in_flight(self, key: SlotKey) -> int:
        return sum((ticket.account, ticket.project, ticket.workflow) == key for ticket in self.tickets.values())

    def hold_slot(self, key: SlotKey, now: float, expires_at: float) -> None:
        slot = self.held.get(key)
        if slot is None or slot.expires_at <= now:
            self.held[key] = _Slot(now, expires_at)
        else:
            self.held[key] = replace(slot, expires_at=expires_at, released=False)

    def touch_slot(self, key: SlotKey, now: float, until: float | None, route: str | None) -> None:
        slot = self.held.get(key)
        if slot is not None and slot.expires_at > now:
            self.held[key] = replace(
                slot,
                expires_at=slot.expires_at if until is None else until,
                route=slot.route if route is None else route,
            )

    def mark_released(self, key: SlotKey) -> None:
        self.held[key] = replace(self.held[key], released=True)

    def drop_slot(self, key: SlotKey) -> None:
        del self.held[key]

    def drop_slots(self, now: float) -> None:
        self.held = {
            key: slot
            for key, slot in self.held.items()
            if slot.expires_at > now and (not slot.released or self.in_flight(key))
        }

    def add_ticket(self, ticket: OpenTicket) -> None:
        self.tickets[ticket.request_id] = ticket

    def mark_dispatched(self, request_id: str) -> bool:
        ticket = self.tickets.get(request_id)
        if ticket is not None:
            self.tickets[request_id] = replace(ticket, dispatched=True)
        return ticket is not None

    def extend_ticket(self, request_id: str, expires_at: float) -> None:
        ticket = self.tickets.get(request_id)
        if ticket is not None:
            self.tickets[request_id] = replace(ticket, expires_at=expires_at)

    def take_ticket(self, request_id: str) -> bool:
        return self.tickets.pop(request_id, None) is not None

    def expired_tickets(self, now: float) -> list[OpenTicket]:
        return [ticket for ticket in self.tickets.values() if ticket.expires_at <= now]

    def add_receipt(self, receipt: KeptReceipt) -> None:
        self.receipts.setdefault(receipt.request_id, receipt)
        if len(self.receipts) > self.max_receipts:
            del self.receipts[next(iter(self.receipts))]

    def receipt_json(self, request_id: str) -> bytes | None:
        kept = self.receipts.get(request_id)
        return kept.json if kept else None


class MemoryStore(SharedDirectory):
    """The whole ``Store`` protocol over a ``MemoryBook``."""

    def __init__(self, clock: Callable[[], float] = time.time, *, max_receipts: int = 100_000) -> None:
        self._clock = clock
        self._book = MemoryBook(max_receipts)

    def now(self) -> float:
        return self._clock()

    async def ready(self) -> None:
        return

    async def close(self) -> None:
        return

    async def find_key(self, digest: bytes) -> Caller | None:
        return self._book.caller_of(digest, self.now())

    async def reserve(self, want: Reservation) -> Ticket | Refusal:
        return transactions.reserve(self._book, want, self.now())

    async def dispatch(self, ticket: Ticket) -> None:
        transactions.dispatch(self._book, ticket)

    async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        return transactions.settle(self._book, ticket, outcome, self.now())

    async def heartbeat(self, tickets: Sequence[Ticket], lease: float) -> None:
        transactions.heartbeat(self._book, tickets, lease, self.now())

    async def sweep(self) -> int:
        return transactions.sweep(self._book, self.now())

    async def record(self, caller: Caller, receipt: Receipt) -> None:
        transactions.keep(self._book, receipt, caller.account, caller.project)

    async def receipt(self, caller: Caller, request_id: str) -> bytes | None:
        kept = self._book.receipts.get(request_id)
        if kept is not None:
            return kept.json if may_see(caller, kept.account, kept.project) else None
        running = self._book.tickets.get(request_id)
        if running is None or not may_see(caller, running.account, running.project):
            return None
        return transactions.running_receipt(running).model_dump_json(exclude_unset=True).encode()

    async def receipts(self, caller: Caller, query: ReceiptQuery) -> tuple[list[bytes], bool]:
        found = [
            kept
            for request_id, kept in sorted(self._book.receipts.items(), reverse=True)
            if may_see(caller, kept.account, kept.project)
            and query.workflow in {None, kept.workflow}
            and query.lane in {None, kept.lane}
            and (query.after is None or request_id < query.after)
        ]
        return [kept.json for kept in found[: query.limit]], len(found) > query.limit

    async def usage(self, caller: Caller, window: Window) -> Usage:
        balance = self._book.balance(caller.account, window.start)
        return Usage(
            fair_use_used=balance.posted,
            fair_use_pending=balance.pending,
            continuation_used=balance.continuation_posted,
            continuation_pending=balance.continuation_pending,
            workflows_active=self._book.slots(caller.account, None, self.now()).active,
        )

    async def workflows(self, caller: Caller) -> list[WorkflowLease]:
        now = self.now()
        leases = [
            WorkflowLease(
                id=key.workflow,
                in_flight=self._book.in_flight(key),
                started_at=slot.started_at,
                expires_at=slot.expires_at,
            )
            for key, slot in self._book.held.items()
            if may_see(caller, key.account, key.project) and slot.expires_at > now
        ]
        return sorted(leases, key=lambda lease: lease.started_at)

    async def release(self, caller: Caller, workflow: str) -> bool:
        return transactions.release(self._book, SlotKey(caller.account, caller.project, workflow), self.now())

    async def last_route(self, caller: Caller, workflow: str) -> str | None:
        slot = self._book.held.get(SlotKey(caller.account, caller.project, workflow))
        return slot.route if slot and slot.expires_at > self.now() else None

    async def _write(self, work: Callable[[MemoryBook], _T]) -> _T:
        return work(self._book)

    async def _read(self, work: Callable[[MemoryBook], _T]) -> _T:
        return work(self._book)
