"""LlamaIndex's ``OpenAI`` over our own client: receipts, failures, and how often it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage, LLMMetadata
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel
from tests.frameworks.conftest import ROUTES, WARNINGS_OF_OTHERS, fail, requests

import flatfee
from flatfee.testing import ScriptedGateway

pytestmark = [pytest.mark.frameworks, WARNINGS_OF_OTHERS]

HELLO = [ChatMessage("Hello")]
WAYS = ["chat", "complete", "stream_chat", "achat", "astream_chat"]


class City(BaseModel):
    """A city."""

    city: str


class Flatfee(OpenAI):
    """LlamaIndex's model, for models that it has no table of."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            model_name=self.model, context_window=128_000, is_chat_model=True, is_function_calling_model=True
        )


def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"21 degrees in {city}"


@pytest.fixture
async def llm(gateway: ScriptedGateway) -> AsyncIterator[Flatfee]:
    """LlamaIndex's model, with retries of its own allowed."""
    async with flatfee.AsyncClient() as async_client:
        with flatfee.Client() as client:
            yield Flatfee(model="auto", openai_client=client, async_openai_client=async_client, max_retries=5)


async def asked(llm: Flatfee, way: str) -> Any:
    """Ask in one of the ways in which LlamaIndex asks; return the last of what it answers."""
    match way:
        case "chat":
            return llm.chat(HELLO)
        case "complete":
            return llm.complete("Hello")
        case "stream_chat":
            return list(llm.stream_chat(HELLO))[-1]
        case "achat":
            return await llm.achat(HELLO)
        case _:
            return [response async for response in await llm.astream_chat(HELLO)][-1]


@pytest.mark.parametrize("way", WAYS)
async def test_settled_receipt_is_found_on_the_last_response(llm: Flatfee, way: str) -> None:
    with flatfee.receipts() as run:
        receipt = flatfee.Receipt.of(await asked(llm, way))
    assert receipt
    assert receipt.state == "settled"
    assert receipt.fair_use
    assert receipt.fair_use.charged == 32
    assert [it.request_id for it in run.receipts] == [receipt.request_id]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.pain(23)
async def test_exhausted_fallback_is_raised_as_it_is_and_asked_for_once(
    gateway: ScriptedGateway, llm: Flatfee, way: str
) -> None:
    """Pain 23: LlamaIndex's retries times the SDK's, each of which asks every provider again."""
    fail(gateway)
    with pytest.raises(flatfee.FallbackExhausted) as caught:
        await asked(llm, way)
    assert {attempt.route for attempt in caught.value.attempts} == ROUTES
    assert requests(gateway) == 1


async def test_agent_calls_a_tool_and_every_step_has_its_receipt(gateway: ScriptedGateway, llm: Flatfee) -> None:
    agent = FunctionAgent(tools=[weather], llm=llm, system_prompt="Be brief.")
    with flatfee.receipts() as run:
        answer = str(await agent.run("How warm is it in Lisbon?"))
    assert answer.strip() == "The tool says: 21 degrees in Lisbon"
    assert [it.state for it in run.receipts] == ["settled", "settled"]
    assert requests(gateway) == 2


async def test_structured_answer_is_read_through_our_client(llm: Flatfee) -> None:
    assert llm.structured_predict(City, PromptTemplate("Name a city.")) == City(city="Lisbon")


def test_workflow_stands_for_the_client(gateway: ScriptedGateway) -> None:
    with flatfee.Client() as client, client.workflow("run-42") as workflow:
        Flatfee(model="auto", openai_client=workflow).chat(HELLO)
        assert [it.id for it in client.workflows.list()] == ["run-42"]
