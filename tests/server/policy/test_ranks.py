"""What is said of the routes once, for all requests."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.server.fakes import make_settings
from tests.server.fakes import route as a_row

from flatfee.server.policy.plan import RoutePlan
from flatfee.server.policy.ranks import Ranks
from flatfee.server.settings import RouteSettings
from flatfee.wire import Tier

Route = Callable[..., RouteSettings]
Plan = Callable[..., RoutePlan]
DEAR = {"input": 9.0, "output": 9.0}


def no_chance() -> float:
    raise AssertionError("nothing is left to chance")


def test_each_tier_has_its_routes_by_priority(route: Route) -> None:
    e, p2, p1 = route("e", Tier.ECONOMY), route("p2", priority=2), route("p1")
    ranks = Ranks.of((e, p2, p1))
    assert (ranks.routes, ranks.premium.routes, ranks.economy.routes) == ((e, p2, p1), (p1, p2), (e,))


@pytest.mark.parametrize(("priorities", "drawn"), [((1, 2), False), ((1,), False), ((1, 2, 1), True)])
def test_chance_decides_only_between_routes_of_equal_priority(
    route: Route, planned: Plan, priorities: tuple[int, ...], drawn: bool
) -> None:
    routes = tuple(route(f"p{index}", priority=priority) for index, priority in enumerate(priorities))
    assert Ranks.of(routes).premium.drawn is drawn
    if not drawn:
        assert planned(routes, chance=no_chance).choices[0].routes == routes


@pytest.mark.parametrize(
    ("more", "limited"), [({}, False), ({"context_tokens": 9000}, True), ({"capabilities": []}, True)]
)
def test_a_tier_is_limited_if_one_of_its_routes_may_lack_something(
    route: Route, more: dict[str, Any], limited: bool
) -> None:
    assert Ranks.of((route("p1"), route("p2", **more))).premium.limited is limited


@pytest.mark.parametrize(
    ("more", "units"),
    [
        ({}, 5000 + 4 * 1000),
        ({"meter": {"input": 9.0}}, 9 * 5000 + 4 * 1000),
        ({"meter": {"output": 9.0}}, 5000 + 9 * 1000),
        ({"token_factor": 2.0}, 2 * 5000 + 4 * 1000),
    ],
)
def test_what_is_held_back_is_the_price_of_the_dearest_route(
    route: Route, planned: Plan, more: dict[str, Any], units: int
) -> None:
    for routes in (route("p1", **more), route("p2", priority=2)), (route("p1"), route("p2", priority=2, **more)):
        assert planned(routes).choices[0].offer.units == units


def test_a_dear_route_that_is_too_small_for_a_request_holds_nothing_back(route: Route, planned: Plan) -> None:
    small = route("p2", priority=2, meter=DEAR, context_tokens=100)
    assert planned((route("p1"), small)).choices[0].offer.units == 5000 + 4 * 1000


def test_settings_keep_them_for_their_own_routes_only() -> None:
    settings = make_settings()
    assert settings.ranks is settings.ranks
    other = settings.model_copy(update={"routes": make_settings(routes=[a_row("third")]).routes})
    assert [route.name for route in other.ranks.premium.routes] == ["third"]


def test_what_settings_keep_is_none_of_their_fields() -> None:
    """``dict`` tells what the file may say, also once a request has come."""
    settings = make_settings()
    assert settings.ranks is not None
    assert settings.plans[0].terms.unit == "token"
    assert dict(settings).keys() == type(settings).model_fields.keys()
    assert type(settings).model_validate(dict(settings)) == settings
    assert dict(settings.plans[0]).keys() == type(settings.plans[0]).model_fields.keys()
