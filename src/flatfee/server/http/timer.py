"""A time limit that is set and lifted for each request, by a timer that is started for hardly any. No bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Later = Callable[[float, Callable[[], object]], "Timer"]
"""Has something done after so many seconds."""
Now = Callable[[], float]
"""Seconds of the clock that ``Later`` goes by."""


class Timer(Protocol):
    """What was put off."""

    def cancel(self) -> None:
        """Never do it."""
        ...


class Limit:
    """Calls ``over`` once the seconds have passed that were set last, unless they are lifted before.

    A limit that is lifted leaves its timer running; when that rings, what is set by then is waited for.
    """

    __slots__ = ("_later", "_now", "_over", "_rings", "_timer", "until")

    def __init__(self, later: Later, now: Now, over: Callable[[], object]) -> None:
        self._later = later
        self._now = now
        self._over: Callable[[], object] | None = over
        self._timer: Timer | None = None
        self._rings = 0.0
        self.until: float | None = None

    def set(self, seconds: float) -> None:
        """Be over in so many seconds from now, whatever was set before."""
        self.until = until = self._now() + seconds
        if self._timer is None or until < self._rings:
            self._start(seconds, until)

    def end(self) -> None:
        """Never be over, and let go of who would have been told."""
        self.until = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._over = None

    def _start(self, seconds: float, rings: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = rings
        self._timer = self._later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self.until is None:
            return
        left = self.until - self._now()
        if left > 0:
            self._start(left, self.until)
            return
        self.until = None
        if self._over is not None:
            self._over()
