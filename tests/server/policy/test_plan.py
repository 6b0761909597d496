"""Which lanes and routes a request may take, in which order, and what each would hold back."""

import random
from collections import Counter
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

import pytest

from flatfee.server.ask import read_ask
from flatfee.server.faults import Fault
from flatfee.server.policy.facts import Facts
from flatfee.server.policy.plan import RoutePlan, lacks, units
from flatfee.server.settings import MeterSettings
from flatfee.wire import Billing, ErrorCode, Lane, OnExhausted, Reason, Task


def lanes(plan: RoutePlan) -> list[tuple[str, str, str]]:
    return [(choice.offer.lane, choice.offer.purse, " ".join(r.name for r in choice.routes)) for choice in plan.choices]


def reasons(plan: RoutePlan) -> list[str]:
    return [choice.offer.reason for choice in plan.choices]


def fault(planned: Any, **wanted: Any) -> Fault:
    with pytest.raises(Fault) as raised:
        planned(**wanted)
    return raised.value


def test_premium_falls_back_within_its_tier_first_and_continues_on_economy(planned: Any) -> None:
    plan = planned(model="premium")
    assert lanes(plan) == [("premium", "fair_use", "p1 p2 e1"), ("continuation", "continuation", "e1")]
    assert reasons(plan) == [Reason.REQUESTED, Reason.FAIR_USE_EXHAUSTED]


def test_a_caller_that_says_fail_stays_on_premium(planned: Any) -> None:
    assert lanes(planned(on_exhausted=OnExhausted.FAIL)) == [("premium", "fair_use", "p1 p2")]


def test_a_plan_without_continuation_stays_on_premium(planned: Any) -> None:
    assert lanes(planned(plan={"continuation": False})) == [("premium", "fair_use", "p1 p2")]


def test_economy_is_budget_while_fair_use_remains_and_continuation_after(planned: Any) -> None:
    plan = planned(model="economy")
    assert lanes(plan) == [("budget", "none", "e1"), ("continuation", "continuation", "e1")]
    assert reasons(plan) == [Reason.REQUESTED, Reason.FAIR_USE_EXHAUSTED]
    assert plan.choices[0].offer.units == 0


def test_economy_without_continuation_ends_with_fair_use(planned: Any) -> None:
    assert lanes(planned(model="economy", plan={"continuation": False})) == [("budget", "none", "e1")]


def test_economy_ends_on_premium_if_the_operator_allows_that_and_fair_use_covers_it(planned: Any) -> None:
    plan = planned(model="economy", policy={"economy_may_use_premium": True})
    assert lanes(plan) == [
        ("budget", "fair_use", "e1 p1 p2"),
        ("budget", "none", "e1"),
        ("continuation", "continuation", "e1"),
    ]
    assert plan.choices[0].offer.units == planned(model="premium").choices[0].offer.units


def test_without_premium_routes_economy_has_none_to_end_on(planned: Any, route: Any) -> None:
    plan = planned((route("e1", "economy"),), model="economy", policy={"economy_may_use_premium": True})
    assert lanes(plan)[0] == ("budget", "none", "e1")


def test_auto_takes_the_tier_that_the_rules_decide(planned: Any) -> None:
    premium, economy = planned(task=Task.PLAN), planned(task=Task.CHAT)
    assert (lanes(premium)[0][0], reasons(premium)[0]) == (Lane.PREMIUM, Reason.FRAGILE_REASONING)
    assert (lanes(economy)[0][0], reasons(economy)[0]) == (Lane.BUDGET, Reason.SMALL_TASK)


@pytest.mark.parametrize("state", [Billing.SUSPENDED, Billing.CANCELLED])
@pytest.mark.parametrize("model", ["auto", "premium", "economy"])
def test_a_suspended_or_cancelled_account_gets_nothing(planned: Any, state: Billing, model: str) -> None:
    found = fault(planned, billing=state, model=model)
    assert found.code is ErrorCode.BILLING_INACTIVE
    assert str(state) in found.message


@pytest.mark.parametrize("model", ["auto", "premium", "economy"])
def test_a_past_due_account_may_continue_only(planned: Any, model: str) -> None:
    plan = planned(billing=Billing.PAST_DUE, model=model)
    assert lanes(plan) == [("continuation", "continuation", "e1")]
    assert reasons(plan) == [Reason.BILLING_STATE]


@pytest.mark.parametrize(
    "wanted",
    [
        {"plan": {"continuation": False}},
        {"plan": {"continuation": False}, "model": "economy"},
        {"on_exhausted": OnExhausted.FAIL, "model": "premium"},
    ],
)
def test_a_past_due_account_that_may_not_continue_gets_nothing(planned: Any, wanted: dict[str, Any]) -> None:
    found = fault(planned, billing=Billing.PAST_DUE, **wanted)
    assert found.code is ErrorCode.BILLING_INACTIVE
    assert "past due" in found.message


def test_a_past_due_account_without_economy_routes_gets_nothing(planned: Any, route: Any) -> None:
    found = fault(planned, routes=(route("p1"),), billing=Billing.PAST_DUE, model="premium")
    assert found.code is ErrorCode.BILLING_INACTIVE


def test_without_economy_routes_premium_has_nowhere_to_continue(planned: Any, route: Any) -> None:
    assert lanes(planned((route("p1"),))) == [("premium", "fair_use", "p1")]


def test_auto_takes_the_other_tier_where_its_own_cannot(planned: Any, route: Any) -> None:
    only_economy = planned((route("e1", "economy"),), task=Task.PLAN)
    assert lanes(only_economy)[0] == ("budget", "none", "e1")
    assert reasons(only_economy)[0] == Reason.FRAGILE_REASONING
    only_premium = planned((route("p1"),), task=Task.CHAT)
    assert lanes(only_premium) == [("premium", "fair_use", "p1")]
    assert reasons(only_premium) == [Reason.SMALL_TASK]


@pytest.mark.parametrize("model", ["premium", "economy"])
def test_a_tier_that_was_asked_for_is_not_exchanged(planned: Any, route: Any, model: str) -> None:
    other = "economy" if model == "premium" else "premium"
    found = fault(planned, routes=(route("r", other),), model=model)
    assert (found.code, found.param) == (ErrorCode.INVALID_REQUEST, "model")
    assert found.message.startswith(f"There is no {model} route.")


def test_a_request_that_nobody_can_serve_is_told_what_is_missing(planned: Any, route: Any) -> None:
    routes = (route("p1", capabilities=["json_schema"]), route("p2", context_tokens=10))
    found = fault(planned, routes=routes, tools=True, model="premium")
    assert found.message.startswith("There is no premium route that can take about 5000 tokens of context and tools.")


def test_who_is_refused_is_told_the_estimate_whatever_each_route_makes_of_it(planned: Any, route: Any) -> None:
    routes = (route("p1", context_tokens=10), route("p2", context_tokens=5500, token_factor=1.3))
    found = fault(planned, routes=routes, model="premium")
    assert found.message.startswith("There is no premium route that can take about 5000 tokens of context. ")


@pytest.mark.parametrize(
    ("limits", "needs", "lacking"),
    [
        ({}, {"tools": True, "images": True, "json_schema": True, "prompt_tokens": 10**9}, None),
        ({"capabilities": []}, {}, None),
        ({"capabilities": []}, {"tools": True}, "tools"),
        ({"capabilities": ["tools"]}, {"tools": True}, None),
        ({"capabilities": ["tools"]}, {"images": True}, "images"),
        ({"capabilities": ["tools", "images"]}, {"json_schema": True}, "json_schema"),
        ({"context_tokens": 100}, {"prompt_tokens": 100}, None),
        ({"context_tokens": 100}, {"prompt_tokens": 101}, "about 101 tokens of context"),
        ({"context_tokens": 130, "token_factor": 1.3}, {"prompt_tokens": 100}, None),
        ({"context_tokens": 129, "token_factor": 1.3}, {"prompt_tokens": 100}, "about 130 tokens of context"),
    ],
)
def test_a_route_tells_what_it_lacks(
    facts: Any, route: Any, limits: dict[str, Any], needs: dict[str, Any], lacking: str | None
) -> None:
    assert lacks(route("r", **limits), facts(**needs)) == lacking


def test_routes_come_by_priority_whatever_chance_says(planned: Any, route: Any) -> None:
    routes = (route("c", priority=3, weight=1000), route("a", priority=1, weight=0.001), route("b", priority=2))
    for value in (0.0, 0.5, 0.999999):
        plan = planned(routes, model="premium", chance=lambda value=value: value)
        assert lanes(plan)[0][2] == "a b c"


def test_chance_draws_among_routes_of_equal_priority(planned: Any, route: Any) -> None:
    routes = (route("a"), route("b"))
    for draws, first in (((0.1, 0.9), "a"), ((0.9, 0.1), "b")):
        chances = cycle(draws)
        plan = planned(routes, model="premium", chance=lambda chances=chances: next(chances))
        assert plan.choices[0].routes[0].name == first


@pytest.mark.parametrize("scale", [1.0, 0.001, 100.0])
def test_equal_priorities_share_by_weight_whatever_their_scale(planned: Any, route: Any, scale: float) -> None:
    routes = tuple(route(name, weight=weight * scale) for name, weight in (("one", 1), ("three", 3), ("six", 6)))
    chance = random.Random(7).random
    firsts = Counter(planned(routes, model="premium", chance=chance).choices[0].routes[0].name for _ in range(3000))
    for name, share in (("one", 0.1), ("three", 0.3), ("six", 0.6)):
        assert firsts[name] / 3000 == pytest.approx(share, abs=0.04)


def test_a_tool_loop_stays_on_its_route_and_tier(planned: Any) -> None:
    plan = planned(tool_loop_route="p2", task=Task.CHAT)
    assert lanes(plan)[0] == ("premium", "fair_use", "p2 p1 e1")
    assert reasons(plan)[0] == Reason.WORKFLOW_AFFINITY
    plan = planned(tool_loop_route="e1", task=Task.PLAN)
    assert lanes(plan)[0] == ("budget", "none", "e1")
    assert reasons(plan)[0] == Reason.WORKFLOW_AFFINITY


def test_a_tool_loop_leaves_a_route_that_is_down(planned: Any) -> None:
    plan = planned(tool_loop_route="p2", task=Task.CHAT, down=frozenset({"p2"}))
    assert lanes(plan)[0] == ("budget", "none", "e1")
    assert reasons(plan)[0] == Reason.SMALL_TASK
    assert lanes(planned(model="premium", tool_loop_route="p2", down=frozenset({"p2"})))[0][2] == "p1 p2 e1"


def test_a_tool_loop_leaves_a_route_that_lacks_what_it_needs_now(planned: Any, route: Any) -> None:
    routes = (route("p1"), route("p2", context_tokens=10), route("e1", "economy"))
    plan = planned(routes, tool_loop_route="p2")
    assert (lanes(plan)[0][2], reasons(plan)[0]) == ("p1 e1", Reason.DEFAULT)
    assert reasons(planned(tool_loop_route="gone"))[0] == Reason.DEFAULT


def test_a_tool_loop_does_not_overrule_the_tier_that_was_asked_for(planned: Any) -> None:
    plan = planned(model="economy", tool_loop_route="p1")
    assert (lanes(plan)[0], reasons(plan)[0]) == (("budget", "none", "e1"), Reason.REQUESTED)
    assert lanes(planned(model="premium", tool_loop_route="p2"))[0][2] == "p2 p1 e1"


def test_a_tool_loop_without_premium_rights_continues_on_economy(planned: Any) -> None:
    plan = planned(tool_loop_route="p1", billing=Billing.PAST_DUE)
    assert lanes(plan) == [("continuation", "continuation", "e1")]


@pytest.mark.parametrize(
    ("wanted", "output"),
    [
        ({"output_tokens": None}, 1000),
        ({"output_tokens": 10}, 10),
        ({"output_tokens": 5000}, 1000),
        ({"output_tokens": 10, "choices": 3}, 30),
        ({"output_tokens": None, "choices": 2}, 2000),
    ],
)
def test_the_reservation_is_prompt_and_capped_output_of_every_choice(
    planned: Any, wanted: dict[str, Any], output: int
) -> None:
    plan = planned(**wanted)
    assert (plan.facts.prompt_tokens, plan.output_tokens) == (5000, output)
    assert plan.choices[0].offer.units == 5000 + 4 * output


def test_the_reservation_covers_the_dearest_route_of_the_tier(planned: Any, route: Any) -> None:
    routes = (route("cheap"), route("dear", priority=9, meter={"input": 2, "output": 8}))
    assert planned(routes, output_tokens=10).choices[0].offer.units == 2 * 5000 + 8 * 10


@pytest.mark.parametrize(
    ("meter", "tokens", "expected"),
    [
        ({}, (100, 50, 0), 300),
        ({}, (100, 50, 100), 210),
        ({}, (100, 0, 1), 100),
        ({}, (0, 0, 0), 0),
        ({"input": 0.3, "output": 0}, (1, 5, 0), 1),
        ({}, (10, 0, 50), 1),
        ({"input": 0, "cached_input": 0, "output": 0}, (10**6, 10**6, 5), 0),
    ],
)
def test_units_are_weighted_tokens_rounded_up(
    plan: Any, meter: dict[str, float], tokens: tuple[int, int, int], expected: int
) -> None:
    assert units(MeterSettings.model_validate(meter), plan(), *tokens) == expected


def test_a_plan_that_counts_requests_counts_one(plan: Any, planned: Any) -> None:
    assert units(MeterSettings(), plan(meter="requests"), 10**6, 10**6) == 1
    assert planned(plan={"meter": "requests"}).choices[0].offer.units == 1


def test_facts_are_read_off_the_ask_its_caller_and_the_moment(caller: Any) -> None:
    body = b'{"model":"gpt","messages":[{"role":"tool","content":"x"}],"max_tokens":7,"reasoning_effort":"high","n":2}'
    headers = {b"x-flatfee-task": b"plan", b"x-flatfee-on-exhausted": b"fail", b"x-flatfee-workflow": b"run-1"}
    ask = read_ask(headers, body)
    at = datetime(2026, 11, 25, tzinfo=UTC)
    facts = Facts.of(ask, "premium", caller(), at, workflow=ask.workflow, fair_use_left=0.5, tool_loop_route="p1")
    assert (facts.account, facts.project, facts.workflow) == ("acme", "ci", "run-1")
    assert (facts.at, facts.fair_use_left) == (at, 0.5)
    assert (facts.model, facts.task, facts.reasoning_effort) == ("premium", Task.PLAN, "high")
    assert (facts.output_tokens, facts.choices, facts.tool_loop_route) == (7, 2, "p1")
    assert facts.on_exhausted is OnExhausted.FAIL
    assert facts.prompt_tokens == ask.prompt_tokens


def test_how_long_an_answer_may_become_changes_no_order(planned: Any, route: Any) -> None:
    """A provider that refuses so much says so, and the request goes on to a larger route."""
    routes = (route("small", context_tokens=6000), route("large", priority=2, context_tokens=10_000))
    assert {lanes(planned(routes, model="premium", output_tokens=asked))[0][2] for asked in (None, 1, 32_000)} == {
        "small large"
    }


def test_premium_falls_back_on_economy_that_holds_the_whole_prompt(planned: Any, route: Any) -> None:
    routes = (route("p"), route("small", "economy", context_tokens=4000), route("large", "economy", priority=2))
    assert lanes(planned(routes, economy_tokens=3000)) == [
        ("premium", "fair_use", "p large"),
        ("continuation", "continuation", "small large"),
    ]


def test_what_is_held_back_is_by_the_route_that_makes_most_of_the_prompt(planned: Any, route: Any) -> None:
    routes = (
        route("p1"),
        route("wordy", priority=2, token_factor=1.3),
        route("dear", priority=3, meter={"input": 1.2}),
    )
    assert planned(routes, model="premium").choices[0].offer.units == 6500 + 4 * 1000


def test_a_tool_loop_stays_on_economy_only_with_consent_to_leave_premium(planned: Any) -> None:
    assert reasons(planned(tool_loop_route="e1", task=Task.PLAN))[0] == Reason.WORKFLOW_AFFINITY
    held = planned(tool_loop_route="e1", task=Task.PLAN, on_exhausted=OnExhausted.FAIL)
    assert (lanes(held), reasons(held)) == ([("premium", "fair_use", "p1 p2")], [Reason.FRAGILE_REASONING])
    free = planned(tool_loop_route="e1", task=Task.CHAT, on_exhausted=OnExhausted.FAIL)
    assert (lanes(free)[0], reasons(free)[0]) == (("budget", "none", "e1"), Reason.WORKFLOW_AFFINITY)
