"""Two gateways' processes that flood one file both get on, and about as fast."""

import asyncio
import multiprocessing
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from tests.torture.ledgers import file_rows, made_up_caller, reservation

from flatfee.receipt import Receipt
from flatfee.server.store.records import Offer, Outcome, Purse, Ticket
from flatfee.server.store.sqlite import SqliteStore
from flatfee.wire import Lane, Reason

EACH, AT_ONCE = 1000, 16
OFFER = Offer(lane=Lane.PREMIUM, reason=Reason.DEFAULT, purse=Purse.FAIR_USE, units=1)


def flood(path: Path, number: int, start: Barrier, done: "list[Synchronized[int]]") -> None:
    asyncio.run(_flood(path, number, start, done))


async def _flood(path: Path, number: int, start: Barrier, done: "list[Synchronized[int]]") -> None:
    store = SqliteStore(path)
    caller = await made_up_caller(store)
    start.wait(60)

    async def ask() -> None:
        while min(each.value for each in done) < EACH:
            done[number].value += 1  # this process alone writes it
            request_id = f"req_{number}{done[number].value:025d}"
            ticket = await store.reserve(reservation(caller, request_id, [OFFER]))
            assert isinstance(ticket, Ticket)
            await store.dispatch(ticket)
            await store.settle(ticket, Outcome(charged=1, receipt=Receipt(request_id=request_id)))

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    await store.close()


@pytest.mark.processes
def test_two_processes_that_flood_a_file_both_get_on(tmp_path: Path) -> None:
    spawn: Any = multiprocessing.get_context("spawn")
    start, done = spawn.Barrier(2), [spawn.Value("q", 0) for _ in range(2)]
    path = tmp_path / "ledger.db"
    both = [spawn.Process(target=flood, args=(path, number, start, done)) for number in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    counts = [each.value for each in done]
    assert max(counts) < 4 * min(counts)
    assert len(file_rows(path).receipts) == sum(counts)
