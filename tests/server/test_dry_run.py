"""``POST /v1/route``: what it tells, and that the gateway then does just that."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from tests.server.fakes import (
    KEY,
    PROMPT,
    ROUTES,
    Reply,
    ScriptedProvider,
    error,
    make_body,
    make_settings,
    route,
    unreachable,
)
from tests.server.fakes_gateway import Rig, running

from flatfee.server.gateway import calendar_of, terms_of
from flatfee.server.health import COOL_DOWN, FAILURES_TO_OPEN, Health
from flatfee.server.keys import digest
from flatfee.server.policy.foresee import Failure
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.stages.admit import refusal_of
from flatfee.server.store.records import Offer, Outcome, Purse, Reservation, Ticket
from flatfee.wire import AttemptOutcome, Lane, Reason

NO_PREMIUM_FOR_ECONOMY = "an economy request may not end on premium (policy.economy_may_use_premium)"


async def dry_run(rig: Rig, headers: Mapping[str, str] | None = None, **body: Any) -> httpx.Response:
    return await rig.client.post("/v1/route", json=make_body(**body), headers=headers)


async def down(rig: Rig, *names: str) -> None:
    for name in names * FAILURES_TO_OPEN:
        rig.gateway.health.failed(name, rig.gateway.monotonic(), 0)


async def test_the_dry_run_needs_a_key() -> None:
    async with running() as rig:
        assert (await dry_run(rig, {"authorization": "Bearer no"})).json()["error"]["code"] == "invalid_api_key"


async def test_a_dry_run_tells_what_would_happen_and_consumes_nothing() -> None:
    async with running(make_settings(requests_per_minute=1)) as rig:
        for _ in range(2):
            response = await dry_run(rig, model="auto", max_tokens=50)
            assert response.status_code == 200
        usage = await rig.usage()
        assert rig.provider.asked == []
        assert (await rig.client.get("/v1/receipts")).json()["data"] == []
    told = response.json()
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
        told = (await dry_run(rig)).json()
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
        await down(rig, *{"first down": ("first",), "all down": ("first", "second", "thrifty")}.get(case, ()))
        body: dict[str, Any] = {"model": "auto" if case == "auto" else "premium"}
        told = (await dry_run(rig, **body)).json()
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
        response = await dry_run(rig)
        wrong = await dry_run(rig, model="gpt-6")
    assert (response.status_code, response.json()["error"]["code"]) == (402, "fair_use_exhausted")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_dry_run_stays_in_its_tool_loop() -> None:
    routes = [route("one", priority=1), route("two", priority=2)]
    loop = [{"role": "user", "content": PROMPT}, {"role": "tool", "tool_call_id": "1", "content": "42"}]
    async with running(make_settings(routes=routes), ScriptedProvider(one=error(401))) as rig:
        headers = {"x-flatfee-workflow": "w"}
        await rig.ask(headers, model="auto")
        told = (await dry_run(rig, headers, model="auto", messages=loop)).json()
    assert (told["reason"], told["route"]) == ("workflow_affinity", "two")


FAILING: Mapping[Failure, Reply] = {
    Failure.PROVIDER_TIMEOUT: Reply(fails=ProviderFailure(AttemptOutcome.TIMEOUT, "silent")),
    Failure.PROVIDER_ERROR: error(500),
    Failure.PROVIDER_RATE_LIMITED: error(429),
    Failure.PROVIDER_UNAVAILABLE: unreachable(),
    Failure.CONTEXT_OVERFLOW: error(400, "context_length_exceeded"),
    Failure.CONTENT_REFUSED: error(400, "content_policy_violation"),
}
"""How each failure of a provider looks."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A gateway, how its routes do, and a request.

    ``flaky`` routes have failed all but once too often, ``mending`` ones so often that the next request is a probe;
    of ``probed`` ones that probe runs.
    """

    routes: Sequence[Mapping[str, Any]] = ROUTES
    settings: Mapping[str, Any] = field(default_factory=dict)
    down: Sequence[str] = ()
    flaky: Sequence[str] = ()
    mending: Sequence[str] = ()
    probed: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)


def sized(*sizes: int | None) -> Sequence[Mapping[str, Any]]:
    """Return routes in this order, by the context they hold."""
    return [route(f"r{n}", priority=n, context_tokens=size) for n, size in enumerate(sizes)]


SCENES = {
    "three routes": Scene(),
    "streamed": Scene(body={"stream": True}),
    "auto": Scene(body={"model": "auto"}),
    "one route": Scene(routes=[route("first")]),
    "first down": Scene(down=("first",)),
    "second down": Scene(down=("second",)),
    "only one up": Scene(down=("first", "second")),
    "flaky": Scene(flaky=("first",)),
    "mending": Scene(mending=("first",)),
    "a probe runs": Scene(probed=("first",)),
    "premium or nothing": Scene(headers={"x-flatfee-on-exhausted": "fail"}),
    "no continuation": Scene(settings={"continuation": False}),
    "past due": Scene(settings={"billing": "past_due"}),
    "economy": Scene(body={"model": "economy"}),
    "economy up to premium": Scene(body={"model": "economy"}, settings={"policy": {"economy_may_use_premium": True}}),
    "no larger route": Scene(routes=sized(1000, 1000, 900)),
    "a larger route": Scene(routes=sized(1000, 900, 2000, None)),
    "the larger route down": Scene(routes=sized(1000, 900, 2000), down=("r2",)),
    "routes of unknown size": Scene(routes=sized(None, 1000, None)),
    "continuation with a limit": Scene(settings={"fair_use": 1, "continuation_limit": 100_000}),
    "continuation without one": Scene(settings={"fair_use": 1}),
}
in_every_scene = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)


class Stage:
    """A gateway in a scene, as often as wanted from its beginning."""

    def __init__(self, rig: Rig, scene: Scene) -> None:
        self.rig = rig
        self.scene = scene

    async def foretold(self) -> Any:
        """Return the dry run's answer."""
        await self.play({})
        response = await dry_run(self.rig, self.scene.headers, **self.scene.body)
        assert response.status_code == 200, response.text
        return response.json()

    async def play(self, scripts: Mapping[str, Reply]) -> None:
        """Begin anew, with routes that answer as told."""
        self.rig.provider.scripts = {name: deque([reply]) for name, reply in scripts.items()}
        self.rig.provider.asked.clear()
        health = self.rig.gateway.health = Health()
        now, scene = self.rig.gateway.monotonic(), self.scene
        await down(self.rig, *scene.down)
        for name in tuple(scene.flaky) * (FAILURES_TO_OPEN - 1):
            health.failed(name, now, 0)
        for name in (*scene.mending, *scene.probed) * FAILURES_TO_OPEN:
            health.failed(name, now - COOL_DOWN, 0)
        for name in scene.probed:
            assert health.admits(name, now)

    async def ask(self) -> tuple[httpx.Response, Any]:
        """Send the completion; return the answer, and its receipt."""
        response = await self.rig.ask(self.scene.headers, **self.scene.body)
        return response, await self.rig.receipt(response)


@asynccontextmanager
async def staged(scene: Scene) -> AsyncGenerator[Stage, None]:
    async with running(make_settings(routes=scene.routes, **scene.settings)) as rig:
        yield Stage(rig, scene)


@in_every_scene
async def test_each_failure_or_none_leads_to_what_the_dry_run_said(scene: Scene) -> None:
    async with staged(scene) as stage:
        told = await stage.foretold()
        _, receipt = await stage.ask()
        assert [told[member] for member in ("route", "lane", "reason", "tier", "model")] == [
            receipt[member] for member in ("route", "lane", "reason", "tier", "model_served")
        ]
        assert [each["failure"] for each in told["on_failure"]][: len(FAILING)] == list(FAILING)
        for promise in told["on_failure"][: len(FAILING)]:
            await stage.play({told["route"]: FAILING[Failure(promise["failure"])]})
            real, receipt = await stage.ask()
            tries = [told["route"]] * (2 if promise["again"] else 1)
            assert stage.rig.provider.routes == tries + [promise["next"]] * (promise["next"] is not None), promise
            assert (real.status_code == 200) is (promise["next"] is not None)
            if promise["next"] is not None:
                found = [receipt[member] for member in ("route", "lane", "reason")]
                assert found == [promise[member] for member in ("next", "lane", "reason")], promise


@in_every_scene
async def test_where_every_route_fails_alike_the_error_is_the_one_that_was_said(scene: Scene) -> None:
    async with staged(scene) as stage:
        for promise in (await stage.foretold())["on_failure"][: len(FAILING)]:
            reply = FAILING[Failure(promise["failure"])]
            await stage.play({each["name"]: reply for each in scene.routes})
            real, _ = await stage.ask()
            own = json.loads(b"".join(piece for piece in reply.pieces if isinstance(piece, bytes)) or b"{}")
            expected = promise.get("then_error") or own["error"]["code"]
            assert real.json()["error"]["code"] == expected, promise


@in_every_scene
async def test_once_the_allowance_is_spent_what_was_said_happens(scene: Scene) -> None:
    async with staged(scene) as stage:
        told = await stage.foretold()
        promises = [each for each in told["on_failure"] if each["failure"] == "fair_use_exhausted"]
        await spend(stage.rig, Purse.CONTINUATION if told["lane"] == "continuation" else Purse.FAIR_USE)
        real, receipt = await stage.ask()
    if not promises:
        assert real.status_code == 200, "an allowance without a limit is never spent"
    elif promises[0]["next"] is None:
        assert real.json()["error"]["code"] == promises[0]["then_error"]
    else:
        found = [receipt[member] for member in ("route", "lane", "reason")]
        assert found == [promises[0][member] for member in ("next", "lane", "reason")]


async def spend(rig: Rig, purse: Purse) -> None:
    """Use up an allowance to its last unit; of one without a limit, a little."""
    store, plan = rig.gateway.store, rig.gateway.settings.plans[0]
    caller = await store.find_key(digest(KEY))
    assert caller is not None
    offer = Offer(lane=Lane.PREMIUM, reason=Reason.DEFAULT, purse=purse)
    want = Reservation(
        request_id="req_spent",
        caller=caller,
        terms=terms_of(plan),
        calendar=calendar_of(caller, plan),
        workflow=None,
        offers=(offer,),
        model_requested="premium",
        lease=60.0,
    )
    ticket = await store.reserve(want)
    assert isinstance(ticket, Ticket)
    await store.dispatch(ticket)
    limit = plan.fair_use if purse is Purse.FAIR_USE else plan.continuation_limit or 1
    await store.settle(ticket, Outcome(charged=limit, receipt=refusal_of(want)))


async def test_equal_routes_tell_their_share_and_not_a_draw() -> None:
    routes = [route("a", weight=3), route("b", weight=1)]
    async with running(make_settings(routes=routes)) as rig:
        rig.gateway.chance = iter([0.01, 0.99, 0.99, 0.01]).__next__
        first, second = (await dry_run(rig)).json(), (await dry_run(rig)).json()
    assert first == second
    assert (first["route"], first["share"]) == ("a", 0.75)
    assert [(each["route"], "share" in each) for each in first["then"]] == [("b", False)]


@pytest.mark.parametrize(("tier", "wanted"), [("economy", "premium"), ("premium", "economy")])
async def test_where_the_other_tier_serves_it_the_last_step_says_why(tier: str, wanted: str) -> None:
    rules = [{"tier": wanted, "reason": "default"}]
    async with running(make_settings(routes=[route("only", tier)], policy={"rules": rules})) as rig:
        told = (await dry_run(rig, model="auto")).json()
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
        told = (await dry_run(rig, headers, model="auto", messages=loop)).json()
    assert told["rules"] == [{"rule": "workflow_affinity", "matched": True, "because": "a tool loop is open on one"}]
