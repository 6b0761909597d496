"""openai-python, unmodified, against the gateway."""

from __future__ import annotations

import json
from collections.abc import Generator

import openai
import pytest
from pydantic import BaseModel

from flatfee import Receipt
from flatfee.cli.demo.gateway import DemoGateway, running_gateway
from flatfee.server.providers.simulated import FaultKind, SimulatedFault

from .conftest import CONFIGURATION

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

HELLO: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Hello there, gateway."}]
WEATHER: openai.types.chat.ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Verdict(BaseModel):
    passed: bool
    score: int
    notes: list[str]


@pytest.fixture
def peer(gateway: DemoGateway) -> Generator[openai.OpenAI]:
    with openai.OpenAI(api_key=gateway.key, base_url=gateway.url) as client:
        yield client


def test_a_plain_answer_has_the_receipt_among_its_extra_fields(peer: openai.OpenAI) -> None:
    completion = peer.chat.completions.create(model="auto", messages=HELLO)
    assert completion.choices[0].message.content
    assert completion.model_extra is not None
    assert completion.model_extra["flatfee"]["lane"] == "premium"
    receipt = Receipt.of(completion)
    assert receipt is not None
    assert receipt.state == "settled"
    assert completion._request_id == receipt.request_id


def test_a_stream_ends_with_the_settled_receipt_in_its_last_chunk(peer: openai.OpenAI) -> None:
    chunks = list(peer.chat.completions.create(model="auto", messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    carrying = [chunk for chunk in chunks if (chunk.model_extra or {}).get("flatfee")]
    assert carrying == chunks[-1:]
    receipt = Receipt.of(chunks[-1])
    assert receipt is not None
    assert receipt.state == "settled"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_usage_in_a_stream_comes_when_it_was_asked_for(peer: openai.OpenAI) -> None:
    asked = list(
        peer.chat.completions.create(model="auto", messages=HELLO, stream=True, stream_options={"include_usage": True})
    )
    assert asked[-1].usage is not None
    assert asked[-1].usage.total_tokens > 0
    assert Receipt.of(asked[-1]) is not None


def test_a_tool_is_called_and_its_result_taken(peer: openai.OpenAI) -> None:
    first = peer.chat.completions.create(model="auto", messages=HELLO, tools=[WEATHER])
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert call.type == "function"
    assert list(json.loads(call.function.arguments)) == ["city"]
    result: openai.types.chat.ChatCompletionToolMessageParam = {
        "role": "tool",
        "tool_call_id": call.id,
        "content": "rain",
    }
    assistant: openai.types.chat.ChatCompletionAssistantMessageParam = {
        "role": "assistant",
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
        ],
    }
    second = peer.chat.completions.create(model="auto", messages=[*HELLO, assistant, result], tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content


def test_tool_calls_are_put_together_from_a_stream(peer: openai.OpenAI) -> None:
    with peer.chat.completions.stream(model="auto", messages=HELLO, tools=[WEATHER]) as stream:
        stream.until_done()
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert "city" in json.loads(message.tool_calls[0].function.arguments)


def test_a_response_format_is_obeyed(peer: openai.OpenAI) -> None:
    completion = peer.chat.completions.parse(model="auto", messages=HELLO, response_format=Verdict)
    assert completion.choices[0].message.parsed is not None


def test_errors_are_its_own_exception_types(peer: openai.OpenAI, gateway: DemoGateway) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        peer.chat.completions.create(model="gpt-9", messages=HELLO)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError) as stranger:
        peer.with_options(api_key="x" * 40).chat.completions.create(model="auto", messages=HELLO)
    assert stranger.value.request_id is not None
    with pytest.raises(openai.BadRequestError) as bad:
        peer.chat.completions.create(model="auto", messages=HELLO, extra_headers={"x-flatfee-workflow": "no spaces"})
    assert "no spaces" in bad.value.message
    receipt = Receipt.of(bad.value)
    assert receipt is not None
    assert receipt.state == "refused"
    del gateway


def test_spent_fair_use_is_an_error_it_does_not_retry() -> None:
    with (
        running_gateway(CONFIGURATION.replace("fair_use = 20000", "fair_use = 10")) as gateway,
        openai.OpenAI(api_key=gateway.key, base_url=gateway.url) as peer,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        peer.chat.completions.create(model="premium", messages=HELLO, extra_headers={"x-flatfee-on-exhausted": "fail"})
    assert (caught.value.status_code, caught.value.code) == (402, "fair_use_exhausted")


def test_an_exhausted_fallback_is_not_retried(peer: openai.OpenAI, gateway: DemoGateway) -> None:
    for provider in ("north", "south"):
        for route in gateway.settings.routes:
            if route.provider == provider:
                gateway.providers[provider].script(route.name, always=SimulatedFault(kind=FaultKind.ERROR, status=401))
    with pytest.raises(openai.InternalServerError) as caught:
        peer.with_options(max_retries=5).chat.completions.create(model="premium", messages=HELLO)
    assert caught.value.code == "fallback_exhausted"
    assert gateway.providers["south"].calls == ["south-premium"], "one try: openai-python obeyed x-should-retry"
    receipt = Receipt.of(caught.value)
    assert receipt is not None
    assert receipt.attempts is not None
    assert len(receipt.attempts) == 3


def test_a_broken_stream_is_its_own_exception_type(peer: openai.OpenAI, gateway: DemoGateway) -> None:
    for route in gateway.settings.routes:
        gateway.providers[route.provider].script(route.name, always=SimulatedFault(kind=FaultKind.BREAK_MIDWAY))
    with pytest.raises(openai.APIError):
        for _ in peer.chat.completions.create(model="auto", messages=HELLO, stream=True):
            pass


async def test_the_asynchronous_client_works_as_well(gateway: DemoGateway) -> None:
    async with openai.AsyncOpenAI(api_key=gateway.key, base_url=gateway.url) as peer:
        completion = await peer.chat.completions.create(model="auto", messages=HELLO)
        assert Receipt.of(completion) is not None
        stream = await peer.chat.completions.create(model="auto", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
        assert Receipt.of(chunks[-1]) is not None


def test_the_models_are_listed(peer: openai.OpenAI) -> None:
    assert [model.id for model in peer.models.list()] == ["auto", "premium", "economy"]
