"""When a route is left, for how long, and what the receipt tells of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from tests.server.fakes import (
    DONE,
    LIMIT,
    STREAM,
    Reply,
    ScriptedProvider,
    Silence,
    completion,
    delta,
    error,
    event,
    events_of,
    make_settings,
    outcomes,
    plain,
    refusal,
    route,
    streamed,
    until,
)
from tests.server.fakes_gateway import on_loopback, request, running

from flatfee.server.health import FAILURES_TO_OPEN
from flatfee.server.providers import base
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.stages import passing, tries
from flatfee.wire import AttemptOutcome

BROKEN = ProviderFailure(AttemptOutcome.ERROR, "broke off")

ROLE = event({"id": "c1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})


def two(**options: Any) -> Any:
    return make_settings(routes=[route("first", priority=1, **options), route("second", priority=2)])


def response_receipt(response: httpx.Response) -> dict[str, Any]:
    receipt: dict[str, Any] = events_of(response.content)[-2]["flatfee"]
    return receipt


EARLY: dict[str, tuple[Any, ...]] = {
    "a role": (ROLE, Silence.FOR_EVER),
    "comments": (b": thinking\n\n" * 3, Silence.FOR_EVER),
    "usage": (event({"choices": [], "usage": {"prompt_tokens": 1}}), Silence.FOR_EVER),
    "a role, and the end": (ROLE,),
    "a role and [DONE]": (ROLE, DONE),
    "a role and an error": (ROLE, event({"error": {"message": "overloaded"}})),
    "an error": (event({"error": {"message": "overloaded"}}),),
    "half an event": (b'data: {"choi',),
    "nothing": (),
    "a plain completion in half": (completion()[:20],),
}


@pytest.mark.parametrize("kind", EARLY)
async def test_what_comes_before_the_first_token_is_of_no_consequence(kind: str) -> None:
    provider = ScriptedProvider(first=streamed(*EARLY[kind]) if EARLY[kind] else Reply([b""]))
    async with running(two(first_token_timeout=0.05), provider) as rig:
        response = await rig.ask(stream=True)
    headers = response.headers
    assert (headers["x-flatfee-lane"], headers["x-flatfee-route"]) == ("fallback", "second")
    assert response.content.startswith(STREAM[0])
    assert events_of(response.content)[-1] == "[DONE]"


async def test_what_came_before_the_first_token_is_passed_on_with_it() -> None:
    provider = ScriptedProvider(first=streamed(b": hello\n\n", ROLE, *STREAM))
    async with running(provider=provider) as rig:
        response = await rig.ask(stream=True)
    assert response.content.startswith(b": hello\n\n" + ROLE + STREAM[0])


async def test_a_provider_that_talks_without_saying_anything_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing, "EARLY_BYTES", 1000)
    provider = ScriptedProvider(first=streamed(*[b": padding padding\n\n" * 20] * 20, Silence.FOR_EVER))
    async with running(two(first_token_timeout=60.0), provider) as rig:
        response = await rig.ask(stream=True)
    assert events_of(response.content)[-1] == "[DONE]"
    assert response.headers["x-flatfee-route"] == "second"


async def test_a_slow_route_is_waited_for_while_no_other_can_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_TOKEN_WITH_OTHERS", 0.05)
    ready = asyncio.Event()
    provider = ScriptedProvider(first=streamed(ready, *STREAM))
    async with running(two(), provider) as rig:
        for _ in range(FAILURES_TO_OPEN):
            rig.gateway.health.failed("second", rig.gateway.monotonic(), 0)
        asyncio.get_running_loop().call_later(0.3, ready.set)
        response = await rig.ask(stream=True)
    assert response.headers["x-flatfee-route"] == "first"


async def test_a_slow_route_is_left_for_another_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_TOKEN_WITH_OTHERS", 0.05)
    async with running(two(), ScriptedProvider(first=streamed(Silence.FOR_EVER))) as rig:
        response = await rig.ask(stream=True)
    assert response.headers["x-flatfee-route"] == "second"


@pytest.mark.slow
async def test_a_silent_route_leaves_another_some_of_the_callers_time() -> None:
    async with running(two(), ScriptedProvider(first=streamed(Silence.FOR_EVER))) as rig:
        response = await rig.ask({"x-flatfee-deadline-ms": "3000"}, stream=True)
        assert rig.gateway.health.report("first", 0.0).failures_in_a_row == 0, "the caller's hurry tells nothing of it"
    assert events_of(response.content)[-1] == "[DONE]"
    assert outcomes(response_receipt(response)) == [("first", "timeout", 200), ("second", "ok", 200)]


async def test_an_only_route_has_all_of_the_callers_time() -> None:
    async with running(make_settings(routes=[route("only")]), ScriptedProvider(only=streamed(Silence.FOR_EVER))) as rig:
        response = await rig.ask({"x-flatfee-deadline-ms": "300"}, stream=True)
    assert response.json()["error"]["code"] == "deadline_exceeded"
    assert response.json()["flatfee"]["attempts"][0]["duration_ms"] >= 280


async def test_a_route_that_asks_for_a_long_pause_gets_it() -> None:
    provider = ScriptedProvider(first=[error(429, retry_after="30"), plain()])
    async with running(two(), provider) as rig:
        now = rig.gateway.monotonic()
        rig.gateway.monotonic = lambda: now
        await rig.ask()
        now += 29.9
        skipped = await rig.receipt(await rig.ask())
        now += 0.2
        again = await rig.receipt(await rig.ask())
    assert outcomes(skipped) == [("first", "unavailable", None), ("second", "ok", 200)]
    assert outcomes(again) == [("first", "ok", 200)]
    assert provider.routes == ["first", "second", "second", "first"]


async def test_a_quota_that_is_used_up_is_the_operators_matter_and_not_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = ScriptedProvider(first=error(429, "insufficient_quota"))
    async with running(two(), provider) as rig:
        receipt = await rig.receipt(await rig.ask())
    assert outcomes(receipt) == [("first", "rate_limited", 429), ("second", "ok", 200)]
    assert provider.routes == ["first", "second"]
    told = [record for record in caplog.records if record.getMessage() == "provider.misconfigured"]
    assert [record.levelno for record in told] == [logging.ERROR]


@pytest.mark.parametrize("status", [400, 403, 422, 451])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_content_policy_is_not_shopped_around(status: int, stream: bool) -> None:
    provider = ScriptedProvider(first=error(status, "content_policy_violation"))
    async with running(two(), provider) as rig:
        response = await rig.ask(stream=stream)
        assert rig.gateway.health.report("first", 0.0).failures_in_a_row == 0
    assert (response.status_code, response.json()["error"]["code"]) == (status, "content_policy_violation")
    assert response.headers["x-should-retry"] == "false"
    assert outcomes(response.json()["flatfee"]) == [("first", "refused", status)]
    assert provider.routes == ["first"]


async def test_an_error_whose_words_never_come_is_told_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "ERROR_SECONDS", 0.05)
    provider = ScriptedProvider(first=Reply([refusal("x")[:10], Silence.FOR_EVER], 400))
    async with running(two(), provider) as rig:
        response = await rig.ask()
    assert response.status_code == 400
    assert outcomes(response.json()["flatfee"]) == [("first", "refused", 400)]


async def test_the_receipt_tells_how_long_the_first_token_took() -> None:
    provider = ScriptedProvider(first=error(503), second=streamed())
    async with running(two(), provider) as rig:
        now = rig.gateway.monotonic()

        def clock() -> float:
            nonlocal now
            now += 0.010
            return now

        rig.gateway.monotonic = clock
        receipt = await rig.receipt(await rig.ask(stream=True))
    *failed, last = receipt["attempts"]
    assert all("first_token_ms" not in tried for tried in failed)
    assert 0 < last["first_token_ms"] <= last["duration_ms"]


async def test_a_plain_answer_has_no_first_token() -> None:
    async with running(two()) as rig:
        receipt = await rig.receipt(await rig.ask())
    assert set(receipt["attempts"][0]) == {"route", "outcome", "status", "duration_ms"}


async def test_every_try_is_known_to_the_routes_health() -> None:
    provider = ScriptedProvider(first=error(503), second=streamed(delta("a"), delta(finish="stop"), DONE))
    async with running(two(), provider) as rig:
        await rig.ask(stream=True)
        health = {name: rig.gateway.health.report(name, 0.0) for name in ("first", "second")}
    assert health["first"].outcomes == {"error": 2}
    assert health["second"].outcomes == {"ok": 1}
    assert health["second"].first_token_ms is not None


async def test_a_refusal_without_end_is_told_by_its_status() -> None:
    words = ScriptedProvider(first=Reply([b'{"error":{"message":"' + b"x" * 50_000] * 100, 400))
    async with running(two(), words) as rig:
        response = await rig.ask()
    assert response.status_code == 400
    assert len(response.content) < 10_000


async def test_blank_lines_before_a_plain_answer_to_a_stream_do_not_hide_it() -> None:
    provider = ScriptedProvider(first=streamed(*[b"\n"] * 100, completion("canary-answer")))
    async with running(two(), provider) as rig:
        response = await rig.ask(stream=True)
    assert response.headers["x-flatfee-route"] == "first"
    assert events_of(response.content)[-1] == "[DONE]"


@pytest.mark.parametrize("odd", [{"logprobs": 1}, {"max_tokens": "x", "max_completion_tokens": 5}])
async def test_odd_members_are_the_providers_to_refuse(odd: dict[str, Any]) -> None:
    settings = make_settings(routes=[route("first", priority=1), route("second", priority=2, prefill=True)])
    provider = ScriptedProvider(first=streamed(delta("canary-"), BROKEN), second=streamed())
    async with running(settings, provider) as rig:
        response = await rig.ask(stream=True, **odd)
    assert response.status_code == 200
    assert provider.routes[0] == "first"


async def test_a_caller_that_left_with_the_whole_answer_says_nothing_against_the_route() -> None:
    ready = asyncio.Event()
    provider = ScriptedProvider(first=streamed(*STREAM, ready))
    async with on_loopback(two(), provider) as served:
        health, now = served.app.gateway.health, served.app.gateway.monotonic
        for _ in range(FAILURES_TO_OPEN - 1):
            health.failed("first", now(), 0)
        reader, writer = await served.open(request(stream=True))
        async with asyncio.timeout(LIMIT):
            await reader.readuntil(b"[DONE]")
        writer.transport.abort()
        await until(lambda: provider.left == 1 and not served.app.gateway.running)
        assert health.report("first", now()).failures_in_a_row == 0


async def test_the_routes_own_limit_is_no_hurry_of_the_callers() -> None:
    """``total_timeout`` ends the wait for the first token as well, and that tells of the route."""
    settings = make_settings(routes=[route("first", priority=1, total_timeout=0.2), route("second", priority=2)])
    async with running(settings, ScriptedProvider(first=streamed(Silence.FOR_EVER))) as rig:
        response = await rig.ask({"x-flatfee-deadline-ms": "60000"}, stream=True)
        assert rig.gateway.health.report("first", 0.0).failures_in_a_row == 1
    assert outcomes(response_receipt(response))[0] == ("first", "timeout", 200)


async def test_the_last_route_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_TOKEN_WITH_OTHERS", 0.05)
    ready = asyncio.Event()
    provider = ScriptedProvider(first=streamed(Silence.FOR_EVER), second=streamed(ready, *STREAM))
    async with running(two(), provider) as rig:
        asyncio.get_running_loop().call_later(0.5, ready.set)
        response = await rig.ask(stream=True)
    assert response.headers["x-flatfee-route"] == "second"


async def test_a_larger_route_that_fails_is_not_told_as_a_context_too_long() -> None:
    provider = ScriptedProvider(first=error(400, "context_length_exceeded"), second=error(529))
    async with running(two(), provider) as rig:
        response = await rig.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (503, "fallback_exhausted")
    assert [outcome for _, outcome, _ in outcomes(response.json()["flatfee"])] == ["context_overflow", "error"]


async def test_a_plain_answer_to_a_stream_that_stops_within_is_the_routes_fault() -> None:
    provider = ScriptedProvider(first=streamed(completion()[:20], Silence.FOR_EVER))
    async with running(two(idle_timeout=0.05), provider) as rig:
        response = await rig.ask({"x-flatfee-deadline-ms": "60000"}, stream=True)
        assert rig.gateway.health.report("first", 0.0).failures_in_a_row == 1
    assert response.headers["x-flatfee-route"] == "second"
