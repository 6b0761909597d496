"""A caller that leaves, or whose deadline passes, takes the provider's work with it: at once, and wherever it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.faults.scenario import FIRST, GOODBYE, OTHER, settings_with, to
from tests.faults.speech import completion, sized
from tests.faults.steps import Pause, Seen
from tests.faults.upstream import FaultyUpstream
from tests.server.fakes import LIMIT, until
from tests.server.fakes_gateway import Served, on_loopback, request

pytestmark = pytest.mark.faults
PATIENT = {"first_token_timeout": 30.0, "idle_timeout": 30.0}
LATE = "x-flatfee-deadline-ms: 400"
SOON = "x-flatfee-deadline-ms: 900"


@asynccontextmanager
async def gateway(fault: str, **options: Any) -> AsyncGenerator[tuple[FaultyUpstream, Served]]:
    """Run a gateway with a failing route, which is waited for, and a healthy one behind it."""
    async with FaultyUpstream() as upstream:
        upstream.plays(FIRST, then=fault)
        upstream.plays(OTHER)
        settings = settings_with(upstream, to(FIRST, **PATIENT | options), to(OTHER, priority=2))
        async with on_loopback(settings) as served:
            yield upstream, served


async def receipt_of_the_only_one(served: Served) -> dict[str, Any]:
    """Wait for the one receipt that a request leaves once it is over."""
    await until(lambda: not served.app.gateway.running)
    _, _, body = await served.exchange(request("/v1/receipts", method="GET"))
    receipts = json.loads(body)["data"]
    assert len(receipts) == 1
    only: dict[str, Any] = receipts[0]
    return only


async def pending(served: Served) -> int:
    _, _, body = await served.exchange(request("/v1/usage", method="GET"))
    return int(json.loads(body)["fair_use"]["pending"])


async def leaves(served: Served, upstream: FaultyUpstream, heard: bytes, **body: Any) -> tuple[float, Seen]:
    """Ask, hear so much, and close the connection; return when that was, and the provider's try."""
    reader, writer = await served.open(request(**body))
    await until(lambda: upstream.of(FIRST))
    if heard:
        async with asyncio.timeout(LIMIT):
            await reader.readuntil(heard)
    writer.transport.abort()
    return asyncio.get_running_loop().time(), upstream.of(FIRST)[0]


@pytest.mark.parametrize(
    ("fault", "stream", "heard"),
    [
        pytest.param("silent", True, b"", id="before the head of a stream"),
        pytest.param("silent", False, b"", id="before the head of a plain answer"),
        pytest.param("silent-after-the-head", True, b"", id="before the first event"),
        pytest.param("silent-after-the-role", True, b"", id="before the first token"),
        pytest.param("stalls-in-the-body", False, b"", id="in the middle of a plain answer"),
        pytest.param("stalls-midway", True, b"quick", id="in the middle of a stream"),
        pytest.param("comments-midway", True, b"quick", id="in the middle of a stream with comments"),
        pytest.param("slow-trickle", True, b"data: ", id="while tokens come"),
    ],
)
async def test_a_caller_that_leaves_ends_the_providers_work(fault: str, stream: bool, heard: bytes) -> None:
    async with gateway(fault) as (upstream, served):
        left_at, seen = await leaves(served, upstream, heard, stream=stream)
        await until(seen.over.is_set)
        assert seen.gone_at is not None
        assert seen.gone_at - left_at <= GOODBYE
        receipt = await receipt_of_the_only_one(served)
        assert [(each["route"], each["outcome"]) for each in receipt["attempts"]] == [(FIRST, "cancelled")]
        assert "duration_ms" in receipt["attempts"][0]
        assert await pending(served) == 0
        assert not upstream.of(OTHER)


async def test_a_caller_that_leaves_while_the_provider_is_still_being_connected_to_is_let_go() -> None:
    async with FaultyUpstream() as upstream:
        settings = settings_with(upstream, to(FIRST, connect_timeout=30.0), urls={FIRST: upstream.deaf})
        async with on_loopback(settings) as served:
            _, writer = await served.open(request(stream=True))
            await until(lambda: served.app.gateway.running)
            writer.transport.abort()
            receipt = await receipt_of_the_only_one(served)
            assert [each["outcome"] for each in receipt["attempts"]] == ["cancelled"]
            assert await pending(served) == 0


async def test_a_caller_that_leaves_in_the_pause_before_another_try_is_not_tried_for_again() -> None:
    async with gateway("healthy") as (upstream, served):
        upstream.plays(FIRST, "429-retry-after-1")
        reader, writer = await served.open(request(stream=True))
        await until(lambda: upstream.of(FIRST) and upstream.of(FIRST)[0].over.is_set())
        writer.transport.abort()
        receipt = await receipt_of_the_only_one(served)
        assert [(each["outcome"], each["status"]) for each in receipt["attempts"]][:1] == [("rate_limited", 429)]
        assert (receipt["fair_use"] or {}).get("charged", 0) == 0
        assert await pending(served) == 0
        assert len(upstream.seen) == 1
        del reader


async def test_a_caller_that_leaves_while_a_cut_text_is_continued_ends_the_other_routes_work() -> None:
    async with gateway("cut-midway") as (upstream, served):
        upstream.plays(OTHER, then="silent")
        reader, writer = await served.open(request(stream=True))
        await until(lambda: upstream.of(OTHER))
        writer.transport.abort()
        left_at = asyncio.get_running_loop().time()
        seen = upstream.of(OTHER)[0]
        await until(seen.over.is_set)
        assert seen.gone_at is not None
        assert seen.gone_at - left_at <= GOODBYE
        receipt = await receipt_of_the_only_one(served)
        assert [(each["route"], each["outcome"]) for each in receipt["attempts"]] == [
            (FIRST, "error"),
            (OTHER, "cancelled"),
        ]
        del reader


@pytest.mark.parametrize("fault", ["silent", "silent-after-the-head", "comments-only"])
async def test_the_callers_deadline_ends_the_wait_and_asks_nobody_else(fault: str) -> None:
    async with gateway(fault) as (upstream, served):
        status, headers, body = await served.exchange(request("/v1/chat/completions", None, LATE))
        assert (status, json.loads(body)["error"]["code"]) == (504, "deadline_exceeded")
        assert headers["x-should-retry"] == "false"
        heard_at = asyncio.get_running_loop().time()
        seen = upstream.of(FIRST)[0]
        await until(seen.over.is_set)
        assert seen.gone_at is not None
        assert seen.gone_at - heard_at <= GOODBYE
        assert len(upstream.seen) == 1
        receipt = await receipt_of_the_only_one(served)
        assert [each["route"] for each in receipt["attempts"]] == [FIRST]


async def test_the_callers_deadline_in_mid_stream_is_an_error_event_without_done() -> None:
    async with gateway("stalls-midway") as (upstream, served):
        status, _, body = await served.exchange(request("/v1/chat/completions", None, LATE, stream=True))
        assert status == 200
        assert b'"code":"deadline_exceeded"' in body.replace(b" ", b"")
        assert b"[DONE]" not in body
        await until(upstream.of(FIRST)[0].over.is_set)
        assert not upstream.of(OTHER)


async def test_a_providers_pause_that_is_longer_than_the_caller_waits_is_not_waited_for() -> None:
    async with gateway("429-retry-after-1") as (upstream, served):
        status, headers, _ = await served.exchange(request("/v1/chat/completions", None, SOON, stream=False))
        assert (status, headers["x-flatfee-route"]) == (200, OTHER)
        assert len(upstream.of(FIRST)) == 1


async def test_a_deadline_is_no_limit_for_a_route_that_answers_in_time() -> None:
    async with gateway("healthy") as (upstream, served):
        upstream.plays(FIRST, lambda _: [Pause(0.05), sized(completion())])
        status, _, _ = await served.exchange(request("/v1/chat/completions", None, SOON, stream=False))
        assert status == 200
