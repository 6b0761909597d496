"""pydantic-ai over the integration's client: receipts, failures, and other models to fall back on."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIStreamedResponse
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers.openai import OpenAIProvider
from tests.frameworks.conftest import ROOT, WARNINGS_OF_OTHERS, Gateway

import flatfee
from flatfee.integrations.openai import AsyncOpenAI

pytestmark = [pytest.mark.frameworks, WARNINGS_OF_OTHERS]

EXAMPLE = "pydantic_ai_agent.py"
WAYS = ["run", "stream"]
TELLS_LAST_EVENT = hasattr(OpenAIStreamedResponse, "_map_chunk_provider_details")
"""The hook that hears of events without a choice came with the versions for openai-python 3."""


@pytest.fixture
async def model(gateway: Gateway) -> AsyncIterator[OpenAIChatModel]:
    async with AsyncOpenAI(workflow="run-42", max_retries=5) as client:
        yield example().ReceiptModel("auto", provider=OpenAIProvider(openai_client=client))


def example() -> Any:
    """Return the example's classes; only as a program does it run."""
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples" / "frameworks" / EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exhausted(error: Exception) -> bool:
    """Whether the gateway tried every route: another provider is worth asking."""
    return isinstance(flatfee.classify(error), flatfee.FallbackExhausted)


async def asked(agent: Agent[None, Any], way: str) -> Any:
    """Ask in one of the two ways, and return the model's last message."""
    if way == "run":
        return (await agent.run("Hello")).response
    async with agent.run_stream("Hello") as stream:
        assert [text async for text in stream.stream_text(delta=True)]
        return stream.response


@pytest.mark.parametrize(
    "way",
    [
        "run",
        pytest.param("stream", marks=pytest.mark.xfail(not TELLS_LAST_EVENT, reason="pydantic-ai for openai-python 2")),
    ],
)
async def test_receipt_is_found_on_the_message_and_in_the_run(model: OpenAIChatModel, way: str) -> None:
    with flatfee.receipts() as run:
        message = await asked(Agent(model), way)
    receipt = flatfee.Receipt.of(message)
    assert receipt
    assert (receipt.lane, receipt.route, receipt.state) == ("premium", "north-premium", "settled")
    assert [(it.request_id, it.state) for it in run.receipts] == [(receipt.request_id, "settled")]
    assert run.workflows == ("run-42",)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.pain(23)
async def test_exhausted_fallback_is_asked_for_once_and_known_by_name(
    gateway: Gateway, model: OpenAIChatModel, way: str
) -> None:
    """Pain 23: a framework's retries times the SDK's, each of which asks every provider again."""
    gateway.fail()
    with pytest.raises(ModelHTTPError) as caught:
        await asked(Agent(model), way)
    failure = flatfee.classify(caught.value)
    assert isinstance(failure, flatfee.FallbackExhausted)
    assert caught.value.__cause__ is failure
    assert {attempt.route for attempt in failure.attempts} == {"north-premium", "north-economy"}
    assert gateway.requests == 1


@pytest.mark.parametrize("way", WAYS)
async def test_another_model_stands_in_when_every_route_failed_and_only_then(
    gateway: Gateway, model: OpenAIChatModel, way: str
) -> None:
    spare = TestModel(custom_output_text="I am the other model.")
    agent = Agent(FallbackModel(model, spare, fallback_on=exhausted))
    assert "other" not in str((await asked(agent, way)).parts)
    gateway.fail()
    assert "I am the other model." in str((await asked(agent, way)).parts)


async def test_what_no_other_model_would_cure_is_raised(gateway: Gateway) -> None:
    async with AsyncOpenAI() as client:
        model = OpenAIChatModel("gpt-9", provider=OpenAIProvider(openai_client=client))
        with pytest.raises(ModelAPIError) as caught:
            await Agent(model).run("Hello")
    assert isinstance(flatfee.classify(caught.value), flatfee.NotFoundError)
