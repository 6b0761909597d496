"""What holds for every plan, whatever the rules, the routes and the request."""

from __future__ import annotations

from itertools import cycle, groupby
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.server.policy.strategies import facts, policies, routes

from flatfee.server.faults import Fault
from flatfee.server.policy.facts import Facts
from flatfee.server.policy.plan import Choice, RoutePlan, lacks, plan_routes
from flatfee.server.policy.ranks import Ranks
from flatfee.server.policy.rules import decide
from flatfee.server.policy.tables import POLICY_REASONS
from flatfee.server.settings import PolicySettings, RouteSettings
from flatfee.server.store.records import Purse
from flatfee.wire import Billing, ErrorCode, Lane, OnExhausted, Reason, Tier


@given(
    asked=facts,
    policy=policies,
    routes=routes,
    billing=st.sampled_from([Billing.ACTIVE, Billing.ACTIVE, *Billing]),
    continuation=st.booleans(),
    down=st.frozensets(st.sampled_from(["r1", "r3"])),
    chances=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=3),
)
def test_every_request_has_one_plan_or_one_named_fault_and_no_plan_holds_what_it_must_not(
    caller: Any,
    plan: Any,
    asked: Facts,
    policy: PolicySettings,
    routes: tuple[RouteSettings, ...],
    billing: Billing,
    continuation: bool,
    down: frozenset[str],
    chances: list[float],
) -> None:
    def outcome() -> RoutePlan | tuple[ErrorCode, str]:
        draws = cycle(chances)
        try:
            return plan_routes(asked, caller(billing), terms, policy, Ranks.of(routes), down, lambda: next(draws))
        except Fault as error:
            return error.code, error.message

    terms = plan(continuation=continuation)
    found = outcome()
    assert found == outcome()  # given chance, nothing is left to it
    if isinstance(found, RoutePlan):
        check_plan(found, billing, continuation, policy, down)
        check_consent(found, policy, routes)
    else:
        check_refusal(found[0], asked, routes, billing)


def check_refusal(code: ErrorCode, asked: Facts, routes: tuple[RouteSettings, ...], billing: Billing) -> None:
    """Who pays is refused only if no route that was asked for can do what is needed."""
    if billing is Billing.ACTIVE:
        assert code is ErrorCode.INVALID_REQUEST
        eligible = [route for route in routes if lacks(route, asked) is None]
        assert not [route for route in eligible if asked.model in {"auto", route.tier}]
    else:
        assert code in {ErrorCode.BILLING_INACTIVE, ErrorCode.INVALID_REQUEST}


def check_plan(
    found: RoutePlan, billing: Billing, continuation: bool, policy: PolicySettings, down: frozenset[str]
) -> None:
    """Every route can do what is needed, and every lane is one that the caller has a right to."""
    assert billing in {Billing.ACTIVE, Billing.PAST_DUE}
    assert found.choices
    for choice in found.choices:
        check_routes(choice, found.facts, down)
        check_lane(choice, found.facts, continuation, policy)
        # Premium is metered, always, and for who has the right to it.
        premium = any(route.tier is Tier.PREMIUM for route in choice.routes)
        assert not premium or (choice.offer.purse, billing) == (Purse.FAIR_USE, Billing.ACTIVE)
        assert choice.offer.lane is Lane.CONTINUATION or billing is Billing.ACTIVE
    assert Lane.CONTINUATION not in [choice.offer.lane for choice in found.choices[:-1]]


def check_consent(found: RoutePlan, policy: PolicySettings, routes: tuple[RouteSettings, ...]) -> None:
    """Who would rather fail than leave premium is not kept from it, by a tool loop neither."""
    asked = found.facts
    able = any(route.tier is Tier.PREMIUM and lacks(route, asked) is None for route in routes)
    wanted = asked.model == "premium" or (asked.model == "auto" and decide(policy, asked).tier is Tier.PREMIUM)
    if able and wanted and asked.on_exhausted is OnExhausted.FAIL:
        assert {route.tier for choice in found.choices for route in choice.routes} == {Tier.PREMIUM}


def check_routes(choice: Choice, asked: Facts, down: frozenset[str]) -> None:
    """None twice, none that lacks anything; by tier, then by priority, but for a tool loop's."""
    assert choice.routes
    assert len({route.name for route in choice.routes}) == len(choice.routes)
    assert all(lacks(route, asked) is None for route in choice.routes)
    assert all(has_room(route, asked, choice.offer.lane) for route in choice.routes)
    loop = asked.tool_loop_route if asked.tool_loop_route not in down else None
    tiers = [tier for tier, _ in groupby(choice.routes, key=lambda route: route.tier)]
    assert len(tiers) == len(set(tiers))
    for tier in tiers:
        ranks = [route.priority for route in choice.routes if route.tier is tier and route.name != loop]
        assert ranks == sorted(ranks)


def has_room(route: RouteSettings, asked: Facts, lane: Lane) -> bool:
    """Premium, and what stands behind it, is asked all of the prompt; economy of its own maybe less."""
    short = asked.economy_tokens if route.tier is Tier.ECONOMY and lane is not Lane.PREMIUM else None
    tokens = asked.prompt_tokens if short is None else short
    return route.context_tokens is None or round(tokens * route.token_factor) <= route.context_tokens


def check_lane(choice: Choice, asked: Facts, continuation: bool, policy: PolicySettings) -> None:
    """A lane begins on its tier, leaves it only with the right to, and says a reason that is its own."""
    offer, first = choice.offer, choice.routes[0].tier
    tiers = {route.tier for route in choice.routes}
    if offer.lane is Lane.CONTINUATION:
        assert continuation
        assert (offer.purse, tiers) == (Purse.CONTINUATION, {Tier.ECONOMY})
        assert offer.reason in {Reason.FAIR_USE_EXHAUSTED, Reason.BILLING_STATE}
        return
    assert offer.reason in {*POLICY_REASONS, Reason.REQUESTED, Reason.WORKFLOW_AFFINITY}
    assert (offer.reason is Reason.REQUESTED) == (asked.model != "auto")
    assert offer.reason is not Reason.WORKFLOW_AFFINITY or choice.routes[0].name == asked.tool_loop_route
    if offer.lane is Lane.PREMIUM:
        assert (first, offer.purse) == (Tier.PREMIUM, Purse.FAIR_USE)
        assert Tier.ECONOMY not in tiers or (continuation and asked.on_exhausted is OnExhausted.CONTINUE)
    else:
        assert (offer.lane, first) == (Lane.BUDGET, Tier.ECONOMY)
        assert (offer.purse is Purse.FAIR_USE) == (Tier.PREMIUM in tiers)
        assert Tier.PREMIUM not in tiers or policy.economy_may_use_premium
