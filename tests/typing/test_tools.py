"""How callers write ``parse``, tools and ``run_tools``, type-checked by mypy and pyright, and run once."""

from dataclasses import dataclass
from typing import Annotated, Any, assert_type

import httpx
import pytest
from pydantic import BaseModel, Field, TypeAdapter

from flatfee import (
    APIError,
    AsyncClient,
    ChatCompletion,
    Client,
    FunctionTool,
    ParsedChatCompletion,
    StructuredOutputError,
    ToolDefinition,
    ToolLoopExceeded,
    ToolRun,
    ToolStep,
    function_tool,
    pydantic_function_tool,
)
from flatfee.types import MessageParam, RunParams


class Answer(BaseModel):
    text: str


@dataclass
class Plain:
    text: str


@function_tool
def shout(text: str, times: Annotated[int, Field(ge=1)] = 1) -> str:
    return text.upper() * times


@function_tool(name="whisper")
async def whisper(text: str) -> str:
    return text.lower()


def plain(text: str) -> Answer:
    return Answer(text=text)


MESSAGES: list[MessageParam] = [{"role": "user", "content": "hi"}]
ANSWER = {"choices": [{"message": {"role": "assistant", "content": '{"text":"hi"}'}, "finish_reason": "stop"}]}


def gateway(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=ANSWER)


@pytest.fixture
def client() -> Client:
    return Client(api_key="k", http_client=httpx.Client(transport=httpx.MockTransport(gateway)))


@pytest.fixture
def aclient() -> AsyncClient:
    return AsyncClient(api_key="k", http_client=httpx.AsyncClient(transport=httpx.MockTransport(gateway)))


def test_parse_gives_what_it_was_asked_for(client: Client) -> None:
    parse = client.chat.completions.parse
    found = parse(model="auto", messages=MESSAGES, response_format=Answer, temperature=0.5)
    assert_type(found, ParsedChatCompletion[Answer])
    assert_type(found.choices[0].message.parsed, Answer | None)
    assert_type(parse(model="auto", messages=MESSAGES, response_format=Plain).choices[0].message.parsed, Plain | None)
    adapter = TypeAdapter(Answer)
    assert_type(parse(model="auto", messages=MESSAGES, response_format=adapter), ParsedChatCompletion[Answer])
    assert_type(parse(model="auto", messages=MESSAGES), ParsedChatCompletion[None])
    plain_format = parse(model="auto", messages=MESSAGES, response_format={"type": "json_object"})
    assert_type(plain_format, ParsedChatCompletion[None])
    general: ChatCompletion = found
    assert general.choices[0].message.content


async def test_so_it_does_for_coroutines(aclient: AsyncClient) -> None:
    found = await aclient.chat.completions.parse(model="auto", messages=MESSAGES, response_format=Answer)
    assert_type(found, ParsedChatCompletion[Answer])
    run = await aclient.chat.completions.run_tools(
        model="auto", messages=MESSAGES, tools=[whisper, shout, plain], response_format=Answer
    )
    assert_type(run, ToolRun[Answer])
    assert await whisper("HI") == "hi"


def test_tools_go_wherever_dictionaries_do(client: Client) -> None:
    tools = [shout, pydantic_function_tool(Answer)]
    client.chat.completions.create(model="auto", messages=MESSAGES, tools=tools)
    client.chat.completions.create(model="auto", messages=MESSAGES, tools=[shout])
    client.chat.completions.parse(model="auto", messages=MESSAGES, tools=[whisper, *tools])
    definition: ToolDefinition = shout
    assert definition.name == "shout"


def test_a_decorated_function_keeps_its_signature() -> None:
    assert_type(shout("a", times=2), str)
    assert_type(function_tool(plain)("a"), Answer)
    shout("a")
    with pytest.raises(TypeError):
        shout("a", loud=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tool: FunctionTool[..., Any] = shout
    assert tool.is_async is False


def test_a_run_is_typed(client: Client) -> None:
    def heard(step: ToolStep[Answer]) -> None:
        assert step.results == ()

    rest: RunParams = {"temperature": 0.5, "deadline": 60.0}
    run = client.chat.completions.run_tools(
        model="auto", messages=MESSAGES, tools=[shout, plain], response_format=Answer, on_step=heard, **rest
    )
    assert_type(run.parsed, Answer | None)
    assert_type(run.text, str)
    assert_type(run.units, int)
    client.chat.completions.create(model="auto", messages=[*run.messages, {"role": "user", "content": "more"}])
    assert_type(client.chat.completions.run_tools(model="auto", messages=MESSAGES, tools=[plain]), ToolRun[None])


def test_errors_carry_the_run() -> None:
    def read(error: Exception) -> int:
        if isinstance(error, ToolLoopExceeded):
            return error.run.units
        if isinstance(error, StructuredOutputError):
            return len(error.completion.choices)
        return error.run.units if isinstance(error, APIError) and error.run else 0

    assert read(ValueError()) == 0


def test_wrong_arguments_are_caught_by_the_checkers(client: Client) -> None:
    parse = client.chat.completions.parse
    parse(model="auto", messages=MESSAGES, response_format=Answer, seed="1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    run = client.chat.completions.run_tools
    with pytest.raises(ValueError, match="max_steps"):
        run(model="auto", messages=MESSAGES, tools=[plain], max_steps="3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
