"""``Retry-After`` is true: who waits exactly that long gets in, if nobody else comes meanwhile."""

import random
from typing import Any

import pytest

from flatfee.server.store.records import Refusal, Ticket

SEEDS = [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 20))]


@pytest.mark.parametrize("seed", SEEDS)
async def test_who_waits_exactly_as_long_as_told_gets_in(desk: Any, seed: int) -> None:
    """Whatever came before: named and single requests, settled or lost, at any pace."""
    chance = random.Random(seed)
    limits = {"requests_per_minute": chance.choice([None, 6, 60]), "workflows": 2, "fanout": 1, "idle": 40.0}
    told = set()
    for _ in range(60):
        workflow = chance.choice([None, "a", "b", "c"])
        answer = await desk.reserve(desk.budget(), workflow=workflow, **limits)
        if isinstance(answer, Ticket):
            if chance.random() < 0.7:
                await desk.settle(answer)
        else:
            told.add(answer.code)
            await gets_in_after(desk, answer, workflow, limits)
        desk.clock.advance(chance.choice([0.0, 0.1, 1.7, 30.0]))
    assert told, "nobody was ever refused"


async def gets_in_after(desk: Any, refusal: Refusal, workflow: str | None, limits: dict[str, Any]) -> None:
    assert isinstance(refusal.retry_after, int)
    desk.clock.advance(refusal.retry_after)
    ticket = await desk.reserve(desk.budget(), workflow=workflow, **limits)
    assert isinstance(ticket, Ticket), (refusal, ticket)
    await desk.settle(ticket)


@pytest.mark.parametrize("smaller", [{"workflows": 2}, {"fanout": 2}])
async def test_the_wait_is_true_when_the_plan_has_become_smaller(desk: Any, smaller: dict[str, int]) -> None:
    """More leases than one must end then."""
    for seconds in (5, 10, 15, 20):
        await desk.admitted(desk.budget(), workflow="run" if "fanout" in smaller else None, fanout=4, lease=60.0)
        desk.clock.advance(seconds)
    wanted = {"workflow": "run"} if "fanout" in smaller else {}
    refusal = await desk.refused(desk.budget(), **wanted, **smaller)
    desk.clock.advance(refusal.retry_after - 1)
    await desk.refused(desk.budget(), **wanted, **smaller)
    desk.clock.advance(1)
    assert isinstance(await desk.reserve(desk.budget(), **wanted, **smaller), Ticket)


async def test_nobody_is_told_to_wait_longer_than_needed(desk: Any) -> None:
    """A second less is too early: the wait is rounded up, not guessed."""
    for _ in range(6):
        await desk.settle(await desk.admitted(requests_per_minute=6))
    refusal = await desk.refused(requests_per_minute=6)
    desk.clock.advance(refusal.retry_after - 1)
    await desk.refused(requests_per_minute=6)
