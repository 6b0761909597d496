"""What a store promises. Every store passes the same contract suite.

A store keeps its own clock, so that windows and leases never depend on a caller's. When it
cannot be reached it raises ``StoreDown``, and then nothing is admitted: premium fails closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from flatfee.receipt import Receipt
from flatfee.server.asked import Beside
from flatfee.server.store.accounts import Account, AuditEntry, Key, Page, Project
from flatfee.server.store.commands import Command
from flatfee.server.store.records import (
    Caller,
    Changed,
    LedgerQuery,
    NewAccount,
    Outcome,
    OwnedReceipt,
    ReceiptQuery,
    Refusal,
    Repeat,
    Reservation,
    Settlement,
    Ticket,
    Usage,
    WorkflowLease,
)
from flatfee.server.windows import Calendar

_T = TypeVar("_T")


class StoreDown(Exception):
    """The ledger cannot be reached or written. Admission fails closed."""


class ForeignTicket(StoreDown):
    """This ledger never granted the ticket, or has forgotten it: nothing was posted."""


class Ledger(Protocol):
    """Reserve, dispatch, settle: the life of one request's money."""

    async def reserve(self, want: Reservation) -> Ticket | Refusal | Repeat | Changed:
        """Take a workflow slot and hold back units, in one atomic step, or say why not.

        The first offer that fits is granted; a refusal changes nothing but the request rate.
        ``Repeat``: the idempotency key was used before. ``Changed``: the key or its account is
        another by now; nothing was counted. What ``want.early`` allows a store need not make use of.
        """
        ...

    async def dispatch(self, ticket: Ticket) -> None:
        """Note that money is about to be spent: a lost request is charged its estimate from now on.

        Raises:
            StoreDown: the ledger cannot be written, or the request was lost already: its lease ran out.
        """
        ...

    async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        """Post what was spent, free what was held back, keep the receipt. Twice is the same as once.

        After the lease has run out it corrects the estimate that was charged then, downwards only.

        Raises:
            StoreDown: the ledger cannot be written; ``ForeignTicket``: it never granted the ticket.
        """
        ...

    async def heartbeat(self, tickets: Sequence[Ticket], lease: float) -> None:
        """Extend the leases of running requests, and of their workflows, to ``lease`` seconds from now.

        What has run out stays so: others may hold by now what it held.
        """
        ...

    async def sweep(self) -> int:
        """End requests whose lease has run out, free idle workflows; return how many requests ended.

        A request that was never dispatched is void; one that was keeps its estimate charged.
        """
        ...


class Directory(Protocol):
    """Accounts, projects and keys. Pages tell whether more follows."""

    async def provision(self, accounts: Sequence[NewAccount]) -> None:
        """Bring the directory to what the configuration file says; safe when several processes do it at once.

        What the file says otherwise than when it was last read is written, so an edit takes effect and
        a change by an administrator stays. Keys that came from the file and are named no more end.
        What the file never named is left alone.
        """
        ...

    async def find_key(self, digest: bytes) -> Caller | None:
        """Return what a key stands for, or ``None`` if it is unknown, revoked or expired."""
        ...

    async def used(self, key_id: str) -> None:
        """Note that a key was used now, to the minute."""
        ...

    async def administer(self, actor: str, command: Command[_T]) -> _T:
        """Do what a command says and write it into the audit log, in one atomic step.

        Raises:
            Denied: it cannot be done, and nothing has changed.
        """
        ...

    async def account(self, name: str) -> Account | None:
        """Return an account."""
        ...

    async def accounts(self, page: Page) -> tuple[list[Account], bool]:
        """Return accounts by name."""
        ...

    async def project(self, account: str, name: str) -> Project | None:
        """Return a project of an account."""
        ...

    async def projects(self, account: str, page: Page) -> tuple[list[Project], bool]:
        """Return an account's projects by name."""
        ...

    async def key(self, key_id: str) -> Key | None:
        """Return a key by its public id, also one that has ended."""
        ...

    async def keys(self, account: str | None, project: str | None, page: Page) -> tuple[list[Key], bool]:
        """Return keys, oldest first, also those that have ended."""
        ...

    async def audit(self, page: Page) -> tuple[list[AuditEntry], bool]:
        """Return entries of the audit log, newest first; ``after`` is an entry's number."""
        ...


class Records(Protocol):
    """What can be asked about the past and the present. A caller sees only its own."""

    async def record(
        self, caller: Caller, receipt: Receipt, *, beside: Beside | None = None, reduced: bool = False
    ) -> None:
        """Keep the receipt of a request that was refused before it held a ticket."""
        ...

    async def receipt(self, caller: Caller, request_id: str) -> bytes | None:
        """Return a receipt as JSON, also of a running request, or ``None``."""
        ...

    async def receipts(self, caller: Caller, query: ReceiptQuery) -> tuple[list[bytes], bool]:
        """Return a page of receipts as JSON, newest first, and whether more follow."""
        ...

    async def usage(self, account: str, unit: str, calendar: Calendar) -> Usage:
        """Return an account's use of its window of this moment, in units of a meter."""
        ...

    async def workflows(self, caller: Caller) -> list[WorkflowLease]:
        """Return the project's live workflows, with a team key the account's, oldest first."""
        ...

    async def release(self, caller: Caller, workflow: str) -> bool:
        """Hold a workflow's slot no longer than its requests run; false if it holds none.

        Idle, it is free at once. Its running requests go on and keep the slot until the last ends.
        The id is the caller's own: another project's workflow of the same name is another workflow.
        """
        ...

    async def prune(self, before: float, most: int) -> int:
        """Forget receipts of requests from before a moment (wall time), ``most`` at once; return how many."""
        ...

    async def audit_books(self) -> list[str]:
        """Rebuild every balance from receipts, adjustments and open tickets; say what does not agree."""
        ...

    async def last_route(self, caller: Caller, workflow: str) -> str | None:
        """Return the route that last answered a live workflow of the caller's project."""
        ...


class Oversight(Protocol):
    """What an administrator sees of the ledger: everybody's."""

    async def any_receipt(self, request_id: str) -> OwnedReceipt | None:
        """Return a receipt, also of a running request."""
        ...

    async def all_receipts(self, query: LedgerQuery) -> tuple[list[OwnedReceipt], bool]:
        """Return a page of receipts, newest first, and whether more follow."""
        ...

    async def all_workflows(self) -> list[WorkflowLease]:
        """Return every live workflow, oldest first."""
        ...


class Store(Ledger, Directory, Records, Oversight, Protocol):
    """Everything a gateway needs to remember."""

    def now(self) -> float:
        """Return the store's time, in seconds since the epoch."""
        ...

    async def ready(self) -> None:
        """Return when the ledger can be written.

        Raises:
            StoreDown: it cannot.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of every resource."""
        ...
