"""LiteLLM's SDK over the integration's clients: receipts, failures, and how often it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import litellm
import pytest
from tests.frameworks.conftest import ROUTES, WARNINGS_OF_OTHERS, fail, requests

import flatfee
from flatfee.integrations.openai import AsyncOpenAI, OpenAI
from flatfee.testing import ScriptedGateway

pytestmark = [pytest.mark.frameworks, WARNINGS_OF_OTHERS]

WAYS = ["plain", "stream", "async", "async stream"]


@dataclass(frozen=True)
class Clients:
    sync: OpenAI
    aio: AsyncOpenAI

    async def ask(self, way: str, **options: Any) -> Any:
        """Ask in one of the ways in which LiteLLM asks; return the answer, or the last of its pieces."""
        asked = {"model": "openai/auto", "messages": [{"role": "user", "content": "Hello"}], **options}
        match way:
            case "plain":
                return litellm.completion(client=self.sync, **asked)
            case "stream":
                return list(litellm.completion(client=self.sync, stream=True, **asked))[-1]
            case "async":
                return await litellm.acompletion(client=self.aio, **asked)
            case _:
                stream = await litellm.acompletion(client=self.aio, stream=True, **asked)
                return [piece async for piece in stream][-1]


@pytest.fixture
async def clients(gateway: ScriptedGateway) -> AsyncIterator[Clients]:
    async with AsyncOpenAI() as aio:
        with OpenAI() as sync:
            yield Clients(sync, aio)


@pytest.mark.parametrize("way", WAYS)
async def test_receipt_is_found_on_the_answer(clients: Clients, way: str) -> None:
    with flatfee.receipts() as run:
        receipt = flatfee.Receipt.of(await clients.ask(way))
    assert receipt
    assert (receipt.lane, receipt.route) == ("premium", "premium-a")
    assert [(it.request_id, it.state) for it in run.receipts] == [(receipt.request_id, "settled")]


async def test_whole_answer_has_settled_figures(clients: Clients) -> None:
    response = litellm.completion(
        model="openai/auto", client=clients.sync, messages=[{"role": "user", "content": "Hello"}]
    )
    receipt = flatfee.Receipt.of(response)
    assert receipt
    assert receipt.fair_use
    assert (receipt.state, receipt.fair_use.charged) == ("settled", 32)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.pain(23)
async def test_exhausted_fallback_is_asked_for_once_and_known_by_name(
    gateway: ScriptedGateway, clients: Clients, way: str
) -> None:
    """Pain 23: LiteLLM's retries times the SDK's, each of which asks every provider again."""
    fail(gateway)
    with pytest.raises(litellm.ServiceUnavailableError) as caught:
        await clients.ask(way)
    failure = flatfee.classify(caught.value)
    assert isinstance(failure, flatfee.FallbackExhausted)
    assert {attempt.route for attempt in failure.attempts} == ROUTES
    assert requests(gateway) == 1


async def test_retries_that_litellm_is_told_to_make_repeat_it_all_the_same(
    gateway: ScriptedGateway, clients: Clients
) -> None:
    """What the guide warns of: LiteLLM asks nobody whether another try is any use."""
    fail(gateway)
    with pytest.raises(litellm.ServiceUnavailableError):
        await clients.ask("plain", num_retries=1)
    assert requests(gateway) == 2


async def test_retries_of_the_client_are_those_that_litellm_is_told(gateway: ScriptedGateway, clients: Clients) -> None:
    """What the guide warns of: LiteLLM writes its own number into the client that it is given."""
    clients.sync.max_retries = 5
    await clients.ask("plain")
    assert clients.sync.max_retries == litellm.DEFAULT_MAX_RETRIES
    await clients.ask("plain", max_retries=4)
    assert clients.sync.max_retries == 4
