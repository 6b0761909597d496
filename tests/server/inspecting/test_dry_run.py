"""``POST /v1/route``: what it tells, and in which shape. That it comes true: ``test_foresight``."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.fakes import (
    PROMPT,
    ScriptedProvider,
    error,
    make_settings,
    route,
)
from tests.server.fakes_gateway import running

NO_PREMIUM_FOR_ECONOMY = "an economy request may not end on premium (policy.economy_may_use_premium)"


async def test_the_dry_run_needs_a_key() -> None:
    async with running() as rig:
        assert (await rig.dry_run({"authorization": "Bearer no"})).json()["error"]["code"] == "invalid_api_key"


async def test_a_dry_run_tells_what_would_happen_and_consumes_nothing() -> None:
    async with running(make_settings(requests_per_minute=1)) as rig:
        responses = [await rig.dry_run(model="auto", max_tokens=50) for _ in range(2)]
        assert [response.status_code for response in responses] == [200, 200]
        usage = await rig.usage()
        assert rig.provider.asked == []
        assert (await rig.client.get("/v1/receipts")).json()["data"] == []
    told = responses[-1].json()
    tokens = told["estimate"]["prompt_tokens"]
    assert tokens > 5
    assert told == {
        "object": "route",
        "lane": "budget",
        "reason": "small_task",
        "tier": "economy",
        "route": "thrifty",
        "model": "thrifty-model",
        "estimate": {"prompt_tokens": tokens, "output_tokens": 50, "units": 0},
        "then": [],
        "on_failure": told["on_failure"],
        "skipped": [],
        "ineligible": [
            {"route": name, "tier": "premium", "because": NO_PREMIUM_FOR_ECONOMY} for name in ("first", "second")
        ],
        "rules": [
            {"rule": "fragile_reasoning", "matched": False, "because": "no task hint"},
            {"rule": "fragile_reasoning", "matched": False, "because": "no reasoning_effort"},
            {
                "rule": "context_size",
                "matched": False,
                "because": f"context is about {tokens} tokens, not over 120000",
            },
            {"rule": "small_task", "matched": False, "because": "no task hint"},
            {
                "rule": "small_task",
                "matched": True,
                "because": f"context is about {tokens} tokens, under 2000; 50 output tokens asked for, at most 256; "
                "no tools are given",
            },
        ],
    }
    assert (usage["fair_use"]["used"], usage["fair_use"]["pending"], usage["workflows"]["active"]) == (0, 0, 0)


async def test_a_dry_run_tells_the_units_and_what_comes_on_failure() -> None:
    async with running() as rig:
        told = (await rig.dry_run()).json()
    assert (told["lane"], told["reason"], told["route"]) == ("premium", "requested", "first")
    assert told["estimate"]["units"] == told["estimate"]["prompt_tokens"] + 4 * 100
    fallback = {"lane": "fallback", "units": told["estimate"]["units"]}
    assert told["then"] == [
        {"route": "second", "tier": "premium", "model": "second-model", **fallback},
        {"route": "thrifty", "tier": "economy", "model": "thrifty-model", **fallback, "units": 0},
    ]
    assert "rules" not in told


@pytest.mark.parametrize("case", ["healthy", "first down", "all down", "spent", "past due", "auto"])
async def test_a_dry_run_says_what_then_happens(case: str) -> None:
    options: dict[str, dict[str, Any]] = {"spent": {"fair_use": 10}, "past due": {"billing": "past_due"}}
    async with running(make_settings(**options.get(case, {}))) as rig:
        rig.take_down(*{"first down": ("first",), "all down": ("first", "second", "thrifty")}.get(case, ()))
        body: dict[str, Any] = {"model": "auto" if case == "auto" else "premium"}
        told = (await rig.dry_run(**body)).json()
        real = await rig.ask(**body)
    if case == "all down":
        assert real.status_code == 503
        assert (told["lane"], told["route"]) == ("premium", "first")
        assert told["error"] == real.json()["error"]["code"]
        assert [skipped["route"] for skipped in told["skipped"]] == ["first", "second", "thrifty"]
        return
    receipt = real.json()["flatfee"]
    assert [told[name] for name in ("lane", "reason", "tier", "route")] == [
        receipt[name] for name in ("lane", "reason", "tier", "route")
    ]
    assert told["model"] == receipt["model_served"]


async def test_a_dry_run_of_what_would_be_refused_is_refused() -> None:
    async with running(make_settings(fair_use=10, continuation=False)) as rig:
        response = await rig.dry_run()
        wrong = await rig.dry_run(model="gpt-6")
    assert (response.status_code, response.json()["error"]["code"]) == (402, "fair_use_exhausted")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_dry_run_stays_in_its_tool_loop() -> None:
    routes = [route("one", priority=1), route("two", priority=2)]
    loop = [{"role": "user", "content": PROMPT}, {"role": "tool", "tool_call_id": "1", "content": "42"}]
    async with running(make_settings(routes=routes), ScriptedProvider(one=error(401))) as rig:
        headers = {"x-flatfee-workflow": "w"}
        await rig.ask(headers, model="auto")
        told = (await rig.dry_run(headers, model="auto", messages=loop)).json()
    assert (told["reason"], told["route"]) == ("workflow_affinity", "two")


async def test_equal_routes_tell_their_share_and_not_a_draw() -> None:
    routes = [route("a", weight=3), route("b", weight=1)]
    async with running(make_settings(routes=routes)) as rig:
        rig.gateway.chance = iter([0.01, 0.99, 0.99, 0.01]).__next__
        first, second = (await rig.dry_run()).json(), (await rig.dry_run()).json()
    assert first == second
    assert (first["route"], first["share"]) == ("a", 0.75)
    assert [(each["route"], "share" in each) for each in first["then"]] == [("b", False)]


@pytest.mark.parametrize(("tier", "wanted"), [("economy", "premium"), ("premium", "economy")])
async def test_where_the_other_tier_serves_it_the_last_step_says_why(tier: str, wanted: str) -> None:
    rules = [{"tier": wanted, "reason": "default"}]
    async with running(make_settings(routes=[route("only", tier)], policy={"rules": rules})) as rig:
        told = (await rig.dry_run(model="auto")).json()
    assert (told["tier"], told["rules"]) == (
        tier,
        [
            {"rule": "default", "matched": True},
            {"rule": "eligibility", "matched": True, "because": f"no {wanted} route can take it"},
        ],
    )


async def test_a_tool_loop_says_on_which_route_it_is_open() -> None:
    routes = [route("one", priority=1), route("two", priority=2)]
    loop = [{"role": "user", "content": PROMPT}, {"role": "tool", "tool_call_id": "1", "content": "42"}]
    async with running(make_settings(routes=routes)) as rig:
        headers = {"x-flatfee-workflow": "w"}
        await rig.ask(headers, model="auto")
        told = (await rig.dry_run(headers, model="auto", messages=loop)).json()
    assert told["rules"] == [{"rule": "workflow_affinity", "matched": True, "because": "a tool loop is open on one"}]
