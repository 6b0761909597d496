"""A call is charged once, though its answer was lost on the way and the client asked again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest

from flatfee import AsyncClient, ConflictError
from flatfee.server.app import App, create_app
from flatfee.server.configuration import parse_settings
from flatfee.server.kept import KeptAnswers
from flatfee.server.keys import KeyKind, new_key

from .conftest import CONFIGURATION, HELLO


class LosingTransport(httpx.ASGITransport):
    """A connection that breaks after the gateway has answered, as often as ``losses`` says."""

    def __init__(self, app: App, losses: int) -> None:
        super().__init__(app)
        self.losses = losses
        self.tries = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if request.url.path.endswith("/completions"):
            self.tries += 1
            if self.tries <= self.losses:
                await response.aread()
                raise httpx.ReadError("the connection broke")
        return response


@asynccontextmanager
async def losing(losses: int) -> AsyncGenerator[tuple[AsyncClient, App, LosingTransport], None]:
    key = new_key(KeyKind.PROJECT)
    app = create_app(parse_settings(CONFIGURATION, source="the test", env={"FLATFEE_DEMO_KEY": key}))
    transport = LosingTransport(app, losses)
    async with app.running(), httpx.AsyncClient(transport=transport) as http:
        yield AsyncClient(api_key=key, base_url="http://gateway.test/v1", http_client=http), app, transport


@pytest.mark.slow
async def test_an_answer_that_was_lost_is_given_again_and_charged_once() -> None:
    async with losing(2) as (client, _, transport):
        completion = await client.chat.completions.create(model="premium", messages=HELLO)
        receipts = (await client.receipts.list()).data
        usage = await client.usage.retrieve()
    assert transport.tries == 3
    assert completion.receipt is not None
    assert [receipt.request_id for receipt in receipts] == [completion.receipt.request_id]
    assert usage.fair_use is not None
    assert completion.receipt.fair_use is not None
    assert usage.fair_use.used == completion.receipt.fair_use.charged


async def test_a_stream_that_was_lost_is_given_again_whole() -> None:
    async with losing(1) as (client, _, _):
        stream = await client.chat.completions.create(model="premium", messages=HELLO, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert "Hello there, gateway." in text
        assert stream.receipt is not None
        assert stream.receipt.state == "settled"
        assert len((await client.receipts.list()).data) == 1


async def test_when_the_answer_is_gone_the_error_tells_what_was_charged() -> None:
    async with losing(0) as (client, app, _):
        first = await client.chat.completions.create(model="premium", messages=HELLO, idempotency_key="once")
        app.gateway.answers = KeptAnswers(app.gateway.monotonic)
        with pytest.raises(ConflictError) as caught:
            await client.chat.completions.create(model="premium", messages=HELLO, idempotency_key="once")
    assert caught.value.code == "idempotency_expired"
    assert caught.value.receipt is not None
    assert first.receipt is not None
    assert (caught.value.receipt.request_id, caught.value.receipt.fair_use) == (
        first.receipt.request_id,
        first.receipt.fair_use,
    )
