"""A coroutine that is begun where it is made."""

from __future__ import annotations

import asyncio

import pytest

from flatfee.server.begun import Begun


async def test_what_needs_no_waiting_is_over_at_once() -> None:
    async def there() -> int:
        return 7

    begun = Begun(there())
    assert (begun.over, begun.value) == (True, 7)


async def test_what_must_wait_goes_on_where_it_is_awaited() -> None:
    gates = [asyncio.Event() for _ in range(2)]

    async def later() -> int:
        for gate in gates:
            await gate.wait()
        return 7

    begun = Begun(later())
    assert not begun.over
    for gate in gates:
        asyncio.get_running_loop().call_soon(gate.set)
    assert await begun == 7


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
async def test_what_it_raises_is_raised(waits: bool) -> None:
    async def fails() -> None:
        if waits:
            await asyncio.sleep(0)
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await Begun(fails())


async def test_a_time_limit_ends_it_where_it_waits() -> None:
    ended: list[str] = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("here")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Begun(never())
    assert ended == ["here"]
