"""Routes tried in turn, over a provider that follows a script: who answers, who pays, what is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from tests.server.fakes import (
    Reply,
    ScriptedAnswer,
    ScriptedProvider,
    cut,
    error,
    make_settings,
    outcomes,
    plain,
    route,
    silent,
    unreachable,
)
from tests.server.fakes_gateway import Rig, running

from flatfee.server.faults import ProviderRefusal
from flatfee.server.health import COOL_DOWN, FAILURES_TO_OPEN
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.settings import RouteSettings
from flatfee.server.stages import failures
from flatfee.server.stages.failures import Failed, rejected
from flatfee.wire import AttemptOutcome

BROKEN = ProviderFailure(AttemptOutcome.ERROR, "broke off")
SHORT = {"total_timeout": 0.2, "first_token_timeout": 0.05}


def two(**options: Any) -> list[dict[str, Any]]:
    return [route("first", priority=1, **options), route("second", priority=2, **options)]


FAILURES = {
    "500": (error(500), "error", 500, "provider_error"),
    "502": (error(502), "error", 502, "provider_error"),
    "503": (error(503), "error", 503, "provider_error"),
    "504": (error(504), "error", 504, "provider_error"),
    "429": (error(429), "rate_limited", 429, "provider_rate_limited"),
    "refused connection": (unreachable(), "unavailable", None, "provider_unavailable"),
    "cut before the head": (cut(), "error", None, "provider_error"),
    "cut in the body": (Reply([BROKEN]), "error", 200, "provider_error"),
    "no completion": (Reply([b"<html>"]), "error", 200, "provider_error"),
    "an error with 200": (Reply([b'{"error": {"message": "x"}}']), "error", 200, "provider_error"),
}
"""What goes wrong before a byte, and may be cured by another try of the same route."""

NO_SECOND_TRY = {
    "silent": (silent(), "timeout", None, "provider_timeout"),
    "silent while connecting": (
        Reply(fails=ProviderFailure(AttemptOutcome.TIMEOUT, "silent")),
        "timeout",
        None,
        "provider_timeout",
    ),
    "429 for long": (error(429, retry_after="6"), "rate_limited", 429, "provider_rate_limited"),
    "408": (error(408), "error", 408, "provider_error"),
    "529": (error(529), "error", 529, "provider_error"),
    "401": (error(401), "error", 401, "provider_error"),
    "402": (error(402), "error", 402, "provider_error"),
    "403": (error(403), "error", 403, "provider_error"),
    "404": (error(404), "error", 404, "provider_error"),
    "a redirect": (error(307), "error", 307, "provider_error"),
    "no content": (error(204), "error", 204, "provider_error"),
}
"""What goes wrong before a byte, and sends us to the next route at once."""


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("kind", FAILURES)
async def test_a_route_that_fails_twice_is_left_for_the_next(kind: str, stream: bool) -> None:
    reply, outcome, status, reason = FAILURES[kind]
    provider = ScriptedProvider(first=reply)
    async with running(provider=provider) as rig:
        response = await rig.ask(stream=stream)
        receipt = await rig.receipt(response)
    assert response.status_code == 200
    assert provider.routes == ["first", "first", "second"]
    # A body that is no stream ends without a finish reason; that tells no status.
    told = [(name, what) for name, what, _ in outcomes(receipt)]
    assert told == [("first", outcome), ("first", outcome), ("second", "ok")]
    assert stream or outcomes(receipt)[0] == ("first", outcome, status)
    assert (receipt["lane"], receipt["reason"], receipt["state"]) == ("fallback", reason, "settled")
    assert response.headers["x-flatfee-lane"] == "fallback"
    assert response.headers["x-flatfee-reason"] == reason
    assert response.headers["x-flatfee-route"] == "second"
    assert response.headers["x-flatfee-model"] == "second-model"
    assert response.headers["x-flatfee-attempts"] == "3"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("kind", NO_SECOND_TRY)
async def test_what_a_second_try_cannot_cure_is_left_at_once(kind: str, stream: bool) -> None:
    reply, outcome, status, reason = NO_SECOND_TRY[kind]
    provider = ScriptedProvider(first=reply)
    async with running(make_settings(routes=two(**SHORT)), provider) as rig:
        response = await rig.ask(stream=stream)
        receipt = await rig.receipt(response)
    assert response.status_code == 200
    assert outcomes(receipt) == [("first", outcome, status), ("second", "ok", 200)]
    assert (receipt["lane"], receipt["reason"]) == ("fallback", reason)


async def test_a_failure_that_passes_is_cured_by_the_same_route() -> None:
    provider = ScriptedProvider(first=[error(503), plain()])
    async with running(provider=provider) as rig:
        receipt = await rig.receipt(await rig.ask())
    assert outcomes(receipt) == [("first", "error", 503), ("first", "ok", 200)]
    assert (receipt["lane"], receipt["reason"]) == ("premium", "requested")


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [
        (None, 0.25),
        ("0", 0.25),
        ("2", 2.0),
        ("5", 5.0),
        ("5.1", None),
        ("-1", 0.25),
        ("nan", 0.25),
        ("soon", 0.25),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0.25),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0.25),
    ],
)
async def test_a_providers_retry_after_is_waited_for_up_to_five_seconds(
    retry_after: str | None, pause: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "SAME_ROUTE_PAUSE", 0.25)
    headers = {} if retry_after is None else {"retry-after": retry_after}
    answer = ScriptedAnswer(Reply([], 429, headers))
    failed = await rejected(RouteSettings.model_validate(route("r")), answer, lambda: 0.0)
    assert failed.pause == pause


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after-ms": "1500"},
        {"retry-after": "Sun, 06 Nov 1994 08:49:39 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"},
    ],
)
async def test_a_date_counts_from_the_providers_own_and_milliseconds_are_read(headers: Mapping[str, str]) -> None:
    answer = ScriptedAnswer(Reply([], 429, headers))
    failed = await rejected(RouteSettings.model_validate(route("r")), answer, lambda: 0.0)
    assert failed.pause == (2.0 if "date" in headers else 1.5)


def test_the_pause_before_a_second_try_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "SAME_ROUTE_PAUSE", 0.25)
    assert failures.jittered(lambda: 0.0) == 0.25
    assert failures.jittered(lambda: 1.0) == 0.5


async def test_the_same_route_is_tried_again_only_after_the_pause() -> None:
    clock = asyncio.get_running_loop().time
    async with running(provider=ScriptedProvider(first=[error(429, retry_after="0.1"), plain()])) as rig:
        begun = clock()
        response = await rig.ask()
    assert response.json()["flatfee"]["route"] == "first"
    assert clock() - begun >= 0.1


async def test_a_pause_longer_than_the_deadline_is_not_begun() -> None:
    provider = ScriptedProvider(first=error(429, retry_after="5"))
    async with running(provider=provider) as rig:
        response = await rig.ask({"x-flatfee-deadline-ms": "4000"})
    assert response.status_code == 200
    assert provider.routes == ["first", "second"]


@pytest.mark.parametrize("status", [401, 402, 403, 404, 302])
async def test_a_provider_that_does_not_know_us_is_the_operators_matter(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    provider = ScriptedProvider(only=error(status, "invalid_api_key"))
    async with running(make_settings(routes=[route("only")]), provider) as rig:
        response = await rig.ask()
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "provider_unavailable"
    assert "invalid_api_key" not in response.text
    (record,) = [record for record in caplog.records if record.message == "provider.misconfigured"]
    assert (record.levelno, record.__dict__["route"], record.__dict__["status"]) == (logging.ERROR, "only", status)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(("status", "code"), [(400, "invalid_function_parameters"), (422, None)])
async def test_a_providers_refusal_passes_through(status: int, code: str | None, stream: bool) -> None:
    provider = ScriptedProvider(first=error(status, code))
    async with running(provider=provider) as rig:
        response = await rig.ask(stream=stream)
        receipt = await rig.receipt(response)
        usage = await rig.usage()
    assert response.status_code == status
    assert response.json()["error"] == {"message": "No.", "type": "t", "param": "messages", "code": code}
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers
    assert provider.routes == ["first"]
    assert response.json()["flatfee"] == receipt
    assert receipt["state"] == "refused"
    assert outcomes(receipt) == [("first", "refused", status)]
    assert (usage["fair_use"]["used"], usage["fair_use"]["pending"]) == (0, 0)


async def test_refusals_do_not_open_a_circuit() -> None:
    async with running(provider=ScriptedProvider(first=error(400))) as rig:
        for _ in range(FAILURES_TO_OPEN + 1):
            await rig.ask()
        assert rig.gateway.health.down(rig.gateway.monotonic()) == frozenset()


async def test_a_context_too_long_goes_to_a_route_with_more_room() -> None:
    routes = [
        route("small", priority=1, context_tokens=1000),
        route("same", priority=2, context_tokens=1000),
        route("wordy", priority=3, context_tokens=1200, token_factor=1.3),
        route("large", priority=4, context_tokens=5000),
    ]
    provider = ScriptedProvider(small=error(400, "context_length_exceeded"))
    async with running(make_settings(routes=routes), provider) as rig:
        receipt = await rig.receipt(await rig.ask())
    assert outcomes(receipt) == [("small", "context_overflow", 400), ("large", "ok", 200)]
    assert (receipt["lane"], receipt["reason"]) == ("fallback", "context_overflow")


async def test_a_context_too_long_for_every_route_is_the_providers_refusal() -> None:
    provider = ScriptedProvider(
        first=error(400, "context_length_exceeded"), second=error(400, "context_length_exceeded")
    )
    async with running(make_settings(routes=two()), provider) as rig:
        response = await rig.ask()
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("code", ["unsupported_value", "unsupported_parameter"])
async def test_what_only_a_model_does_not_take_goes_to_another_and_tells_nothing_of_the_route(code: str) -> None:
    async with running(make_settings(routes=two()), ScriptedProvider(first=error(400, code))) as rig:
        for _ in range(FAILURES_TO_OPEN + 1):
            receipt = await rig.receipt(await rig.ask())
        assert rig.gateway.health.down(rig.gateway.monotonic()) == frozenset()
    assert outcomes(receipt) == [("first", "refused", 400), ("second", "ok", 200)]
    assert (receipt["lane"], receipt["reason"]) == ("fallback", "provider_error")


async def test_what_no_model_takes_is_the_last_ones_refusal() -> None:
    provider = ScriptedProvider(first=error(400, "unsupported_value"), second=error(400, "context_length_exceeded"))
    async with running(make_settings(routes=two()), provider) as rig:
        response = await rig.ask()
        receipt = await rig.receipt(response)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert receipt["fair_use"]["charged"] == 0


async def test_what_one_model_does_not_take_and_another_could_is_worth_a_retry_later() -> None:
    provider = ScriptedProvider(first=error(400, "unsupported_value"), second=error(500))
    async with running(make_settings(routes=two()), provider) as rig:
        response = await rig.ask()
    assert response.json()["error"]["code"] == "fallback_exhausted"


async def test_all_routes_failing_is_exhaustion_that_is_not_worth_a_retry() -> None:
    provider = ScriptedProvider(first=error(500), second=unreachable(), thrifty=error(429, retry_after="60"))
    async with running(provider=provider) as rig:
        response = await rig.ask()
        receipt = await rig.receipt(response)
        usage = await rig.usage()
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "fallback_exhausted"
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers
    assert response.json()["flatfee"] == receipt
    assert [tried["route"] for tried in receipt["attempts"]] == ["first", "first", "second", "second", "thrifty"]
    assert receipt["fair_use"]["charged"] == 0
    assert (receipt["state"], receipt["lane"], receipt["reason"]) == ("refused", "fallback", "provider_error")
    assert response.headers["x-flatfee-attempts"] == "5"
    assert usage["fair_use"]["pending"] == 0


async def test_the_one_route_failing_is_worth_a_retry() -> None:
    async with running(make_settings(routes=[route("only")]), ScriptedProvider(only=error(500))) as rig:
        response = await rig.ask()
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "provider_unavailable"
    assert response.headers["x-should-retry"] == "true"
    assert response.headers["retry-after"] == "1"


async def fail(rig: Rig, name: str) -> None:
    for _ in range(FAILURES_TO_OPEN):
        rig.gateway.health.failed(name, rig.gateway.monotonic(), 0)


async def test_an_open_circuit_is_skipped_and_told() -> None:
    provider = ScriptedProvider()
    async with running(provider=provider) as rig:
        await fail(rig, "first")
        response = await rig.ask()
    receipt = response.json()["flatfee"]
    assert outcomes(receipt) == [("first", "unavailable", None), ("second", "ok", 200)]
    assert (receipt["lane"], receipt["reason"]) == ("fallback", "provider_unavailable")
    assert provider.routes == ["second"]


async def test_every_circuit_open_says_when_to_come_again() -> None:
    provider = ScriptedProvider()
    async with running(make_settings(routes=[route("only")]), provider) as rig:
        await fail(rig, "only")
        response = await rig.ask()
    assert response.json()["error"]["code"] == "provider_unavailable"
    assert 1 <= int(response.headers["retry-after"]) <= COOL_DOWN
    assert provider.routes == []


async def test_failures_open_the_circuit_and_a_success_after_the_cool_down_closes_it() -> None:
    provider = ScriptedProvider(first=[error(500)] * FAILURES_TO_OPEN + [plain()])
    now = 1000.0
    async with running(provider=provider) as rig:
        rig.gateway.monotonic = lambda: now
        for _ in range(FAILURES_TO_OPEN):
            await rig.ask()
        assert provider.routes == ["first", "first", "second", "first", "second", "second"]
        now += COOL_DOWN
        assert (await rig.ask()).json()["flatfee"]["route"] == "first"
        assert rig.gateway.health.down(now) == frozenset()


async def test_a_probe_that_fails_is_not_tried_again_at_once() -> None:
    provider = ScriptedProvider(first=error(500))
    now = 1000.0
    async with running(provider=provider) as rig:
        rig.gateway.monotonic = lambda: now
        await fail(rig, "first")
        now += COOL_DOWN
        await rig.ask()
        assert provider.routes == ["first", "second"]
        now += COOL_DOWN
        assert rig.gateway.health.down(now) == {"first"}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_deadline_ends_the_tries_and_says_nothing_of_the_routes(stream: bool) -> None:
    provider = ScriptedProvider(first=silent())
    async with running(provider=provider) as rig:
        for _ in range(FAILURES_TO_OPEN + 1):
            response = await rig.ask({"x-flatfee-deadline-ms": "30"}, stream=stream)
            assert response.status_code == 504
            assert response.json()["error"]["code"] == "deadline_exceeded"
        assert response.headers["x-should-retry"] == "false"
        assert response.json()["flatfee"] == await rig.receipt(response)
        assert set(provider.routes) == {"first"}
        assert rig.gateway.health.down(rig.gateway.monotonic()) == frozenset()
        assert (await rig.usage())["fair_use"]["pending"] == 0


async def test_a_deadline_that_passed_before_the_first_try_asks_nobody() -> None:
    provider = ScriptedProvider()
    moments = iter([0.0])
    async with running(provider=provider) as rig:
        rig.gateway.monotonic = lambda: next(moments, 100.0)
        response = await rig.ask({"x-flatfee-deadline-ms": "50"})
    assert response.status_code == 504
    assert provider.routes == []


async def test_a_failure_after_the_deadline_is_the_deadlines() -> None:
    provider = ScriptedProvider(first=error(500))
    now = 0.0
    async with running(provider=provider) as rig:
        rig.gateway.monotonic = lambda: now + 100 * len(provider.asked)
        response = await rig.ask({"x-flatfee-deadline-ms": "5000"})
    assert response.json()["error"]["code"] == "deadline_exceeded"
    assert provider.routes == ["first"]


async def test_the_upstream_is_asked_for_usage_and_for_its_own_model_and_nothing_else_changes() -> None:
    provider = ScriptedProvider()
    body: dict[str, Any] = {"stream": True, "temperature": 0.70, "x-unknown": {"a": [1]}, "stream_options": {"odd": 1}}
    async with running(provider=provider) as rig:
        await rig.ask(**body)
    ((_, sent),) = provider.asked
    messages = [{"role": "user", "content": "canary-prompt"}]
    options = {"odd": 1, "include_usage": True}
    assert sent == {**body, "model": "first-model", "messages": messages, "stream_options": options}


async def test_an_economy_route_that_saves_a_premium_request_is_not_charged() -> None:
    provider = ScriptedProvider(first=error(500), second=error(500))
    async with running(provider=provider) as rig:
        receipt = await rig.receipt(await rig.ask())
        usage = await rig.usage()
    assert (receipt["lane"], receipt["route"], receipt["tier"]) == ("fallback", "thrifty", "economy")
    assert receipt["fair_use"]["charged"] == usage["fair_use"]["used"] == 0


async def test_a_plain_answer_without_usage_is_estimated() -> None:
    async with running(provider=ScriptedProvider(first=plain(usage=None))) as rig:
        receipt = await rig.receipt(await rig.ask())
    assert receipt["state"] == "estimated"
    assert receipt["fair_use"]["charged"] > 0


async def test_an_impossible_usage_is_not_believed() -> None:
    async with running(provider=ScriptedProvider(first=plain(usage=(10**30, -5)))) as rig:
        response = await rig.ask()
    assert response.status_code == 200
    assert response.json()["flatfee"]["state"] == "estimated"


async def test_what_the_log_tells_of_a_left_route_is_who_and_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(provider=ScriptedProvider(first=error(500))) as rig:
        await rig.ask()
    (record,) = [record for record in caplog.records if record.message == "relay.left_route"]
    assert {name: record.__dict__[name] for name in ("route", "outcome", "status")} == {
        "route": "first",
        "outcome": "error",
        "status": 500,
    }


def test_a_refusal_says_its_status_and_not_its_text() -> None:
    assert str(ProviderRefusal(400, {"message": "canary"})) == "refused by the provider with status 400"
    assert str(Failed(AttemptOutcome.ERROR)) == "error"
