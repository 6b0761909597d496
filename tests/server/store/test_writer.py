"""The writer thread: one commit for all who wait, each piece of work all or nothing."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from flatfee.server.store.base import StoreDown
from flatfee.server.store.writer import Writer


class Rows:
    """A book of one column: one kind of work adds to it, another fails."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def add(self, value: int) -> int:
        self.connection.execute("INSERT INTO rows VALUES (?)", (value,))
        return value

    def fail_after_adding(self, value: int) -> None:
        self.add(value)
        message = f"no {value}"
        raise ValueError(message)


def adding(value: int) -> Callable[[Rows], int]:
    return lambda book: book.add(value)


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer[Rows]]:
    connection = sqlite3.connect(tmp_path / "rows.db", isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE rows (value INTEGER PRIMARY KEY)")
    found = Writer(connection, Rows(connection))
    yield found
    await found.close()


async def rows(writer: Writer[Rows]) -> list[int]:
    found = await writer.submit(lambda book: book.connection.execute("SELECT value FROM rows").fetchall())
    return [value for (value,) in found]


async def held_up(writer: Writer[Rows]) -> threading.Event:
    """Keep the thread busy, so that what is submitted next gathers into one group."""
    busy, go = threading.Event(), threading.Event()

    def hold(book: Rows) -> None:
        busy.set()
        go.wait(30)

    writer.submit(hold)
    await asyncio.to_thread(busy.wait, 30)
    return go


async def test_work_that_waits_together_is_committed_together(writer: Writer[Rows]) -> None:
    commits: list[str] = []
    go = await held_up(writer)
    writer._connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    futures = [writer.submit(adding(value)) for value in range(50)]
    go.set()
    assert await asyncio.gather(*futures) == list(range(50))
    assert len(commits) == 2  # that of the work that held the thread up, and one for all of these


async def test_a_failing_piece_takes_no_other_with_it(writer: Writer[Rows]) -> None:
    go = await held_up(writer)
    futures: list[asyncio.Future[Any]] = []
    for value in range(6):
        if value == 3:
            futures.append(writer.submit(lambda book: book.fail_after_adding(3)))
        else:
            futures.append(writer.submit(adding(value)))
    go.set()
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [result for result in results if isinstance(result, int)] == [0, 1, 2, 4, 5]
    assert isinstance(results[3], ValueError)
    assert await rows(writer) == [0, 1, 2, 4, 5]


async def test_a_database_error_is_told_as_a_store_that_is_down(writer: Writer[Rows]) -> None:
    await writer.submit(adding(1))
    with pytest.raises(StoreDown, match="UNIQUE") as raised:
        await writer.submit(adding(1))
    assert isinstance(raised.value.__cause__, sqlite3.IntegrityError)
    assert await rows(writer) == [1]


async def test_work_is_done_even_if_its_waiter_was_cancelled(writer: Writer[Rows]) -> None:
    go = await held_up(writer)
    left = writer.submit(adding(1))
    stayed = writer.submit(adding(2))
    left.cancel()
    go.set()
    async with asyncio.timeout(30):
        assert await stayed == 2
    assert await rows(writer) == [1, 2]


async def test_a_group_is_bounded(writer: Writer[Rows]) -> None:
    go = await held_up(writer)
    futures = [writer.submit(adding(value)) for value in range(1000)]
    go.set()
    await asyncio.gather(*futures)
    assert len(await rows(writer)) == 1000


async def test_closing_does_the_work_that_waits_and_refuses_more(writer: Writer[Rows]) -> None:
    go = await held_up(writer)
    future = writer.submit(adding(1))
    closing = asyncio.ensure_future(writer.close())
    await asyncio.sleep(0)
    go.set()
    await closing
    assert await future == 1
    with pytest.raises(StoreDown, match="closed"):
        await writer.submit(adding(2))


async def test_a_transaction_that_the_work_ended_itself_is_an_error_and_nothing_hangs(writer: Writer[Rows]) -> None:
    with pytest.raises(StoreDown):
        await writer.submit(lambda book: book.connection.execute("ROLLBACK"))
    assert await writer.submit(adding(1)) == 1


async def test_a_waiter_whose_event_loop_is_gone_hinders_nobody(writer: Writer[Rows]) -> None:
    go = await held_up(writer)

    def submit_and_leave() -> None:
        async def leave() -> None:
            writer.submit(adding(1))

        asyncio.run(leave())

    await asyncio.to_thread(submit_and_leave)
    stayed = writer.submit(adding(2))
    go.set()
    assert await stayed == 2
    assert await rows(writer) == [1, 2]
