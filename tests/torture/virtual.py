"""An event loop whose time is virtual: when nothing is ready, it jumps to the next timer.

Everything in it runs on one thread in an order that depends on nothing outside, so that the same
choices give the same run. It has no input or output: a socket in it would never be ready.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class Stuck(Exception):
    """Nothing is ready and no timer runs: everybody waits for ever."""


class _Jumping(selectors.SelectSelector):
    """Instead of waiting, it moves the time on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Stuck
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time()`` starts at 1000 seconds and passes only while everybody waits."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class Clocks:
    """The wall clock and the steady clock of one virtual loop. ``jump`` moves the wall clock alone."""

    def __init__(self, steady: Callable[[], float], epoch: float) -> None:
        self.steady = steady
        self._offset = epoch - steady()

    def wall(self) -> float:
        """Return the wall clock's time, in seconds since the epoch."""
        return self.steady() + self._offset

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self._offset += seconds
