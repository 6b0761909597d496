"""What holds for whatever is foreseen: no route is forgotten, none that is down is promised."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.policy.strategies import facts, policies, routes

from flatfee.server.faults import Fault
from flatfee.server.policy.facts import Facts
from flatfee.server.policy.foresee import foresee, left_out
from flatfee.server.policy.plan import plan_routes
from flatfee.server.policy.ranks import Ranks
from flatfee.server.settings import PolicySettings, RouteSettings
from flatfee.wire import Billing

NAMES = [f"r{index}" for index in range(6)]


@settings(max_examples=50)
@given(
    asked=facts,
    policy=policies,
    routes=routes,
    billing=st.sampled_from([Billing.ACTIVE, Billing.PAST_DUE]),
    continuation=st.booleans(),
    down=st.frozensets(st.sampled_from(NAMES)),
)
def test_every_route_is_foreseen_once_or_left_out_with_a_reason(
    caller: Any,
    plan: Any,
    asked: Facts,
    policy: PolicySettings,
    routes: tuple[RouteSettings, ...],
    billing: Billing,
    continuation: bool,
    down: frozenset[str],
) -> None:
    terms = plan(continuation=continuation)
    try:
        made = plan_routes(asked, caller(billing), terms, policy, Ranks.of(routes), down, lambda: 0.5)
    except Fault:
        return
    for granted in range(len(made.choices)):
        told = foresee(made, terms, granted, None, down)
        others = left_out(made, granted, terms, policy, routes)
        places = [place.route.name for place in (told.first, *told.then)]
        skipped = [] if told.error else [route.name for route in told.skipped]
        assert sorted([*places, *skipped, *(out.route.name for out in others)]) == [route.name for route in routes]
        assert all(out.because for out in others)
        assert told.error is not None or not down.intersection(places)
        assert {each.next for each in told.on_failure} <= {None, *places[1:]}
        assert all(0 < place.share < 1 for place in (told.first, *told.then) if place.share is not None)
