"""smolagents' ``OpenAIModel`` over our own client: receipts, failures, and how often it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from smolagents import AgentError, OpenAIModel, ToolCallingAgent, tool
from smolagents.models import is_rate_limit_error
from tests.frameworks.conftest import WARNINGS_OF_OTHERS, fail, requests

import flatfee
from flatfee.testing import ScriptedGateway

pytestmark = [pytest.mark.frameworks, WARNINGS_OF_OTHERS]

HELLO = [{"role": "user", "content": "Hello"}]


@tool
def weather(city: str) -> str:
    """Tell the weather in a city.

    Args:
        city: its name.
    """
    return f"21 degrees in {city}"


@pytest.fixture
def model(gateway: ScriptedGateway) -> Iterator[OpenAIModel]:
    """The model of smolagents, with retries of its own allowed."""
    with flatfee.Client() as client:
        yield OpenAIModel("auto", client=client)


def generated(model: OpenAIModel) -> Any:
    return model.generate(HELLO)


def streamed(model: OpenAIModel) -> Any:
    return list(model.generate_stream(HELLO))[-1]


def agent(model: OpenAIModel, **options: Any) -> ToolCallingAgent:
    return ToolCallingAgent(tools=[weather], model=model, verbosity_level=0, **options)


def test_settled_receipt_is_found_on_the_message(model: OpenAIModel) -> None:
    receipt = flatfee.Receipt.of(generated(model))
    assert receipt
    assert (receipt.state, receipt.route) == ("settled", "premium-a")


def test_receipt_of_a_stream_is_in_the_run(model: OpenAIModel) -> None:
    with flatfee.receipts() as run:
        assert flatfee.Receipt.of(streamed(model)) is None
    assert [it.state for it in run.receipts] == ["settled"]


def test_every_step_of_an_agent_has_its_receipt(model: OpenAIModel) -> None:
    asking = agent(model)
    assert asking.run("How warm is it in Lisbon?") == "The tool says: 21 degrees in Lisbon"
    steps = [flatfee.Receipt.of(step.model_output_message) for step in asking.memory.steps[1:]]
    assert [step and step.state for step in steps] == ["settled", "settled"]


def test_streaming_agent_reads_tool_calls_in_pieces(model: OpenAIModel) -> None:
    with flatfee.receipts() as run:
        answer = agent(model, stream_outputs=True).run("How warm is it in Lisbon?")
    assert answer == "The tool says: 21 degrees in Lisbon"
    assert [it.state for it in run.receipts] == ["settled", "settled"]


@pytest.mark.parametrize("ask", [generated, streamed])
@pytest.mark.pain(23)
def test_exhausted_fallback_is_raised_as_it_is_and_asked_for_once(
    gateway: ScriptedGateway, model: OpenAIModel, ask: Callable[[OpenAIModel], Any]
) -> None:
    """Pain 23: a provider's limit that is told again makes smolagents wait a minute, and ask them all again."""
    fail(gateway)  # its providers say "429: rate limit reached, too many requests"
    with pytest.raises(flatfee.FallbackExhausted) as caught:
        ask(model)
    assert {attempt.status for attempt in caught.value.attempts} == {429}
    assert not is_rate_limit_error(caught.value)
    assert requests(gateway) == 1


def test_failure_of_an_agent_is_known_by_name(gateway: ScriptedGateway, model: OpenAIModel) -> None:
    fail(gateway)
    with pytest.raises(AgentError) as caught:
        agent(model).run("How warm is it in Lisbon?")
    assert isinstance(flatfee.classify(caught.value), flatfee.FallbackExhausted)
    assert requests(gateway) == 1


def test_workflow_stands_for_the_client(gateway: ScriptedGateway) -> None:
    with flatfee.Client() as client, client.workflow("run-42") as workflow:
        generated(OpenAIModel("auto", client=workflow))
        assert [it.id for it in client.workflows.list()] == ["run-42"]
