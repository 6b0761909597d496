"""Receipts from gateway to caller: what served a request is known wherever the caller looks."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

import flatfee
from flatfee import APIStatusError, AsyncClient, FairUse, FallbackExhausted, Lane, Receipt
from flatfee.integrations.httpx import AsyncReceiptTransport
from flatfee.integrations.openai import AsyncOpenAI
from flatfee.server.app import App

from .conftest import HELLO
from .test_completions import DOWN, all_down, script

Pair = tuple[AsyncClient, App]


@pytest.mark.pain(22)
async def test_the_model_that_served_after_a_fallback_is_known_from_the_answer(pair: Pair) -> None:
    """Served model hidden after fallback: a proxy's answer named the model that was asked for."""
    client, app = pair
    script(app, "north", "north-premium", always=DOWN)
    completion = await client.chat.completions.create(model="premium", messages=HELLO)
    assert completion.receipt is not None
    assert (completion.receipt.lane, completion.receipt.model_served) == (Lane.FALLBACK, "sim-large-too")
    assert completion.receipt.model_requested == "premium"


@pytest.mark.pain(22)
async def test_the_model_that_serves_a_stream_after_a_fallback_is_known_before_its_first_token(pair: Pair) -> None:
    """Header absent on streams: what served one after a fallback was told to nobody."""
    client, app = pair
    script(app, "north", "north-premium", always=DOWN)
    with flatfee.receipts() as run:
        stream = await client.chat.completions.create(model="premium", messages=HELLO, stream=True)
        early = stream.receipt
        assert early is not None
        assert (early.lane, early.model_served, early.state) == (Lane.FALLBACK, "sim-large-too", "in_flight")
        assert stream.response.headers["x-flatfee-model"] == "sim-large-too"
        _ = [chunk async for chunk in stream]
    settled = stream.receipt
    assert settled is not None
    assert (settled.lane, settled.model_served, settled.state) == (Lane.FALLBACK, "sim-large-too", "settled")
    assert (run.fallbacks, run.models) == (1, {"sim-large-too": 1})


async def test_a_run_adds_up_to_what_the_gateway_charged(pair: Pair) -> None:
    client, app = pair
    with flatfee.receipts() as run:
        async with client.workflow("run-1") as scope:
            await scope.chat.completions.create(model="premium", messages=HELLO)
            stream = await scope.chat.completions.create(model="economy", messages=HELLO, stream=True)
            _ = [chunk async for chunk in stream]
            all_down(app)
            with pytest.raises(FallbackExhausted):
                await scope.with_options(max_retries=0).chat.completions.create(model="premium", messages=HELLO)
    usage = await client.usage.retrieve()
    assert usage.fair_use is not None
    assert run.units.total() == usage.fair_use.used
    assert (run.requests, run.refused, run.workflows) == (3, 1, ("run-1",))
    assert run.lanes[Lane.PREMIUM] == 1
    assert run.fair_use_remaining == usage.fair_use.remaining
    assert usage.window is not None
    assert client.fair_use is not None
    assert (client.fair_use.remaining, client.fair_use.limit) == (usage.fair_use.remaining, 20000)
    assert client.fair_use.resets_at == usage.window.end


async def test_it_adds_up_whichever_way_the_answers_are_read(pair: Pair) -> None:
    client, app = pair
    async with client.workflow() as scope, AsyncExitStack() as stack:
        completions = scope.chat.completions
        transport = AsyncReceiptTransport(httpx.ASGITransport(app))
        http = await stack.enter_async_context(httpx.AsyncClient(transport=transport))
        key: Any = client._core.config.api_key
        theirs: Any = AsyncOpenAI(api_key=key, base_url="http://gateway.test/v1", workflow=scope.id, http_client=http)
        with flatfee.receipts() as run:
            for task in ("review", "summarize"):
                await completions.create(model="auto", messages=HELLO, task=task)
            for _ in range(2):  # the second one is the first one's answer again
                await completions.create(model="auto", messages=HELLO, extra_headers={"idempotency-key": "once"})
            await completions.with_raw_response.create(model="auto", messages=HELLO)
            async with completions.with_streaming_response.create(model="auto", messages=HELLO) as response:
                await response.json()
            async with completions.with_streaming_response.create(model="auto", messages=HELLO, stream=True) as lines:
                _ = [line async for line in lines.iter_lines()]
            async with completions.stream(model="auto", messages=HELLO) as events:
                await events.get_final_completion()
            await theirs.chat.completions.create(model="auto", messages=HELLO)
            _ = [
                chunk async for chunk in await theirs.chat.completions.create(model="auto", messages=HELLO, stream=True)
            ]
            with pytest.raises(flatfee.NotFoundError):
                await completions.create(model="no-such-model", messages=HELLO)
            async with await completions.create(model="auto", messages=HELLO, stream=True) as left:
                await anext(left)
    assert (run.unsettled, left.receipt and left.receipt.state) == (1, "in_flight")
    assert left.receipt is not None
    kept = await client.receipts.retrieve(str(left.receipt.request_id))
    run.note(kept)
    usage = await client.usage.retrieve()
    assert usage.fair_use is not None
    assert (run.requests, run.unsettled, run.units.total()) == (11, 0, usage.fair_use.used)


async def test_alerts_and_receipts_come_with_the_answers(pair: Pair) -> None:
    client, _ = pair
    low: list[FairUse] = []
    client.on_fair_use(below=1.0, call=low.append)
    for _ in range(3):
        await client.chat.completions.create(model="premium", messages=HELLO)
    assert len(low) == 1


async def test_classify_tells_our_failure_in_what_somebody_else_raised(pair: Pair) -> None:
    client, app = pair
    all_down(app)
    with pytest.raises(APIStatusError) as caught:
        await client.chat.completions.create(model="premium", messages=HELLO)
    wrapped = RuntimeError("the agent failed")
    wrapped.__cause__ = caught.value
    assert isinstance(flatfee.classify(wrapped), FallbackExhausted)
    assert Receipt.of(wrapped) == caught.value.receipt
