"""The embedded store: one SQLite file in WAL mode.

What a request does to the ledger, and all else that is short, runs on the event loop, in a transaction that all
requests of that moment share (``loop_writer``), over a book that remembers what it read (``cached_book``). What may
take long, or must wait for others, is done on a thread (``writer``). Looking up a key reads on the event loop: in
WAL mode a reader waits for nobody. Longer reads go to a thread.

``durability``: with ``process`` a commit survives the end of the process, with ``power`` also the
loss of power: nobody is told of it before the log was synced (``log_sync``).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from flatfee.server.clocks import clocks_of
from flatfee.server.store.base import StoreDown
from flatfee.server.store.book import SlotKey
from flatfee.server.store.cached_book import CachedBook
from flatfee.server.store.log_sync import LogSync
from flatfee.server.store.loop_writer import CHECKPOINT_PAGES, AtOnce, LoopWriter
from flatfee.server.store.migrations import SchemaTooNew, migrate
from flatfee.server.store.records import (
    Caller,
)
from flatfee.server.store.shared import SharedStore
from flatfee.server.store.sqlite_book import SqliteBook
from flatfee.server.store.sqlite_directory import Until, still
from flatfee.server.store.turn import Turn
from flatfee.server.store.writer import Writer

_T = TypeVar("_T")
_BUSY_SECONDS = 5.0
_MOST_KNOWN = 16_384


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
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        message = f"the store {path} cannot be opened: {error}"
        raise StoreDown(message) from error
    return connection


class SqliteStore(SharedStore):
    """The whole ``Store`` protocol over one SQLite file; ``crowded``: other processes write to it as much."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["process", "power"] = "process",
        crowded: bool = False,
        clock: Callable[[], float] | None = None,
        steady: Callable[[], float] | None = None,
    ) -> None:
        self._clocks = clocks_of(clock, steady)
        try:
            self._turn = Turn(path, _BUSY_SECONDS)
            # In its turn from the start: SQLite does not wait while another process turns a new file to WAL.
            with self._turn.taken():
                connection = _open(path, durability, self._clocks.boot)
                self._turn.remember_file()
        except OSError as error:
            message = f"the store {path} cannot be opened: {error}"
            raise StoreDown(message) from error
        self._reader = connect(path, durability)
        self._reader.execute("PRAGMA query_only = ON")
        # It reads on the event loop: should a reader have to wait after all, that is an error instead.
        self._reader.execute("PRAGMA busy_timeout = 0")
        self._read_now = SqliteBook(self._reader)
        self._known: dict[bytes, Until] = {}
        self._known_version: int | None = None
        self._slow_reader = connect(path, durability)
        self._slow_reader.execute("PRAGMA query_only = ON")
        # One thread, so that a read whose caller left is over before the next one or the end.
        self._slow_reads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flatfee-reads")
        self._closed = False
        self._sync = _log_sync(path) if durability == "power" else None
        connection.execute("PRAGMA synchronous = NORMAL")
        told = self._sync.tell if self._sync is not None else None
        self._writer: Writer[SqliteBook] = LoopWriter(
            connection, SqliteBook(connection), CachedBook(connection), self._turn, told, crowded=crowded
        )

    async def ready(self) -> None:
        await self._write(lambda book: book.touch())

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._writer.close()
        if self._sync is not None:
            await asyncio.to_thread(self._sync.close)
        await asyncio.get_running_loop().run_in_executor(self._slow_reads, self._slow_reader.close)
        self._slow_reads.shutdown()
        self._reader.close()
        self._turn.close()

    async def find_key(self, digest: bytes) -> Caller | None:
        if self._closed:
            raise StoreDown("the store is closed")
        version = self._turn.directory_version
        if version is None or version != self._known_version:
            self._known.clear()
            self._known_version = version
        now = self.now()
        found = self._known.get(digest)
        if found is None:
            try:
                found = self._read_now.caller_until(digest, now)
            except sqlite3.Error as error:
                raise StoreDown(str(error)) from error
            if found is None:
                return None
            if version is not None and len(self._known) < _MOST_KNOWN:
                self._known[digest] = found
        return still(found, now)

    async def last_route(self, caller: Caller, workflow: str) -> str | None:
        key = SlotKey(caller.account, caller.project, workflow)
        try:
            return self._read_now.last_route(key, self._clocks.steady())
        except sqlite3.Error as error:
            raise StoreDown(str(error)) from error

    def _write(self, work: Callable[[SqliteBook], _T]) -> asyncio.Future[_T]:
        return self._writer.submit(work)

    def _write_at_once(self, work: Callable[[SqliteBook], _T], *, early: bool = False) -> asyncio.Future[_T]:
        return self._writer.submit(AtOnce(work, early))

    async def _read(self, work: Callable[[SqliteBook], _T]) -> _T:
        if self._closed:
            raise StoreDown("the store is closed")
        book = SqliteBook(self._slow_reader)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._slow_reads, work, book)
        except sqlite3.Error as error:
            raise StoreDown(str(error)) from error


def _log_sync(path: Path) -> LogSync:
    try:
        return LogSync(path)
    except OSError as error:
        message = f"the log of the store {path} cannot be synced: {error}"
        raise StoreDown(message) from error


def _open(path: Path, durability: Literal["process", "power"], boot: str) -> sqlite3.Connection:
    """Connect to write, and bring the file up to date."""
    connection = connect(path, durability)
    try:
        migrate(connection)
        _begin_boot(connection, boot)
    except (sqlite3.Error, SchemaTooNew) as error:
        connection.close()
        message = f"the store {path} cannot be used: {error}"
        raise StoreDown(message) from error
    return connection


def _begin_boot(connection: sqlite3.Connection, boot: str) -> None:
    with connection:  # commits, or rolls back
        connection.execute("BEGIN IMMEDIATE")
        SqliteBook(connection).begin_boot(boot)
