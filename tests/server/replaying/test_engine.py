"""The replay: what routes do again, what is assumed, and that every limit of the gateway holds in virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.server.replaying.past import NOON, ROUTES, line, play, refused, rfc, settings, tried

from flatfee.server.replaying.engine import Dice, Played, as_line
from flatfee.server.replaying.past import AccountLine
from flatfee.wire import Billing

TURNED = ({**ROUTES[0], "priority": 2}, {**ROUTES[1], "priority": 1}, ROUTES[2])
"""The second premium route comes first."""


def told(played: Played) -> dict[str, Any]:
    assert played.json is not None
    found: dict[str, Any] = json.loads(played.json)
    return found


def test_the_same_configuration_says_what_was() -> None:
    [played] = play(settings(), line())
    assert (played.result.lane, played.result.route, played.result.premium) == ("premium", "first", 140)
    assert told(played)["fair_use"]["remaining"] == 99_860


def test_a_route_that_was_not_asked_answers_as_the_other_did_by_a_meter_of_its_own() -> None:
    [played] = play(settings(TURNED), line())
    assert (played.result.lane, played.result.route, played.result.premium) == ("premium", "second", 280)


def test_a_route_that_failed_a_request_fails_it_again() -> None:
    failed = line(0.0, tried("first", "error", 503, 60), tried("first", "error", 503, 60), tried("second"))
    [played] = play(settings((ROUTES[1], {**ROUTES[0], "priority": 3}, ROUTES[2])), failed)
    assert (played.result.lane, played.result.route) == ("premium", "second")
    [played] = play(settings(), failed)
    assert (played.result.lane, played.result.reason, played.result.route) == ("fallback", "provider_error", "second")
    assert [each["outcome"] for each in told(played)["attempts"]] == ["error", "error", "ok"]


def test_a_request_that_nobody_answered_is_answered_by_a_route_it_had_not() -> None:
    lost = line(0.0, tried("first", "timeout", None, 60), code="provider_unavailable")
    alone = settings([ROUTES[0]], continuation=False)
    assert play(alone, lost)[0].result.code == "provider_unavailable"
    [_, played] = play(settings(), line(), line(5.0, tried("first", "timeout", None, 60), code="provider_unavailable"))
    assert (played.result.lane, played.result.route, played.guessed) == ("fallback", "second", True)
    assert (told(played)["state"], told(played)["usage"]) == (
        "estimated",
        {"prompt_tokens": 90, "completion_tokens": 10},
    )


def test_a_refusal_by_the_provider_is_the_requests_own() -> None:
    [played] = play(settings(TURNED), line(0.0, tried("first", "refused", 400, 30)))
    assert (played.result.route, played.result.premium, told(played)["state"]) == (None, 0, "refused")


def test_who_left_leaves_again_and_is_charged_for_what_was_heard() -> None:
    usage = {"prompt_tokens": 90, "completion_tokens": 5}
    [played] = play(settings(TURNED), line(0.0, tried("first", "cancelled", None, 700), state="estimated", usage=usage))
    assert (played.result.premium, told(played)["state"]) == (2 * 90 + 8 * 5, "estimated")


def test_who_left_is_charged_an_estimate_of_the_new_routes_own_or_what_a_provider_had_told() -> None:
    wordy = settings(({**ROUTES[0], "token_factor": 1.3}, *ROUTES[1:]))
    left = tried("first", "cancelled", None, 700)
    estimate = {"prompt_tokens": 90, "completion_tokens": 5}
    [played] = play(wordy, line(0.0, left, state="estimated", usage=estimate))
    assert told(played)["usage"] == {"prompt_tokens": 117, "completion_tokens": 5}
    counted = {"prompt_tokens": 100, "completion_tokens": 1, "cached_tokens": 0}
    [played] = play(wordy, line(0.0, left, state="estimated", usage=counted))
    assert (told(played)["usage"], told(played)["state"]) == (counted, "estimated")


def test_what_economy_was_spared_it_is_spared_again() -> None:
    spared = {"saved_tokens": 40, "prompt_tokens": 90, "messages": 2}
    usage = {"prompt_tokens": 50, "completion_tokens": 5}
    cheap = line(0.0, tried("economy"), model_requested="economy", state="estimated", usage=usage, compaction=spared)
    [played] = play(settings(), cheap)
    assert (told(played)["usage"], told(played)["compaction"]) == (usage, spared)


def test_who_had_gone_between_two_tries_is_not_answered_either() -> None:
    gone = line(0.0, tried("first", "error", 500, 60), code="deadline_exceeded")
    [played] = play(settings(), gone)
    assert (played.result.code, played.result.route) == ("deadline_exceeded", None)


def test_an_answer_that_broke_off_breaks_off_again() -> None:
    use = {"unit": "token", "charged": 0}
    broken = line(0.0, tried("first", "error", 200, 900), route="first", state="estimated", fair_use=use)
    [played] = play(settings(), broken)
    assert (played.result.route, played.result.premium, told(played)["state"]) == ("first", 0, "estimated")


def test_an_answer_that_overflows_goes_to_a_larger_route() -> None:
    routes = (
        {**ROUTES[0], "context_tokens": 100},
        {**ROUTES[1], "context_tokens": 120, "token_factor": 1.3},
        ROUTES[2],
    )
    overflowed = line(0.0, tried("first", "context_overflow", 400, 30), tried("economy"))
    [played] = play(settings(routes), overflowed)
    assert [each["route"] for each in told(played)["attempts"]] == ["first", "economy"]


def test_estimates_are_a_routes_own_and_an_answers_tokens_are_as_they_were() -> None:
    wordy = settings(({**ROUTES[0], "token_factor": 1.3}, *ROUTES[1:]))
    usage = {"prompt_tokens": 117, "completion_tokens": 13}
    [untold, counted] = play(wordy, line(state="estimated", usage=usage), line(9.0))
    assert told(untold)["usage"] == usage
    assert counted.result.premium == 140


def test_an_answer_that_is_guessed_has_the_tokens_that_were_guessed() -> None:
    wordy = settings(tuple({**each, "token_factor": 1.3} for each in ROUTES))
    lost = line(5.0, tried("first", "timeout", None, 60), code="provider_unavailable")
    [_, played] = play(wordy, line(usage={"prompt_tokens": 100, "completion_tokens": 130}), lost)
    assert told(played)["usage"] == {"prompt_tokens": 117, "completion_tokens": 130}


def test_a_circuit_opens_in_virtual_time_and_closes_again() -> None:
    failing = [
        line(number * 1.0, tried("first", "timeout", None, 60), tried("second", ms=10), number=number)
        for number in range(3)
    ]
    later = [line(5.0, number=8), line(30.0, number=9)]
    played = play(settings(), *failing, *later)
    assert [each.result.route for each in played[3:]] == ["second", "first"]
    assert played[3].result.reason == "provider_unavailable"


def test_a_route_with_less_patience_than_the_answer_took_is_left() -> None:
    slow = line(0.0, tried("first", ms=9000, first_token_ms=8000))
    hasty = ({**ROUTES[0], "first_token_timeout": 5.0}, {**ROUTES[1], "first_token_timeout": 60.0}, ROUTES[2])
    [played] = play(settings(hasty), slow)
    assert (played.result.reason, played.result.route) == ("provider_timeout", "second")


def test_fair_use_runs_out_and_comes_back_with_the_next_window() -> None:
    config = settings(fair_use=1000, window="5h")
    played = play(config, line(), line(60.0), line(120.0), line(6 * 3600.0))
    assert [each.result.lane for each in played] == ["premium", "continuation", "continuation", "premium"]
    assert played[1].result.ran_out
    assert played[1].result.continuation == 140


def test_consent_is_kept() -> None:
    facts = {"prompt_tokens": 90, "on_exhausted": "fail"}
    [played] = play(settings(fair_use=10), line(facts=facts))
    assert played.result.code == "fair_use_exhausted"


def test_what_the_old_plan_refused_a_larger_one_answers() -> None:
    [_, played] = play(settings(), line(), refused(10.0, "fair_use_exhausted"))
    assert (played.result.lane, played.guessed) == ("premium", True)


def test_workflow_slots_are_held_until_they_are_idle() -> None:
    config = settings(concurrent_workflows=1, workflow_idle=60.0)
    runs = [
        line(at, number=number, workflow={"id": run})
        for number, (at, run) in enumerate([(0, "a"), (30, "b"), (62, "c")])
    ]
    assert [each.result.code for each in play(config, *runs)] == [None, "workflow_limit", None]


def test_a_request_that_runs_longer_than_its_lease_keeps_its_slot() -> None:
    config = settings(concurrent_workflows=1, workflow_idle=1.0)
    long = line(0.0, tried("first", ms=400_000), workflow={"id": "a"})
    other = line(390.0, number=1, workflow={"id": "b"})
    assert [each.result.code for each in play(config, long, other)] == [None, "workflow_limit"]


def test_requests_per_minute_are_counted_for_each_project() -> None:
    config = settings(requests_per_minute=1)
    played = play(config, line(), line(1.0), line(2.0, project="docs"))
    assert [each.result.code for each in played] == [None, "rate_limited", None]


def test_a_tool_loop_stays_where_it_is() -> None:
    policy = {"rules": [{"when": {"task": ["edit"]}, "tier": "economy", "reason": "default"}]}
    start = {"prompt_tokens": 90}
    loop = {"prompt_tokens": 90, "tool_loop": True, "task": "edit"}
    run: dict[str, Any] = {"model_requested": "auto", "workflow": {"id": "a"}}
    played = play(settings(policy=policy), line(**run, facts=start), line(10.0, **run, facts=loop))
    assert [each.result.reason for each in played] == ["default", "workflow_affinity"]


def test_a_rule_reads_the_fair_use_that_is_left_at_that_time() -> None:
    policy = {"rules": [{"when": {"fair_use_left_under": 0.5}, "tier": "economy", "reason": "default"}]}
    asked = {"prompt_tokens": 90, "output_tokens": 10, "task": "edit"}
    lines = [line(10.0 * number, model_requested="auto", facts=asked) for number in range(6)]
    played = play(settings(policy=policy, fair_use=1000), *lines)
    assert [each.result.lane for each in played] == ["premium"] * 4 + ["budget"] * 2


def test_the_accounts_billing_state_decides() -> None:
    owes = AccountLine(name="acme", plan="pro", billing=Billing.PAST_DUE)
    assert play(settings(), line(), account=owes)[0].result.reason == "billing_state"
    gone = AccountLine(name="acme", plan="pro", billing=Billing.SUSPENDED)
    [played] = play(settings(), line(workflow={"id": "w"}), account=gone)
    assert (played.result.code, told(played)["workflow"]) == ("billing_inactive", {"id": "w"})


def test_an_alias_that_is_gone_is_no_model() -> None:
    assert play(settings(), line(model_requested="gpt-5"))[0].result.code == "model_not_found"


def test_a_receipt_without_facts_is_replayed_with_what_is_known_and_said_to_be_so() -> None:
    [played] = play(settings(), line(facts=None))
    assert played.past.approximate
    assert played.result.lane == "premium"


def test_a_reduced_receipt_is_replayed_by_its_figures_and_its_reason() -> None:
    reduced = line(model_requested=None, route=None, attempts=None)
    [played] = play(settings(TURNED), reduced)
    assert (played.past.approximate, played.result.route, played.result.premium) == (True, "second", 280)


def test_who_was_turned_away_before_a_policy_saw_him_stays_so() -> None:
    [played] = play(settings(), refused(0.0, "invalid_request", facts=None))
    assert (played.result.code, played.json) == ("invalid_request", None)
    assert json.loads(as_line(played)) == {
        "account": "acme",
        "project": "ci",
        "request_id": played.past.id,
        "state": "refused",
        "code": "invalid_request",
    }


def test_a_would_be_receipt_is_a_line_of_an_export() -> None:
    [played] = play(settings(), refused(0.0, "workflow_limit"))
    assert json.loads(as_line(played)).keys() >= {"account", "project", "request_id", "lane", "fair_use"}


def test_chance_is_a_requests_own() -> None:
    routes = tuple({**route, "priority": 1} for route in ROUTES)
    lines = [line(number * 5.0, number=number) for number in range(40)]
    drawn = [each.result.route for each in play(settings(routes), *lines)]
    assert {"first", "second"} == set(drawn)
    assert drawn[20:] == [each.result.route for each in play(settings(routes), *lines[20:])]
    assert drawn != [each.result.route for each in play(settings(routes), *lines, dice=lambda name: Dice(7, name))]


@pytest.mark.parametrize("seed", [0, 1])
def test_dice_fall_from_0_to_1(seed: int) -> None:
    rolled = [Dice(seed, str(number))() for number in range(2000)]
    assert 0 <= min(rolled) < 0.01
    assert 0.99 < max(rolled) < 1


def test_who_comes_in_the_millisecond_in_which_another_ends_finds_its_slot_free() -> None:
    played = play(settings(concurrent_workflows=1), line(0.0), line(1.0, number=1))
    assert [each.result.code for each in played] == [None, None]


def test_time_that_no_try_accounts_for_passes_all_the_same() -> None:
    played = play(settings(concurrent_workflows=1), line(0.0, ended_at=rfc(NOON + 5)), line(3.0, number=1))
    assert [each.result.code for each in played] == [None, "workflow_limit"]


def test_a_silent_stream_is_left_as_soon_as_the_new_limit_says() -> None:
    facts = {"prompt_tokens": 90, "stream": True}
    silent = line(0.0, tried("first", "timeout", None, 20_000), tried("second"), facts=facts)
    hasty = ({**ROUTES[0], "first_token_timeout": 5.0}, *ROUTES[1:])
    other = line(7.0, number=1)
    played = play(settings(hasty, concurrent_workflows=1), silent, other)
    assert [each.result.code for each in played] == [None, None]
    played = play(settings(concurrent_workflows=1), silent, other)
    assert [each.result.code for each in played] == [None, "workflow_limit"]


def test_a_probe_lets_others_through_from_its_first_token_on() -> None:
    down = [
        line(number * 1.0, tried("first", "timeout", None, 60), tried("second", ms=10), number=number)
        for number in range(3)
    ]
    facts = {"prompt_tokens": 90, "stream": True}
    probe = line(20.0, tried("first", ms=8000, first_token_ms=2000), number=5, facts=facts)
    before, after = line(21.0, number=6), line(23.0, number=7)
    played = play(settings(), *down, probe, before, after)
    assert [each.result.route for each in played[3:]] == ["first", "second", "first"]


def test_the_answer_that_is_guessed_is_the_mean_and_no_longer_than_was_asked_for() -> None:
    facts = {"prompt_tokens": 90, "output_tokens": 12}
    usages = [{"prompt_tokens": 100, "completion_tokens": tokens} for tokens in (10, 30)]
    answered = [line(number * 5.0, number=number, usage=usage) for number, usage in enumerate(usages)]
    lost = [refused(20.0, "workflow_limit"), refused(30.0, "workflow_limit", number=1, facts=facts)]
    played = play(settings(), *answered, *lost)
    assert [told(each)["usage"]["completion_tokens"] for each in played[2:]] == [20, 12]
