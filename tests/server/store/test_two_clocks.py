"""Somebody sets the wall clock, or the machine starts anew: what is held, and what is free."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.server.store.conftest import START, Clock, Desk

from flatfee.server.clocks import Clocks
from flatfee.server.store import sqlite
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.sqlite import SqliteStore

HOUR = 3600.0


class Hands:
    """A wall clock that can be set and a steady one that cannot."""

    def __init__(self) -> None:
        self.wall, self.steady = float(START), 5.0

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture(params=["memory", "sqlite"])
async def desk(request: pytest.FixtureRequest, hands: Hands, path: Path) -> AsyncIterator[Desk]:
    clocks: dict[str, Any] = {"clock": lambda: hands.wall, "steady": lambda: hands.steady}
    store: Any = MemoryStore(**clocks) if request.param == "memory" else SqliteStore(path, **clocks)
    yield Desk(store, Clock())
    await store.close()


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_clock_that_is_set_ends_no_running_request_and_frees_no_slot(
    desk: Desk, hands: Hands, jump: float
) -> None:
    ticket = await desk.admitted(desk.premium(30), workflow="run", workflows=1)
    await desk.store.dispatch(ticket)
    hands.wall += jump
    assert await desk.store.sweep() == 0
    await desk.refused(workflow="other", workflows=1)
    await desk.settle(ticket, charged=4)
    assert await desk.store.audit_books() == []


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_lease_ends_on_time_whatever_the_clock_says(desk: Desk, hands: Hands, jump: float) -> None:
    await desk.store.dispatch(await desk.admitted(desk.premium(30), workflows=1))
    hands.wall += jump
    hands.advance(59.999)
    assert (await desk.refused(workflows=1)).retry_after == 1
    hands.advance(0.001)
    await desk.admitted(desk.premium(70), workflows=1)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_rate_is_kept_whatever_the_clock_says(desk: Desk, hands: Hands, jump: float) -> None:
    for _ in range(3):
        await desk.settle(await desk.admitted(requests_per_minute=3))
    hands.wall += jump
    refusal = await desk.refused(requests_per_minute=3)
    assert refusal.retry_after == 20
    hands.advance(20)
    await desk.admitted(requests_per_minute=3)


async def test_a_live_workflow_tells_when_it_ends_by_the_clock_of_now(desk: Desk, hands: Hands) -> None:
    await desk.admitted(workflow="run")
    hands.wall += HOUR
    (lease,) = await desk.store.workflows(desk.caller())
    assert lease.expires_at == pytest.approx(hands.wall + 120)


async def test_after_the_machine_started_anew_no_lease_has_a_holder(
    path: Path, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steady time begins anew: a lease of before could seem to last for ever."""
    open_store = starts_of(path, hands, monkeypatch)
    hands.steady = 1e6
    before = Desk(open_store("first"), Clock())
    await before.store.dispatch(await before.admitted(before.premium(30), workflow="run", workflows=1))
    await before.store.close()
    hands.steady = 5.0
    after = Desk(open_store("second"), Clock())
    assert await after.store.sweep() == 1
    assert await after.balance() == (30, 0)
    await after.admitted(workflow="other", workflows=1)
    await after.store.close()


async def test_a_restart_on_a_machine_that_went_on_keeps_leases(
    path: Path, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker may be serving them."""
    open_store = starts_of(path, hands, monkeypatch)
    first = Desk(open_store("same"), Clock())
    ticket = await first.admitted(workflow="run", workflows=1)
    second = Desk(open_store("same"), Clock())
    await second.refused(workflow="other", workflows=1)
    await first.settle(ticket)
    await first.store.close()
    await second.store.close()


def starts_of(path: Path, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], SqliteStore]:
    def open_store(boot: str) -> SqliteStore:
        clocks = Clocks(lambda: hands.wall, lambda: hands.steady, boot)
        monkeypatch.setattr(sqlite, "clocks_of", lambda *_: clocks)
        return SqliteStore(path)

    return open_store
