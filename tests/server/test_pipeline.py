"""A completion from end to end in memory: lanes, headers, receipts, and every error of the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
from tests.server.fakes import (
    KEY,
    OTHER_KEY,
    PROMPT,
    STREAM,
    Rig,
    ScriptedProvider,
    Silence,
    delta,
    error,
    events_of,
    make_body,
    make_settings,
    route,
    running,
    streamed,
    unreachable,
    until,
)

from flatfee.receipt import Receipt
from flatfee.server.keys import KeyKind, digest
from flatfee.server.store.base import StoreDown
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import (
    Caller,
    NewAccount,
    NewKey,
    NewProject,
    Outcome,
    Refusal,
    Reservation,
    Settlement,
    Ticket,
)
from flatfee.wire import ERRORS, Billing, ErrorCode

STANDING = (
    "x-flatfee-fair-use-remaining",
    "x-flatfee-fair-use-limit",
    "x-flatfee-fair-use-reset",
    "x-flatfee-workflows-active",
    "x-flatfee-workflows-limit",
)
ROUTED = ("x-flatfee-lane", "x-flatfee-reason", *STANDING)
SERVED = ("x-flatfee-model", "x-flatfee-route", "x-flatfee-attempts", *ROUTED)


class FailingStore(MemoryStore):
    """A memory store that is down for the operations named in ``down``."""

    def __init__(self, *down: str) -> None:
        super().__init__()
        self.down = set(down)
        self.settled: list[tuple[str, Outcome]] = []

    def _check(self, operation: str) -> None:
        if operation in self.down:
            raise StoreDown("the disk is full")

    async def ready(self) -> None:
        self._check("ready")

    async def find_key(self, digest: bytes) -> Caller | None:
        self._check("find_key")
        return await super().find_key(digest)

    async def reserve(self, want: Reservation) -> Ticket | Refusal:
        self._check("reserve")
        return await super().reserve(want)

    async def dispatch(self, ticket: Ticket) -> None:
        self._check("dispatch")
        await super().dispatch(ticket)

    async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        self.settled.append((ticket.request_id, outcome))
        self._check("settle")
        return await super().settle(ticket, outcome)

    async def record(self, caller: Caller, receipt: Receipt) -> None:
        self._check("record")
        await super().record(caller, receipt)


async def add_key(rig: Rig, secret: str, **options: Any) -> dict[str, str]:
    """Make a key for the project ``ci``; return the headers that send it."""
    key = NewKey(**{"digest": digest(secret), "name": secret[:8], "kind": KeyKind.PROJECT, "last4": "0000", **options})
    account = NewAccount(
        name="acme", plan="pro", billing=Billing.ACTIVE, billing_day=1, projects=(NewProject(name="ci", keys=(key,)),)
    )
    await rig.gateway.store.provision([account])
    return {"authorization": f"Bearer {secret}"}


# --- what a success says


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


# --- lanes


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


# --- errors


Produce = Callable[[Rig], Awaitable[httpx.Response]]


async def ask_badly(rig: Rig) -> httpx.Response:
    return await rig.client.post("/v1/chat/completions", content=b"{")


async def without_key(rig: Rig) -> httpx.Response:
    return await rig.client.get("/v1/models", headers={"authorization": ""})


async def with_a_wrong_key(rig: Rig) -> httpx.Response:
    return await rig.ask({"authorization": "Bearer " + "x" * 40})


async def from_a_page(rig: Rig) -> httpx.Response:
    return await rig.ask({"origin": "https://example.com"})


async def with_an_admin_key(rig: Rig) -> httpx.Response:
    return await rig.ask(await add_key(rig, "a" * 32, kind=KeyKind.ADMIN))


async def for_no_model(rig: Rig) -> httpx.Response:
    return await rig.ask(model="gpt-none")


async def for_nothing(rig: Rig) -> httpx.Response:
    return await rig.client.get("/v1/nothing")


async def simply(rig: Rig) -> httpx.Response:
    return await rig.ask()


async def or_fail(rig: Rig) -> httpx.Response:
    return await rig.ask({"x-flatfee-on-exhausted": "fail"})


async def too_large(rig: Rig) -> httpx.Response:
    return await rig.ask(x="x" * 2000)


async def encoded(rig: Rig) -> httpx.Response:
    return await rig.ask({"content-encoding": "gzip"})


async def with_large_headers(rig: Rig) -> httpx.Response:
    return await rig.ask({"x-large": "x" * 2000})


async def twice(rig: Rig) -> httpx.Response:
    assert (await rig.ask()).status_code == 200
    return await rig.ask()


async def in_two_workflows(rig: Rig) -> httpx.Response:
    assert (await rig.ask({"x-flatfee-workflow": "one"})).status_code == 200
    return await rig.ask({"x-flatfee-workflow": "two"})


async def while_draining(rig: Rig) -> httpx.Response:
    rig.gateway.draining = True
    return await rig.ask()


async def in_no_time(rig: Rig) -> httpx.Response:
    return await rig.ask({"x-flatfee-deadline-ms": "20"})


ONE = [route("only")]
PRODUCED: dict[ErrorCode, tuple[Produce, dict[str, Any], dict[str, Any], Sequence[str]]] = {
    # how, settings, scripts, names of headers that are known by then
    ErrorCode.INVALID_REQUEST: (ask_badly, {}, {}, ()),
    ErrorCode.MISSING_API_KEY: (without_key, {}, {}, ()),
    ErrorCode.INVALID_API_KEY: (with_a_wrong_key, {}, {}, ()),
    ErrorCode.FAIR_USE_EXHAUSTED: (or_fail, {"fair_use": 10}, {}, STANDING),
    ErrorCode.BILLING_INACTIVE: (simply, {"billing": "suspended"}, {}, ()),
    ErrorCode.PERMISSION_DENIED: (with_an_admin_key, {}, {}, ()),
    ErrorCode.BROWSER_ORIGIN: (from_a_page, {}, {}, ()),
    ErrorCode.MODEL_NOT_FOUND: (for_no_model, {}, {}, ()),
    ErrorCode.NOT_FOUND: (for_nothing, {}, {}, ()),
    ErrorCode.REQUEST_TOO_LARGE: (too_large, {"server": {"max_body_bytes": 1024}}, {}, ()),
    ErrorCode.UNSUPPORTED_ENCODING: (encoded, {}, {}, ()),
    ErrorCode.HEADERS_TOO_LARGE: (with_large_headers, {"server": {"max_header_bytes": 1024}}, {}, ()),
    ErrorCode.WORKFLOW_LIMIT: (in_two_workflows, {"concurrent_workflows": 1}, {}, STANDING),
    ErrorCode.RATE_LIMITED: (twice, {"requests_per_minute": 1}, {}, STANDING),
    ErrorCode.PROVIDER_UNAVAILABLE: (simply, {"routes": ONE}, {"only": unreachable()}, ROUTED),
    ErrorCode.GATEWAY_OVERLOADED: (while_draining, {}, {}, ()),
    ErrorCode.STORE_UNAVAILABLE: (simply, {"store": "reserve"}, {}, ()),
    ErrorCode.FALLBACK_EXHAUSTED: (
        simply,
        {},
        {"first": error(500), "second": error(500), "thrifty": error(500)},
        ROUTED,
    ),
    ErrorCode.DEADLINE_EXCEEDED: (in_no_time, {}, {"first": streamed(Silence.FOR_EVER)}, ROUTED),
}
COMES_WITH_REPLAY = {
    ErrorCode.IDEMPOTENCY_MISMATCH,
    ErrorCode.IDEMPOTENCY_EXPIRED,
    ErrorCode.IDEMPOTENCY_IN_FLIGHT,
}
"""Codes that need remembered answers, which there are none of yet."""


@pytest.mark.parametrize("code", ErrorCode)
async def test_every_error_is_told_the_same_way(code: ErrorCode) -> None:
    if code in COMES_WITH_REPLAY:
        assert code not in PRODUCED
        return
    produce, options, scripts, known = PRODUCED[code]
    options = dict(options)
    store = FailingStore(*filter(None, [options.pop("store", None)]))
    async with running(make_settings(**options), ScriptedProvider(**scripts), store=store) as rig:
        response = await produce(rig)
    rule, body = ERRORS[code], response.json()
    assert response.status_code == rule.status
    assert list(body) == ["error", "flatfee"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert (body["error"]["code"], body["error"]["type"]) == (code, rule.type)
    assert body["error"]["message"].endswith(".")
    assert body["flatfee"]["request_id"] == response.headers["x-flatfee-request-id"] == response.headers["x-request-id"]
    assert body["flatfee"]["state"] == "refused"
    assert response.headers["x-should-retry"] == ("true" if rule.retryable else "false")
    assert ("retry-after" in response.headers) == rule.retryable
    assert int(response.headers.get("retry-after", "1")) >= 1
    assert response.headers["content-type"] == "application/json"
    assert set(known) <= set(response.headers)


RECEIPTED = {
    ErrorCode.INVALID_REQUEST,
    ErrorCode.FAIR_USE_EXHAUSTED,
    ErrorCode.BILLING_INACTIVE,
    ErrorCode.MODEL_NOT_FOUND,
    ErrorCode.REQUEST_TOO_LARGE,
    ErrorCode.UNSUPPORTED_ENCODING,
    ErrorCode.WORKFLOW_LIMIT,
    ErrorCode.PROVIDER_UNAVAILABLE,
    ErrorCode.FALLBACK_EXHAUSTED,
    ErrorCode.DEADLINE_EXCEEDED,
}


@pytest.mark.parametrize("code", sorted(RECEIPTED))
async def test_a_refused_completion_leaves_the_receipt_that_it_told(code: ErrorCode) -> None:
    produce, options, scripts, _ = PRODUCED[code]
    async with running(make_settings(**options), ScriptedProvider(**scripts)) as rig:
        response = await produce(rig)
        assert await rig.receipt(response) == response.json()["flatfee"]
        usage = await rig.usage()
    assert usage["fair_use"]["pending"] == usage["continuation"]["used"] == 0


async def test_a_caller_told_to_slow_down_makes_nobody_write() -> None:
    async with running(make_settings(requests_per_minute=1)) as rig:
        response = await twice(rig)
        found = await rig.client.get(f"/v1/receipts/{response.headers['x-request-id']}")
    assert found.status_code == 404


@pytest.mark.parametrize(
    ("billing", "continuation", "code"),
    [
        ("past_due", False, "billing_inactive"),
        ("suspended", True, "billing_inactive"),
        ("cancelled", True, "billing_inactive"),
    ],
)
async def test_a_billing_state_that_leaves_no_lane_is_402(billing: str, continuation: bool, code: str) -> None:
    async with running(make_settings(billing=billing, continuation=continuation)) as rig:
        response = await rig.ask()
        assert rig.provider.asked == []
    assert (response.status_code, response.json()["error"]["code"]) == (402, code)


@pytest.mark.parametrize(
    ("plan", "headers"),
    [
        ({"continuation": False}, {}),
        ({"continuation_limit": 10}, {}),
        ({}, {"x-flatfee-on-exhausted": "fail"}),
    ],
    ids=["no continuation", "continuation spent", "the caller said fail"],
)
async def test_spent_fair_use_without_continuation_is_402(plan: dict[str, Any], headers: dict[str, str]) -> None:
    async with running(make_settings(fair_use=10, **plan)) as rig:
        response = await rig.ask(headers)
        assert rig.provider.asked == []
    assert (response.status_code, response.json()["error"]["code"]) == (402, "fair_use_exhausted")
    assert response.headers["x-flatfee-fair-use-remaining"] == "10"
    assert response.json()["flatfee"]["fair_use"]["charged"] == 0


async def test_a_caller_that_said_fail_never_lands_on_economy() -> None:
    provider = ScriptedProvider(first=error(500), second=error(500))
    async with running(provider=provider) as rig:
        response = await rig.ask({"x-flatfee-on-exhausted": "fail"})
    assert response.json()["error"]["code"] == "fallback_exhausted"
    assert "thrifty" not in provider.routes


@pytest.mark.parametrize(
    ("headers", "param"),
    [
        ({"x-flatfee-workflow": "a b"}, "x-flatfee-workflow"),
        ({"x-flatfee-workflow": "w" * 129}, "x-flatfee-workflow"),
        ({"x-flatfee-task": "dream"}, "x-flatfee-task"),
        ({"x-flatfee-on-exhausted": "explode"}, "x-flatfee-on-exhausted"),
        ({"x-flatfee-deadline-ms": "soon"}, "x-flatfee-deadline-ms"),
        ({"idempotency-key": "k" * 256}, "idempotency-key"),
    ],
)
async def test_a_bad_header_is_400_and_named(headers: dict[str, str], param: str) -> None:
    async with running() as rig:
        response = await rig.ask(headers)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_key_is_held_to_its_models() -> None:
    async with running() as rig:
        headers = await add_key(rig, "s" * 32, models=frozenset({"economy"}))
        assert (await rig.ask(headers, model="economy")).status_code == 200
        response = await rig.ask(headers)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "permission_denied")
    assert "economy" in response.json()["error"]["message"]


async def test_a_plan_that_is_gone_is_told_and_not_crashed_on() -> None:
    async with running() as rig:
        gone = make_settings()
        plans = tuple(plan.model_copy(update={"name": "other"}) for plan in gone.plans)
        rig.gateway.settings = gone.model_copy(update={"plans": plans})
        response = await rig.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (403, "permission_denied")


async def test_no_route_for_what_is_asked_is_400() -> None:
    async with running(make_settings(routes=[route("small", context_tokens=10)])) as rig:
        response = await rig.ask(messages=[{"role": "user", "content": "x" * 1000}])
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


async def test_the_fanout_of_a_workflow_is_bounded() -> None:
    provider = ScriptedProvider(first=streamed(Silence.FOR_EVER))
    async with running(make_settings(workflow_fanout=1), provider) as rig:
        headers = {"x-flatfee-workflow": "w"}
        running_one = asyncio.create_task(rig.ask(headers, stream=True))
        await until(lambda: provider.asked)
        response = await rig.ask(headers)
        running_one.cancel()
    assert (response.status_code, response.json()["error"]["code"]) == (429, "workflow_limit")
    assert response.headers["retry-after"] == "1"


# --- the ledger


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
async def test_an_answer_that_cannot_be_settled_is_not_given(stream: bool) -> None:
    store = FailingStore("settle")
    async with running(store=store) as rig:
        response = await rig.ask(stream=stream)
        assert rig.gateway.running == {}
        told = events_of(response.content)[-1] if stream else response.json()
        store.down.clear()
        usage = await rig.usage()
    assert told["error"]["code"] == "store_unavailable"
    assert "[DONE]" not in response.text
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


# --- whose receipts


async def test_a_receipt_of_another_project_does_not_exist() -> None:
    async with running() as rig:
        mine = await rig.ask()
        path = f"/v1/receipts/{mine.headers['x-request-id']}"
        theirs = await rig.client.get(path, headers={"authorization": f"Bearer {OTHER_KEY}"})
        assert (theirs.status_code, theirs.json()["error"]["code"]) == (404, "not_found")
        listed = await rig.client.get("/v1/receipts", headers={"authorization": f"Bearer {OTHER_KEY}"})
        assert listed.json()["data"] == []
        assert (await rig.client.get(path)).status_code == 200


async def test_a_refusal_shows_neither_key_nor_prompt() -> None:
    async with running() as rig:
        for body in (make_body(model=None), make_body(messages=PROMPT), make_body(n=PROMPT)):
            response = await rig.client.post("/v1/chat/completions", json=body)
            assert response.status_code == 400
            assert "canary" not in response.text
            assert KEY not in str(await rig.receipt(response))
