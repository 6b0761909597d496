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
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from flatfee.receipt import Receipt
from flatfee.server.store import transactions
from flatfee.server.store.base import StoreDown
from flatfee.server.store.migrations import SchemaTooNew, migrate
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
from flatfee.server.store.sqlite_book import SqliteBook
from flatfee.server.store.transactions import SlotKey, may_see
from flatfee.server.store.writer import Writer
from flatfee.server.windows import Window

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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        connection = connect(path, durability)
        try:
            migrate(connection)
        except (sqlite3.Error, SchemaTooNew) as error:
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
        self._writer: Writer[SqliteBook] = Writer(connection, SqliteBook(connection))

    def now(self) -> float:
        return self._clock()

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

    async def find_key(self, digest: bytes) -> Caller | None:
        try:
            return SqliteBook(self._reader).caller_of(digest, self.now())
        except sqlite3.Error as error:
            raise StoreDown(str(error)) from error

    async def reserve(self, want: Reservation) -> Ticket | Refusal:
        return await self._write(lambda book: transactions.reserve(book, want, self.now()))

    async def dispatch(self, ticket: Ticket) -> None:
        await self._write(lambda book: transactions.dispatch(book, ticket))

    async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        return await self._write(lambda book: transactions.settle(book, ticket, outcome, self.now()))

    async def heartbeat(self, tickets: Sequence[Ticket], lease: float) -> None:
        await self._write(lambda book: transactions.heartbeat(book, tickets, lease, self.now()))

    async def sweep(self) -> int:
        return await self._write(lambda book: transactions.sweep(book, self.now()))

    async def record(self, caller: Caller, receipt: Receipt) -> None:
        await self._write(lambda book: transactions.keep(book, receipt, caller.account, caller.project))

    async def receipt(self, caller: Caller, request_id: str) -> bytes | None:
        return await self._read(lambda book: _find_receipt(book, caller, request_id))

    async def receipts(self, caller: Caller, query: ReceiptQuery) -> tuple[list[bytes], bool]:
        found = await self._read(lambda book: book.list_receipts(caller, query))
        return found[: query.limit], len(found) > query.limit

    async def usage(self, caller: Caller, window: Window) -> Usage:
        def read(book: SqliteBook) -> Usage:
            balance = book.balance(caller.account, window.start)
            return Usage(
                fair_use_used=balance.posted,
                fair_use_pending=balance.pending,
                continuation_used=balance.continuation_posted,
                continuation_pending=balance.continuation_pending,
                workflows_active=book.slots(caller.account, None, self.now()).active,
            )

        return await self._read(read)

    async def workflows(self, caller: Caller) -> list[WorkflowLease]:
        return await self._read(lambda book: book.list_slots(caller, self.now()))

    async def release(self, caller: Caller, workflow: str) -> bool:
        key = SlotKey(caller.account, caller.project, workflow)
        return await self._write(lambda book: transactions.release(book, key, self.now()))

    async def last_route(self, caller: Caller, workflow: str) -> str | None:
        try:
            return SqliteBook(self._reader).last_route(SlotKey(caller.account, caller.project, workflow), self.now())
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
        return transactions.running_receipt(running).model_dump_json(exclude_unset=True).encode() if seen else None
    kept = book.find_receipt(request_id)
    return kept.json if kept is not None and may_see(caller, kept.account, kept.project) else None
