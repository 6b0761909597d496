"""Whatever a dry run says of failures is what the gateway then does: each is played, in many scenes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
import pytest
from tests.server.fakes import (
    KEY,
    ROUTES,
    Reply,
    error,
    make_settings,
    route,
    unreachable,
)
from tests.server.fakes_gateway import Rig, running

from flatfee.server.gateway import calendar_of, terms_of
from flatfee.server.health import COOL_DOWN, FAILURES_TO_OPEN, Health
from flatfee.server.inspecting.inspection import likeliest
from flatfee.server.keys import digest
from flatfee.server.policy.foresee import Failure
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.stages.admit import refusal_of
from flatfee.server.store.records import Offer, Outcome, Purse, Reservation, Ticket
from flatfee.wire import AttemptOutcome, Lane, Reason

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
        response = await self.rig.dry_run(self.scene.headers, **self.scene.body)
        assert response.status_code == 200, response.text
        return response.json()

    async def play(self, scripts: Mapping[str, Reply]) -> None:
        """Begin anew, with routes that answer as told."""
        self.rig.provider.scripts = {name: deque([reply]) for name, reply in scripts.items()}
        self.rig.provider.asked.clear()
        health = self.rig.gateway.health = Health()
        now, scene = self.rig.gateway.monotonic(), self.scene
        self.rig.take_down(*scene.down)
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


async def play_each_failure(stage: Stage) -> None:
    """Compare what the dry run says with what the gateway does, where nothing fails and for each failure."""
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


async def play_failures_of_all(stage: Stage) -> None:
    """Compare the error that was said with the gateway's, where every route fails in the same way."""
    for promise in (await stage.foretold())["on_failure"][: len(FAILING)]:
        reply = FAILING[Failure(promise["failure"])]
        await stage.play({each["name"]: reply for each in stage.scene.routes})
        real, _ = await stage.ask()
        own = json.loads(b"".join(piece for piece in reply.pieces if isinstance(piece, bytes)) or b"{}")
        expected = promise.get("then_error") or own["error"]["code"]
        assert real.json()["error"]["code"] == expected, promise


@in_every_scene
async def test_each_failure_or_none_leads_to_what_the_dry_run_said(scene: Scene) -> None:
    async with staged(scene) as stage:
        await play_each_failure(stage)


@in_every_scene
async def test_where_every_route_fails_alike_the_error_is_the_one_that_was_said(scene: Scene) -> None:
    async with staged(scene) as stage:
        await play_failures_of_all(stage)


def any_scene(dice: Random) -> Scene:
    names = [f"r{number}" for number in range(dice.randint(1, 6))]
    sizes, tiers = [None, None, 900, 1000, 2000], ["premium", "premium", "economy"]
    routes = [
        route(
            name,
            dice.choice(tiers),
            priority=dice.randint(1, 4),
            context_tokens=dice.choice(sizes),
            token_factor=dice.choice([1.0, 1.0, 1.3]),
        )
        for name in names
    ]
    return Scene(
        routes=routes,
        settings={
            "continuation": dice.random() < 0.8,
            "billing": dice.choice(["active", "active", "past_due"]),
            "policy": {"economy_may_use_premium": dice.random() < 0.5},
        },
        down=[name for name in names if dice.random() < 0.25],
        flaky=[name for name in names if dice.random() < 0.1],
        body={"model": dice.choice(["auto", "premium", "economy"]), "stream": dice.random() < 0.3},
    )


@pytest.mark.slow
async def test_in_scenes_by_chance_each_failure_leads_to_what_was_said() -> None:
    played = 0
    for seed in range(100):
        async with staged(any_scene(Random(seed))) as stage:
            stage.rig.gateway.chance = likeliest
            await stage.play({})
            response = await stage.rig.dry_run(**stage.scene.body)
            if response.status_code != 200 or "error" in response.json():
                continue
            await play_each_failure(stage)
            await play_failures_of_all(stage)
            played += 1
    assert played > 50


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
