"""How the scenarios open a store and look into it: the one file that knows a store's inside.

``Rows`` are read past the store's own queries, so that the audit below does not believe what
it is to check. Nothing here decides what may happen.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from flatfee.server.asked import BESIDE
from flatfee.server.clocks import Clocks, system_clocks
from flatfee.server.keys import KeyKind, digest
from flatfee.server.store.base import Store, StoreDown
from flatfee.server.store.cached_book import CachedBook
from flatfee.server.store.loop_writer import AtOnce
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Caller, Idempotency, NewAccount, NewKey, NewProject, Offer, Reservation, Terms
from flatfee.server.store.sqlite import SqliteStore
from flatfee.server.store.sqlite_book import SqliteBook
from flatfee.server.windows import Calendar, Window
from flatfee.wire import Billing

_T = TypeVar("_T")
_SECRET: Final = "secret-of-a-caller-that-a-test-makes-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketRow:
    """A request that runs, as its store keeps it. ``at`` is wall time, ``expires_at`` steady time."""

    request_id: str
    account: str
    project: str | None
    workflow: str | None
    purse: str
    unit: str
    units: int
    at: float
    expires_at: float
    dispatched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRow:
    """A request that ended, as its store keeps it: what was written then, and what came to it later.

    ``late`` is the receipt of a settlement that came after the lease had run out; ``given_back`` the
    units that it and refunds took off.
    """

    account: str
    purse: str
    unit: str
    charged: int
    at: float
    lapsed: bool
    json: bytes
    late: bytes | None = None
    given_back: int = 0

    @property
    def net(self) -> int:
        """What the request is charged in all."""
        return self.charged - self.given_back

    @property
    def shown(self) -> dict[str, Any]:
        """The receipt as a caller must see it."""
        receipt = {name: value for name, value in _parsed(self.late or self.json).items() if name not in BESIDE}
        if not self.given_back:
            return receipt
        net = self.net if self.purse == "fair_use" else 0
        return receipt | {"fair_use": receipt.get("fair_use", {}) | {"charged": net}}


@functools.lru_cache(maxsize=10_000)
def _parsed(receipt: bytes) -> dict[str, Any]:
    """Parse a receipt; the same ones are looked at after every step."""
    parsed: dict[str, Any] = json.loads(receipt)
    return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a store keeps.

    ``balances`` is by (account, unit, start and end of the window): posted, pending, and both of
    continuation. ``slots`` is by (account, project, workflow): until when it is held, in steady time.
    ``terms`` are plan and billing state of each account; ``ended`` the ids of the keys that are revoked.
    """

    balances: dict[tuple[str, str, int, int], tuple[int, int, int, int]]
    tickets: dict[str, TicketRow]
    slots: dict[tuple[str, str | None, str], float]
    receipts: dict[str, ReceiptRow]
    terms: dict[str, tuple[str, str]]
    ended: frozenset[str]

    def active(self, account: str, now: float) -> int:
        """Count the workflows of an account that hold a slot or have a request running, and single requests."""
        live = [row for row in self.tickets.values() if row.account == account and row.expires_at > now]
        named = {key for key, end in self.slots.items() if key[0] == account and end > now}
        named |= {(account, row.project, row.workflow) for row in live if row.workflow is not None}
        return len(named) + sum(row.workflow is None for row in live)

    def used(self, account: str, unit: str, window: Window) -> tuple[int, int, int, int]:
        """Count what receipts and tickets say of a window: posted, pending, and both of continuation."""
        total = {("fair_use", 0): 0, ("fair_use", 1): 0, ("continuation", 0): 0, ("continuation", 1): 0, ("none", 0): 0}
        total["none", 1] = 0
        for receipt in self.receipts.values():
            if (receipt.account, receipt.unit) == (account, unit) and window.start <= receipt.at < window.end:
                total[receipt.purse, 0] += receipt.net
        for row in self.tickets.values():
            if (row.account, row.unit) == (account, unit) and window.start <= row.at < window.end:
                total[row.purse, 1] += row.units
        return total["fair_use", 0], total["fair_use", 1], total["continuation", 0], total["continuation", 1]


def audit(rows: Rows) -> list[str]:
    """Return what does not add up: balances must be what receipts and tickets say, and nothing negative."""
    return list(_problems(rows))


def _problems(rows: Rows) -> Iterator[str]:
    for (account, unit, start, end), kept in rows.balances.items():
        expected = rows.used(account, unit, Window(start, end))
        if kept != expected:
            yield f"{account}, {unit}s of {start}: the balance is {kept}, and by receipts and tickets {expected}"
        if min(kept) < 0:
            yield f"{account}, {unit}s of {start}: a balance is negative: {kept}"
    for request_id in rows.tickets.keys() & rows.receipts.keys():
        yield f"{request_id} runs, and has a receipt already"
    for request_id, receipt in rows.receipts.items():
        if not 0 <= receipt.given_back <= receipt.charged:
            yield f"{request_id} was charged {receipt.charged}, and {receipt.given_back} were given back"
        told = receipt.shown.get("fair_use", {}).get("charged", 0)
        if receipt.purse == "fair_use" and told != receipt.net:
            yield f"{request_id} is charged {receipt.net} units, and its receipt tells of {told}"


def memory_store(clock: Callable[[], float], steady: Callable[[], float]) -> MemoryStore:
    """Open an empty store in memory."""
    return MemoryStore(clock, steady=steady)


async def made_up_caller(store: Store, account: str = "acme") -> Caller:
    """Make an account with a key, unless the store has it, and return who it stands for."""
    secret = digest(f"{_SECRET}-{account}")
    key = NewKey(digest=secret, name="ci", kind=KeyKind.PROJECT, last4="test")
    project = NewProject(name="ci", keys=(key,))
    named = NewAccount(name=account, plan="pro", billing=Billing.ACTIVE, billing_day=1, projects=(project,))
    await store.provision([named])
    caller = await store.find_key(secret)
    assert caller is not None
    return caller


def reservation(
    caller: Caller,
    request_id: str,
    offers: Sequence[Offer],
    *,
    workflow: str | None = None,
    calendar: Calendar = Calendar("month", 1),  # noqa: B008 - a frozen value
    once: Idempotency | None = None,
    lease: float = 60.0,
    **terms: Any,
) -> Reservation:
    """Return a wish that a test makes up: without ``terms``, of a plan with room for everything."""
    plan: dict[str, Any] = {
        "unit": "token",
        "fair_use": 1 << 40,
        "continuation_limit": None,
        "workflows": 100_000,
        "fanout": 100_000,
        "idle": 20.0,
        "requests_per_minute": None,
    }
    return Reservation(
        request_id=request_id,
        caller=caller,
        terms=Terms(**plan | terms),
        calendar=calendar,
        workflow=workflow,
        offers=tuple(offers),
        model_requested="auto",
        lease=lease,
        idempotency=once,
    )


class _InlineWriter:
    """Does each piece of work at once, in a transaction of its own, on the thread that asks."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._book = SqliteBook(connection)

    def submit(self, work: Callable[[SqliteBook], _T]) -> asyncio.Future[_T]:
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._book)
        except Exception as error:
            self._connection.execute("ROLLBACK")
            future.set_exception(error)
        else:
            self._connection.execute("COMMIT")
            future.set_result(result)
        return future

    async def close(self) -> None:
        self._connection.close()


class _InlineLoopWriter(_InlineWriter):
    """Does the same, with the book that remembers for what the loop's writer does by it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._cached = CachedBook(connection)

    def submit(self, work: Callable[[SqliteBook], _T]) -> asyncio.Future[_T]:
        if not isinstance(work, AtOnce):
            return super().submit(work)
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._connection.execute("BEGIN IMMEDIATE")
        self._cached.begin()
        try:
            future.set_result(work(self._cached))
        except StoreDown as error:
            future.set_exception(error)  # nothing is undone: it must not have written
        except Exception as error:
            self._connection.execute("ROLLBACK")
            self._cached.rolled_back()
            future.set_exception(error)
            return future
        self._cached.flush()
        self._connection.execute("COMMIT")
        self._cached.committed()
        return future


class InlineSqliteStore(SqliteStore):
    """The SQLite store without threads: each run of it is the same."""

    _inline: type[_InlineWriter] = _InlineWriter

    def __init__(self, path: Path, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        super().__init__(path, clock=clock, steady=steady)
        writer = self._writer
        writer._queue.put(None)
        writer._thread.join()
        self.connection = writer._connection
        self.connection.execute("PRAGMA synchronous = OFF")  # no power is cut here
        self._writer = self._inline(self.connection)  # type: ignore[assignment]  # it stands in for the thread

    async def _read(self, work: Callable[[SqliteBook], _T]) -> _T:
        return work(SqliteBook(self._slow_reader))

    async def close(self) -> None:
        self.drop()

    def drop(self) -> None:
        """Let go of the file, as the end of the process does."""
        if not self._closed:
            self._closed = True
            self._slow_reads.shutdown()
            for connection in (self.connection, self._reader, self._slow_reader):
                connection.close()
            self._turn.close()


class InlineLoopStore(InlineSqliteStore):
    """The same with the book that remembers what it read."""

    _inline = _InlineLoopWriter


def open_later(path: Path, seconds: float) -> SqliteStore:
    """Open a file as if it were later: its clocks are ahead by ``seconds``."""
    real = system_clocks()
    store = SqliteStore(path)
    store._clocks = Clocks(lambda: real.wall() + seconds, lambda: real.steady() + seconds, real.boot)
    return store


def writing_connection(store: SqliteStore) -> sqlite3.Connection:
    """Return the connection that a store writes by."""
    return store._writer._connection


def hurry(store: SqliteStore, seconds: float) -> None:
    """Let a store wait no longer than this for other processes."""
    writing_connection(store).execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
    store._turn._patience = seconds


def rows_of(store: MemoryStore | InlineSqliteStore) -> Rows:
    """Read everything that a store keeps."""
    return _memory_rows(store) if isinstance(store, MemoryStore) else sqlite_rows(store.connection)


def _memory_rows(store: MemoryStore) -> Rows:
    book = store._book
    return Rows(
        balances={
            key: (kept.posted, kept.pending, kept.continuation_posted, kept.continuation_pending)
            for key, kept in book.balances.items()
        },
        tickets={
            row.request_id: TicketRow(
                request_id=row.request_id,
                account=row.account,
                project=row.project,
                workflow=row.workflow,
                purse=row.purse,
                unit=row.unit,
                units=row.units,
                at=row.at,
                expires_at=row.expires_at,
                dispatched=row.dispatched,
            )
            for row in book.tickets.values()
        },
        slots={(key.account, key.project, key.workflow): slot.expires_at for key, slot in book.held.items()},
        receipts={
            kept.request_id: ReceiptRow(
                account=kept.account,
                purse=kept.purse,
                unit=kept.unit,
                charged=kept.charged,
                at=kept.at,
                lapsed=kept.lapsed,
                json=kept.json,
                late=next((made.json for made in book.adjusted.get(kept.request_id, ()) if made.json), None),
                given_back=-sum(made.units for made in book.adjusted.get(kept.request_id, ())),
            )
            for kept in book.receipts.values()
        },
        terms={account.name: (account.plan, account.billing) for account in book._accounts.values()},
        ended=frozenset(key.id for key in book._keys.values() if key.revoked_at is not None),
    )


def file_rows(path: Path) -> Rows:
    """Read everything that a SQLite file keeps, at one moment."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN")
        return sqlite_rows(connection)
    finally:
        connection.close()


def sqlite_rows(connection: sqlite3.Connection) -> Rows:
    """Read everything that a SQLite file keeps, by an open connection."""
    ask = connection.execute
    return Rows(
        balances={
            row[:4]: row[4:]
            for row in ask(
                "SELECT account, unit, window_start, window_end, posted, pending, continuation_posted,"
                " continuation_pending FROM balances"
            )
        },
        tickets={
            row[0]: TicketRow(**dict(zip(TicketRow.__slots__, row, strict=True)))
            for row in ask(f"SELECT {', '.join(TicketRow.__slots__)} FROM tickets")
        },
        slots={
            (account, project or None, workflow): end
            for account, project, workflow, end in ask("SELECT account, project, workflow, expires_at FROM slots")
        },
        receipts={
            row[0]: ReceiptRow(**dict(zip(ReceiptRow.__slots__, row[1:], strict=True)))
            for row in ask(
                "SELECT request_id, account, purse, unit, charged, at, lapsed, json,"
                " (SELECT a.json FROM adjustments a WHERE a.request_id = r.request_id AND a.json IS NOT NULL),"
                " -(SELECT coalesce(sum(units), 0) FROM adjustments a WHERE a.request_id = r.request_id)"
                " FROM receipts r"
            )
        },
        terms={name: (plan, billing) for name, plan, billing in ask("SELECT name, plan, billing FROM accounts")},
        ended=frozenset(row[0] for row in ask("SELECT id FROM keys WHERE revoked_at IS NOT NULL")),
    )
