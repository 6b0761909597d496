"""The embedded store: one SQLite file in WAL mode, written by one thread with group commit.

Everything that changes the ledger goes through the writer: it takes all work that waits, runs it
in one transaction and commits once, so that a commit is shared by the requests that arrived
together. Looking up a key reads on the event loop: in WAL mode a reader waits for nobody, and
the read is shorter than handing it to a thread. Longer reads go to a thread.

``durability``: with ``process`` a commit survives the end of the process, with ``power`` also the
loss of power (SQLite's ``synchronous`` = NORMAL and FULL).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from flatfee.receipt import Receipt
from flatfee.server.clocks import clocks_of
from flatfee.server.store import entries, transactions
from flatfee.server.store.base import StoreDown
from flatfee.server.store.book import SlotKey
from flatfee.server.store.entries import Owner, may_see
from flatfee.server.store.migrations import SchemaTooNew, migrate
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
from flatfee.server.store.sqlite_book import SqliteBook
from flatfee.server.store.transactions import Admission
from flatfee.server.store.turn import Turn
from flatfee.server.store.writer import Writer
from flatfee.server.windows import Calendar

_T = TypeVar("_T")
_BUSY_SECONDS = 5.0


def connect(path: Path, durability: Literal["process", "power"]) -> sqlite3.Connection:
    """Open the file with the settings that every connection of ours uses.

    Raises:
        StoreDown: the file cannot be opened, or is not a database.
    """
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        message = f"the store {path} cannot be opened: {error}"
        raise StoreDown(message) from error
    return connection


class SqliteStore(SharedDirectory):
    """The whole ``Store`` protocol over one SQLite file."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["process", "power"] = "process",
        clock: Callable[[], float] | None = None,
        steady: Callable[[], float] | None = None,
    ) -> None:
        self._clocks = clocks_of(clock, steady)
        connection = connect(path, durability)
        try:
            self._turn = Turn(path, _BUSY_SECONDS)
            with self._turn.taken():
                migrate(connection)
                _begin_boot(connection, self._clocks.boot)
        except (OSError, sqlite3.Error, SchemaTooNew) as error:
            connection.close()
            message = f"the store {path} cannot be used: {error}"
            raise StoreDown(message) from error
        self._reader = connect(path, durability)
        self._reader.execute("PRAGMA query_only = ON")
        # It reads on the event loop: should a reader have to wait after all, that is an error instead.
        self._reader.execute("PRAGMA busy_timeout = 0")
        self._slow_reader = connect(path, durability)
        self._slow_reader.execute("PRAGMA query_only = ON")
        # One thread, so that a read whose caller left is over before the next one or the end.
        self._slow_reads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flatfee-reads")
        self._closed = False
        self._writer: Writer[SqliteBook] = Writer(connection, SqliteBook(connection), self._turn.taken)

    async def ready(self) -> None:
        await self._write(lambda book: book.touch())

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._writer.close()
        await asyncio.get_running_loop().run_in_executor(self._slow_reads, self._slow_reader.close)
        self._slow_reads.shutdown()
        self._reader.close()
        self._turn.close()

    async def find_key(self, digest: bytes) -> Caller | None:
        try:
            return SqliteBook(self._reader).caller_of(digest, self.now())
        except sqlite3.Error as error:
            raise StoreDown(str(error)) from error

    async def reserve(self, want: Reservation) -> Admission:
        return await self._write(lambda book: transactions.reserve(book, want, self._clocks.now()))

    async def dispatch(self, ticket: Ticket) -> None:
        await self._write(lambda book: transactions.dispatch(book, ticket))

    async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        return await self._write(lambda book: transactions.settle(book, ticket, outcome, self._clocks.now()))

    async def heartbeat(self, tickets: Sequence[Ticket], lease: float) -> None:
        await self._write(lambda book: transactions.heartbeat(book, tickets, lease, self._clocks.now()))

    async def sweep(self) -> int:
        return await self._write(lambda book: transactions.sweep(book, self._clocks.now()))

    async def record(self, caller: Caller, receipt: Receipt, *, reduced: bool = False) -> None:
        owner = Owner(caller.account, caller.project)
        await self._write(lambda book: entries.enter_refusal(book, owner, receipt, self.now(), reduced=reduced))

    async def receipt(self, caller: Caller, request_id: str) -> bytes | None:
        return await self._read(lambda book: _find_receipt(book, caller, request_id))

    async def receipts(self, caller: Caller, query: ReceiptQuery) -> tuple[list[bytes], bool]:
        found = await self._read(lambda book: book.list_receipts(caller, query))
        return found[: query.limit], len(found) > query.limit

    async def usage(self, account: str, unit: str, calendar: Calendar) -> Usage:
        return await self._read(lambda book: transactions.usage(book, account, unit, calendar, self._clocks.now()))

    async def workflows(self, caller: Caller) -> list[WorkflowLease]:
        return await self._read(lambda book: book.list_slots(caller, self._clocks.now()))

    async def release(self, caller: Caller, workflow: str) -> bool:
        key = SlotKey(caller.account, caller.project, workflow)
        return await self._write(lambda book: transactions.release(book, key, self._clocks.now()))

    async def prune(self, before: float, most: int) -> int:
        return await self._write(lambda book: book.prune(before, most))

    async def audit_books(self) -> list[str]:
        return await self._read(_audit)

    async def last_route(self, caller: Caller, workflow: str) -> str | None:
        key = SlotKey(caller.account, caller.project, workflow)
        try:
            return SqliteBook(self._reader).last_route(key, self._clocks.steady())
        except sqlite3.Error as error:
            raise StoreDown(str(error)) from error

    def _write(self, work: Callable[[SqliteBook], _T]) -> asyncio.Future[_T]:
        return self._writer.submit(work)

    async def _read(self, work: Callable[[SqliteBook], _T]) -> _T:
        if self._closed:
            raise StoreDown("the store is closed")
        book = SqliteBook(self._slow_reader)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._slow_reads, work, book)
        except sqlite3.Error as error:
            raise StoreDown(str(error)) from error


def _find_receipt(book: SqliteBook, caller: Caller, request_id: str) -> bytes | None:
    # In this order: a request that is settled between the two reads is still found.
    running = book.find_ticket(request_id)
    if running is not None:
        seen = may_see(caller, running.account, running.project)
        return entries.as_json(entries.running_receipt(running)) if seen else None
    kept = book.kept_receipt(request_id)
    return book.shown_receipt(kept) if kept is not None and may_see(caller, kept.account, kept.project) else None


def _audit(book: SqliteBook) -> list[str]:
    """Check the books as they were at one moment: balances and entries belong together."""
    with book.snapshot():
        return book.disagreements()


def _begin_boot(connection: sqlite3.Connection, boot: str) -> None:
    with connection:  # commits, or rolls back
        connection.execute("BEGIN IMMEDIATE")
        SqliteBook(connection).begin_boot(boot)
