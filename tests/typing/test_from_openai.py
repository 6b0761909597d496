"""Code that was written for openai-python, with its import changed: what type checkers and the run say of it."""

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import httpx
import pytest
from pydantic import BaseModel

from flatfee import (
    NOT_GIVEN,
    APIStatusError,
    AsyncOpenAI,
    AsyncStream,
    NotFoundError,
    NotGiven,
    OpenAI,
    OpenAIError,
    Stream,
    Timeout,
    pydantic_function_tool,
)
from flatfee.types import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage, MessageParam, ToolParam

CALL = {"id": "c", "type": "function", "function": {"name": "Weather", "arguments": '{"city":"Oz"}'}}
CALLS = {"message": {"role": "assistant", "content": None, "tool_calls": [CALL]}, "finish_reason": "tool_calls"}
SAYS = {"message": {"role": "assistant", "content": '{"city":"Oz"}'}, "finish_reason": "stop"}
EVENTS = b"""\
data: {"choices":[{"index":0,"delta":{"content":"h"}}]}

data: {"choices":[{"index":0,"delta":{"content":"i"},"finish_reason":"stop"}]}

data: [DONE]

"""


class Weather(BaseModel):
    city: str


def gateway(request: httpx.Request) -> httpx.Response:
    if b'"gone"' in request.content:
        return httpx.Response(404, json={"error": {"message": "No.", "code": "model_not_found"}})
    if request.headers["accept"] == "text/event-stream":
        return httpx.Response(200, content=EVENTS, headers={"content-type": "text/event-stream"})
    choice = CALLS if b'"tools"' in request.content and b'"tool"' not in request.content else SAYS
    return httpx.Response(200, json={"choices": [choice], "usage": {"prompt_tokens": 3}})


@pytest.fixture
def client() -> OpenAI:
    http_client = httpx.Client(transport=httpx.MockTransport(gateway))
    return OpenAI(api_key="k", http_client=http_client, timeout=Timeout(60.0, connect=5.0), max_retries=0)


def words(stream: Stream[ChatCompletionChunk]) -> Iterator[str]:
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content is not None:
            yield chunk.choices[0].delta.content


async def awords(stream: AsyncStream[ChatCompletionChunk]) -> AsyncIterator[str]:
    async for chunk in stream:
        yield chunk.choices[0].delta.content or ""


async def test_streams_pass_through_functions_with_annotations(client: OpenAI) -> None:
    hi: list[MessageParam] = [{"role": "user", "content": "hi"}]
    assert "".join(words(client.chat.completions.create(model="m", messages=hi, stream=True))) == "hi"
    http_client = httpx.AsyncClient(transport=httpx.MockTransport(gateway))
    async with AsyncOpenAI(api_key="k", http_client=http_client) as aclient:
        stream = await aclient.chat.completions.create(model="m", messages=hi, stream=True)
        assert [word async for word in awords(stream)] == ["h", "i"]


def ask(client: OpenAI, messages: list[MessageParam], max_tokens: int | NotGiven = NOT_GIVEN) -> ChatCompletionMessage:
    tools: list[ToolParam] = [{"type": "function", "function": {"name": "Weather", "parameters": {"type": "object"}}}]
    completion: ChatCompletion = client.chat.completions.create(
        model="m", messages=messages, tools=tools, max_tokens=max_tokens, parallel_tool_calls=True, seed=1
    )
    if completion.usage:
        assert_type(completion.usage.prompt_tokens, int)
        if completion.usage.prompt_tokens_details:
            assert_type(completion.usage.prompt_tokens_details.cached_tokens, int | None)
    return completion.choices[0].message


def test_tools_are_run_by_hand(client: OpenAI) -> None:
    messages: list[MessageParam] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ]
    message = ask(client, messages)
    messages.append(message)
    for tool_call in message.tool_calls or []:
        if tool_call.function:  # openai-python has a class for each kind; here one has both, and one is None
            weather = Weather.model_validate_json(tool_call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": tool_call.id, "content": weather.city})
    messages.append({"role": "assistant", **message.model_dump(exclude={"role"})})
    assert ask(client, messages).content == '{"city":"Oz"}'


def test_answers_are_of_the_model(client: OpenAI) -> None:
    parsed = client.beta.chat.completions.parse(model="m", messages=[], response_format=Weather)
    assert_type(parsed.choices[0].message.parsed, Weather | None)
    called = client.chat.completions.parse(model="m", messages=[], tools=[pydantic_function_tool(Weather)])
    for tool_call in called.choices[0].message.tool_calls or []:
        assert tool_call.function
        assert tool_call.function.parsed_arguments == Weather(city="Oz")
    with client.chat.completions.stream(model="m", messages=[]) as stream:
        for event in stream:
            if event.type == "content.delta":
                assert_type(event.delta, str)
        assert stream.get_final_completion().choices[0].message.content == "hi"


def test_failures_have_the_names_they_had(client: OpenAI) -> None:
    for kind in (NotFoundError, APIStatusError, OpenAIError):
        with pytest.raises(kind):
            client.with_options(timeout=Timeout(3.0)).chat.completions.create(model="gone", messages=[])


def test_a_timeout_of_httpx_does_as_well(client: OpenAI) -> None:
    patient = client.with_options(timeout=httpx.Timeout(60.0, read=5.0))
    assert patient.timeout == Timeout(60.0, read=5.0)
    assert patient.chat.completions.create(model="m", messages=[], timeout=httpx.Timeout(9.0)).choices
