"""Both sides of a comparison, and what is told of them."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.server.replaying.past import NOON, line, read, refused, settings, tried

from flatfee.server.replaying.comparing import Comparison
from flatfee.server.replaying.engine import Replay
from flatfee.server.replaying.payers import Payers
from flatfee.server.replaying.tally import Tally
from flatfee.server.replaying.telling import as_json
from flatfee.server.settings import Settings


def replay(configuration: Settings) -> Replay:
    return Replay(configuration, Payers(settings=configuration))


def compared(after: Settings, *lines: bytes, before: Settings | None = None) -> Comparison:
    comparison = Comparison(after=replay(after), before=replay(before) if before else None)
    assert len(list(comparison.run(read(*lines)))) == len(lines)
    return comparison


DAY = [line(number * 60.0, number=number) for number in range(5)]


def test_a_replay_is_compared_with_what_the_receipts_tell() -> None:
    told = as_json(compared(settings(fair_use=1200), *DAY), 0)
    assert told["was"]["lanes"] | told["would"]["lanes"] == told["would"]["lanes"]
    assert (told["was"]["lanes"]["premium"], told["would"]["lanes"]["premium"]) == (5, 2)
    assert told["moved"] == [{"was": "premium", "would": "continuation", "requests": 3}]
    assert told["was"]["premium_units"] == {"token": 700}
    assert told["would"]["premium_units"] == {"token": 280}
    assert (told["was"]["continuation_units"], told["would"]["continuation_units"]) == (None, {"token": 420})


def test_the_first_request_that_fair_use_does_not_cover_is_when_an_account_runs_out() -> None:
    told = as_json(compared(settings(fair_use=1200), *DAY), 0)
    assert told["would"]["first_ran_out_at"] == "2026-11-01T12:02:00Z"
    [account] = told["accounts"]
    assert (account["was"]["ran_out_at"], account["would"]["ran_out_at"]) == (None, "2026-11-01T12:02:00Z")


def test_old_and_new_configuration_are_compared_on_the_same_ground() -> None:
    told = as_json(compared(settings(), *DAY, before=settings(fair_use=0)), 0)
    assert told["was_from"] == "configuration"
    assert (told["was"]["lanes"]["continuation"], told["would"]["lanes"]["premium"]) == (5, 5)


def test_refused_workflows_are_counted_once_each() -> None:
    turned_away = [refused(number * 1.0, "workflow_limit", number=number, workflow={"id": "w"}) for number in range(3)]
    told = as_json(compared(settings(), *turned_away), 0)
    assert (told["was"]["workflows_refused"], told["was"]["workflow_requests_refused"]) == (1, 3)
    assert (told["would"]["workflows_refused"], told["guessed"]) == (0, 3)


def test_what_is_uncertain_is_counted() -> None:
    told = as_json(compared(settings(), line(facts=None), refused(5.0, "invalid_request", facts=None)), 3)
    assert (told["approximate"], told["unjudged"], told["seed"]) == (1, 1, 3)


def test_another_route_on_the_same_lane_is_told() -> None:
    other = settings([{"name": "other", "tier": "premium"}])
    told = as_json(compared(other, *DAY), 0)
    assert (told["rerouted"], told["would"]["routes"]) == (5, {"other": 5})


def test_units_of_the_fallback_lane_are_told_apart() -> None:
    fell = line(0.0, tried("first", "timeout", None, 5), tried("second"), lane="fallback", reason="provider_timeout")
    told = as_json(compared(settings(), fell), 0)
    assert (told["was"]["fallback_units"], told["would"]["fallback_units"]) == ({"token": 140}, {"token": 280})


def allowed(tally: Tally) -> dict[float, int]:
    return {begins - NOON: units["token"] for begins, units in tally.allowed.items()}


def test_a_new_window_allows_what_was_used_of_the_last_one_for_its_rest_is_gone() -> None:
    hourly = [line(number * 3600.0, number=number) for number in range(4)]
    comparison = compared(settings(fair_use=5000, window="2h"), *hourly)
    assert allowed(comparison.would) == {0: 5000, 7200: 280}


def test_a_plan_that_changed_in_the_middle_of_a_window_allows_more_from_then_on() -> None:
    use = {"unit": "token", "charged": 140, "remaining": 0, "resets_at": "2026-12-01T00:00:00Z"}
    changed = [
        line(number * 600.0, number=number, fair_use={**use, "limit": 500 + 100 * number}) for number in range(2)
    ]
    assert allowed(compared(settings(), *changed).was) == {0: 500, 600: 100}


@pytest.mark.parametrize(("hours", "step"), [(6, 60), (7, 3600)])
def test_short_traffic_is_summed_by_the_minute_and_long_by_the_hour(hours: int, step: int) -> None:
    spread = [line(number * 1800.0 + 90, number=number) for number in range(hours * 2 + 1)]
    comparison = compared(settings(fair_use=900), *spread)
    for tally in (comparison.was, comparison.would):
        assert tally.step == step
        assert all(begins % step == 0 for begins in tally.lanes_of)
        assert sum((lanes for lanes in tally.lanes_of.values()), Counter()) == tally.lanes
        assert sum((units for units in tally.premium_of.values()), Counter()) == tally.premium
    assert [units["token"] for units in comparison.would.allowed.values()] == [900]
