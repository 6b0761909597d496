"""A completion from end to end in memory: lanes, headers, the ledger, whose receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.server.fakes import (
    OTHER_KEY,
    STREAM,
    FailingStore,
    ScriptedProvider,
    Silence,
    delta,
    error,
    events_of,
    make_settings,
    route,
    streamed,
    until,
)
from tests.server.fakes_gateway import running

from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import (
    Outcome,
    Settlement,
    Ticket,
)

SERVED = (
    "x-flatfee-lane",
    "x-flatfee-reason",
    "x-flatfee-model",
    "x-flatfee-route",
    "x-flatfee-attempts",
    "x-flatfee-fair-use-remaining",
    "x-flatfee-fair-use-limit",
    "x-flatfee-fair-use-reset",
    "x-flatfee-workflows-active",
    "x-flatfee-workflows-limit",
)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_success_carries_every_header(stream: bool) -> None:
    async with running() as rig:
        response = await rig.ask({"x-flatfee-workflow": "run-42"}, stream=stream)
    headers = response.headers
    assert response.status_code == 200
    assert {name: headers[name] for name in SERVED if not name.endswith(("remaining", "reset"))} == {
        "x-flatfee-lane": "premium",
        "x-flatfee-reason": "requested",
        "x-flatfee-model": "first-model",
        "x-flatfee-route": "first",
        "x-flatfee-attempts": "1",
        "x-flatfee-fair-use-limit": "100000",
        "x-flatfee-workflows-active": "1",
        "x-flatfee-workflows-limit": "4",
    }
    assert 0 < int(headers["x-flatfee-fair-use-remaining"]) < 100_000
    assert headers["x-flatfee-fair-use-reset"].endswith("T00:00:00Z")
    assert headers["x-flatfee-request-id"] == headers["x-request-id"]
    assert len(headers["x-request-id"]) == 30
    assert "x-should-retry" not in headers


async def test_a_plain_answers_figures_are_settled_in_headers_and_body() -> None:
    async with running() as rig:
        response = await rig.ask({"x-flatfee-workflow": "run-42"})
        receipt = await rig.receipt(response)
        usage = await rig.usage()
    assert response.json()["flatfee"] == receipt
    assert list(response.json())[-1] == "flatfee"
    reset, created = receipt["fair_use"].pop("resets_at"), receipt.pop("created_at")
    assert (reset[-1], created[-1]) == ("Z", "Z")
    assert receipt["attempts"][0].pop("duration_ms") >= 0
    assert receipt == {
        "request_id": response.headers["x-flatfee-request-id"],
        "lane": "premium",
        "reason": "requested",
        "state": "settled",
        "model_requested": "premium",
        "model_served": "first-model",
        "route": "first",
        "tier": "premium",
        "fair_use": {"unit": "token", "charged": 30, "remaining": 99_970, "limit": 100_000},
        "workflow": {"id": "run-42", "active": 1, "limit": 4},
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 0},
        "attempts": [{"route": "first", "outcome": "ok", "status": 200}],
    }
    assert response.headers["x-flatfee-fair-use-remaining"] == "99970"
    assert (usage["fair_use"]["used"], usage["fair_use"]["pending"]) == (30, 0)


async def test_a_streams_last_event_carries_the_settled_receipt() -> None:
    async with running() as rig:
        response = await rig.ask(stream=True)
        receipt = await rig.receipt(response)
    events = events_of(response.content)
    assert response.content.startswith(STREAM[0] + STREAM[1])
    assert [("flatfee" in told) for told in events[:-1]] == [False, False, True]
    assert events[-1] == "[DONE]"
    assert events[-2]["flatfee"] == receipt
    assert receipt["state"] == "settled"


async def test_usage_reaches_a_streaming_caller_only_if_it_asked() -> None:
    async with running() as rig:
        with_usage = await rig.ask(stream=True, stream_options={"include_usage": True})
        without = await rig.ask(stream=True, stream_options={"include_usage": False})
    assert events_of(with_usage.content)[-2]["usage"]["completion_tokens"] == 5
    assert not any("usage" in told for told in events_of(without.content)[:-1])


async def test_a_requests_reservation_is_held_while_it_runs_and_its_receipt_says_so() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(first=streamed(STREAM[0], gate, *STREAM[1:]))
    async with running(provider=provider) as rig:
        asking = asyncio.create_task(rig.ask({"x-flatfee-workflow": "w"}, stream=True))
        await until(lambda: provider.asked)
        (request_id,) = rig.gateway.running
        usage = await rig.usage()
        receipt = (await rig.client.get(f"/v1/receipts/{request_id}")).json()
        gate.set()
        await asking
        assert usage["fair_use"]["pending"] > 400
        assert usage["workflows"]["active"] == 1
        assert (receipt["state"], receipt["lane"], receipt["workflow"]) == ("in_flight", "premium", {"id": "w"})
        assert rig.gateway.running == {}
        assert (await rig.usage())["fair_use"]["pending"] == 0


Setup = Callable[[], dict[str, Any]]
LANES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str], tuple[str, str, str]]] = {
    # settings, body, headers → lane, reason, route
    "asked for premium": ({}, {}, {}, ("premium", "requested", "first")),
    "asked for economy": ({}, {"model": "economy"}, {}, ("budget", "requested", "thrifty")),
    "an alias": ({"aliases": {"gpt-5": "premium"}}, {"model": "gpt-5"}, {}, ("premium", "requested", "first")),
    "auto": ({}, {"model": "auto"}, {}, ("premium", "default", "first")),
    "auto, a fragile task": (
        {},
        {"model": "auto"},
        {"x-flatfee-task": "plan"},
        ("premium", "fragile_reasoning", "first"),
    ),
    "auto, much effort": (
        {},
        {"model": "auto", "reasoning_effort": "high"},
        {},
        ("premium", "fragile_reasoning", "first"),
    ),
    "auto, small talk": ({}, {"model": "auto"}, {"x-flatfee-task": "chat"}, ("budget", "small_task", "thrifty")),
    "auto, a short answer": ({}, {"model": "auto", "max_tokens": 5}, {}, ("budget", "small_task", "thrifty")),
    "fair-use spent": ({"fair_use": 10}, {}, {}, ("continuation", "fair_use_exhausted", "thrifty")),
    "past due": ({"billing": "past_due"}, {}, {}, ("continuation", "billing_state", "thrifty")),
    "economy, fair-use spent": (
        {"fair_use": 0},
        {"model": "economy"},
        {},
        ("continuation", "fair_use_exhausted", "thrifty"),
    ),
}


@pytest.mark.parametrize("case", LANES)
async def test_each_lane_is_taken_for_its_reason(case: str) -> None:
    options, body, headers, expected = LANES[case]
    async with running(make_settings(**options)) as rig:
        response = await rig.ask(headers, **body)
        receipt = await rig.receipt(response)
    assert response.status_code == 200
    assert (receipt["lane"], receipt["reason"], receipt["route"]) == expected
    assert (response.headers["x-flatfee-lane"], response.headers["x-flatfee-reason"]) == expected[:2]
    assert receipt["model_requested"] == body.get("model", "premium")
    assert (receipt["fair_use"]["charged"] > 0) == (expected[0] == "premium")


async def test_a_tool_loop_stays_where_it_began() -> None:
    routes = [route("one", priority=1), route("two", priority=2)]
    provider = ScriptedProvider(one=[error(500), error(500)])
    loop = [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "1", "content": "42"}]
    async with running(make_settings(routes=routes), provider) as rig:
        headers = {"x-flatfee-workflow": "w"}
        assert (await rig.ask(headers, model="auto")).json()["flatfee"]["route"] == "two"
        receipt = (await rig.ask(headers, model="auto", messages=loop)).json()["flatfee"]
    assert (receipt["lane"], receipt["reason"], receipt["route"]) == ("premium", "workflow_affinity", "two")


async def test_economy_may_end_on_a_premium_route_where_the_operator_allows_it() -> None:
    provider = ScriptedProvider(thrifty=error(500))
    async with running(make_settings(policy={"economy_may_use_premium": True}), provider) as rig:
        receipt = await rig.receipt(await rig.ask(model="economy"))
    assert (receipt["lane"], receipt["reason"], receipt["route"]) == ("fallback", "provider_error", "first")
    assert receipt["fair_use"]["charged"] == 30


@pytest.mark.parametrize("operation", ["find_key", "reserve", "dispatch"])
async def test_without_the_ledger_no_provider_is_asked(operation: str) -> None:
    store = FailingStore(operation)
    async with running(store=store) as rig:
        response = await rig.ask()
        assert rig.provider.asked == []
        assert rig.gateway.running == {}
    assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")
    assert "disk" not in response.text


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_an_answer_that_was_bought_is_given_although_it_cannot_be_settled(stream: bool) -> None:
    store = FailingStore("settle")
    async with running(store=store) as rig:
        response = await rig.ask(stream=stream)
        assert rig.gateway.running == {}
        told = events_of(response.content)[-2] if stream else response.json()
        store.down.clear()
        usage = await rig.usage()
    assert response.status_code == 200
    assert (told["flatfee"]["state"], told["flatfee"]["route"]) == ("estimated", "first")
    assert "fair_use" not in told["flatfee"]
    # Nobody heartbeats it any more: its lease ends it, and the estimate stays charged.
    assert usage["fair_use"]["pending"] > 0


async def test_a_refusal_stands_when_its_receipt_cannot_be_kept() -> None:
    async with running(store=FailingStore("record")) as rig:
        response = await rig.ask(model="gpt-none")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("case", ["success", "stream", "refusal", "exhaustion", "broken stream"])
async def test_every_way_out_settles_once(case: str) -> None:
    scripts: dict[str, dict[str, Any]] = {
        "refusal": {"first": error(400)},
        "exhaustion": {name: error(500) for name in ("first", "second", "thrifty")},
        "broken stream": {"first": streamed(STREAM[0])},
    }
    store = FailingStore()
    async with running(provider=ScriptedProvider(**scripts.get(case, {})), store=store) as rig:
        await rig.ask(stream=case.endswith("stream"))
        assert rig.gateway.running == {}
    assert len(store.settled) == 1


async def test_a_cancelled_request_is_settled() -> None:
    """As when the server is made to stop: whatever ends the task, the ledger hears of it."""
    store = FailingStore()
    provider = ScriptedProvider(first=streamed(delta("abcdefgh"), Silence.FOR_EVER))
    async with running(provider=provider, store=store) as rig:
        asking = asyncio.create_task(rig.ask(stream=True))
        await until(lambda: provider.asked)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: store.settled and not rig.gateway.running)
        assert (await rig.usage())["fair_use"]["pending"] == 0
    assert provider.left == 1


async def test_a_settlement_survives_the_cancellation_of_its_request() -> None:
    class SlowStore(FailingStore):
        gate = asyncio.Event()
        done = False

        async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
            self.settled.append((ticket.request_id, outcome))
            await self.gate.wait()
            self.done = True
            return await MemoryStore.settle(self, ticket, outcome)

    store = SlowStore()
    async with running(store=store) as rig:
        asking = asyncio.create_task(rig.ask())
        await until(lambda: store.settled)
        for _ in range(2):  # once in the relay, once in what settles on every way out
            asking.cancel()
            await asyncio.sleep(0)
        store.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: store.done)
        usage = await rig.usage()
    assert (usage["fair_use"]["used"], usage["fair_use"]["pending"]) == (30, 0)
    assert len(store.settled) == 1


async def test_a_provider_that_crashes_us_is_our_failure_and_free(caplog: pytest.LogCaptureFixture) -> None:
    provider = ScriptedProvider(first=streamed(ZeroDivisionError("canary-bug")))
    async with running(provider=provider) as rig:
        response = await rig.ask()
        usage = await rig.usage()
        assert rig.gateway.running == {}
    assert (response.status_code, response.json()["error"]["code"]) == (503, "gateway_overloaded")
    assert "canary" not in response.text
    assert "request.crashed" in caplog.messages
    assert (usage["fair_use"]["used"], usage["fair_use"]["pending"]) == (0, 0)


async def test_a_receipt_of_another_project_does_not_exist() -> None:
    async with running() as rig:
        mine = await rig.ask()
        path = f"/v1/receipts/{mine.headers['x-request-id']}"
        theirs = await rig.client.get(path, headers={"authorization": f"Bearer {OTHER_KEY}"})
        assert (theirs.status_code, theirs.json()["error"]["code"]) == (404, "not_found")
        listed = await rig.client.get("/v1/receipts", headers={"authorization": f"Bearer {OTHER_KEY}"})
        assert listed.json()["data"] == []
        assert (await rig.client.get(path)).status_code == 200
