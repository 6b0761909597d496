"""Other people's clients with our errors and receipts, against our gateway in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import openai
import pytest

import flatfee
from flatfee import Receipt
from flatfee.integrations.httpx import AsyncReceiptTransport
from flatfee.integrations.openai import AsyncOpenAI
from flatfee.server.app import App
from flatfee.server.providers.simulated import FaultKind, SimulatedFault, SimulatedProvider

from .conftest import HELLO, connected


@pytest.fixture
async def peer() -> AsyncGenerator[tuple[AsyncOpenAI, App, list[Receipt]]]:
    """Their client with our errors, over a transport of ours; the gateway; and what the transport heard."""
    heard: list[Receipt] = []
    async with connected() as (ours, app):
        transport = AsyncReceiptTransport(httpx.ASGITransport(app), on_receipt=heard.append)
        async with httpx.AsyncClient(transport=transport) as http:
            key: Any = ours._core.config.api_key
            yield AsyncOpenAI(api_key=key, base_url="http://gateway.test/v1", http_client=http), app, heard


def fail(app: App, fault: SimulatedFault) -> None:
    for route in app.gateway.settings.routes:
        provider = app.gateway.providers[route.provider]
        assert isinstance(provider, SimulatedProvider)
        provider.script(route.name, always=fault)


async def test_an_answer_and_a_stream_tell_the_receipt_that_the_gateway_keeps(peer: Any) -> None:
    client, _, heard = peer
    completion = await client.chat.completions.create(model="auto", messages=HELLO)
    stream = await client.chat.completions.create(model="auto", messages=HELLO, stream=True)
    async for _ in stream:
        pass
    found = [Receipt.of(completion), stream.receipt]
    assert [receipt.state for receipt in found if receipt] == ["settled", "settled"]
    assert [receipt.model_dump() for receipt in found if receipt] == [receipt.model_dump() for receipt in heard]


async def test_an_exhausted_fallback_has_both_names_and_every_attempt(peer: Any) -> None:
    client, app, heard = peer
    fail(app, SimulatedFault(kind=FaultKind.ERROR, status=401))
    with pytest.raises(flatfee.FallbackExhausted) as caught:
        await client.chat.completions.create(model="premium", messages=HELLO)
    error: Any = caught.value
    assert openai.InternalServerError in type(error).__mro__
    assert len(error.attempts) == 3
    assert len(heard) == 1, "x-should-retry was obeyed"


async def test_a_stream_that_every_route_breaks_off_is_an_error_with_its_receipt(peer: Any) -> None:
    client, app, _ = peer
    fail(app, SimulatedFault(kind=FaultKind.BREAK_MIDWAY))
    with pytest.raises(flatfee.APIStatusError) as caught:
        async for _ in await client.chat.completions.create(model="auto", messages=HELLO, stream=True):
            pass
    error: Any = caught.value
    assert openai.APIStatusError in type(error).__mro__
    assert error.partial
    assert error.attempts


async def test_consent_and_workflow_reach_the_gateway(peer: Any) -> None:
    client, _, _ = peer
    scoped = client.with_flatfee(workflow="run-7", task="summarize")
    receipt = Receipt.of(await scoped.chat.completions.create(model="auto", messages=HELLO))
    assert receipt is not None
    assert receipt.workflow is not None
    assert (receipt.workflow.id, receipt.lane, receipt.reason) == ("run-7", "budget", "small_task")


async def test_the_gateway_answers_a_repeated_key_once(peer: Any) -> None:
    client, _, heard = peer
    for _ in range(2):
        await client.chat.completions.create(
            model="auto", messages=HELLO, extra_headers={"Idempotency-Key": "once-and-only"}
        )
    assert len({receipt.request_id for receipt in heard}) == 1
