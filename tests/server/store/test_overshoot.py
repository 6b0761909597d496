"""The published bound: a window ends above its cap by no more than its answers exceeded their reservations."""

import asyncio
import random
from typing import Any

import pytest

from flatfee.server.store.records import Ticket

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

CAP = 1000


SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 12))]


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_window_ends_above_its_cap_by_its_answers_excess_at_most(desk: Any, seed: int) -> None:
    """Requests of any size, settled at any time for any amount, many of them at once."""
    chance = random.Random(seed)
    running: list[Ticket] = []
    excess = used = 0
    for _ in range(400):
        if running and chance.random() < 0.5:
            ticket = running.pop(chance.randrange(len(running)))
            actual = int(ticket.offer.units * chance.choice([0, 0.3, 1, 1, 1.7, 4]))
            await desk.settle(ticket, charged=actual)
            excess, used = excess + max(0, actual - ticket.offer.units), used + actual
        else:
            offers = [desk.premium(chance.randint(1, 120))]
            answers = await asyncio.gather(*(desk.reserve(*offers, fair_use=CAP, workflows=999) for _ in range(3)))
            running += [answer for answer in answers if isinstance(answer, Ticket)]
        assert sum(await desk.balance()) <= CAP + excess
    for ticket in running:
        await desk.settle(ticket, charged=ticket.offer.units)
        used += ticket.offer.units
    assert await desk.balance() == (used, 0)
    assert used <= CAP + excess
    assert excess > 0, "the bound was never needed"


async def test_the_bound_is_reached(desk: Any) -> None:
    """It promises no less than what happens: the last request may take all of its excess beyond the cap."""
    ticket = await desk.admitted(desk.premium(CAP), fair_use=CAP)
    await desk.settle(ticket, charged=CAP + 77)
    assert await desk.balance() == (CAP + 77, 0)
    await desk.refused(desk.premium(0), fair_use=CAP)
