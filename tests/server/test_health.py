"""Health of a route: when its circuit opens, what it lets through, how it closes; what its tries came to."""

import math

import pytest

from flatfee.receipt import Attempt
from flatfee.server.health import (
    COOL_DOWN,
    FAILURES_TO_OPEN,
    LONGEST_COOL_DOWN,
    PROBE_LEASE,
    RECENT,
    REMEMBERED,
    CircuitState,
    Health,
    Latency,
)
from flatfee.wire import AttemptOutcome


def opened(now: float = 0.0) -> Health:
    health = Health()
    for _ in range(FAILURES_TO_OPEN):
        health.failed("a", now)
    return health


def test_a_route_that_was_never_tried_is_admitted() -> None:
    health = Health()
    assert health.admits("a", 0.0)
    assert health.down(0.0) == frozenset()
    assert health.opens_in("a", 0.0) == 0.0


def test_a_circuit_opens_after_failures_in_a_row() -> None:
    health = Health()
    for _ in range(FAILURES_TO_OPEN - 1):
        health.failed("a", 0.0)
        assert health.admits("a", 0.0)
    health.failed("a", 0.0)
    assert not health.admits("a", 0.0)
    assert health.down(0.0) == {"a"}


def test_a_success_between_failures_starts_the_count_again() -> None:
    health = Health()
    for _ in range(5):
        health.failed("a", 0.0)
        health.failed("a", 0.0)
        health.succeeded("a")
    assert health.admits("a", 0.0)


def test_routes_have_circuits_of_their_own() -> None:
    health = opened()
    assert health.admits("b", 0.0)
    assert health.down(0.0) == {"a"}


def test_after_its_cool_down_one_probe_passes() -> None:
    health = opened()
    assert not health.admits("a", COOL_DOWN - 0.001)
    assert health.down(COOL_DOWN) == frozenset()
    assert health.admits("a", COOL_DOWN)
    assert not health.admits("a", COOL_DOWN)


def test_a_probe_that_succeeds_closes_the_circuit() -> None:
    health = opened()
    assert health.admits("a", COOL_DOWN)
    health.succeeded("a")
    assert health.admits("a", COOL_DOWN)
    assert health.admits("a", COOL_DOWN)
    assert health.opens_in("a", COOL_DOWN) == 0.0


def test_a_probe_that_fails_opens_the_circuit_for_twice_as_long_up_to_a_limit() -> None:
    health, now, cool_down = opened(), 0.0, COOL_DOWN
    for _ in range(6):
        now += cool_down
        assert health.admits("a", now)
        health.failed("a", now)
        cool_down = min(cool_down * 2, LONGEST_COOL_DOWN)
        assert not health.admits("a", now + cool_down - 0.001)
    assert cool_down == LONGEST_COOL_DOWN


def test_a_circuit_that_closed_cools_down_from_the_beginning() -> None:
    health = opened()
    health.admits("a", COOL_DOWN)
    health.failed("a", COOL_DOWN)
    health.admits("a", 50.0)
    health.succeeded("a")
    for _ in range(FAILURES_TO_OPEN):
        health.failed("a", 100.0)
    assert health.admits("a", 100.0 + COOL_DOWN)


def test_failures_that_were_under_way_when_the_circuit_opened_do_not_prolong_it() -> None:
    health = opened()
    for _ in range(50):
        health.failed("a", 1.0)
    assert health.opens_in("a", 1.0) == COOL_DOWN - 1.0
    assert health.admits("a", COOL_DOWN)


def test_a_probe_that_was_let_go_is_free_for_the_next_request() -> None:
    health = opened()
    health.let_go("unknown")
    assert health.admits("a", COOL_DOWN)
    health.let_go("a")
    assert health.admits("a", COOL_DOWN)


def test_a_probe_that_never_came_back_is_given_up() -> None:
    health = opened()
    assert health.admits("a", COOL_DOWN)
    assert not health.admits("a", COOL_DOWN + PROBE_LEASE - 0.001)
    assert health.admits("a", COOL_DOWN + PROBE_LEASE)


def test_the_wait_is_that_for_the_routes_own_circuit() -> None:
    health = opened()
    for _ in range(FAILURES_TO_OPEN):
        health.failed("b", 4.0)
    health.failed("c", 0.0)
    assert health.opens_in("a", 3.0) == COOL_DOWN - 3.0
    assert health.opens_in("b", 5.0) == COOL_DOWN - 1.0
    assert health.opens_in("c", 3.0) == 0.0
    assert health.opens_in("a", 1000.0) == 0.0


def test_a_provider_that_asks_to_be_left_alone_is_left_at_once_for_that_long() -> None:
    health = Health()
    health.failed("a", 0.0, leave_for=17.0)
    assert health.opens_in("a", 0.0) == 17.0
    assert not health.admits("a", 16.999)
    assert health.admits("a", 17.0)


@pytest.mark.parametrize("asked", [LONGEST_COOL_DOWN + 1, 86_400.0, math.inf])
def test_no_provider_is_left_alone_for_longer_than_the_longest_cool_down(asked: float) -> None:
    health = Health()
    health.failed("a", 0.0, leave_for=asked)
    assert health.opens_in("a", 0.0) == LONGEST_COOL_DOWN


@pytest.mark.parametrize("asked", [0.0, 6.0, -3.0, math.nan])
def test_a_short_wish_does_not_shorten_the_cool_down(asked: float) -> None:
    health = Health()
    for _ in range(FAILURES_TO_OPEN - 1):
        health.failed("a", 0.0)
    health.failed("a", 0.0, leave_for=asked)
    assert health.opens_in("a", 0.0) == COOL_DOWN


def test_a_wish_that_comes_late_prolongs_an_open_circuit_and_counts_for_no_failure() -> None:
    health = opened()
    health.failed("a", 5.0, leave_for=30.0)
    assert health.opens_in("a", 5.0) == 30.0
    health.failed("a", 6.0, leave_for=7.0)
    assert health.opens_in("a", 6.0) == 29.0
    assert health.report("a", 6.0).failures_in_a_row == FAILURES_TO_OPEN


def test_the_first_token_of_a_probe_lets_everybody_through() -> None:
    health = opened()
    assert health.admits("a", COOL_DOWN)
    health.answering("a")
    assert health.admits("a", COOL_DOWN)
    assert health.admits("a", COOL_DOWN)


def test_a_probe_that_breaks_off_after_its_first_token_opens_the_circuit_for_twice_as_long() -> None:
    health = opened()
    assert health.admits("a", COOL_DOWN)
    health.answering("a")
    health.failed("a", COOL_DOWN)
    assert health.opens_in("a", COOL_DOWN) == 2 * COOL_DOWN
    assert not health.admits("a", COOL_DOWN)


def test_on_probation_the_first_try_that_ends_well_closes_the_circuit() -> None:
    health = opened()
    assert health.admits("a", COOL_DOWN)
    health.answering("a")
    assert health.admits("a", COOL_DOWN)
    health.succeeded("a")
    health.failed("a", COOL_DOWN)
    assert health.report("a", COOL_DOWN).circuit is CircuitState.CLOSED


def test_a_probe_that_is_left_after_its_first_token_leaves_the_others_on_probation() -> None:
    health = opened()
    assert health.admits("a", COOL_DOWN)
    health.answering("a")
    health.let_go("a")
    assert health.admits("a", COOL_DOWN)
    assert health.admits("a", COOL_DOWN)
    health.failed("a", COOL_DOWN)
    assert health.opens_in("a", COOL_DOWN) == 2 * COOL_DOWN


def test_of_many_streams_that_break_off_together_on_probation_only_one_counts() -> None:
    health = opened()
    for _ in range(20):
        health.admits("a", COOL_DOWN)
        health.answering("a")
    for _ in range(20):
        health.failed("a", COOL_DOWN + 1)
    assert health.opens_in("a", COOL_DOWN + 1) == 2 * COOL_DOWN


def test_a_first_token_changes_nothing_for_a_closed_circuit() -> None:
    health = Health()
    health.answering("a")
    for _ in range(FAILURES_TO_OPEN):
        assert health.admits("a", 0.0)
        health.answering("a")
        health.failed("a", 0.0)
    assert health.down(0.0) == {"a"}


@pytest.mark.parametrize("now", [1.0, COOL_DOWN, 5 * COOL_DOWN])
def test_a_late_failure_of_a_try_from_before_the_circuit_opened_neither_prolongs_nor_doubles(now: float) -> None:
    health = opened()
    health.failed("a", now)
    assert health.opens_in("a", now) == max(0.0, COOL_DOWN - now)
    assert health.admits("a", max(now, COOL_DOWN))


@pytest.mark.parametrize("now", [1.0, COOL_DOWN])
def test_streams_from_before_the_circuit_opened_do_not_close_it(now: float) -> None:
    health = Health()
    health.failed("a", 0.0, leave_for=COOL_DOWN)
    health.answering("a")
    health.succeeded("a")
    assert health.opens_in("a", now) == COOL_DOWN - now
    assert health.report("a", now).circuit is not CircuitState.CLOSED


def tried(
    outcome: AttemptOutcome | str, duration: int = 100, first_token: int | None = None, status: int = 200
) -> Attempt:
    return Attempt(route="a", outcome=outcome, status=status, duration_ms=duration, first_token_ms=first_token)


def test_a_route_that_was_never_tried_is_reported_well() -> None:
    report = Health().report("a", 0.0)
    assert (report.circuit, report.failures_in_a_row, report.opens_in, report.probing) == ("closed", 0, 0.0, False)
    assert (report.outcomes, report.recent, report.duration_ms, report.first_token_ms) == ({}, (), None, None)
    assert (report.last_success, report.last_failure) == (None, None)


def test_a_report_tells_the_circuit() -> None:
    health = opened()
    report = health.report("a", 4.0)
    assert (report.circuit, report.failures_in_a_row, report.opens_in) == ("open", FAILURES_TO_OPEN, COOL_DOWN - 4.0)
    report = health.report("a", COOL_DOWN)
    assert (report.circuit, report.opens_in, report.probing) == ("half_open", 0.0, False)
    health.admits("a", COOL_DOWN)
    assert health.report("a", COOL_DOWN).probing
    assert not health.report("a", COOL_DOWN + PROBE_LEASE).probing
    health.answering("a")
    assert not health.report("a", COOL_DOWN).probing
    health.succeeded("a")
    assert health.report("a", COOL_DOWN).circuit == "closed"


def test_a_report_counts_the_newest_tries_and_lists_the_last_of_them_newest_first() -> None:
    health = Health()
    health.noted("a", tried("error", status=503), 1.0)
    for number in range(REMEMBERED):
        health.noted("a", tried("ok" if number % 4 else "rate_limited", duration=number), 1000.0 + number)
    report = health.report("a", 0.0)
    assert report.outcomes == {"ok": 75, "rate_limited": 25}
    assert [one.at for one in report.recent] == [1099.0 - number for number in range(RECENT)]
    assert (report.recent[3].outcome, report.recent[3].status, report.recent[3].duration_ms) == (
        "rate_limited",
        200,
        96,
    )


def test_latencies_are_those_of_the_tries_that_answered() -> None:
    health = Health()
    for milliseconds in range(10, 0, -1):
        health.noted("a", tried("ok", milliseconds, first_token=milliseconds * 10 if milliseconds > 5 else None), 0.0)
    health.noted("a", tried("timeout", 60_000, first_token=50_000), 0.0)
    report = health.report("a", 0.0)
    assert report.duration_ms == Latency(p50=5, p90=9)
    assert report.first_token_ms == Latency(p50=80, p90=100)


def test_the_latency_of_one_try_is_its_own() -> None:
    health = Health()
    health.noted("a", tried("ok", 7), 0.0)
    assert health.report("a", 0.0).duration_ms == Latency(p50=7, p90=7)


def test_the_last_success_and_failure_are_known_even_when_they_are_not_remembered_any_more() -> None:
    health = Health()
    health.noted("a", tried("timeout"), 5.0)
    health.noted("a", tried("ok"), 6.0)
    for number in range(REMEMBERED):
        health.noted("a", tried("cancelled"), 10.0 + number)
    report = health.report("a", 0.0)
    assert report.outcomes == {"cancelled": REMEMBERED}
    assert report.last_success
    assert report.last_failure
    assert (report.last_success.at, report.last_success.outcome) == (6.0, "ok")
    assert (report.last_failure.at, report.last_failure.outcome) == (5.0, "timeout")


@pytest.mark.parametrize("outcome", ["refused", "context_overflow", "cancelled"])
def test_what_speaks_of_the_request_is_no_failure_of_the_route(outcome: str) -> None:
    health = Health()
    health.noted("a", tried(outcome), 5.0)
    assert health.report("a", 0.0).last_failure is None
