"""A limit that is set and lifted all the time, on a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flatfee.server.http.timer import Limit


class Clock:
    """Time, and the timers that go by it."""

    def __init__(self) -> None:
        self.time = 0.0
        self.timers: list[_Timer] = []
        self.started = 0

    def later(self, seconds: float, call: Callable[[], object]) -> _Timer:
        self.started += 1
        self.timers.append(timer := _Timer(self, self.time + seconds, call))
        return timer

    def pass_by(self, seconds: float) -> None:
        end = self.time + seconds
        while due := [timer for timer in self.timers if timer.at <= end]:
            first = min(due, key=lambda timer: timer.at)
            self.time = first.at
            first.cancel()
            first.call()
        self.time = end


class _Timer:
    def __init__(self, clock: Clock, at: float, call: Callable[[], object]) -> None:
        self.clock, self.at, self.call = clock, at, call

    def cancel(self) -> None:
        self.clock.timers.remove(self)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rang(clock: Clock) -> list[float]:
    return []


@pytest.fixture
def limit(clock: Clock, rang: list[float]) -> Limit:
    return Limit(clock.later, lambda: clock.time, lambda: rang.append(clock.time))


def test_a_limit_is_over_once_after_its_seconds(clock: Clock, limit: Limit, rang: list[float]) -> None:
    limit.set(30)
    clock.pass_by(29)
    assert rang == []
    clock.pass_by(100)
    assert rang == [30]
    assert limit.until is None


def test_a_limit_that_is_lifted_is_never_over(clock: Clock, limit: Limit, rang: list[float]) -> None:
    limit.set(30)
    limit.until = None
    clock.pass_by(100)
    assert (rang, clock.timers) == ([], [])


def test_what_was_set_last_counts_whether_it_is_later_or_sooner(clock: Clock, limit: Limit, rang: list[float]) -> None:
    limit.set(30)
    clock.pass_by(10)
    limit.set(75)
    clock.pass_by(74)
    assert rang == []
    limit.set(75)
    clock.pass_by(10)
    limit.set(5)
    clock.pass_by(100)
    assert rang == [99]


def test_a_limit_that_comes_sooner_than_its_timer_is_not_late(clock: Clock, limit: Limit, rang: list[float]) -> None:
    limit.set(75)
    limit.set(5)
    clock.pass_by(100)
    assert rang == [5]


def test_a_busy_connection_starts_no_timer_for_each_request(clock: Clock, limit: Limit, rang: list[float]) -> None:
    limit.set(30)
    for _ in range(1000):
        limit.until = None
        limit.set(75)
        clock.pass_by(0.05)
    assert rang == []
    assert clock.started <= 3


def test_a_limit_that_ended_lets_go(clock: Clock, limit: Limit, rang: list[float]) -> None:
    limit.set(30)
    limit.end()
    limit.end()
    clock.pass_by(100)
    assert (rang, clock.timers, limit._over) == ([], [], None)
