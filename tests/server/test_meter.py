"""What the meter tells of a request's tries."""

import msgspec
import pytest

from flatfee.server.meter import Meter
from flatfee.server.settings import RouteSettings
from flatfee.server.statement import UsedTokens
from flatfee.wire import AttemptOutcome, Reason, Tier

FIRST, SECOND = (RouteSettings(name=name, provider="p", model="m", tier=Tier.PREMIUM) for name in ("first", "second"))


def test_a_try_is_noted_with_its_time_in_milliseconds() -> None:
    meter = Meter()
    meter.tried(FIRST, AttemptOutcome.TIMEOUT, None, 10.0039)
    (attempt,) = meter.attempts
    assert (attempt.route, attempt.outcome, attempt.status, attempt.duration_ms) == ("first", "timeout", None, 10003)
    assert "first_token_ms" not in msgspec.to_builtins(attempt)
    assert meter.tried(FIRST, AttemptOutcome.OK, 200, 1.0, 0.5).first_token_ms == 500


def test_before_any_try_nothing_was_left() -> None:
    assert Meter().left_first_because is None
    assert Meter().attempt_number() == 1


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (AttemptOutcome.TIMEOUT, Reason.PROVIDER_TIMEOUT),
        (AttemptOutcome.ERROR, Reason.PROVIDER_ERROR),
        (AttemptOutcome.RATE_LIMITED, Reason.PROVIDER_RATE_LIMITED),
        (AttemptOutcome.UNAVAILABLE, Reason.PROVIDER_UNAVAILABLE),
        (AttemptOutcome.CONTEXT_OVERFLOW, Reason.CONTEXT_OVERFLOW),
        (AttemptOutcome.REFUSED, Reason.PROVIDER_ERROR),
        (AttemptOutcome.CANCELLED, None),
    ],
)
def test_the_first_tries_outcome_says_why_the_first_choice_was_left(
    outcome: AttemptOutcome, reason: Reason | None
) -> None:
    meter = Meter()
    meter.tried(FIRST, outcome, None, 0.0)
    meter.tried(SECOND, AttemptOutcome.OK, 200, 0.0)
    meter.route = SECOND
    assert meter.left_first_because is reason


def test_every_outcome_has_a_meaning() -> None:
    for outcome in AttemptOutcome:
        meter = Meter()
        meter.tried(FIRST, outcome, None, 0.0)
        assert meter.left_first_because is None or meter.left_first_because in Reason


def test_a_first_choice_that_answered_at_its_second_try_was_not_left() -> None:
    meter = Meter(route=FIRST)
    meter.tried(FIRST, AttemptOutcome.ERROR, 500, 0.1)
    meter.tried(FIRST, AttemptOutcome.OK, 200, 0.1)
    assert meter.left_first_because is None


def test_the_running_try_counts_until_one_has_answered() -> None:
    meter = Meter()
    meter.tried(FIRST, AttemptOutcome.ERROR, 500, 0.1)
    assert meter.attempt_number() == 2
    meter.tried(SECOND, AttemptOutcome.OK, 200, 0.1)
    assert meter.attempt_number() == 2


def test_a_caller_that_leaves_is_charged_for_the_route_that_is_asked() -> None:
    meter = Meter(trying=SECOND, route=FIRST, broken=True)
    meter.caller_left()
    assert (meter.route, meter.broken) == (SECOND, False)


def test_what_one_route_said_is_not_charged_with_the_next() -> None:
    meter = Meter()
    meter.begin(FIRST)
    meter.usage, meter.delivered = UsedTokens(prompt_tokens=1), 100
    meter.begin(SECOND)
    assert meter.trying is SECOND
    assert (meter.usage is None, meter.delivered) == (True, 0)


def test_a_caller_that_leaves_before_any_route_was_asked_cancels_nothing() -> None:
    meter = Meter()
    meter.caller_left()
    assert (meter.route, meter.attempts) == (None, [])


def test_a_caller_that_leaves_after_the_whole_answer_changes_nothing() -> None:
    meter = Meter(trying=FIRST, route=FIRST, whole=True)
    meter.caller_left()
    assert meter.attempts == []
