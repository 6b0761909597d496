"""openai-agents over the integration's client: receipts in runs, failures by name, and how often it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from agents import Agent, OpenAIChatCompletionsModel, Runner
from tests.frameworks.conftest import ROUTES, WARNINGS_OF_OTHERS, fail, requests

import flatfee
from flatfee.integrations.openai import AsyncOpenAI
from flatfee.testing import ScriptedGateway

pytestmark = [pytest.mark.frameworks, WARNINGS_OF_OTHERS]

WAYS = ["run", "stream"]


@pytest.fixture
async def agent(gateway: ScriptedGateway) -> AsyncIterator[Agent[Any]]:
    async with AsyncOpenAI(workflow="run-42", max_retries=5) as client:
        yield Agent(name="Helper", model=OpenAIChatCompletionsModel(model="auto", openai_client=client))


async def asked(agent: Agent[Any], way: str) -> Any:
    """Ask in one of the two ways, and return what the framework keeps of the run."""
    if way == "run":
        return await Runner.run(agent, "Hello")
    result = Runner.run_streamed(agent, "Hello")
    assert [event async for event in result.stream_events()]
    return result


@pytest.mark.parametrize("way", WAYS)
async def test_receipt_in_the_run_has_the_id_that_the_framework_keeps(agent: Agent[Any], way: str) -> None:
    with flatfee.receipts() as run:
        result = await asked(agent, way)
    (receipt,) = run.receipts
    assert (receipt.lane, receipt.route, receipt.state) == ("premium", "premium-a", "settled")
    assert [response.request_id for response in result.raw_responses] == [receipt.request_id]
    assert run.workflows == ("run-42",)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.pain(23)
async def test_exhausted_fallback_is_asked_for_once_and_caught_by_name(
    gateway: ScriptedGateway, agent: Agent[Any], way: str
) -> None:
    """Pain 23: a framework's retries times the SDK's, each of which asks every provider again."""
    fail(gateway)
    with pytest.raises(flatfee.FallbackExhausted) as caught:
        await asked(agent, way)
    assert openai.InternalServerError in type(caught.value).__mro__
    assert {attempt.route for attempt in caught.value.attempts} == ROUTES
    assert requests(gateway) == 1
