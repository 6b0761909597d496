"""How long an answer may be waited for: the rules. Sans-IO: clocks are passed in, nobody waits here.

``Phases`` are the limits until a response starts, ``Patience`` those of its body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Final

from flatfee.client.retry import Budget
from flatfee.errors import APITimeoutError
from flatfee.types.timeout import Timeout

ANSWER_GRACE: Final = 0.5
"""Seconds. The gateway answers when the deadline passes, and its answer needs a moment to arrive."""
SHORTEST: Final = 0.001
"""Seconds. A limit of 0 would mean not to wait at all, even for what is there."""


def left_for_answer(budget: Budget) -> float:
    """Return the seconds in which an answer must have arrived."""
    return budget.left() + ANSWER_GRACE


class Phases(Mapping[str, float | None]):
    """The limits of a request's phases under a deadline, worked out anew whenever a phase begins.

    ``httpcore`` asks by name (``connect``, ``pool``, ``write``, ``read``). ``cut`` tells whether the
    deadline, not the phase's own limit, was the shorter one when it asked last.
    """

    def __init__(self, limits: Mapping[str, float | None], budget: Budget) -> None:
        self._limits = limits
        self._budget = budget
        self.cut = False

    def __getitem__(self, phase: str) -> float | None:
        limit = self._limits[phase]
        left = max(left_for_answer(self._budget) if phase == "read" else self._budget.left(), SHORTEST)
        self.cut = limit is None or left < limit
        return left if self.cut else limit

    def __iter__(self) -> Iterator[str]:
        return iter(self._limits)

    def __len__(self) -> int:
        return len(self._limits)


class Patience:
    """How long the next piece of a body may be waited for. It is told of every wait, and of tokens.

    Only waiting counts: a reader that takes its time between two pieces is not the gateway's fault.
    Times are readings of a steady clock, in seconds.

    Args:
        timeout: whose ``first_token`` and ``idle`` count; ``None`` for an answer that is not streamed.
        budget: what is left of the call's deadline, which covers the body too.
        began: when the try began.
        now: when its response started.
    """

    __slots__ = ("_budget", "_cut", "_end", "_first", "_heard", "_idle", "stopped")

    def __init__(self, timeout: Timeout | None, budget: Budget | None, began: float = 0.0, now: float = 0.0) -> None:
        first, idle = (timeout.first_token, timeout.idle) if timeout else (None, None)
        self._first = inf if first is None else first
        self._idle = inf if idle is None else idle
        self._budget = budget
        self._heard = False
        self._cut = False
        self._end = began + self._first
        self.stopped = now
        """When the last wait ended. Whoever waits sets it; it is no method, for the sake of every read."""

    def until(self, now: float, heard: bool) -> float:
        """Return when a wait that begins now must end; ``heard`` tells that the last one brought a token.

        Raises:
            APITimeoutError: a limit has passed.
        """
        if heard:
            self._heard = True
            left = self._idle
        else:
            left = self._end - self.stopped
        self._end = end = now + left
        if self._budget is not None:
            total = left_for_answer(self._budget)
            self._cut = total < left
            end = now + min(left, total)
        if end <= now:
            raise self.passed()
        return end

    def passed(self) -> APITimeoutError:
        """Return the error for the limit that the last wait was to end by."""
        if self._cut and self._budget is not None:
            return self._budget.passed()
        return silence("idle", self._idle) if self._heard else silence("first_token", self._first)


def silence(name: str, seconds: float) -> APITimeoutError:
    """Return the error for a stream that told nothing within one of its two limits."""
    what = "no token came" if name == "first_token" else "no further token came"
    return APITimeoutError(f"The gateway is silent: {what} within {seconds:g} seconds (timeout: {name}).")
