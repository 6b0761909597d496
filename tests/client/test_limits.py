"""What may be waited for, by numbers alone."""

from math import inf

import pytest

from flatfee import APITimeoutError, Timeout
from flatfee.client.limits import ANSWER_GRACE, SHORTEST, Patience, Phases
from flatfee.client.retry import Budget


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def patience(budget: Budget | None = None, waited: float = 0.0, **limits: float | None) -> Patience:
    return Patience(Timeout(**limits), budget, 0.0, waited)


def left(limits: Patience, *, heard: bool = False, after: float = 0.0) -> float:
    """Return what the next wait may take. It begins ``after`` seconds, in which the reader is busy."""
    now = limits.stopped + after
    granted = limits.until(now, heard) - now
    limits.stopped = now
    return granted


def test_the_first_token_is_waited_for_from_the_start_of_the_try() -> None:
    limits = patience(first_token=10.0, waited=4.0)
    assert left(limits) == 6.0
    limits.stopped += 2.5
    assert left(limits) == 3.5, "bytes without a token change nothing"
    limits.stopped += 3.5
    with pytest.raises(APITimeoutError, match=r"no token came within 10 seconds \(timeout: first_token\)"):
        left(limits)


def test_a_token_begins_the_idle_limit_anew() -> None:
    limits = patience(first_token=10.0, idle=3.0)
    limits.stopped += 9.0
    assert left(limits, heard=True) == 3.0
    limits.stopped += 2.0
    assert left(limits) == 1.0
    limits.stopped += 0.5
    assert left(limits, heard=True) == 3.0
    limits.stopped += 3.0
    with pytest.raises(APITimeoutError, match=r"no further token came within 3 seconds \(timeout: idle\)"):
        left(limits)


def test_time_that_nobody_waited_does_not_count() -> None:
    """A slow reader is not the gateway's fault."""
    limits = patience(idle=3.0)
    assert [left(limits, heard=True, after=50.0), left(limits, after=50.0), left(limits, after=50.0)] == [3.0] * 3


def test_a_token_that_came_late_still_counts() -> None:
    """A read that could not be interrupted brought one: the stream lives."""
    limits = patience(first_token=1.0, idle=3.0)
    limits.stopped += 5.0
    assert left(limits, heard=True) == 3.0


def test_none_is_no_limit() -> None:
    limits = patience(first_token=None, idle=None)
    assert left(limits) == inf
    limits.stopped += 1e9
    assert left(limits) == inf
    assert left(limits, heard=True) == inf


def test_a_deadline_counts_all_the_time_there_is() -> None:
    clock = Clock()
    limits = patience(Budget.of(5.0, clock), first_token=10.0, idle=3.0)
    assert left(limits) == 5.0 + ANSWER_GRACE
    clock.now += 4.0
    assert left(limits, heard=True, after=4.0) == 1.0 + ANSWER_GRACE
    clock.now += 1.0 + ANSWER_GRACE
    with pytest.raises(APITimeoutError, match="The deadline of 5 seconds passed") as caught:
        left(limits, heard=True)
    assert not caught.value.retryable


def test_an_answer_that_is_not_streamed_has_its_deadline_alone() -> None:
    assert left(Patience(None, None)) == inf
    assert left(Patience(None, Budget.of(5.0, Clock()))) == 5.0 + ANSWER_GRACE


def test_phases_are_told_what_is_left_when_they_begin() -> None:
    clock = Clock()
    budget = Budget.of(5.0, clock)
    assert budget
    phases = Phases({"connect": 2.0, "read": None, "write": 9.0, "pool": 9.0}, budget)
    assert (phases["connect"], phases.cut) == (2.0, False)
    clock.now += 4.0
    assert (phases.get("connect"), phases.cut) == (1.0, True)
    assert dict(phases) == {"connect": 1.0, "read": 1.0 + ANSWER_GRACE, "write": 1.0, "pool": 1.0}
    clock.now += 9.0
    assert phases["write"] == SHORTEST
    assert len(phases) == 4
