"""What a store promises. Every store passes the same contract suite.

A store keeps its own clock, so that windows and leases never depend on a caller's. When it
cannot be reached it raises ``StoreDown``, and then nothing is admitted: premium fails closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flatfee.receipt import Receipt
from flatfee.server.store.records import (
    Caller,
    NewAccount,
    Outcome,
    ReceiptQuery,
    Refusal,
    Reservation,
    Settlement,
    Ticket,
    Usage,
    WorkflowLease,
)
from flatfee.server.windows import Window


class StoreDown(Exception):
    """The ledger cannot be reached or written. Admission fails closed."""


class Ledger(Protocol):
    """Reserve, dispatch, settle: the life of one request's money."""

    async def reserve(self, want: Reservation) -> Ticket | Refusal:
        """Take a workflow slot and hold back units, in one atomic step, or say why not.

        The first offer that fits is granted; a refusal changes nothing but the request rate.
        """
        ...

    async def dispatch(self, ticket: Ticket) -> None:
        """Note that money is about to be spent: a lost request is charged its estimate from now on.

        Raises:
            StoreDown: the ledger cannot be written, or the request was lost already: its lease ran out.
        """
        ...

    async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        """Post what was spent, free what was held back, keep the receipt. Twice is the same as once."""
        ...

    async def heartbeat(self, tickets: Sequence[Ticket], lease: float) -> None:
        """Extend the leases of running requests, and of their workflows, to ``lease`` seconds from now."""
        ...

    async def sweep(self) -> int:
        """End requests whose lease has run out, free idle workflows; return how many requests ended.

        A request that was never dispatched is void; one that was keeps its estimate charged.
        """
        ...


class Directory(Protocol):
    """Accounts, projects and keys."""

    async def provision(self, accounts: Sequence[NewAccount]) -> None:
        """Make what is absent. What the file names follows the file.

        An account that is named takes its plan, billing state and billing day from the file, and
        of its keys that came from a file only those still named go on working. What the file does
        not name is left alone: other accounts, and keys that were made in another way.
        """
        ...

    async def find_key(self, digest: bytes) -> Caller | None:
        """Return what a key stands for, or ``None`` if it is unknown, revoked or expired."""
        ...


class Records(Protocol):
    """What can be asked about the past and the present. A caller sees only its own."""

    async def record(self, caller: Caller, receipt: Receipt) -> None:
        """Keep the receipt of a request that was refused before it held a ticket."""
        ...

    async def receipt(self, caller: Caller, request_id: str) -> bytes | None:
        """Return a receipt as JSON, also of a running request, or ``None``."""
        ...

    async def receipts(self, caller: Caller, query: ReceiptQuery) -> tuple[list[bytes], bool]:
        """Return a page of receipts as JSON, newest first, and whether more follow."""
        ...

    async def usage(self, caller: Caller, window: Window) -> Usage:
        """Return the account's use of a window."""
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

    async def last_route(self, caller: Caller, workflow: str) -> str | None:
        """Return the route that last answered a live workflow of the caller's project."""
        ...


class Store(Ledger, Directory, Records, Protocol):
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
