"""What is charged where routes fail: nothing for what failed, and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.server.fakes import (
    DONE,
    LIMIT,
    PROMPT,
    Piece,
    Reply,
    ScriptedAnswer,
    ScriptedProvider,
    Silence,
    delta,
    error,
    event,
    events_of,
    make_settings,
    plain,
    route,
    silent,
    streamed,
    until,
    usage_event,
)
from tests.server.fakes_gateway import on_loopback, request, running

from flatfee.server.providers.base import ProviderFailure
from flatfee.server.settings import RouteSettings
from flatfee.wire import AttemptOutcome

BROKEN = ProviderFailure(AttemptOutcome.ERROR, "broke off")
HALF = "canary-" * 6
FILTERS = event({"choices": [], "prompt_filter_results": []})


def two(**options: Any) -> Any:
    return make_settings(routes=[route("first", priority=1, **options), route("second", priority=2, **options)])


def outcomes(receipt: dict[str, Any]) -> list[tuple[str, str]]:
    return [(tried["route"], tried["outcome"]) for tried in receipt["attempts"]]


@pytest.mark.parametrize("before", [b"", b": processing\n\n", FILTERS], ids=["nothing", "a comment", "filters"])
async def test_a_route_that_gives_another_answer_is_charged_for_nothing(before: bytes) -> None:
    other = streamed(before + delta(HALF[:9]), delta("another"), delta(finish="stop"), DONE)
    async with running(two(), ScriptedProvider(first=streamed(delta(HALF), BROKEN), second=other)) as rig:
        response = await rig.ask(stream=True)
        receipt, usage = await rig.receipt(response), await rig.usage()
    last = events_of(response.content)[-1]
    assert "failed in the middle" in last["error"]["message"]
    assert outcomes(receipt) == [("first", "error"), ("second", "diverged")]
    assert (receipt["route"], receipt["fair_use"]["charged"], usage["fair_use"]["used"]) == ("first", 0, 0)


@pytest.mark.parametrize("routes", [1, 2])
async def test_a_choice_that_ended_before_the_other_began_is_not_charged(routes: int) -> None:
    broken = streamed(delta("Hi", finish="stop"), BROKEN)
    settings = make_settings(routes=[route(f"r{number}", priority=number) for number in range(1, routes + 1)])
    async with running(settings, ScriptedProvider(r1=broken, r2=error(529))) as rig:
        response = await rig.ask(stream=True, n=2)
        usage = await rig.usage()
    assert (usage["fair_use"]["used"], usage["fair_use"]["pending"]) == (0, 0)
    assert b"[DONE]" not in response.content


class Ticking(ScriptedProvider):
    """A provider whose first route talks for ever."""

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[ScriptedAnswer, None]:
        class Endless(ScriptedAnswer):
            async def chunks(self) -> AsyncIterator[bytes]:
                while True:
                    yield delta("tick " * 20)
                    await asyncio.sleep(0.005)

        async with super().send(route, body, stream=stream) as answer:
            yield Endless(streamed()) if route.name == "first" else answer


async def test_what_flowed_until_its_time_was_over_stays_charged_when_nobody_goes_on() -> None:
    async with running(two(total_timeout=0.4), Ticking(second=error(529))) as rig:
        receipt = await rig.receipt(await rig.ask(stream=True))
        usage = await rig.usage()
    assert outcomes(receipt) == [("first", "timeout"), ("second", "error")]
    assert (receipt["route"], receipt["state"]) == ("first", "estimated")
    assert usage["fair_use"]["used"] == receipt["fair_use"]["charged"] > 100


async def test_it_stays_charged_too_when_the_deadline_comes_before_another_has_said_anything() -> None:
    async with running(two(total_timeout=0.4), Ticking(second=silent())) as rig:
        receipt = await rig.receipt(await rig.ask({"x-flatfee-deadline-ms": "600"}, stream=True))
    assert receipt["route"] == "first"
    assert receipt["fair_use"]["charged"] > 100


async def test_the_deadline_behind_a_cut_charges_nothing_that_the_caller_never_got() -> None:
    provider = ScriptedProvider(first=streamed(delta(HALF), BROKEN), second=streamed(delta(HALF[:9]), Silence.FOR_EVER))
    async with running(two(), provider) as rig:
        response = await rig.ask({"x-flatfee-deadline-ms": "400"}, stream=True)
        receipt, usage = await rig.receipt(response), await rig.usage()
    assert events_of(response.content)[-1]["error"]["code"] == "deadline_exceeded"
    assert outcomes(receipt) == [("first", "error"), ("second", "cancelled")]
    assert (receipt["fair_use"]["charged"], usage["fair_use"]["used"]) == (0, 0)


async def test_a_caller_that_leaves_while_another_route_repeats_is_charged_for_nothing() -> None:
    provider = ScriptedProvider(first=streamed(delta(HALF), BROKEN), second=streamed(delta(HALF[:9]), Silence.FOR_EVER))
    async with on_loopback(two(), provider) as served:
        reader, writer = await served.open(request(stream=True))
        async with asyncio.timeout(LIMIT):
            await reader.readuntil(HALF.encode())
        await until(lambda: provider.routes == ["first", "second"])
        writer.transport.abort()
        await until(lambda: provider.left == 2 and not served.app.gateway.running)
        _, _, body = await served.exchange(request("/v1/receipts", b"", method="GET"))
    assert b'"charged":0' in body
    assert b'"cancelled"' in body


async def test_usage_that_was_told_behind_the_finish_counts_though_the_caller_left_before_done() -> None:
    ready = asyncio.Event()
    pieces: list[Piece] = [delta("a"), delta(finish="stop"), usage_event(1000, 500), Silence.FOR_EVER]
    provider = ScriptedProvider(first=Reply([*pieces[:3], ready, *pieces[3:]]))
    async with on_loopback(provider=provider) as served:
        reader, writer = await served.open(request(stream=True))
        async with asyncio.timeout(LIMIT):
            await reader.readuntil(b'"a"')
        writer.transport.abort()
        await until(lambda: provider.left == 1 and not served.app.gateway.running)
        _, _, body = await served.exchange(request("/v1/receipts", b"", method="GET"))
    assert b'"prompt_tokens":1000' in body
    assert PROMPT.encode() not in body


async def test_a_silent_route_in_front_costs_nothing() -> None:
    async with running(two(first_token_timeout=0.05), ScriptedProvider(first=silent(), second=plain())) as rig:
        response = await rig.ask(stream=True)
        receipt, usage = await rig.receipt(response), await rig.usage()
    assert outcomes(receipt) == [("first", "timeout"), ("second", "ok")]
    assert usage["fair_use"]["used"] == receipt["fair_use"]["charged"] == 30
