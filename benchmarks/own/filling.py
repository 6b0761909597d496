"""Fills a ledger's file with accounts and their receipts of a month, as the gateway would have written them.

The schema, the accounts, one receipt of each kind and the balances are made by the store itself. The receipts
between are copies with an id, a time and an owner of their own, written in large transactions; most of them before
the indexes are made, the last ones after it, so that the pages of the indexes are as full as in a file that grew.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.children import BenchmarkFailed
from benchmarks.own.requests import outcome_of, reservation
from flatfee.server.ids import request_id
from flatfee.server.keys import KeyKind, digest
from flatfee.server.store.account_commands import AddAccount, AddProject
from flatfee.server.store.key_commands import AddKey
from flatfee.server.store.records import NewKey, Ticket
from flatfee.server.store.sqlite import SqliteStore, connect

PLAN: Final = "bench"
PROJECT: Final = "main"
_ACTOR: Final = "local:benchmarks"
_MONTH: Final = 30 * 86_400.0
_AT_ONCE: Final = 200_000
_GROWN: Final = 20
"""One of so many receipts is written with the indexes in place."""
_CACHE_KIB: Final = 1024 * 1024
_FAST: Final = ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}", "threads = 2")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a file holds. ``seconds`` is how long it took to fill, 0 for one that was there."""

    accounts: int
    receipts: int
    bytes: int
    seconds: float


def secret_of(number: int) -> str:
    """Return the key of an account's project; whoever puts load on the file knows it from this."""
    return f"benchmark-account-{number:05d}-{'0' * 16}"


def account_of(number: int) -> str:
    """Return an account's name."""
    return f"account-{number:05d}"


def ledger_file(path: Path, accounts: int, receipts: int, say: Say) -> Filled:
    """Fill ``path`` unless it holds so much already.

    Raises:
        BenchmarkFailed: it is the ledger of somebody else, or holds another number of accounts.
    """
    if path.exists():
        found = held(path)
        if found.accounts != accounts or found.receipts < receipts:
            raise BenchmarkFailed(
                f"{path} holds {found.accounts} accounts and {found.receipts} receipts where {accounts} and "
                f"{receipts} are wanted; name a file that is not there yet."
            )
        say(f"{path}: {found.receipts:,} receipts of {found.accounts:,} accounts are there")
        return found
    begun = time.monotonic()
    try:
        uvloop.run(_make_accounts(path, accounts, say))
        _write_receipts(path, accounts, receipts, say)
        uvloop.run(_open_balances(path, accounts, say))
    except BaseException:
        _remove(path)
        raise
    size = path.stat().st_size
    return Filled(accounts=accounts, receipts=receipts, bytes=size, seconds=time.monotonic() - begun)


def held(path: Path) -> Filled:
    """Count what a file holds.

    Raises:
        BenchmarkFailed: it is not a ledger that was filled here.
    """
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        accounts = connection.execute("SELECT count(*) FROM accounts WHERE name GLOB 'account-*'").fetchone()[0]
        receipts = connection.execute("SELECT count(*) FROM receipts").fetchone()[0]
    except sqlite3.Error as error:
        raise BenchmarkFailed(f"{path} is no ledger: {error}; name another file.") from error
    finally:
        connection.close()
    return Filled(accounts=accounts, receipts=receipts, bytes=path.stat().st_size, seconds=0.0)


async def _make_accounts(path: Path, accounts: int, say: Say) -> None:
    say(f"{accounts:,} accounts …")
    store = SqliteStore(path)
    try:
        for start in range(0, accounts, 256):
            numbers = range(start, min(start + 256, accounts))
            await asyncio.gather(*(_make_account(store, number) for number in numbers))
    finally:
        await store.close()


async def _make_account(store: SqliteStore, number: int) -> None:
    name, secret = account_of(number), secret_of(number)
    key = NewKey(digest=digest(secret), name="bench", kind=KeyKind.PROJECT, last4=secret[-4:])
    await asyncio.gather(  # each is queued at once, and they are done in this order
        store.administer(_ACTOR, AddAccount(name=name, plan=PLAN)),
        store.administer(_ACTOR, AddProject(account=name, name=PROJECT)),
        store.administer(_ACTOR, AddKey(key=key, account=name, project=PROJECT)),
    )


def _write_receipts(path: Path, accounts: int, receipts: int, say: Say) -> None:
    """Write most receipts, then the indexes, then the rest."""
    connection = connect(path, "process")
    try:
        for pragma in _FAST:
            connection.execute(f"PRAGMA {pragma}")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'receipts' AND type = 'index' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        rows = _rows(uvloop.run(samples()), accounts, receipts, time.time())
        grown = receipts // _GROWN
        written = _insert(connection, rows, receipts - grown, 0, receipts, say)
        for name, sql in indexes:
            say(f"index {name} …")
            connection.execute(sql)
        _insert(connection, rows, grown, written, receipts, say)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA optimize")
    finally:
        connection.close()


def _insert(
    connection: sqlite3.Connection, rows: Iterator[Sequence[Any]], count: int, before: int, whole: int, say: Say
) -> int:
    """Insert the next ``count`` rows; return how many there are by now."""
    left = count
    while left:
        some = min(left, _AT_ONCE)
        batch = [next(rows) for _ in range(some)]
        marks = ", ".join("?" * len(batch[0]))
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO receipts VALUES ({marks})", batch)
        connection.execute("COMMIT")
        left -= some
        say(f"receipts: {before + count - left:,} of {whole:,}")
    return before + count


@dataclass(frozen=True, slots=True)
class Sample:
    """A row as the store wrote it: its values by column, and its JSON around id and time."""

    values: dict[str, Any]
    before: bytes
    between: bytes
    after: bytes

    @classmethod
    def of(cls, values: dict[str, Any]) -> Sample:
        """Cut a row's JSON at what each receipt has of its own."""
        before, _, rest = values["json"].partition(values["request_id"].encode())
        between, mark, after = rest.partition(b'"created_at":"')
        return cls(values, before, between + mark, after[after.index(b'"') :])

    def row(self, new_id: str, account: str, at: float) -> tuple[Any, ...]:
        """Return the row of another receipt of this kind."""
        told = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "000Z")
        json = b"".join((self.before, new_id.encode(), self.between, told.encode(), self.after))
        own = {"request_id": new_id, "account": account, "project": PROJECT, "at": at, "json": json}
        return tuple((self.values | own).values())


async def samples() -> list[Sample]:
    """Have the store settle one request of each kind: plain and streamed; three of four belong to no workflow."""
    with tempfile.TemporaryDirectory(prefix="flatfee-bench-") as folder:
        path = Path(folder) / "ledger.db"
        await _make_accounts(path, 1, lambda _: None)
        store = SqliteStore(path)
        try:
            caller = await store.find_key(digest(secret_of(0)))
            assert caller is not None
            for number, stream in enumerate((False, True) * 4):
                workflow = f"wf-{number:08d}" if number in (3, 6) else None
                ticket = await store.reserve(reservation(caller, store.now(), workflow))
                assert isinstance(ticket, Ticket)
                await store.dispatch(ticket)
                await store.settle(ticket, outcome_of(ticket, prompt_tokens=300 * (number + 1), stream=stream))
        finally:
            await store.close()
        connection = connect(path, "process")
        connection.row_factory = sqlite3.Row
        try:
            found = connection.execute("SELECT * FROM receipts ORDER BY request_id").fetchall()
            return [Sample.of(dict(row)) for row in found]
        finally:
            connection.close()


def _rows(kinds: Sequence[Sample], accounts: int, receipts: int, now: float) -> Iterator[tuple[Any, ...]]:
    """Yield receipts of the last month in the order of their ids, each of an account by chance, the same each time."""
    dice = random.Random(receipts)
    step = _MONTH / receipts
    for number in range(receipts):
        at = now - _MONTH + number * step
        account = account_of(int(dice.random() * accounts))
        yield kinds[number % len(kinds)].row(request_id(at, dice.getrandbits), account, at)


async def _open_balances(path: Path, accounts: int, say: Say) -> None:
    """Keep every account's balance of this window, as the store does at an account's first request."""
    say("balances …")
    store = SqliteStore(path)
    try:
        for start in range(0, accounts, 256):
            callers = [
                await store.find_key(digest(secret_of(number))) for number in range(start, min(start + 256, accounts))
            ]
            wants = [reservation(caller, store.now(), None) for caller in callers if caller is not None]
            tickets = await asyncio.gather(*(store.reserve(want) for want in wants))
            held_ones = [ticket for ticket in tickets if isinstance(ticket, Ticket)]
            await asyncio.gather(
                *(store.settle(ticket, outcome_of(ticket, prompt_tokens=1, stream=False)) for ticket in held_ones)
            )
    finally:
        await store.close()


def _remove(path: Path) -> None:
    for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal", ".turn"))):
        name.unlink(missing_ok=True)
