"""LangChain's ``ChatOpenAI`` over the integration's clients: receipts, failures, and how often it asks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from tests.frameworks.conftest import ROUTES, WARNINGS_OF_OTHERS, fail, requests

import flatfee
from flatfee.integrations.openai import AsyncOpenAI, OpenAI
from flatfee.testing import ScriptedGateway

pytestmark = [pytest.mark.frameworks, WARNINGS_OF_OTHERS]


class City(BaseModel):
    """A city."""

    city: str


@pytest.fixture
async def model(gateway: ScriptedGateway) -> AsyncIterator[ChatOpenAI]:
    """LangChain's model, with retries of its own allowed."""
    async with AsyncOpenAI(workflow="run-42") as async_client:
        with OpenAI(workflow="run-42") as client:
            yield ChatOpenAI(
                model="auto",
                client=client.chat.completions,
                root_client=client,
                async_client=async_client.chat.completions,
                root_async_client=async_client,
                include_response_headers=True,
                max_retries=5,
            )


def streamed(model: Any) -> Any:
    """Return the sum of a stream's pieces."""
    whole = None
    for piece in model.stream("Hello"):
        whole = piece if whole is None else whole + piece
    return whole


async def astreamed(model: Any) -> Any:
    whole = None
    async for piece in model.astream("Hello"):
        whole = piece if whole is None else whole + piece
    return whole


async def asked(model: Any, way: str) -> Any:
    """Ask in one of the four ways in which LangChain asks."""
    match way:
        case "invoke":
            return model.invoke("Hello")
        case "stream":
            return streamed(model)
        case "ainvoke":
            return await model.ainvoke("Hello")
        case _:
            return await astreamed(model)


WAYS = ["invoke", "stream", "ainvoke", "astream"]


@pytest.mark.parametrize("way", WAYS)
async def test_receipt_is_found_on_the_message(model: ChatOpenAI, way: str) -> None:
    with flatfee.receipts() as run:
        message = await asked(model, way)
    receipt = flatfee.Receipt.of(message)
    assert receipt
    assert (receipt.lane, receipt.route) == ("premium", "premium-a")
    assert [(it.request_id, it.state) for it in run.receipts] == [(receipt.request_id, "settled")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.pain(13)
async def test_receipt_of_a_structured_answer_is_in_the_run(model: ChatOpenAI, way: str) -> None:
    """Pain 13: LangChain drops the headers of structured answers that are streamed."""
    able = model.model_copy(update={"include_response_headers": False}).with_structured_output(City)
    with flatfee.receipts() as run:
        match way:
            case "invoke":
                answer = able.invoke("Hello")
            case "stream":
                answer = list(able.stream("Hello"))[-1]
            case "ainvoke":
                answer = await able.ainvoke("Hello")
            case _:
                answer = [piece async for piece in able.astream("Hello")][-1]
    assert answer == City(city="Lisbon")
    assert [it.state for it in run.receipts] == ["settled"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.pain(23)
async def test_exhausted_fallback_is_asked_for_once_and_known_by_name(
    gateway: ScriptedGateway, model: ChatOpenAI, way: str
) -> None:
    """Pain 23: LangChain's retries times the SDK's, each of which asks every provider again."""
    fail(gateway)
    with pytest.raises(openai.InternalServerError) as caught:
        await asked(model, way)
    failure = flatfee.classify(caught.value)
    assert isinstance(failure, flatfee.FallbackExhausted)
    assert {attempt.route for attempt in failure.attempts} == ROUTES
    assert requests(gateway) == 1


async def test_retries_that_langchain_is_told_to_make_repeat_it_all_the_same(
    gateway: ScriptedGateway, model: ChatOpenAI
) -> None:
    """What the guide warns of: ``with_retry`` asks nobody whether another try is any use."""
    fail(gateway)
    with pytest.raises(openai.InternalServerError):
        model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke("Hello")
    assert requests(gateway) == 2


async def test_calls_belong_to_the_workflow_of_the_client(gateway: ScriptedGateway, model: ChatOpenAI) -> None:
    model.invoke("Hello")
    with flatfee.Client() as client:
        assert [workflow.id for workflow in client.workflows.list()] == ["run-42"]


def test_our_own_client_streams_but_its_whole_answers_are_refused(gateway: ScriptedGateway) -> None:
    """Why the recipe takes the integration's clients. When this fails, it can take ours."""
    with flatfee.Client() as client:
        model = ChatOpenAI(
            model="auto", client=client.chat.completions, root_client=client, async_client=..., root_async_client=...
        )
        assert streamed(model).content.strip() == "Red, green and blue."
        with pytest.raises(ValueError, match=r"Expected a dict or openai\.BaseModel"):
            model.invoke("Hello")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its connection is never closed
def test_a_model_of_its_own_client_fails_on_the_second_event_loop(gateway: ScriptedGateway) -> None:
    """What the guide for pytest tells. When this fails, its remark can go."""

    def ask() -> str:
        return str(asyncio.run(ChatOpenAI(model="auto", max_retries=0).ainvoke("Hello")).content)

    assert ask() == "Red, green and blue."
    with pytest.raises((openai.APIConnectionError, RuntimeError)):
        ask()
    gc.collect()
