"""The two configurations of the proof, and the outages of its month."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.replays.providers import Outage
from tests.replays.traffic import START

from flatfee.server.settings import Settings

_ROUTES: Final[tuple[Mapping[str, Any], ...]] = (
    {"name": "first", "tier": "premium", "priority": 1, "context_tokens": 150_000},
    {
        "name": "second",
        "tier": "premium",
        "priority": 2,
        "context_tokens": 400_000,
        "token_factor": 1.3,
        "meter": {"output": 6.0},
    },
    {"name": "cheap", "tier": "economy", "priority": 1, "capabilities": ["tools"]},
    {"name": "long", "tier": "economy", "priority": 2},
)
_PLANS: Final[tuple[Mapping[str, Any], ...]] = (
    {
        "name": "pro",
        "fair_use": 400_000,
        "concurrent_workflows": 3,
        "workflow_fanout": 3,
        "continuation_limit": 900_000,
    },
    {"name": "hours", "fair_use": 60_000, "window": "5h", "concurrent_workflows": 2, "workflow_idle": 30.0},
    {"name": "calls", "fair_use": 120, "meter": "requests", "continuation": False, "requests_per_minute": 6},
)


def old() -> Settings:
    """Return the configuration that the traffic was served with."""
    return _settings(_ROUTES, _PLANS, {})


def new() -> Settings:
    """Return the changed one: other rules, other order of routes, other plans."""
    routes = [
        {**_ROUTES[0], "priority": 2, "meter": {"input": 1.5}},
        {**_ROUTES[1], "priority": 1},
        _ROUTES[3],
        {**_ROUTES[2], "priority": 3},
    ]
    plans = [
        {**_PLANS[0], "fair_use": 250_000, "concurrent_workflows": 2},
        {**_PLANS[1], "fair_use": 90_000, "window": "7d", "workflow_idle": 120.0},
        {**_PLANS[2], "fair_use": 200, "continuation": True, "workflow_fanout": 2},
    ]
    rules = [
        {"when": {"fair_use_left_under": 0.3, "task": ["edit", "review"]}, "tier": "economy", "reason": "default"},
        {"when": {"hours": ["22:00-06:00"], "tools": False}, "tier": "economy", "reason": "small_task"},
        {"when": {"task": ["plan", "edit", "review", "final"]}, "tier": "premium", "reason": "fragile_reasoning"},
        {"when": {"context_over": 20_000}, "tier": "economy", "reason": "context_size"},
    ]
    return _settings(routes, plans, {"rules": rules, "economy_may_use_premium": True})


def _settings(routes: Any, plans: Any, policy: Mapping[str, Any]) -> Settings:
    return Settings.model_validate(
        {
            "server": {"store": "memory://"},
            "providers": [{"name": "fake", "kind": "simulated"}],
            "routes": [{"provider": "fake", "model": f"model-of-{route['name']}", **route} for route in routes],
            "plans": list(plans),
            "policy": policy,
            "aliases": {"gpt-5": "premium"},
        }
    )


def plans_of(accounts: int) -> dict[str, str]:
    """Return the plan of each account."""
    names = ("pro", "pro", "hours", "calls")
    return {f"a{number:04}": names[number % len(names)] for number in range(accounts)}


def outages(days: int, each: float) -> list[Outage]:
    """Return bad times of the routes: one in ``each`` hours, and at every third of them of several routes at once."""
    kinds = ("503", "refused connection", "silence", "quota", "500", "too large", "408")
    routes = ("first", "second", "cheap", "first", "long", "first", "cheap")
    found = []
    for number in range(int(days * 24 / each)):
        start = START + number * each * 3600 + 0.25
        long = each * 900
        found.append(Outage(routes[number % 7], start, start + long, kinds[number % 7]))
        if number % 3 == 0:
            found.append(Outage("second", start + long / 3, start + 3 * long / 4, "503"))
            found.append(Outage("cheap", start + long / 2, start + 2 * long / 3, "500"))
            found.append(Outage("long", start + long / 2, start + 3 * long / 5, "503"))
    return found
