"""What an administrator sees of the routes: how they are configured, and how they do."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr
from tests.server.fakes import KEY

from flatfee.receipt import Attempt
from flatfee.server.health import COOL_DOWN, FAILURES_TO_OPEN
from flatfee.server.keys import KeyKind


async def health_of(office: Any, name: str) -> Any:
    """Return what the one process of the gateway knows of a route."""
    (route,) = [route for route in (await office.get("/routes"))["data"] if route["name"] == name]
    (worker,) = route["workers"]
    assert (worker["worker"], worker["answered"]) == (0, True)
    return worker["health"]


async def test_every_configured_route_is_listed_with_its_settings(office: Any) -> None:
    configured = office.rig.gateway.settings.routes
    data = (await office.get("/routes"))["data"]
    assert [route["name"] for route in data] == [route.name for route in configured]
    for told, route in zip(data, configured, strict=True):
        for member in ("provider", "model", "tier", "priority", "weight", "prefill"):
            assert told[member] == getattr(route, member)


@pytest.mark.parametrize(
    ("configured", "holds"),
    [
        ({}, (10.0, 60.0)),
        ({"first_token_timeout": 4.0}, (4.0, 4.0)),
        ({"total_timeout": 20.0}, (10.0, 20.0)),
    ],
)
async def test_time_limits_are_told_as_they_hold(
    office: Any, configured: dict[str, float], holds: tuple[float, float]
) -> None:
    settings = office.rig.gateway.settings
    bare = {"first_token_timeout": None, "connect_timeout": 3.0, "idle_timeout": 9.0, "total_timeout": 600.0}
    route = settings.routes[0].model_copy(update=bare | configured)
    office.rig.gateway.settings = settings.model_copy(update={"routes": (route,)})
    (told,) = (await office.get("/routes"))["data"]
    limits = told["time_limits"]
    assert (limits["first_token"], limits["first_token_alone"]) == holds
    assert (limits["connect"], limits["idle"], limits["total"]) == (3.0, 9.0, configured.get("total_timeout", 600.0))


async def test_a_route_that_was_never_tried_is_well(office: Any) -> None:
    name = office.rig.gateway.settings.routes[0].name
    assert await health_of(office, name) == {
        "circuit": "closed",
        "failures_in_a_row": 0,
        "opens_in": 0.0,
        "probing": False,
        "outcomes": {},
        "recent": [],
        "duration_ms": None,
        "first_token_ms": None,
        "last_success": None,
        "last_failure": None,
    }


async def test_what_the_tries_came_to_is_told(office: Any) -> None:
    gateway = office.rig.gateway
    name, other = (route.name for route in gateway.settings.routes[:2])
    ok = Attempt(route=name, outcome="ok", status=200, duration_ms=70, first_token_ms=30)
    gateway.health.noted(name, ok, 1_793_534_400.9)
    gateway.health.noted(name, Attempt(route=name, outcome="timeout", duration_ms=10_000), 1_793_534_460.0)
    now = gateway.monotonic()
    for _ in range(FAILURES_TO_OPEN):
        gateway.health.failed(name, now, 0)
    answered = {"at": "2026-11-01T12:00:00Z", "outcome": "ok", "status": 200, "duration_ms": 70, "first_token_ms": 30}
    timeout = {"at": "2026-11-01T12:01:00Z", "outcome": "timeout", "status": None} | {
        "duration_ms": 10_000,
        "first_token_ms": None,
    }
    health = await health_of(office, name)
    assert 0 < health.pop("opens_in") <= COOL_DOWN
    assert health == {
        "circuit": "open",
        "failures_in_a_row": FAILURES_TO_OPEN,
        "probing": False,
        "outcomes": {"ok": 1, "timeout": 1},
        "recent": [timeout, answered],
        "duration_ms": {"p50": 70, "p90": 70},
        "first_token_ms": {"p50": 30, "p90": 30},
        "last_success": answered,
        "last_failure": timeout,
    }
    assert (await health_of(office, other))["circuit"] == "closed"


async def test_where_a_provider_is_and_what_its_key_is_are_not_told(office: Any) -> None:
    settings = office.rig.gateway.settings
    secret, url = SecretStr("canary-provider-key"), "http://canary.example/v1"
    providers = tuple(each.model_copy(update={"api_key": secret, "base_url": url}) for each in settings.providers)
    office.rig.gateway.settings = settings.model_copy(update={"providers": providers})
    told = str(await office.get("/routes"))
    assert settings.providers[0].name in told
    assert "canary" not in told
    assert "base_url" not in told
    assert "key" not in told


@pytest.mark.parametrize("key", [KEY, None])
async def test_only_an_administrator_may_see_them(office: Any, key: str | None) -> None:
    team = await office.key(KeyKind.TEAM, "acme")
    for one in (key, team):
        assert (await office.refused("GET", "/routes", key=one))[0] in {401, 403}
