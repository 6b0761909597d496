"""How callers write it, type-checked by mypy and pyright, and run once against a fake gateway."""

from collections.abc import Mapping
from typing import assert_type

import httpx
import pytest

from flatfee import (
    NOT_GIVEN,
    AsyncClient,
    AsyncStream,
    ChatCompletion,
    Client,
    Lane,
    NotGiven,
    Page,
    RawResponse,
    Receipt,
    RoutePlan,
    Stream,
    StreamedResponse,
    Task,
    Timeout,
    Usage,
)
from flatfee.types import CompletionParams, MessageParam, Model, ToolParam, Workflow

ANSWER: dict[str, object] = {"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'


def gateway(request: httpx.Request) -> httpx.Response:
    if request.headers["accept"] == "text/event-stream":
        return httpx.Response(200, content=EVENT, headers={"content-type": "text/event-stream"})
    if request.method == "DELETE":
        return httpx.Response(204)
    if request.method == "GET" and request.url.path.count("/") == 2:
        return httpx.Response(200, json={"data": []})
    return httpx.Response(200, json=ANSWER | {"id": "x"})


@pytest.fixture
def client() -> Client:
    return Client(api_key="k", http_client=httpx.Client(transport=httpx.MockTransport(gateway)))


@pytest.fixture
def aclient() -> AsyncClient:
    return AsyncClient(api_key=lambda: "k", http_client=httpx.AsyncClient(transport=httpx.MockTransport(gateway)))


MESSAGES: list[MessageParam] = [{"role": "user", "content": "hi"}]


@pytest.mark.pain(17)
def test_the_answers_type_follows_the_stream_argument(client: Client) -> None:
    """Pain 17: ``stream: bool`` matched no overload."""
    create = client.chat.completions.create
    assert_type(create(model="auto", messages=MESSAGES), ChatCompletion)
    assert_type(create(model="auto", messages=MESSAGES, stream=False), ChatCompletion)
    assert_type(create(model="auto", messages=MESSAGES, stream=None), ChatCompletion)
    assert_type(create(model="auto", messages=MESSAGES, stream=True), Stream)
    flag = bool(MESSAGES)
    assert_type(create(model="auto", messages=MESSAGES, stream=flag), ChatCompletion | Stream)


async def test_raw_responses_know_what_they_hold(client: Client, aclient: AsyncClient) -> None:
    raw = client.chat.completions.with_raw_response
    assert_type(raw.create(model="auto", messages=MESSAGES), RawResponse[ChatCompletion])
    assert_type(raw.create(model="auto", messages=MESSAGES, stream=True).parse(), Stream)
    assert_type(client.models.with_raw_response.list().parse(), Page[Model])
    with client.chat.completions.with_streaming_response.create(model="auto", messages=MESSAGES) as response:
        assert_type(response, StreamedResponse[ChatCompletion])
    araw = aclient.chat.completions.with_raw_response
    assert_type(await araw.create(model="auto", messages=MESSAGES), RawResponse[ChatCompletion])
    astreamed = aclient.chat.completions.with_streaming_response
    async with astreamed.create(model="auto", messages=MESSAGES, stream=True) as unread:
        assert_type(await unread.parse(), AsyncStream)


async def test_so_it_does_for_coroutines(aclient: AsyncClient) -> None:
    create = aclient.chat.completions.create
    assert_type(await create(model="auto", messages=MESSAGES), ChatCompletion)
    assert_type(await create(model="auto", messages=MESSAGES, stream=True), AsyncStream)
    flag = bool(MESSAGES)
    assert_type(await create(model="auto", messages=MESSAGES, stream=flag), ChatCompletion | AsyncStream)
    async with aclient.workflow("run-42") as workflow:
        assert_type(await workflow.route(model="auto", messages=MESSAGES), RoutePlan)
    models: list[Model] = [model async for model in aclient.models.list()]
    assert models == (await aclient.models.list()).data


@pytest.mark.pain(17)
def test_roles_and_messages_may_be_variables(client: Client) -> None:
    """Pain 17: a role that is a variable made a message that no checker took."""
    create = client.chat.completions.create
    role, text = "user", "hi"
    create(model="auto", messages=[{"role": role, "content": text}])
    plain = [{"role": "user", "content": "hi"}]
    create(model="auto", messages=plain)
    mixed: list[Mapping[str, object]] = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    create(model="auto", messages=mixed)
    answer = create(model="auto", messages=(message for message in mixed))
    reply = create(model="auto", messages=[*plain, answer.choices[0].message, {"role": "user", "content": "more"}])
    assert reply.choices[0].message.content == "hi"


def test_every_parameter_is_typed(client: Client) -> None:
    tool: ToolParam = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    maybe: float | NotGiven = NOT_GIVEN
    rest: CompletionParams = {"max_completion_tokens": 9, "stop": ["\n"], "metadata": {"a": "b"}}
    answer = client.chat.completions.create(
        model="premium",
        messages=MESSAGES,
        tools=[tool, {"type": "custom", "custom": {"name": "g"}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {}, "strict": True}},
        temperature=maybe,
        reasoning_effort="high",
        workflow="run-42",
        task="plan",
        on_exhausted="fail",
        deadline=2.5,
        extra_headers={"x-a": "b"},
        extra_body={"vendor": 1},
        timeout=Timeout(read=5),
    )
    client.chat.completions.create(model="auto", messages=MESSAGES, **rest)
    receipt: Receipt | None = answer.receipt
    assert receipt is None


def test_wrong_arguments_are_caught_by_the_checkers(client: Client) -> None:
    create = client.chat.completions.create
    with pytest.raises(ValueError, match="task"):
        create(model="auto", messages=MESSAGES, task="think")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    create(model="auto", messages=MESSAGES, temprature=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    create(model="auto", messages=MESSAGES, seed="1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def test_the_other_resources_are_typed(client: Client) -> None:
    assert_type(client.usage.retrieve(), Usage)
    assert_type(client.receipts.list(lane=Lane.PREMIUM, limit=5), Page[Receipt])
    assert_type(client.receipts.retrieve("req_1"), Receipt)
    assert_type(client.models.retrieve("auto"), Model)
    assert_type(client.route(model="auto", messages=MESSAGES, task=Task.EDIT), RoutePlan)
    workflows: list[Workflow] = list(client.workflows.list())
    assert workflows == []
    with client.with_options(max_retries=0, timeout=None).workflow() as workflow:
        for chunk in workflow.chat.completions.create(model="auto", messages=MESSAGES, stream=True):
            assert chunk.choices[0].delta.content == "hi"
