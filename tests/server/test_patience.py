"""A limit that moves: when its block ends, and in what."""

from __future__ import annotations

import asyncio

import pytest

from flatfee.server.patience import Limit

FAR = 3600.0


def now() -> float:
    return asyncio.get_running_loop().time()


async def for_ever() -> None:
    await asyncio.Event().wait()


async def waiting(limit: Limit, *moves: float | None) -> None:
    with limit:
        for when in moves:
            limit.move(when)
        await for_ever()


@pytest.mark.parametrize(
    ("start", "moves"),
    [(0, []), (0, [FAR, 0]), (0, [None, 0]), (0, [FAR, 0.01]), (0, [0.01]), (FAR, [0])],
    ids=["as it was set", "there and back", "taken away and back", "sooner again", "later", "near"],
)
def test_a_block_ends_by_where_its_limit_is_in_the_end(start: float, moves: list[float | None]) -> None:
    async def body() -> None:
        limit = Limit(now() + start)
        with pytest.raises(TimeoutError):
            await waiting(limit, *(when if when is None else now() + when for when in moves))
        assert limit.expired
        assert limit.when is not None
        assert now() >= limit.when - 0.001

    asyncio.run(body())


@pytest.mark.parametrize("moved", [True, False])
def test_a_limit_without_a_time_does_not_end_its_block(moved: bool) -> None:
    async def body() -> None:
        with Limit(now() if moved else now() + FAR) as limit:
            limit.move(None if moved else now() + 2 * FAR)
            await asyncio.sleep(0.01)
        assert not limit.expired

    asyncio.run(body())


def test_behind_the_block_nothing_is_cancelled() -> None:
    async def body() -> None:
        with Limit(now()):
            pass
        await asyncio.sleep(0.01)

    asyncio.run(body())


def test_who_was_cancelled_by_another_as_well_is_cancelled() -> None:
    async def body() -> None:
        with Limit(now()) as limit:
            try:
                await for_ever()
            except asyncio.CancelledError:
                assert limit.expired
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await for_ever()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(body())


def test_a_block_that_expired_is_cancelled_once_wherever_the_limit_moves() -> None:
    async def lingering(limit: Limit) -> None:
        with limit:
            try:
                await for_ever()
            finally:
                limit.move(now() - 1)
                await asyncio.sleep(0.01)
                limit.move(None)

    async def body() -> None:
        limit = Limit(now())
        with pytest.raises(TimeoutError):
            await lingering(limit)
        assert limit.when is None

    asyncio.run(body())


def test_another_error_of_the_block_stays_what_it_is() -> None:
    async def body() -> None:
        with Limit(now()):
            try:
                await for_ever()
            except asyncio.CancelledError:
                raise ValueError from None

    with pytest.raises(ValueError):
        asyncio.run(body())
