"""Every error of the contract, from end to end in memory: how it is told, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
from tests.server.fakes import (
    KEY,
    PROMPT,
    FailingStore,
    ScriptedProvider,
    Silence,
    error,
    make_body,
    make_settings,
    route,
    streamed,
    unreachable,
    until,
)
from tests.server.fakes_gateway import Rig, running

from flatfee.server.kept import KeptAnswers
from flatfee.server.keys import KeyKind, digest
from flatfee.server.store.records import (
    NewAccount,
    NewKey,
    NewProject,
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


async def add_key(rig: Rig, secret: str, **options: Any) -> dict[str, str]:
    """Make a key for the project ``ci``; return the headers that send it."""
    key = NewKey(**{"digest": digest(secret), "name": secret[:8], "kind": KeyKind.PROJECT, "last4": "0000", **options})
    account = NewAccount(
        name="acme", plan="pro", billing=Billing.ACTIVE, billing_day=1, projects=(NewProject(name="ci", keys=(key,)),)
    )
    await rig.gateway.store.provision([account])
    return {"authorization": f"Bearer {secret}"}


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


async def for_an_account_that_exists(rig: Rig) -> httpx.Response:
    rig.gateway.operator = "local:test"
    return await rig.client.post("/admin/v1/accounts", json={"name": "acme", "plan": "pro"})


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


async def with_a_key_of_another_body(rig: Rig) -> httpx.Response:
    await rig.ask({"idempotency-key": "once"})
    return await rig.ask({"idempotency-key": "once"}, max_tokens=7)


async def for_an_answer_that_is_gone(rig: Rig) -> httpx.Response:
    rig.gateway.answers = KeptAnswers(rig.gateway.monotonic, 0)
    await rig.ask({"idempotency-key": "once"})
    return await rig.ask({"idempotency-key": "once"})


async def while_the_first_runs(rig: Rig) -> httpx.Response:
    first = asyncio.create_task(rig.ask({"idempotency-key": "once"}, stream=True))
    await until(lambda: rig.provider.asked)
    response = await rig.ask({"idempotency-key": "once"}, stream=True)
    first.cancel()
    return response


async def in_no_time(rig: Rig) -> httpx.Response:
    return await rig.ask({"x-flatfee-deadline-ms": "300"})


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
    ErrorCode.CONFLICT: (for_an_account_that_exists, {}, {}, ()),
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
    ErrorCode.IDEMPOTENCY_MISMATCH: (with_a_key_of_another_body, {}, {}, STANDING),
    ErrorCode.IDEMPOTENCY_EXPIRED: (for_an_answer_that_is_gone, {}, {}, ROUTED[:3]),
    ErrorCode.IDEMPOTENCY_IN_FLIGHT: (while_the_first_runs, {}, {"first": streamed(Silence.FOR_EVER)}, STANDING),
    ErrorCode.DEADLINE_EXCEEDED: (in_no_time, {}, {"first": streamed(Silence.FOR_EVER)}, ROUTED),
}
STATES = {
    ErrorCode.DEADLINE_EXCEEDED: "estimated",  # it passed while a provider worked: the prompt stays charged
    ErrorCode.IDEMPOTENCY_EXPIRED: "settled",  # the receipt is the first request's
}


@pytest.mark.parametrize("code", ErrorCode)
async def test_every_error_is_told_the_same_way(code: ErrorCode) -> None:
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
    assert body["flatfee"]["state"] == STATES.get(code, "refused")
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
        kept = await rig.receipt(response)
        assert kept | response.json()["flatfee"] == kept
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
    assert response.headers["retry-after"] == "60", "when its lease ends, if nobody extends it"


async def test_a_refusal_shows_neither_key_nor_prompt() -> None:
    async with running() as rig:
        for body in (make_body(model=None), make_body(messages=PROMPT), make_body(n=PROMPT)):
            response = await rig.client.post("/v1/chat/completions", json=body)
            assert response.status_code == 400
            assert "canary" not in response.text
            assert KEY not in str(await rig.receipt(response))
