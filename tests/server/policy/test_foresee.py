"""What a plan would come to. That the relay does the same is tested with a gateway, in ``test_foresight``."""

from typing import Any

import pytest

from flatfee.server.policy.foresee import Consequence, Failure, Foresight, foresee, left_out
from flatfee.server.policy.plan import RoutePlan
from flatfee.server.settings import PolicySettings, RouteSettings
from flatfee.wire import Billing, ErrorCode, Lane, OnExhausted, Reason


def foreseen(plan: RoutePlan, terms: Any, granted: int = 0, *, down: str = "", last_chance: str = "") -> Foresight:
    spent = granted + 1 if granted + 1 < len(plan.choices) else None
    return foresee(plan, terms(), granted, spent, frozenset(down.split()), frozenset(last_chance.split()))


def on(failure: Failure, foresight: Foresight) -> Consequence:
    return next(told for told in foresight.on_failure if told.failure is failure)


def test_the_first_route_is_told_with_what_is_held_back_and_what_follows(planned: Any, plan: Any) -> None:
    told = foreseen(planned(model="premium"), plan)
    assert (told.lane, told.reason, told.first.route.name) == (Lane.PREMIUM, Reason.REQUESTED, "p1")
    assert (told.prompt_tokens, told.output_tokens, told.units) == (5000, 1000, 9000)
    assert [(place.route.name, place.lane, place.units) for place in told.then] == [
        ("p2", Lane.FALLBACK, 9000),
        ("e1", Lane.FALLBACK, 0),
    ]


def test_a_route_that_is_down_is_skipped_and_the_next_is_a_fallback(planned: Any, plan: Any) -> None:
    told = foreseen(planned(model="premium"), plan, down="p1")
    assert (told.lane, told.reason, told.first.route.name) == (Lane.FALLBACK, Reason.PROVIDER_UNAVAILABLE, "p2")
    assert [route.name for route in told.skipped] == ["p1"]
    assert on(Failure.PROVIDER_ERROR, told).reason is Reason.PROVIDER_UNAVAILABLE


def test_where_every_route_is_down_the_error_is_told(planned: Any, plan: Any, route: Any) -> None:
    told = foreseen(planned(model="premium"), plan, down="p1 p2 e1")
    assert (told.error, told.on_failure) == (ErrorCode.FALLBACK_EXHAUSTED, ())
    alone = foreseen(planned((route("p1"),), model="premium"), plan, down="p1")
    assert alone.error is ErrorCode.PROVIDER_UNAVAILABLE


def test_equal_routes_tell_their_share_of_the_draw(planned: Any, plan: Any, route: Any) -> None:
    routes = (route("a", weight=3), route("b", weight=1), route("c", priority=2))
    told = foreseen(planned(routes, model="premium"), plan)
    assert [(place.route.name, place.share) for place in (told.first, *told.then)] == [
        ("a", 0.75),
        ("b", None),
        ("c", None),
    ]


def test_a_tool_loop_draws_nothing(planned: Any, plan: Any, route: Any) -> None:
    routes = (route("a", weight=3), route("b", weight=1))
    told = foreseen(planned(routes, tool_loop_route="b"), plan)
    assert (told.first.route.name, told.first.share, told.reason) == ("b", None, Reason.WORKFLOW_AFFINITY)


def test_a_route_on_its_last_chance_is_not_tried_again(planned: Any, plan: Any) -> None:
    assert on(Failure.PROVIDER_ERROR, foreseen(planned(), plan)).again
    assert not on(Failure.PROVIDER_ERROR, foreseen(planned(), plan, last_chance="p1")).again


def test_only_a_larger_route_cures_a_context_overflow(planned: Any, plan: Any, route: Any) -> None:
    routes: tuple[RouteSettings, ...] = (
        route("p1", context_tokens=8000),
        route("p2", context_tokens=8000, priority=2),
        route("p3", context_tokens=9000, priority=3),
    )
    told = on(Failure.CONTEXT_OVERFLOW, foreseen(planned(routes), plan))
    assert (told.next, told.then_error) == ("p3", None)
    larger_is_down = on(Failure.CONTEXT_OVERFLOW, foreseen(planned(routes), plan, down="p3"))
    assert (larger_is_down.next, larger_is_down.then_error) == (None, ErrorCode.FALLBACK_EXHAUSTED)


def test_larger_is_what_holds_more_of_the_text_not_more_of_its_own_tokens(planned: Any, plan: Any, route: Any) -> None:
    routes = (
        route("p1", context_tokens=8000),
        route("p2", context_tokens=10_000, token_factor=1.3, priority=2),
        route("p3", context_tokens=9000, priority=3),
    )
    assert on(Failure.CONTEXT_OVERFLOW, foreseen(planned(routes), plan)).next == "p3"


def test_units_are_what_each_route_makes_of_the_prompt(planned: Any, plan: Any, route: Any) -> None:
    told = foreseen(planned((route("p1"), route("p2", priority=2, token_factor=1.3))), plan)
    assert [place.units for place in (told.first, *told.then)] == [5000 + 4000, 6500 + 4000]
    assert (told.prompt_tokens, told.units) == (5000, 6500 + 4000)


def test_nobody_cures_a_refusal_of_the_content(planned: Any, plan: Any) -> None:
    told = on(Failure.CONTENT_REFUSED, foreseen(planned(), plan))
    assert (told.again, told.next, told.then_error) == (False, None, None)


def test_spent_fair_use_leads_to_continuation_or_to_an_error(planned: Any, plan: Any) -> None:
    told = on(Failure.FAIR_USE_EXHAUSTED, foreseen(planned(), plan))
    assert (told.next, told.lane, told.reason) == ("e1", Lane.CONTINUATION, Reason.FAIR_USE_EXHAUSTED)
    assert told.then_error is ErrorCode.PROVIDER_UNAVAILABLE
    refused = on(Failure.FAIR_USE_EXHAUSTED, foreseen(planned(on_exhausted=OnExhausted.FAIL), plan))
    assert (refused.next, refused.then_error) == (None, ErrorCode.FAIR_USE_EXHAUSTED)


def test_an_allowance_without_a_limit_is_never_spent(planned: Any, plan: Any) -> None:
    unlimited = foresee(planned(billing=Billing.PAST_DUE), plan(), 0, 0, frozenset())
    assert Failure.FAIR_USE_EXHAUSTED not in [told.failure for told in unlimited.on_failure]


@pytest.mark.parametrize(
    ("wanted", "granted", "expected"),
    [
        ({"tools": True}, 0, {"plain": "it cannot take tools"}),
        ({"on_exhausted": OnExhausted.FAIL}, 0, {"e1": "the caller said fail: premium or nothing"}),
        ({"plan": {"continuation": False}}, 0, {"e1": "the plan has no continuation"}),
        ({}, 1, {"p1": "what is left of fair-use does not cover it"}),
        ({"billing": Billing.PAST_DUE}, 0, {"p1": "the billing state allows no premium"}),
        (
            {"model": "economy"},
            0,
            {"p1": "an economy request may not end on premium (policy.economy_may_use_premium)"},
        ),
        (
            {"model": "economy"},
            1,
            {"p1": "an economy request may not end on premium (policy.economy_may_use_premium)"},
        ),
    ],
)
def test_a_route_that_is_left_out_says_why(
    planned: Any, plan: Any, route: Any, wanted: dict[str, Any], granted: int, expected: dict[str, str]
) -> None:
    routes = (route("p1"), route("plain", capabilities=[]), route("e1", "economy"))
    made = planned(routes, **wanted)
    told = left_out(made, granted, plan(**wanted.get("plan", {})), PolicySettings(), routes)
    found = {out.route.name: out.because for out in told}
    assert expected.items() <= found.items()
