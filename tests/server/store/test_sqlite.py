"""What only the SQLite store can meet: a file that cannot be used, a lock, a restart."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatfee.server.keys import KeyKind
from flatfee.server.store import shared, sqlite
from flatfee.server.store.accounts import Page
from flatfee.server.store.base import StoreDown
from flatfee.server.store.key_commands import AddKey, ChangeKey, RevokeKey
from flatfee.server.store.records import NewAccount, NewKey, NewProject, ReceiptQuery
from flatfee.server.store.sqlite import SqliteStore
from flatfee.wire import Billing

STATEMENTS = {
    "ready": lambda desk: desk.store.ready(),
    "reserve": lambda desk: desk.reserve(),
    "provision": lambda desk: desk.store.provision([]),
    "find_key": lambda desk: desk.store.find_key(b"one"),
    "sweep": lambda desk: desk.store.sweep(),
    "receipt": lambda desk: desk.store.receipt(desk.caller(), "req_1"),
    "receipts": lambda desk: desk.store.receipts(desk.caller(), ReceiptQuery()),
    "usage": lambda desk: desk.usage(),
    "workflows": lambda desk: desk.store.workflows(desk.caller()),
    "release": lambda desk: desk.store.release(desk.caller(), "run"),
    "last_route": lambda desk: desk.store.last_route(desk.caller(), "run"),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_closed_store_is_down(open_sqlite: Callable[[], Any], name: str) -> None:
    desk = open_sqlite()
    await desk.store.close()
    with pytest.raises(StoreDown):
        await STATEMENTS[name](desk)


async def test_closing_twice_is_the_same_as_once(open_sqlite: Callable[[], Any]) -> None:
    desk = open_sqlite()
    await desk.store.close()
    await desk.store.close()


async def test_closing_finishes_what_was_begun(open_sqlite: Callable[[], Any]) -> None:
    desk = open_sqlite()
    await desk.know(desk.caller())
    reservations = [
        asyncio.ensure_future(desk.store.reserve(desk.want(desk.premium(1), workflows=50))) for _ in range(20)
    ]
    await asyncio.sleep(0)
    await desk.store.close()
    await asyncio.gather(*reservations)
    assert await open_sqlite().balance() == (0, 20)


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be looked at " * 100)
    with pytest.raises(StoreDown, match=r"ledger\.db cannot be opened: .*not a database"):
        SqliteStore(path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreDown, match=r"missing/ledger\.db cannot be opened"):
        SqliteStore(tmp_path / "missing" / "ledger.db")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreDown, match="cannot be opened"):
        SqliteStore(tmp_path)


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    rows = sqlite3.connect(path)
    rows.execute("PRAGMA user_version = 999")
    rows.close()
    with pytest.raises(StoreDown, match=r"schema is version 999.*upgrade, or use another file"):
        SqliteStore(path)
    rows = sqlite3.connect(path)
    assert rows.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    rows.close()


async def test_a_ledger_that_cannot_be_written_is_down_but_still_reads(open_sqlite: Callable[[], Any]) -> None:
    """``query_only`` refuses writes with the error of a file that turned read-only."""
    desk = open_sqlite()
    ticket = await desk.admitted(desk.premium(30))
    desk.store._writer._connection.execute("PRAGMA query_only = ON")
    for work in (desk.reserve(), desk.settle(ticket, charged=1), desk.store.ready()):
        with pytest.raises(StoreDown, match=r"cannot be written: .*readonly"):
            await work
    assert await desk.balance() == (0, 30)


async def test_a_request_that_could_not_be_settled_can_be_settled_later(open_sqlite: Callable[[], Any]) -> None:
    desk = open_sqlite()
    ticket = await desk.admitted(desk.premium(30))
    desk.store._writer._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreDown):
        await desk.settle(ticket, charged=4)
    desk.store._writer._connection.execute("PRAGMA query_only = OFF")
    await desk.settle(ticket, charged=4)
    assert await desk.balance() == (4, 0)


async def test_a_file_locked_by_another_is_down_once_for_all_who_wait(
    open_sqlite: Callable[[], Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waiting for the lock in turn would take as many times as long."""
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.05)
    desk = open_sqlite()
    tries: list[str] = []
    desk.store._writer._connection.set_trace_callback(tries.append)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    results = await asyncio.gather(*(desk.reserve(workflows=999) for _ in range(200)), return_exceptions=True)
    other.execute("ROLLBACK")
    other.close()
    assert {str(result) for result in results} == {"the ledger cannot be written: database is locked"}
    assert len({id(result) for result in results}) == 200
    assert len(tries) <= 5
    assert await desk.balance() == (0, 0)
    await desk.admitted()


async def test_rows_that_cannot_be_read_are_a_store_that_is_down(open_sqlite: Callable[[], Any], path: Path) -> None:
    desk = open_sqlite()
    other = sqlite3.connect(path, isolation_level=None)
    for table in ("balances", "slots", "keys"):
        other.execute(f"DROP TABLE {table}")
    other.close()
    for name in ("usage", "last_route", "find_key", "reserve"):
        with pytest.raises(StoreDown, match="no such table"):
            await STATEMENTS[name](desk)


async def test_readers_do_not_wait_for_a_writer(open_sqlite: Callable[[], Any], path: Path) -> None:
    desk = open_sqlite()
    await desk.admitted(desk.premium(30), workflow="run")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE balances SET pending = 99")
    assert await desk.balance() == (0, 30)
    assert await desk.store.find_key(b"one") is None
    assert await desk.store.last_route(desk.caller(), "run") is None
    other.execute("ROLLBACK")
    other.close()


async def test_the_ledger_survives_a_restart(open_sqlite: Callable[[], Any]) -> None:
    desk = open_sqlite()
    settled = await desk.settle(await desk.admitted(workflow="run"), charged=5, route="openai")
    running = await desk.admitted(desk.premium(20))
    await desk.store.close()
    again = open_sqlite()
    assert await again.balance() == (5, 20)
    assert await again.store.receipt(again.caller(), settled.receipt.request_id) == settled.json
    assert await again.store.last_route(again.caller(), "run") == "openai"
    assert (await again.settle(running, charged=20)).receipt.fair_use.charged == 20


async def test_workers_that_read_the_file_at_once_make_everything_once(open_sqlite: Callable[[], Any]) -> None:
    desks = [open_sqlite() for _ in range(4)]
    keys = [NewKey(digest=b"one", name="ci", kind=KeyKind.PROJECT, last4="abcd") for _ in desks]
    await asyncio.gather(*(desk.store.provision([filed(key)]) for desk, key in zip(desks, keys, strict=True)))
    entries, _ = await desks[0].store.audit(Page())
    assert [entry.action for entry in entries] == ["key.create", "project.create", "account.create"]
    found = [await desk.store.find_key(b"one") for desk in desks]
    assert len({caller.key_id for caller in found}) == 1


async def test_a_key_revoked_by_one_process_ends_in_the_others_at_once(open_sqlite: Callable[[], Any]) -> None:
    here, there = open_sqlite(), open_sqlite()
    await here.store.administer("me", AddKey(key=NewKey(digest=b"a", name="a", kind=KeyKind.ADMIN, last4="aaaa")))
    caller = await there.store.find_key(b"a")
    await here.store.administer("me", RevokeKey(id=caller.key_id))
    assert await there.store.find_key(b"a") is None


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "by another process"])
async def test_a_key_that_was_looked_up_ends_or_changes_at_once(
    open_sqlite: Callable[[], Any], elsewhere: bool
) -> None:
    here, there = open_sqlite(), open_sqlite()
    await here.store.administer("me", AddKey(key=NewKey(digest=b"a", name="a", kind=KeyKind.ADMIN, last4="aaaa")))
    caller = await here.store.find_key(b"a")
    assert await here.store.find_key(b"a") is caller  # it is remembered
    office = (there if elsewhere else here).store
    await office.administer("me", ChangeKey(id=caller.key_id, models=frozenset({"premium"})))
    assert (await here.store.find_key(b"a")).models == {"premium"}
    await office.administer("me", RevokeKey(id=caller.key_id))
    assert await here.store.find_key(b"a") is None


async def test_a_key_that_was_looked_up_expires(open_sqlite: Callable[[], Any]) -> None:
    desk = open_sqlite()
    key = NewKey(digest=b"a", name="a", kind=KeyKind.ADMIN, last4="aaaa", expires_at=desk.clock.now + 60)
    await desk.store.administer("me", AddKey(key=key))
    assert await desk.store.find_key(b"a") is not None
    desk.clock.advance(60)
    assert await desk.store.find_key(b"a") is None


async def test_keys_are_looked_up_each_time_after_somebody_died_while_changing_them(
    open_sqlite: Callable[[], Any],
) -> None:
    here, there = open_sqlite(), open_sqlite()
    await here.store.administer("me", AddKey(key=NewKey(digest=b"a", name="a", kind=KeyKind.ADMIN, last4="aaaa")))
    caller = await here.store.find_key(b"a")
    there.store._turn._figures[0] |= 1  # as one leaves it that was killed in the midst
    there.store._writer._connection.execute("UPDATE keys SET revoked_at = 0")  # its commit was done
    assert await here.store.find_key(b"a") is None
    there.store._writer._connection.execute("UPDATE keys SET revoked_at = NULL")
    assert await here.store.find_key(b"a") == caller
    await there.store.administer("me", RevokeKey(id=caller.key_id))
    assert here.store._turn.directory_version is not None
    assert await here.store.find_key(b"a") is None


async def test_what_is_denied_does_not_spoil_the_work_it_was_committed_with(open_sqlite: Callable[[], Any]) -> None:
    desk = open_sqlite()
    results = await asyncio.gather(
        desk.reserve(), desk.store.administer("me", RevokeKey(id="none")), desk.reserve(), return_exceptions=True
    )
    assert [type(result).__name__ for result in results] == ["Ticket", "NoSuch", "Ticket"]
    assert await desk.balance() == (0, 20)


def filed(key: NewKey) -> NewAccount:
    project = NewProject(name="ci", keys=(key,))
    return NewAccount(name="acme", plan="pro", billing=Billing.ACTIVE, billing_day=1, projects=(project,))


async def test_the_sweep_leaves_no_row_of_a_workflow_that_is_over(open_sqlite: Callable[[], Any]) -> None:
    desk = open_sqlite()
    for name in ("a", "b"):
        await desk.settle(await desk.admitted(workflow=name))
    desk.clock.advance(119)
    await desk.admitted(workflow="b")
    desk.clock.advance(1)
    await desk.store.sweep()
    rows = await desk.store._read(lambda book: book._execute("SELECT workflow FROM slots").fetchall())
    assert rows == [("b",)]


async def test_no_operation_that_writes_or_reads_long_runs_on_the_event_loops_thread(
    open_sqlite: Callable[[], Any],
) -> None:
    desk = open_sqlite()
    me = threading.get_ident()
    assert await desk.store._write(lambda book: threading.get_ident()) != me
    assert await desk.store._read(lambda book: threading.get_ident()) != me


async def test_a_read_whose_caller_left_is_over_before_the_store_closes(open_sqlite: Callable[[], Any]) -> None:
    desk = open_sqlite()
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def read(book: Any) -> None:
        began.set()
        may_end.wait(30)
        book.balance("acme", "token", desk.window)
        ended.set()

    reading = asyncio.ensure_future(desk.store._read(read))
    await asyncio.to_thread(began.wait, 30)
    reading.cancel()
    closing = asyncio.ensure_future(desk.store.close())
    await asyncio.to_thread(desk.store._writer._thread.join, 30)
    for _ in range(100):
        await asyncio.sleep(0)
    may_end.set()
    await closing
    assert ended.is_set()


class Settling:
    """A book whose one request is settled between the first read and the second."""

    def __init__(self, running: Any, kept: Any) -> None:
        self._states = iter(((running, None), (None, kept)))

    def find_ticket(self, request_id: str) -> Any:
        return next(self._states)[0]

    def kept_receipt(self, request_id: str) -> Any:
        return next(self._states)[1]

    def adjustments(self, request_id: str) -> list[Any]:
        return []


async def test_a_request_that_is_settled_while_its_receipt_is_looked_up_is_found(
    open_sqlite: Callable[[], Any],
) -> None:
    desk = open_sqlite()
    ticket = await desk.admitted()
    running = await desk.store._read(lambda book: book.find_ticket(ticket.request_id))
    await desk.settle(ticket)
    kept = await desk.store._read(lambda book: book.kept_receipt(ticket.request_id))
    book: Any = Settling(running, kept)
    assert shared._find_receipt(book, ticket.request_id) is not None


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_no_commit_waits_for_the_disk_within_its_turn(open_sqlite: Callable[..., Any], durability: str) -> None:
    """With ``power`` the log is synced afterwards, before anybody is told (``test_log_sync``)."""
    desk = open_sqlite(durability=durability)
    pragma = await desk.store._write(lambda book: book._execute("PRAGMA synchronous").fetchone())
    assert pragma == (1,)


async def test_the_file_never_holds_a_negative_balance(open_sqlite: Callable[[], Any], path: Path) -> None:
    """Even a ledger gone wrong is stopped by the schema."""
    desk = open_sqlite()
    ticket = await desk.admitted(desk.premium(10))
    with pytest.raises(StoreDown, match="CHECK constraint"):
        await desk.settle(ticket, charged=-1)
    assert await desk.balance() == (0, 10)


def set_aside(path: Path, replaced: bool) -> Callable[[], object]:
    aside = path.rename(path.with_name("aside"))
    if replaced:
        path.touch()

    def put_back() -> None:
        path.unlink(missing_ok=True)
        aside.rename(path)

    return put_back


async def test_nothing_is_admitted_while_the_directory_is_something_else(
    open_sqlite: Callable[[], Any], path: Path, tmp_path: Path
) -> None:
    """Whether the file is there cannot even be asked then; the writer goes on all the same."""
    desk = open_sqlite()
    await desk.admitted(desk.premium(10))
    put_back = set_aside(tmp_path, replaced=True)
    with pytest.raises(StoreDown):
        await asyncio.wait_for(desk.reserve(desk.premium(10)), 30)
    put_back()
    await desk.admitted(desk.premium(10))
    assert await desk.balance() == (0, 20)


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_nothing_is_admitted_once_the_file_is_gone(
    open_sqlite: Callable[[], Any], path: Path, replaced: bool
) -> None:
    """SQLite would go on writing into the file that was removed."""
    desk = open_sqlite()
    await desk.admitted(desk.premium(10))
    put_back = set_aside(path, replaced)
    with pytest.raises(StoreDown, match="removed or replaced"):
        await desk.reserve(desk.premium(10))
    with pytest.raises(StoreDown):
        await desk.store.ready()
    put_back()
    await desk.admitted(desk.premium(10))
    assert await desk.balance() == (0, 20)


async def test_a_use_that_was_noted_in_a_transaction_undone_is_noted_again(open_sqlite: Callable[[], Any]) -> None:
    """Another request of its group failed: all of them are run again."""
    desk = open_sqlite()
    await desk.know(desk.caller())

    def fail(book: Any) -> None:
        raise RuntimeError("not this one")

    work = [desk.store._write(lambda book: book.used(desk.caller().key_id, desk.clock.now)), desk.store._write(fail)]
    results = await asyncio.gather(*work, return_exceptions=True)
    assert isinstance(results[1], RuntimeError)
    key = await desk.store.key(desk.caller().key_id)
    assert key.last_used_at == desk.clock.now
