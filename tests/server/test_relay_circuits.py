"""What the relay tells the circuit of a probe, whatever becomes of it."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from typing import Any

import pytest
from tests.server.fakes import (
    LIMIT,
    STREAM,
    Reply,
    ScriptedProvider,
    Silence,
    delta,
    error,
    make_settings,
    plain,
    route,
    silent,
    streamed,
    until,
)
from tests.server.fakes_gateway import on_loopback, request, running

from flatfee.server.gateway import Gateway
from flatfee.server.health import COOL_DOWN, FAILURES_TO_OPEN, CircuitState
from flatfee.server.providers.base import ProviderFailure
from flatfee.wire import AttemptOutcome

STALE = Reply(fails=ProviderFailure(AttemptOutcome.ERROR, "closed", stale=True))


def one() -> Any:
    return make_settings(routes=[route("first")])


def half_open(gateway: Gateway) -> None:
    for _ in range(FAILURES_TO_OPEN):
        gateway.health.failed("first", gateway.monotonic() - COOL_DOWN - 1, 0)


def passes(gateway: Gateway) -> bool:
    return deepcopy(gateway.health).admits("first", gateway.monotonic()) is not None


def circuit(gateway: Gateway) -> CircuitState:
    return gateway.health.report("first", gateway.monotonic()).circuit


@pytest.mark.parametrize(
    ("replies", "stream"),
    [([plain()], False), ([streamed()], True), ([error(400)], False), ([STALE, plain()], False)],
    ids=["plain", "streamed", "refused", "after a stale connection"],
)
async def test_a_probe_that_answers_closes_the_circuit(replies: list[Reply], stream: bool) -> None:
    provider = ScriptedProvider(first=replies)
    async with running(one(), provider) as rig:
        half_open(rig.gateway)
        await rig.ask(stream=stream)
        assert circuit(rig.gateway) is CircuitState.CLOSED
    assert len(provider.routes) == len(replies)


async def test_a_probe_whose_caller_is_out_of_time_leaves_its_place_to_the_next() -> None:
    async with running(one(), ScriptedProvider(first=silent())) as rig:
        half_open(rig.gateway)
        response = await rig.ask({"x-flatfee-deadline-ms": "100"})
        assert response.json()["error"]["code"] == "deadline_exceeded"
        assert circuit(rig.gateway) is CircuitState.HALF_OPEN
        assert passes(rig.gateway)


async def test_a_probe_whose_caller_leaves_leaves_its_place_to_the_next() -> None:
    provider = ScriptedProvider(first=silent())
    async with on_loopback(one(), provider) as served:
        gateway = served.app.gateway
        half_open(gateway)
        _, writer = await served.open(request())
        await until(lambda: provider.routes)
        assert not passes(gateway)
        writer.transport.abort()
        await until(lambda: not gateway.running)
        assert circuit(gateway) is CircuitState.HALF_OPEN
        assert passes(gateway)


@pytest.mark.slow
async def test_an_older_try_whose_caller_leaves_does_not_give_the_probes_place_away() -> None:
    provider = ScriptedProvider(first=silent())
    async with on_loopback(one(), provider) as served:
        gateway = served.app.gateway
        _, older = await served.open(request())
        await until(lambda: len(provider.routes) == 1)
        half_open(gateway)
        await served.open(request())
        await until(lambda: len(provider.routes) == 2)
        older.transport.abort()
        await until(lambda: len(gateway.running) == 1)
        assert not passes(gateway)


async def test_from_a_probes_first_token_on_others_pass() -> None:
    provider = ScriptedProvider(first=streamed(delta("a"), Silence.FOR_EVER))
    async with on_loopback(one(), provider) as served:
        half_open(served.app.gateway)
        reader, _ = await served.open(request(stream=True))
        async with asyncio.timeout(LIMIT):
            await reader.readuntil(b'"a"')
        assert passes(served.app.gateway)


async def test_a_probe_whose_caller_leaves_with_the_whole_answer_closes_the_circuit() -> None:
    provider = ScriptedProvider(first=streamed(*STREAM, Silence.FOR_EVER))
    async with on_loopback(one(), provider) as served:
        half_open(served.app.gateway)
        reader, writer = await served.open(request(stream=True))
        async with asyncio.timeout(LIMIT):
            await reader.readuntil(b"[DONE]")
        writer.transport.abort()
        await until(lambda: not served.app.gateway.running)
        assert circuit(served.app.gateway) is CircuitState.CLOSED
