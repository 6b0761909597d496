"""The simulation holds its promises, repeats itself, and can fail."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.torture.simulation import simulate
from tests.torture.virtual import Clocks, Stuck, VirtualLoop

from flatfee.server.store import ledger
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Purse
from flatfee.server.store.sqlite import SqliteStore

BLOCKS = 20
A_BLOCK = 50


def violations(seeds: range, *, caching: bool = False) -> Iterator[str]:
    return (f"seed {seed}: {text}" for seed in seeds for text in simulate(seed, caching=caching).violations)


@pytest.mark.slow
def test_nothing_is_oversold_lost_or_doubled() -> None:
    assert list(violations(range(30))) == []


@pytest.mark.torture
@pytest.mark.parametrize("block", range(BLOCKS))
def test_nothing_is_oversold_lost_or_doubled_in_a_thousand_runs(block: int) -> None:
    assert list(violations(range(block * A_BLOCK, (block + 1) * A_BLOCK))) == []


@pytest.mark.slow
def test_nothing_is_oversold_lost_or_doubled_by_a_book_that_remembers() -> None:
    assert list(violations(range(10), caching=True)) == []


@pytest.mark.torture
@pytest.mark.parametrize("block", range(5))
def test_nothing_is_oversold_lost_or_doubled_by_a_book_that_remembers_in_many_runs(block: int) -> None:
    assert list(violations(range(block * A_BLOCK, (block + 1) * A_BLOCK), caching=True)) == []


@pytest.mark.parametrize("seed", [3, 5, 12, 247])
def test_a_seed_is_a_run(seed: int) -> None:
    first, second = simulate(seed, trace=True), simulate(seed, trace=True)
    assert len(first.trace) > 10
    assert first == second


def test_the_trace_changes_nothing() -> None:
    assert simulate(247).steps == 0
    assert simulate(247).violations == simulate(247, trace=True).violations


def test_a_cap_that_is_not_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_fits", lambda *_: True)
    assert any("over the cap" in text for text in violations(range(100)))


def test_a_workflow_limit_that_is_not_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "leases_to_end", lambda *_: 0)
    assert any("workflows of" in text for text in violations(range(100)))


def test_units_that_stay_pending_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    change = ledger.change

    def forget(purse: Purse, *, pending: int = 0, posted: int = 0) -> ledger.Balance:
        return change(purse, pending=max(0, pending), posted=posted)

    monkeypatch.setattr(ledger, "change", forget)
    assert any("the balance is" in text for text in violations(range(10)))


def test_lost_requests_that_are_never_swept_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_: object) -> int:
        return 0

    monkeypatch.setattr(MemoryStore, "sweep", nothing)
    monkeypatch.setattr(SqliteStore, "sweep", nothing)
    assert any("after its lease" in text for text in violations(range(100)))


def test_virtual_time_passes_while_everybody_waits() -> None:
    loop = VirtualLoop()
    clocks = Clocks(loop.time, epoch=5000.0)
    loop.run_until_complete(asyncio.sleep(86_400))
    clocks.jump(-3600)
    loop.close()
    assert clocks.steady() == pytest.approx(1000 + 86_400)
    assert clocks.wall() == pytest.approx(5000 + 86_400 - 3600)


def test_waiting_for_ever_is_found() -> None:
    loop = VirtualLoop()
    waiting = loop.create_task(asyncio.Event().wait())
    with pytest.raises(Stuck):
        loop.run_until_complete(waiting)
    waiting.cancel()
    loop.run_until_complete(asyncio.wait({waiting}))
    loop.close()
