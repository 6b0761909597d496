"""Many at once on the last units: nobody is admitted over the cap, in one process or in several."""

import asyncio
import multiprocessing
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.server.store.rows import make_known

from flatfee.server.store.records import Ticket
from flatfee.server.store.sqlite import SqliteStore
from flatfee.wire import ReceiptState

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""


def admitted(results: Sequence[object]) -> list[Ticket]:
    return [result for result in results if isinstance(result, Ticket)]


async def test_hundreds_at_once_never_oversell(desk: Any) -> None:
    wants = [desk.want(desk.premium(7), workflows=1000) for _ in range(300)]
    await desk.know(desk.caller())
    tickets = admitted(await asyncio.gather(*(desk.store.reserve(want) for want in wants)))
    assert len(tickets) == 100 // 7
    assert await desk.balance() == (0, 98)


async def test_hundreds_at_once_never_take_more_slots_than_there_are(desk: Any) -> None:
    wants = [desk.want(desk.premium(0), workflow=f"run-{index}", workflows=5) for index in range(200)]
    await desk.know(desk.caller())
    tickets = admitted(await asyncio.gather(*(desk.store.reserve(want) for want in wants)))
    assert len(tickets) == 5
    assert (await desk.usage()).workflows_active == 5


async def test_the_lanes_share_out_the_last_units(desk: Any) -> None:
    offers = (desk.premium(10), desk.continuation(10))
    wants = [desk.want(*offers, workflows=1000, continuation_limit=50) for _ in range(100)]
    await desk.know(desk.caller())
    tickets = admitted(await asyncio.gather(*(desk.store.reserve(want) for want in wants)))
    assert sorted(ticket.choice for ticket in tickets) == [0] * 10 + [1] * 5


async def test_one_ticket_settled_by_many_at_once_is_charged_once(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(50))
    settlements = await asyncio.gather(*(desk.settle(ticket, charged=index + 1) for index in range(50)))
    assert len({settlement.json for settlement in settlements}) == 1
    assert await desk.balance() == (1, 0)


async def test_sweep_and_settlement_at_once_end_a_request_once(desk: Any) -> None:
    tickets = [await desk.admitted(desk.premium(5), workflow="run") for _ in range(10)]
    await asyncio.gather(*(desk.store.dispatch(ticket) for ticket in tickets))
    desk.clock.advance(60)
    work = [desk.settle(ticket, charged=1) for ticket in tickets]
    swept, *settled = await asyncio.gather(desk.store.sweep(), *work)
    assert swept in range(11)
    assert {settlement.receipt.state for settlement in settled} == {ReceiptState.SETTLED}
    assert await desk.balance() == (10, 0)


async def test_two_stores_on_one_file_never_oversell(open_sqlite: Callable[[], Any]) -> None:
    desks = [open_sqlite(), open_sqlite()]
    work = [desk.reserve(desk.premium(7), workflows=1000) for _ in range(100) for desk in desks]
    tickets = admitted(await asyncio.gather(*work))
    assert len(tickets) == 100 // 7
    assert await desks[0].balance() == await desks[1].balance() == (0, 98)


async def test_what_one_store_reserved_another_on_the_same_file_can_settle(open_sqlite: Callable[[], Any]) -> None:
    first, second = open_sqlite(), open_sqlite()
    ticket = await first.admitted(first.premium(30), workflow="run")
    settlement = await second.settle(ticket, charged=3, route="openai")
    assert (await first.settle(ticket, charged=30)).json == settlement.json
    assert await first.balance() == (3, 0)
    assert await first.store.last_route(first.caller(), "run") == "openai"


PROCESSES = 3
EACH = 100


def race(path: Path, wants: list[Any], start: Any, results: Any) -> None:
    """One process: wait for the others, then ask for everything at once."""

    async def run() -> None:
        store = SqliteStore(path)
        start.wait()
        tickets = admitted(await asyncio.gather(*(store.reserve(want) for want in wants)))
        results.put([ticket.offer.units for ticket in tickets])
        await store.close()

    asyncio.run(run())


def make_known_in(path: Path, caller: Any) -> None:
    async def run() -> None:
        store = SqliteStore(path)
        await store._write(lambda book: make_known(book, caller, b"digest"))
        await store.close()

    asyncio.run(run())


def test_several_processes_on_one_file_never_oversell(want: Any, path: Path) -> None:
    make_known_in(path, want(1).caller)
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(PROCESSES), context.Queue()
    wants = [[want(3, fair_use=500, workflows=10_000) for _ in range(EACH)] for _ in range(PROCESSES)]
    runners = [context.Process(target=race, args=(path, batch, start, results), daemon=True) for batch in wants]
    for runner in runners:
        runner.start()
    granted = sum(sum(results.get(timeout=60)) for _ in runners)
    for runner in runners:
        runner.join(60)
    assert granted == 498
    with sqlite3.connect(path) as rows:
        assert rows.execute("SELECT posted, pending FROM balances").fetchall() == [(0, 498)]
        assert rows.execute("SELECT count(*), sum(units) FROM tickets").fetchone() == (166, 498)
    rows.close()
