"""What every store does alike: each operation as one piece of work against a book. How it is run is the store's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from flatfee.receipt import Receipt
from flatfee.server.asked import Beside
from flatfee.server.clocks import Clocks
from flatfee.server.store import directory, entries, transactions
from flatfee.server.store.accounts import Account, AuditEntry, Key, Page, Project
from flatfee.server.store.book import SlotKey
from flatfee.server.store.commands import AdminBook, Command, administer
from flatfee.server.store.entries import Owner, may_see
from flatfee.server.store.records import (
    Caller,
    LedgerQuery,
    NewAccount,
    Outcome,
    OwnedReceipt,
    ReceiptQuery,
    Reservation,
    Settlement,
    Ticket,
    Usage,
    WorkflowLease,
)
from flatfee.server.store.transactions import Admission
from flatfee.server.windows import Calendar

_T = TypeVar("_T")


class SharedStore(ABC):
    """A ``Store`` but for how work is run, the look-ups on the way of every request, and the end."""

    _clocks: Clocks

    @abstractmethod
    def _write(self, work: Callable[[AdminBook], _T]) -> Awaitable[_T]:
        """Run ``work`` as one transaction."""

    def _write_at_once(self, work: Callable[[AdminBook], _T], *, early: bool = False) -> Awaitable[_T]:  # noqa: ARG002
        """Run short ``work``; with ``early`` its result may be told before it is sure to stay."""
        return self._write(work)

    @abstractmethod
    def _read(self, work: Callable[[AdminBook], _T]) -> Awaitable[_T]:
        """Run ``work``, which changes nothing."""

    def now(self) -> float:
        return self._clocks.wall()

    async def reserve(self, want: Reservation) -> Admission:
        return await self._write_at_once(
            lambda book: transactions.reserve(book, want, self._clocks.now()), early=want.early
        )

    async def dispatch(self, ticket: Ticket) -> None:
        await self._write_at_once(lambda book: transactions.dispatch(book, ticket))

    async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        return await self._write_at_once(lambda book: transactions.settle(book, ticket, outcome, self._clocks.now()))

    async def heartbeat(self, tickets: Sequence[Ticket], lease: float) -> None:
        await self._write(lambda book: transactions.heartbeat(book, tickets, lease, self._clocks.now()))

    async def sweep(self) -> int:
        return await self._write(lambda book: transactions.sweep(book, self._clocks.now()))

    async def record(
        self, caller: Caller, receipt: Receipt, *, beside: Beside | None = None, reduced: bool = False
    ) -> None:
        owner = Owner(caller.account, caller.project)
        await self._write(lambda book: entries.enter_refusal(book, owner, receipt, beside, self.now(), reduced=reduced))

    async def receipt(self, caller: Caller, request_id: str) -> bytes | None:
        found = await self.any_receipt(request_id)
        return found.json if found is not None and may_see(caller, found.account, found.project) else None

    async def receipts(self, caller: Caller, query: ReceiptQuery) -> tuple[list[bytes], bool]:
        own = LedgerQuery(
            account=caller.account,
            project=caller.project,
            workflow=query.workflow,
            lane=query.lane,
            limit=query.limit,
            after=query.after,
        )
        found, more = await self.all_receipts(own)
        return [kept.json for kept in found], more

    async def usage(self, account: str, unit: str, calendar: Calendar) -> Usage:
        return await self._read(lambda book: transactions.usage(book, account, unit, calendar, self._clocks.now()))

    async def workflows(self, caller: Caller) -> list[WorkflowLease]:
        leases = await self._read(lambda book: book.leases(self._clocks.now(), caller.account))
        return [lease for lease in leases if may_see(caller, lease.account, lease.project)]

    async def release(self, caller: Caller, workflow: str) -> bool:
        key = SlotKey(caller.account, caller.project, workflow)
        return await self._write(lambda book: transactions.release(book, key, self._clocks.now()))

    async def prune(self, before: float, most: int) -> int:
        return await self._write(lambda book: book.prune(before, most))

    async def audit_books(self) -> list[str]:
        return await self._read(lambda book: book.disagreements())

    async def any_receipt(self, request_id: str) -> OwnedReceipt | None:
        return await self._read(lambda book: _find_receipt(book, request_id))

    async def all_receipts(self, query: LedgerQuery) -> tuple[list[OwnedReceipt], bool]:
        return await self._read(lambda book: entries.page(book, query))

    async def all_workflows(self) -> list[WorkflowLease]:
        return await self._read(lambda book: book.leases(self._clocks.now(), None))

    async def provision(self, accounts: Sequence[NewAccount]) -> None:
        await self._write(lambda book: directory.provision(book, accounts, self.now()))

    async def administer(self, actor: str, command: Command[_T]) -> _T:
        return await self._write(lambda book: administer(book, actor, command, self._clocks.now()))

    async def used(self, key_id: str) -> None:
        await self._write(lambda book: book.used(key_id, self.now()))

    async def account(self, name: str) -> Account | None:
        return await self._read(lambda book: book.account(name))

    async def accounts(self, page: Page) -> tuple[list[Account], bool]:
        return _cut(await self._read(lambda book: book.accounts(page)), page)

    async def project(self, account: str, name: str) -> Project | None:
        return await self._read(lambda book: book.project(account, name))

    async def projects(self, account: str, page: Page) -> tuple[list[Project], bool]:
        return _cut(await self._read(lambda book: book.projects(account, page)), page)

    async def key(self, key_id: str) -> Key | None:
        return await self._read(lambda book: book.key(key_id))

    async def keys(self, account: str | None, project: str | None, page: Page) -> tuple[list[Key], bool]:
        return _cut(await self._read(lambda book: book.keys(account, project, page)), page)

    async def audit(self, page: Page) -> tuple[list[AuditEntry], bool]:
        return _cut(await self._read(lambda book: book.audit(page)), page)


def _find_receipt(book: AdminBook, request_id: str) -> OwnedReceipt | None:
    # In this order: a request that is settled between the two reads is still found.
    running = book.find_ticket(request_id)
    if running is not None:
        json = entries.as_json(entries.running_receipt(running))
        return OwnedReceipt(account=running.account, project=running.project, json=json)
    kept = book.kept_receipt(request_id)
    return entries.owned(book, kept) if kept is not None else None


def _cut(found: list[_T], page: Page) -> tuple[list[_T], bool]:
    return found[: page.limit], len(found) > page.limit
