"""What a route's tries came to, as it is remembered and reported."""

import pytest

from flatfee.receipt import Attempt
from flatfee.server.health import (
    COOL_DOWN,
    FAILURES_TO_OPEN,
    PROBE_LEASE,
    RECENT,
    REMEMBERED,
    Health,
    Latency,
)
from flatfee.wire import AttemptOutcome


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
    health = Health()
    for _ in range(FAILURES_TO_OPEN):
        health.failed("a", 0.0, 0)
    report = health.report("a", 4.0)
    assert (report.circuit, report.failures_in_a_row, report.opens_in) == ("open", FAILURES_TO_OPEN, COOL_DOWN - 4.0)
    report = health.report("a", COOL_DOWN)
    assert (report.circuit, report.opens_in, report.probing) == ("half_open", 0.0, False)
    probe = health.admits("a", COOL_DOWN) or 0
    assert health.report("a", COOL_DOWN).probing
    assert not health.report("a", COOL_DOWN + PROBE_LEASE).probing
    health.answering("a", probe)
    assert not health.report("a", COOL_DOWN).probing
    health.succeeded("a", probe)
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
