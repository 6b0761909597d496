"""Makers of what policy looks at; each fills in what a test does not care about."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from flatfee.server.keys import KeyKind
from flatfee.server.policy.facts import Facts
from flatfee.server.policy.plan import RoutePlan, plan_routes
from flatfee.server.policy.ranks import Ranks
from flatfee.server.settings import PlanSettings, PolicySettings, RouteSettings
from flatfee.server.store.records import Caller
from flatfee.wire import Billing, OnExhausted, Tier


def make_facts(**more: Any) -> Facts:
    facts: dict[str, Any] = {
        "model": "auto",
        "account": "acme",
        "project": "ci",
        "workflow": None,
        "at": datetime(2026, 11, 25, 12, tzinfo=UTC),
        "task": None,
        "reasoning_effort": None,
        "prompt_tokens": 5000,
        "output_tokens": None,
        "choices": 1,
        "tools": False,
        "images": False,
        "json_schema": False,
        "on_exhausted": OnExhausted.CONTINUE,
    }
    return Facts(**facts | more)


def make_caller(billing: Billing = Billing.ACTIVE) -> Caller:
    return Caller(
        key_id="key",
        kind=KeyKind.PROJECT,
        account="acme",
        project="ci",
        plan="pro",
        billing=billing,
        billing_day=1,
    )


def make_plan(**more: Any) -> PlanSettings:
    return PlanSettings.model_validate({"name": "pro", "fair_use": 1_000_000, "output_reserve": 1000} | more)


def make_route(name: str, tier: str = "premium", **more: Any) -> RouteSettings:
    return RouteSettings.model_validate({"name": name, "provider": "p", "model": name, "tier": tier} | more)


@pytest.fixture(scope="session")
def facts() -> Callable[..., Facts]:
    return make_facts


@pytest.fixture(scope="session")
def caller() -> Callable[..., Caller]:
    return make_caller


@pytest.fixture(scope="session")
def plan() -> Callable[..., PlanSettings]:
    return make_plan


@pytest.fixture(scope="session")
def route() -> Callable[..., RouteSettings]:
    return make_route


@pytest.fixture(scope="session")
def planned() -> Callable[..., RoutePlan]:
    """Plan with two premium routes and one economy route, unless a test says otherwise."""
    usual = (make_route("p1"), make_route("p2", priority=2), make_route("e1", Tier.ECONOMY))

    def plan_(routes: tuple[RouteSettings, ...] = usual, **more: Any) -> RoutePlan:
        wanted = {"billing": Billing.ACTIVE, "plan": {}, "policy": {}, "down": frozenset(), "chance": lambda: 0.5}
        given: dict[str, Any] = wanted | {name: more.pop(name) for name in wanted.keys() & more.keys()}
        return plan_routes(
            make_facts(**more),
            make_caller(given["billing"]),
            make_plan(**given["plan"]),
            PolicySettings.model_validate(given["policy"]),
            Ranks.of(routes),
            given["down"],
            given["chance"],
        )

    return plan_
