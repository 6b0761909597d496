"""The writer on the event loop: one commit for a round, early answers, and what it does when it cannot."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from io import RawIOBase
from pathlib import Path
from typing import Any

import pytest

from flatfee.server.store import loop_writer
from flatfee.server.store.base import StoreDown
from flatfee.server.store.loop_writer import AtOnce, LoopWriter
from flatfee.server.store.turn import Turn

Opening = Callable[..., "Writing"]


class Rows:
    """A book of one column, which notes what it is told of its transactions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.told: list[str] = []

    def add(self, value: int) -> int:
        self.connection.execute("INSERT INTO rows VALUES (?)", (value,))
        return value

    def begin(self) -> None:
        self.told.append("begin")

    def flush(self) -> None:
        self.told.append("flush")

    def committed(self) -> None:
        self.told.append("committed")

    def rolled_back(self) -> None:
        self.told.append("rolled back")


class Writing:
    """A writer over a file, and what it sends to SQLite."""

    def __init__(self, path: Path, patience: float = 5.0) -> None:
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = OFF")
        self.connection.execute("CREATE TABLE IF NOT EXISTS rows (value INTEGER PRIMARY KEY)")
        self.slow, self.cached = Rows(self.connection), Rows(self.connection)
        self.turn = Turn(path, patience)
        self.writer: LoopWriter[Rows, Rows] = LoopWriter(self.connection, self.slow, self.cached, self.turn)
        self.statements: list[str] = []
        self.connection.set_trace_callback(self.statements.append)

    def add(self, value: int, *, early: bool = False) -> asyncio.Future[int]:
        work: AtOnce[Rows, int] = AtOnce(lambda book: book.add(value), early)
        return self.writer.submit(work)

    def add_slowly(self, value: int) -> asyncio.Future[int]:
        return self.writer.submit(lambda book: book.add(value))

    def rows(self) -> list[int]:
        """What other connections see."""
        connection = sqlite3.connect(self.path)
        found = [value for (value,) in connection.execute("SELECT value FROM rows ORDER BY value")]
        connection.close()
        return found

    async def close(self) -> None:
        await self.writer.close()
        self.turn.close()


@pytest.fixture
async def opening(tmp_path: Path) -> AsyncIterator[Opening]:
    opened: list[Writing] = []

    def open_(patience: float = 5.0) -> Writing:
        opened.append(Writing(tmp_path / "rows.db", patience))
        return opened[-1]

    yield open_
    for writing in opened:
        if not writing.writer._closed:
            await writing.close()


@pytest.fixture
def writing(opening: Opening) -> Writing:
    return opening()


def fail(_: Rows) -> None:
    message = "not this one"
    raise ValueError(message)


async def test_what_came_in_one_round_is_committed_once(writing: Writing) -> None:
    assert await asyncio.gather(*(writing.add(value) for value in range(50))) == list(range(50))
    assert writing.statements.count("COMMIT") == 1
    assert writing.cached.told == ["begin", "flush", "committed"]


async def test_an_answer_waits_for_its_commit_and_an_early_one_does_not(writing: Writing) -> None:
    late, early = writing.add(1), writing.add(2, early=True)
    assert (late.done(), early.done(), writing.rows()) == (False, True, [])
    assert await late == 1
    assert writing.rows() == [1, 2]


async def test_an_error_of_one_undoes_its_transaction_and_what_went_with_it_is_done_again(writing: Writing) -> None:
    before, broken, after = writing.add(1), writing.writer.submit(AtOnce(fail)), writing.add(2)
    results = await asyncio.gather(before, broken, after, return_exceptions=True)
    assert [type(result) for result in results] == [int, ValueError, int]
    assert writing.rows() == [1, 2]
    assert writing.cached.told[:2] == ["begin", "rolled back"]


async def test_what_was_answered_early_is_lost_with_a_commit_that_fails(writing: Writing) -> None:
    early, late = writing.add(1, early=True), writing.add(2)
    writing.connection.execute("ROLLBACK")  # as SQLite does by itself after some errors
    assert await late == 2  # the thread did it again
    assert (await early, writing.rows()) == (1, [2])
    assert await writing.add(3) == 3


async def test_a_piece_that_says_that_the_store_is_down_harms_nobody(writing: Writing) -> None:
    def refuse(_: Rows) -> None:
        raise StoreDown("its lease ran out")

    results = await asyncio.gather(
        writing.add(1), writing.writer.submit(AtOnce(refuse)), writing.add(2), return_exceptions=True
    )
    assert [type(result) for result in results] == [int, StoreDown, int]
    assert writing.rows() == [1, 2]


async def test_half_of_a_piece_that_was_interrupted_is_not_committed(writing: Writing) -> None:
    def interrupted(book: Rows) -> None:
        book.add(1)
        raise KeyboardInterrupt

    before = writing.add(2)
    with pytest.raises(KeyboardInterrupt):
        writing.writer.submit(AtOnce(interrupted))
    assert await before == 2
    assert writing.rows() == [2]
    assert await writing.add(3) == 3


async def test_a_rollback_that_fails_leaves_nobody_waiting(writing: Writing) -> None:
    waits = writing.add(1)
    writing.connection.set_authorizer(
        lambda action, name, *_: sqlite3.SQLITE_DENY if name == "ROLLBACK" else sqlite3.SQLITE_OK
    )
    broken = writing.writer.submit(AtOnce(fail))
    results = await asyncio.gather(waits, broken, return_exceptions=True)
    assert [type(result) for result in results] == [StoreDown, ValueError]
    writing.connection.set_authorizer(None)
    assert await writing.add(2) == 2
    assert writing.rows() == [2]


async def test_work_whose_waiter_left_is_done(writing: Writing) -> None:
    left = writing.add(1)
    left.cancel()
    assert await writing.add(2) == 2
    assert writing.rows() == [1, 2]


async def test_work_whose_waiter_left_while_it_waited_for_the_file_is_done(opening: Opening) -> None:
    one, other = opening(), opening()
    with other.turn.taken():
        left, stayed = one.add(1), one.add(2)
        left.cancel()
    assert await stayed == 2
    assert one.rows() == [1, 2]


async def test_a_file_that_another_connection_locks_is_waited_for_on_the_thread(writing: Writing) -> None:
    other = sqlite3.connect(writing.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits = writing.add(1)
    taken_over = asyncio.Event()
    writing.writer.take_over = told(writing.writer.take_over, taken_over)  # type: ignore[method-assign,assignment]  # to see the call
    await taken_over.wait()
    assert not waits.done()
    other.execute("ROLLBACK")
    other.close()
    assert await waits == 1
    assert "rolled back" in writing.cached.told
    assert await writing.add(2) == 2


def told(call: Callable[[Any], None], event: asyncio.Event) -> Callable[[Any], None]:
    def called(argument: Any) -> None:
        event.set()
        call(argument)

    return called


async def test_a_turn_that_another_has_is_waited_for_first_on_the_loop(opening: Opening) -> None:
    one, other = opening(), opening()
    with other.turn.taken():
        waits = one.add(1)
        for _ in range(loop_writer._ROUNDS // 2):
            await asyncio.sleep(0)
        assert not waits.done()
    assert await waits == 1
    assert "begin" in one.cached.told  # and not by the thread


async def test_a_turn_that_never_comes_is_a_store_that_is_down(opening: Opening) -> None:
    one, other = opening(0.05), opening()
    with other.turn.taken():
        results = await asyncio.gather(*(one.add(value) for value in range(20)), return_exceptions=True)
    assert {str(result) for result in results} == {
        "the ledger cannot be written: another process has been writing for too long"
    }
    assert await one.add(1) == 1


async def test_closing_commits_what_is_open_and_does_what_waits(opening: Opening) -> None:
    one, other = opening(), opening()
    first = one.add(1)
    await one.close()
    assert (await first, other.rows()) == (1, [1])
    with pytest.raises(StoreDown, match="closed"):
        await one.add(2)
    two = opening()
    with other.turn.taken():
        waits = two.add(3)
        closing = asyncio.ensure_future(two.close())
        await asyncio.sleep(0)
    await closing
    assert (await waits, other.rows()) == (3, [1, 3])


async def test_a_loop_that_ended_in_the_midst_keeps_neither_the_turn_nor_its_work(opening: Opening) -> None:
    one, other = opening(), opening()
    ended = asyncio.new_event_loop()

    def begin_and_end() -> None:
        async def begin() -> None:
            one.add(1)
            ended.stop()

        beginning = ended.create_task(begin())
        ended.run_forever()
        assert beginning.done()
        ended.close()

    await asyncio.to_thread(begin_and_end)
    assert not other.turn.try_take()
    assert await one.add(2) == 2
    assert one.rows() == [1, 2]
    assert await other.add(3) == 3


async def test_another_loop_that_runs_at_the_same_time_is_served_by_the_thread(writing: Writing) -> None:
    def work_elsewhere() -> list[int]:
        async def work() -> list[int]:
            return [await writing.add(1000 + value) for value in range(50)]

        return asyncio.run(work())

    await writing.add(0)
    elsewhere = asyncio.ensure_future(asyncio.to_thread(work_elsewhere))
    here = [await writing.add(value) for value in range(1, 200)]
    assert await elsewhere == list(range(1000, 1050))
    assert writing.rows() == [0, *here, *range(1000, 1050)]


async def test_the_threads_work_has_its_turn_while_the_loop_is_flooded(writing: Writing) -> None:
    values = iter(range(1_000_000))
    over = False

    async def flood() -> None:
        while not over:
            await writing.add(next(values))

    floods = [asyncio.create_task(flood()) for _ in range(8)]
    for value in range(20):
        await writing.add_slowly(2_000_000 + value)
    over = True
    await asyncio.gather(*floods)
    assert len(writing.rows()) == 20 + next(values)


async def test_two_writers_of_one_process_both_get_on(opening: Opening) -> None:
    one, other = opening(), opening()
    done = [0, 0]

    async def flood(number: int, writing: Writing) -> None:
        while min(done) < 500:
            await writing.add(1_000_000 * number + done[number])
            done[number] += 1

    await asyncio.gather(flood(0, one), flood(1, other))
    assert max(done) < 4 * min(done)


def times_begun(log: RawIOBase) -> int:
    """How often SQLite wrote its log from the begin again: from a number in its header."""
    log.seek(12)
    return int.from_bytes(log.read(4) or b"", "big")


@pytest.mark.parametrize("slowly", [False, True], ids=["the loop", "the thread"])
async def test_the_log_is_written_back_and_begins_anew(
    writing: Writing, monkeypatch: pytest.MonkeyPatch, slowly: bool
) -> None:
    monkeypatch.setattr(loop_writer, "CHECKPOINT_PAGES", 60)
    add = writing.add_slowly if slowly else writing.add
    with writing.path.with_name("rows.db-wal").open("rb", buffering=0) as log:
        for value in range(20_000):
            await add(value)
            if times_begun(log) > 5:
                break
        assert times_begun(log) > 5
    begins = [at for at, sql in enumerate(writing.statements) if "wal_checkpoint" in sql]
    assert all(
        writing.statements[:index].count("BEGIN IMMEDIATE") == writing.statements[:index].count("COMMIT")
        for index in begins
    )


async def test_the_log_is_written_back_after_sqlites_count_of_changes_began_anew(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an ``int`` of C: after two thousand million changes it is below zero."""
    monkeypatch.setattr(loop_writer, "CHECKPOINT_PAGES", 60)
    await writing.add(0)
    writing.writer._changes = 2**31 - 1
    for value in range(1, 200):
        await writing.add(value)
    assert 0 <= writing.writer._pages < 60
