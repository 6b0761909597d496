"""A store in this process's memory: for tests, demos and CI. Everything is gone with the process.

Transactions run on the event loop without an ``await`` inside, so each is atomic by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from flatfee.receipt import Receipt
from flatfee.server.clocks import clocks_of
from flatfee.server.store import entries, transactions
from flatfee.server.store.book import KeptReceipt, SlotKey
from flatfee.server.store.entries import Owner, may_see
from flatfee.server.store.memory_book import MemoryBook
from flatfee.server.store.records import (
    Caller,
    Outcome,
    ReceiptQuery,
    Reservation,
    Settlement,
    Ticket,
    Usage,
    WorkflowLease,
)
from flatfee.server.store.shared_directory import SharedDirectory
from flatfee.server.store.transactions import Admission
from flatfee.server.windows import Calendar

_T = TypeVar("_T")


class MemoryStore(SharedDirectory):
    """The whole ``Store`` protocol over a ``MemoryBook``."""

    def __init__(
        self,
        clock: Callable[[], float] | None = None,
        *,
        steady: Callable[[], float] | None = None,
        max_receipts: int = 100_000,
    ) -> None:
        self._clocks = clocks_of(clock, steady)
        self._book = MemoryBook(max_receipts)

    async def ready(self) -> None:
        return

    async def close(self) -> None:
        return

    async def find_key(self, digest: bytes) -> Caller | None:
        return self._book.caller_of(digest, self.now())

    async def reserve(self, want: Reservation) -> Admission:
        return transactions.reserve(self._book, want, self._clocks.now())

    async def dispatch(self, ticket: Ticket) -> None:
        transactions.dispatch(self._book, ticket)

    async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        return transactions.settle(self._book, ticket, outcome, self._clocks.now())

    async def heartbeat(self, tickets: Sequence[Ticket], lease: float) -> None:
        transactions.heartbeat(self._book, tickets, lease, self._clocks.now())

    async def sweep(self) -> int:
        return transactions.sweep(self._book, self._clocks.now())

    async def record(self, caller: Caller, receipt: Receipt, *, reduced: bool = False) -> None:
        owner = Owner(caller.account, caller.project)
        entries.enter_refusal(self._book, owner, receipt, self.now(), reduced=reduced)

    async def receipt(self, caller: Caller, request_id: str) -> bytes | None:
        kept = self._book.kept_receipt(request_id)
        if kept is not None:
            return self._shown(kept) if may_see(caller, kept.account, kept.project) else None
        running = self._book.find_ticket(request_id)
        if running is None or not may_see(caller, running.account, running.project):
            return None
        return entries.as_json(entries.running_receipt(running))

    def _shown(self, kept: KeptReceipt) -> bytes:
        return entries.shown(kept, self._book.adjustments(kept.request_id))

    async def receipts(self, caller: Caller, query: ReceiptQuery) -> tuple[list[bytes], bool]:
        found = [
            kept
            for request_id, kept in sorted(self._book.receipts.items(), reverse=True)
            if may_see(caller, kept.account, kept.project)
            and query.workflow in {None, kept.workflow}
            and query.lane in {None, kept.lane}
            and (query.after is None or request_id < query.after)
        ]
        return [self._shown(kept) for kept in found[: query.limit]], len(found) > query.limit

    async def usage(self, account: str, unit: str, calendar: Calendar) -> Usage:
        return transactions.usage(self._book, account, unit, calendar, self._clocks.now())

    async def workflows(self, caller: Caller) -> list[WorkflowLease]:
        now = self._clocks.now()
        leases = [
            WorkflowLease(
                id=key.workflow,
                in_flight=self._book.in_flight(key),
                started_at=slot.started_at,
                expires_at=now.wall + slot.expires_at - now.steady,
            )
            for key, slot in self._book.held.items()
            if may_see(caller, key.account, key.project) and slot.expires_at > now.steady
        ]
        return sorted(leases, key=lambda lease: lease.started_at)

    async def release(self, caller: Caller, workflow: str) -> bool:
        return transactions.release(self._book, SlotKey(caller.account, caller.project, workflow), self._clocks.now())

    async def prune(self, before: float, most: int) -> int:
        return self._book.prune(before, most)

    async def audit_books(self) -> list[str]:
        return self._book.disagreements()

    async def last_route(self, caller: Caller, workflow: str) -> str | None:
        slot = self._book.held.get(SlotKey(caller.account, caller.project, workflow))
        return slot.route if slot and slot.expires_at > self._clocks.steady() else None

    async def _write(self, work: Callable[[MemoryBook], _T]) -> _T:
        return work(self._book)

    async def _read(self, work: Callable[[MemoryBook], _T]) -> _T:
        return work(self._book)
