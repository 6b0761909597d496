"""How long a request waits: for a provider, and for the ledger no longer than its caller waits for the request.

A wait that is given up does not undo what was asked: the ledger may do it a moment later. So whoever
gives up says what is to become of a result that comes too late.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

_T = TypeVar("_T")

GRACE: Final = 0.25
"""Seconds past a caller's deadline for the ledger to note how its request ended: the caller hears no more by then."""


class Limit:
    """A limit to how long a block of awaits takes, as ``asyncio.timeout_at`` is one; to move it costs next to nothing.

    ``when`` is a time of the loop's clock; ``None``: never. The loop's timer is left alone where the limit
    moves away from it: when it rings too early, it is set again. A stream moves its limit twice for each chunk.
    ``expired`` once the block was cancelled for it: it then ends in ``TimeoutError``.
    """

    __slots__ = ("_cancelling", "_loop", "_rings", "_task", "_timer", "expired", "when")

    def __init__(self, when: float) -> None:
        self.when: float | None = when
        self.expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = task.get_loop()
        self._set(self.when)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Who else has cancelled the task meanwhile is to be heard: then it is no matter of time.
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def move(self, when: float | None) -> None:
        """Have the block end at another time."""
        self.when = when
        if when is not None and when < self._rings:
            if self._timer is not None:
                self._timer.cancel()
            self._set(when)

    def _set(self, when: float | None) -> None:
        self._rings = math.inf if when is None else when
        self._timer = None if when is None else self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        if self.when is None or self.when > self._rings:
            self._set(self.when)
        else:
            self.expired = True
            self._rings = -math.inf  # not again, wherever it is moved
            self._task.cancel()


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
