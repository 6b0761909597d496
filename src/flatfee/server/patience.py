"""How long a request waits for the ledger: no longer than its caller waits for the request.

A wait that is given up does not undo what was asked: the ledger may do it a moment later. So whoever
gives up says what is to become of a result that comes too late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

GRACE: Final = 0.25
"""Seconds past a caller's deadline for the ledger to note how its request ended: the caller hears no more by then."""

KeepDoing = Callable[[Coroutine[Any, Any, None]], None]


async def in_time(
    work: Coroutine[Any, Any, _T],
    left: float | None,
    keep_doing: KeepDoing,
    late: Callable[[_T], Awaitable[object]] | None = None,
) -> _T:
    """Wait ``left`` seconds for work, or as long as it takes with ``None``.

    Raises:
        TimeoutError: it is not done. It goes on; ``late`` is called with its result.
    """
    if left is None:
        return await work
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=max(0.0, left))
    if not done:
        keep_doing(_see_off(task, late))
        raise TimeoutError
    return task.result()


async def _see_off(task: asyncio.Future[_T], late: Callable[[_T], Awaitable[object]] | None) -> None:
    result = await task
    if late is not None:
        await late(result)
