"""Work that goes on without whoever waits for it, and ends once."""

from __future__ import annotations

import asyncio
import gc

import pytest
from tests.server.fakes import until

from flatfee.server.lasting import Lasting


class Work:
    """Work that waits for a future, then for the loop, then for the future again, and counts how often it began."""

    def __init__(self) -> None:
        self.may_end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.begun = self.ended = 0

    async def done(self) -> int:
        self.begun += 1
        try:
            await self.may_end
            await asyncio.sleep(0)
            return await self.may_end
        finally:
            self.ended += 1


async def at_once() -> int:
    return 7


async def failing() -> int:
    raise ValueError("bad")


async def test_what_waits_for_nothing_ends_in_the_task_that_wants_it() -> None:
    tasks = asyncio.all_tasks()
    lasting = Lasting(at_once())
    assert [await lasting, await lasting] == [7, 7]
    assert asyncio.all_tasks() == tasks


async def test_what_waits_is_waited_for() -> None:
    work = Work()
    lasting = Lasting(work.done())
    asyncio.get_running_loop().call_soon(work.may_end.set_result, 3)
    assert [await lasting, await lasting] == [3, 3]
    assert work.begun == 1


async def test_an_error_is_told_to_each_who_asks() -> None:
    lasting = Lasting(failing())
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            await lasting


async def waiting_for(lasting: Lasting[int]) -> int:
    return await lasting


async def cancelled(lasting: Lasting[int]) -> None:
    """Wait for work in a task that is cancelled meanwhile."""
    task = asyncio.ensure_future(waiting_for(lasting))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_goes_on_when_whoever_waits_is_cancelled() -> None:
    work = Work()
    lasting = Lasting(work.done())
    await cancelled(lasting)
    assert not work.may_end.cancelled()
    work.may_end.set_result(4)
    assert await lasting == 4
    assert (work.begun, work.ended) == (1, 1)


async def test_it_ends_even_if_nobody_waits_any_more() -> None:
    work = Work()
    lasting = Lasting(work.done())
    await cancelled(lasting)
    await cancelled(lasting)
    work.may_end.set_result(4)
    await until(lambda: work.ended == 1)
    assert await lasting == 4


async def test_what_it_waits_for_may_fail() -> None:
    work = Work()
    lasting = Lasting(work.done())
    await cancelled(lasting)
    work.may_end.set_exception(ValueError("bad"))
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            await lasting


async def test_of_an_error_that_nobody_asks_for_the_loop_does_not_complain() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    work = Work()
    lasting = Lasting(work.done())
    await cancelled(lasting)
    work.may_end.set_exception(ValueError("bad"))
    await until(lambda: work.ended == 1)
    await asyncio.sleep(0)
    del lasting
    gc.collect()
    assert complaints == []


async def test_what_it_waits_for_may_be_cancelled_itself() -> None:
    work = Work()
    lasting = Lasting(work.done())
    asyncio.get_running_loop().call_soon(work.may_end.cancel)
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await lasting
    assert work.ended == 1


async def test_the_end_of_the_loop_is_told_to_the_work() -> None:
    """As of any task: whatever runs is cancelled then."""
    before, work = asyncio.all_tasks(), Work()
    await cancelled(Lasting(work.done()))
    (rest,) = asyncio.all_tasks() - before
    await asyncio.sleep(0)
    rest.cancel()
    await asyncio.wait({rest})
    assert (work.ended, rest.cancelled()) == (1, True)
