"""No answer precedes the sync of its commit, one sync serves all who wait, and one that failed is never forgotten."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from flatfee.server.store.base import StoreDown
from flatfee.server.store.log_sync import LogSync


class Disk:
    """Syncs when it may. ``begun`` counts how often it was asked; ``error`` is what it fails with."""

    def __init__(self) -> None:
        self.begun = 0
        self.error: OSError | None = None
        self.called = threading.Semaphore(0)
        self.may = threading.Semaphore(0)
        self.files: set[int] = set()

    def sync(self, file: int) -> None:
        self.begun += 1
        self.files.add(os.fstat(file).st_ino)
        self.called.release()
        assert self.may.acquire(timeout=30)
        if self.error is not None:
            raise self.error

    async def asked(self) -> None:
        assert await asyncio.to_thread(self.called.acquire, timeout=30)

    def let(self, syncs: int = 1) -> None:
        self.may.release(syncs)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def log(tmp_path: Path, disk: Disk) -> AsyncIterator[LogSync]:
    (tmp_path / "ledger.db-wal").touch()
    found = LogSync(tmp_path / "ledger.db", disk.sync)
    yield found
    disk.let(100)
    await asyncio.to_thread(found.close)


def telling(log: LogSync, value: object) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    log.tell([(future, value)])
    return future


async def test_one_sync_serves_all_who_came_before_it_began(log: LogSync, disk: Disk) -> None:
    first = telling(log, 1)
    await disk.asked()
    later = [telling(log, value) for value in range(2, 50)]
    disk.let()
    assert await first == 1
    await disk.asked()
    assert not any(future.done() for future in later)  # the sync had begun before they were committed
    disk.let()
    assert await asyncio.gather(*later) == list(range(2, 50))
    assert disk.begun == 2


async def test_after_a_sync_that_failed_everything_is_down(log: LogSync, disk: Disk) -> None:
    """The system forgets what it could not write: the next sync would wrongly succeed."""
    disk.error = OSError(errno.EIO, "Input/output error")
    disk.let(2)
    with pytest.raises(StoreDown, match="Input/output error"):
        await telling(log, 1)
    disk.error = None
    with pytest.raises(StoreDown, match="Input/output error"):
        await telling(log, 2)


async def test_an_error_stays_the_error_that_it_was(log: LogSync, disk: Disk) -> None:
    disk.error = OSError(errno.EIO, "Input/output error")
    disk.let()
    with pytest.raises(ValueError, match="not this one"):
        await telling(log, ValueError("not this one"))


async def test_closing_tells_all_who_wait(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "other.db-wal").touch()
    log = LogSync(tmp_path / "other.db", disk.sync)
    futures = [telling(log, value) for value in range(5)]
    disk.let(5)
    await asyncio.to_thread(log.close)
    assert await asyncio.gather(*futures) == list(range(5))


async def test_an_answer_of_a_store_for_a_loss_of_power_waits_for_its_sync(
    open_sqlite: Callable[..., Any], path: Path, disk: Disk
) -> None:
    desk = open_sqlite(durability="power")
    await desk.know(desk.caller())
    desk.store._sync._sync = disk.sync
    ticket = await desk.store.reserve(replace(desk.want(desk.premium(10)), early=True))
    work = [desk.store.dispatch(ticket), desk.settle(ticket, charged=3), desk.store.ready()]
    for each in work:
        waiting = asyncio.ensure_future(each)
        await disk.asked()
        assert not waiting.done()
        disk.let()
        await waiting
    assert disk.files == {path.with_name("ledger.db-wal").stat().st_ino}
    disk.let(100)


async def test_a_store_for_a_loss_of_power_is_committed_without_waiting_for_the_disk(
    open_sqlite: Callable[..., Any], disk: Disk
) -> None:
    """Only those who wait for an answer wait for it: the others go on."""
    desk = open_sqlite(durability="power")
    await desk.know(desk.caller())
    desk.store._sync._sync = disk.sync
    want = [replace(desk.want(desk.premium(1)), early=True) for _ in range(4)]
    tickets = [await desk.store.reserve(each) for each in want]
    first = asyncio.ensure_future(desk.store.dispatch(tickets[0]))
    await disk.asked()
    others = [asyncio.ensure_future(desk.store.dispatch(ticket)) for ticket in tickets[1:]]
    for _ in range(10):
        await asyncio.sleep(0)
    dispatched = "SELECT count(*) FROM tickets WHERE dispatched"
    assert await desk.store._read(lambda book: book._execute(dispatched).fetchone()) == (4,)
    disk.let(100)
    await asyncio.gather(first, *others)
