"""Our stream of events beside openai-python's own: the same bytes, the same events, the same answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import httpx2
import openai
import pytest
from pydantic import BaseModel

import flatfee
from flatfee.cli.demo.gateway import DemoGateway
from flatfee.server.providers.simulated import FaultKind, SimulatedFault

MESSAGES: Any = [{"role": "user", "content": "hi"}]
DONE = b"data: [DONE]\n\n"


def chunk(*choices: Any, **extra: Any) -> bytes:
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **extra}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def piece(finish: str | None = None, index: int = 0, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}


def call(index: int = 0, arguments: str | None = None, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}, **more}]}


def begun(index: int, name: str) -> dict[str, Any]:
    whole = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
    return {"tool_calls": [whole]}


def token(text: str) -> dict[str, Any]:
    return {"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": []}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
START = chunk(piece(role="assistant", content="", refusal=None))
STREAMS: Mapping[str, tuple[bytes, ...]] = {
    "text": (START, chunk(piece(content="Hel")), chunk(piece(content="lo")), chunk(piece("stop"))),
    "finish with the last text": (START, chunk(piece(content="Hel")), chunk(piece("stop", content="lo"))),
    "one chunk": (chunk(piece("stop", role="assistant", content="Hello")),),
    "nothing": (START, chunk(piece("stop"))),
    "cut by its length": (START, chunk(piece(content="Hel")), chunk(piece("length"))),
    "an unknown finish reason": (START, chunk(piece(content="Hel")), chunk(piece("weather"))),
    "usage after the finish": (START, chunk(piece(content="Hello")), chunk(piece("stop")), chunk(usage=USAGE)),
    "one call in pieces": (
        chunk(piece(role="assistant", content=None)),
        chunk(piece(**begun(0, "weather"))),
        chunk(piece(**call(0, '{"city":'))),
        chunk(piece(**call(0, '"Paris"}'))),
        chunk(piece("tool_calls")),
    ),
    "a call after text": (
        START,
        chunk(piece(content="Let me see.")),
        chunk(piece(**begun(0, "weather"))),
        chunk(piece(**call(0, "{}"))),
        chunk(piece("tool_calls")),
    ),
    "a provider that always sends content": (
        chunk(piece(role="assistant", content="")),
        chunk(piece(content="Let me see.")),
        chunk(piece(**begun(0, "weather"), content="")),
        chunk(piece(**call(0, "{}"), content="")),
        chunk(piece("tool_calls", content="")),
    ),
    "three calls, one after the other": (
        START,
        *(
            part
            for index in range(3)
            for part in (chunk(piece(**begun(index, f"f{index}"))), chunk(piece(**call(index, f"[{index}]"))))
        ),
        chunk(piece("tool_calls")),
        chunk(usage=USAGE),
    ),
    "two calls in one chunk": (
        START,
        chunk(piece(tool_calls=begun(0, "f")["tool_calls"] + begun(1, "g")["tool_calls"])),
        chunk(piece(**call(1, "{}"))),
        chunk(piece("tool_calls")),
    ),
    "a refusal": (
        chunk(piece(role="assistant", content=None, refusal="")),
        chunk(piece(refusal="I can")),
        chunk(piece(refusal="not.")),
        chunk(piece("stop")),
    ),
    "two answers": (
        chunk(piece(role="assistant", content="")),
        chunk(piece(role="assistant", content="", index=1)),
        chunk(piece(content="a")),
        chunk(piece(content="b", index=1)),
        chunk(piece("stop", index=1)),
        chunk(piece(content="A")),
        chunk(piece("stop")),
    ),
    "two answers in one chunk": (
        chunk(piece(role="assistant", content="a"), piece(role="assistant", content="b", index=1)),
        chunk(piece("stop"), piece("length", index=1)),
    ),
    "log probabilities": (
        chunk(piece(role="assistant", content="", logprobs={"content": [], "refusal": None})),
        chunk(piece(content="Hel", logprobs={"content": [token("H"), token("el")], "refusal": None})),
        chunk(piece(content="lo", logprobs={"content": [token("lo")], "refusal": None})),
        chunk(piece("stop")),
    ),
    "log probabilities of a refusal": (
        chunk(piece(role="assistant", content=None, logprobs={"content": None, "refusal": []})),
        chunk(piece(refusal="No.", logprobs={"content": None, "refusal": [token("No.")]})),
        chunk(piece("stop")),
    ),
    "what only this provider has": (
        chunk(piece(role="assistant", content="", reasoning_content="")),
        chunk(piece(reasoning_content="First", thoughts=[{"index": 0, "text": "a"}])),
        chunk(piece(reasoning_content=", then", thoughts=[{"index": 0, "text": "b"}])),
        chunk(piece(content="Hello")),
        chunk(piece("stop")),
    ),
}


@pytest.fixture
def ours() -> flatfee.Client:
    return flatfee.Client(api_key="k", max_retries=0, http_client=httpx.Client(transport=httpx.MockTransport(answer)))


@pytest.fixture
def theirs() -> openai.OpenAI:
    transport = httpx2.MockTransport(
        lambda request: httpx2.Response(200, content=body_of(request.content), headers=STREAMED)
    )
    return openai.OpenAI(api_key="k", base_url="http://gateway.test", http_client=httpx2.Client(transport=transport))


STREAMED = {"content-type": "text/event-stream", "x-flatfee-request-id": "req_1"}


def body_of(request: bytes) -> bytes:
    return b"".join(STREAMS[json.loads(request)["user"]]) + DONE


def answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=body_of(request.content), headers=STREAMED)


def plain(event: Any) -> dict[str, Any]:
    """Return what both kinds of event tell, without the snapshot of a chunk, which openai-python goes on changing."""
    told = event.model_dump(exclude_unset=True, exclude_none=True, warnings=False)  # openai-python's warn
    told.pop("choice_index", None)
    if told["type"] == "chunk":
        told.pop("snapshot", None)
    return {name: value for name, value in told.items() if value is not None}


def answer_of(completion: Any) -> dict[str, Any]:
    told: dict[str, Any] = completion.model_dump(exclude_none=True, warnings=False)
    for choice in told["choices"]:
        for each in choice["message"].get("tool_calls", []):
            each.pop("index", None)  # of the wire, and no part of a message
    return told


@pytest.mark.parametrize("name", STREAMS)
def test_events_and_answer_are_those_of_openai_python(name: str, ours: flatfee.Client, theirs: openai.OpenAI) -> None:
    with theirs.chat.completions.stream(model="m", messages=MESSAGES, user=name) as their_stream:
        expected = [plain(event) for event in their_stream]
        snapshot = their_stream.current_completion_snapshot
    with ours.chat.completions.stream(model="m", messages=MESSAGES, user=name) as stream:
        told = [plain(event) for event in stream]
        whole = stream.get_final_completion()
    assert told == expected
    assert answer_of(whole) == answer_of(snapshot)


class Verdict(BaseModel):
    """A verdict."""

    passed: bool
    note: str = ""


JSON = ('{"passed":', " true, ", '"no', 'te": "fi', 'ne"}')
READ: Mapping[str, tuple[bytes, ...]] = {
    "content": (START, *(chunk(piece(content=part)) for part in JSON), chunk(piece("stop")), chunk(usage=USAGE)),
    "content in one chunk": (START, chunk(piece("stop", content="".join(JSON)))),
    "a refusal of it": (
        chunk(piece(role="assistant", content=None, refusal="No.")),
        chunk(piece("stop")),
    ),
    "arguments": (
        chunk(piece(role="assistant", content=None)),
        chunk(piece(**begun(0, "Verdict"))),
        *(chunk(piece(**call(0, part))) for part in JSON),
        chunk(piece(**begun(1, "strict"))),
        chunk(piece(**call(1, '{"a":'))),
        chunk(piece(**call(1, "[1,2]}"))),
        chunk(piece(**begun(2, "plain"))),
        chunk(piece(**call(2, "{}"))),
        chunk(piece("tool_calls")),
    ),
}
STREAMS = {**STREAMS, **READ}
TOOLS: Any = [
    openai.pydantic_function_tool(Verdict),
    {"type": "function", "function": {"name": "strict", "strict": True, "parameters": {}}},
    {"type": "function", "function": {"name": "plain"}},
]


def parsed_of(completion: Any) -> list[Any]:
    """Return every value that was read, and what has no value."""
    message = completion.choices[0].message
    return [message.parsed, *(each.function.parsed_arguments for each in message.tool_calls or ())]


@pytest.mark.parametrize("name", READ)
def test_what_is_read_into_types_is_what_openai_python_reads(
    name: str, ours: flatfee.Client, theirs: openai.OpenAI
) -> None:
    asked: Any = {"model": "m", "messages": MESSAGES, "user": name, "response_format": Verdict, "tools": TOOLS}
    with theirs.chat.completions.stream(**asked) as their_stream:
        expected = [plain(event) for event in their_stream]
        their_answer = their_stream.get_final_completion()
    with ours.chat.completions.stream(**asked) as stream:
        told = [plain(event) for event in stream]
        whole = stream.get_final_completion()
    assert told == expected
    assert answer_of(whole) == answer_of(their_answer)
    assert parsed_of(whole) == parsed_of(their_answer)


DIFFERENT: Mapping[str, tuple[bytes, ...]] = {
    "a call that comes with the finish": (chunk(piece("tool_calls", **begun(0, "f"))),),
    "arguments that go on": (
        chunk(piece(**begun(0, "f"))),
        chunk(piece(**begun(1, "g"))),
        chunk(piece(**call(0, "{}"))),
        chunk(piece("tool_calls")),
    ),
    "an id that is repeated": (
        chunk(piece(**begun(0, "f"))),
        chunk(piece(**call(0, "{}", id="call_0"))),
        chunk(piece("tool_calls")),
    ),
    "calls that are all numbered 0": (
        chunk(piece(**begun(0, "f"))),
        chunk(piece(**call(0, "[1]"))),
        chunk(piece(tool_calls=[{**begun(1, "g")["tool_calls"][0], "index": 0}])),
        chunk(piece(**call(0, "[2]"))),
        chunk(piece("tool_calls")),
    ),
    "the second answer first": (chunk(piece(index=1, content="b")), chunk(piece("stop", 1), piece("stop"))),
}
STREAMS = {**STREAMS, **DIFFERENT}


def done_and_calls(client: Any, name: str) -> tuple[list[tuple[int, str]], list[tuple[str, str]]]:
    """Return the calls that were told to be done, and those of the answer."""
    with client.chat.completions.stream(model="m", messages=MESSAGES, user=name) as stream:
        done = [(e.index, e.arguments) for e in stream if e.type == "tool_calls.function.arguments.done"]
        calls = stream.current_completion_snapshot.choices[0].message.tool_calls or []
    return done, [(each.id, each.function.arguments) for each in calls]


def test_the_guide_tells_where_the_two_differ(ours: flatfee.Client, theirs: openai.OpenAI) -> None:
    name = "a call that comes with the finish"
    assert done_and_calls(ours, name) == ([(0, "")], [("call_0", "")])
    assert done_and_calls(theirs, name) == ([], [("call_0", "")])

    name = "arguments that go on"
    calls = [("call_0", "{}"), ("call_1", "")]
    assert done_and_calls(ours, name) == ([(0, ""), (1, ""), (0, "{}")], calls)
    assert done_and_calls(theirs, name) == ([(0, ""), (1, "")], calls), "nobody is told of all the arguments"

    name = "an id that is repeated"
    assert done_and_calls(ours, name)[1] == [("call_0", "{}")]
    assert done_and_calls(theirs, name)[1] == [("call_0call_0", "{}")]

    name = "calls that are all numbered 0"
    assert done_and_calls(ours, name)[1] == [("call_0", "[1]"), ("call_1", "[2]")]
    assert done_and_calls(theirs, name)[1] == [("call_0call_1", "[1][2]")]

    name = "the second answer first"
    assert done_and_calls(ours, name) == ([], [])
    with pytest.raises(IndexError):
        done_and_calls(theirs, name)


def test_the_gateways_answers_come_as_events(gateway: DemoGateway) -> None:
    client = flatfee.Client(api_key=gateway.key, base_url=gateway.url)
    with client, client.chat.completions.stream(model="auto", messages=MESSAGES, response_format=Verdict) as stream:
        kinds = {event.type for event in stream}
        whole = stream.get_final_completion()
    assert kinds == {"chunk", "content.delta", "content.done"}
    assert isinstance(whole.choices[0].message.parsed, Verdict)
    assert whole.receipt is not None
    assert whole.receipt == stream.receipt
    assert whole.receipt.state == "settled"
    assert whole.receipt.request_id == whole._request_id


async def test_the_gateways_tool_calls_come_as_events(gateway: DemoGateway) -> None:
    client = flatfee.AsyncClient(api_key=gateway.key, base_url=gateway.url)
    async with client, client.chat.completions.stream(model="auto", messages=MESSAGES, tools=TOOLS[:1]) as stream:
        done = [event async for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert [event.name for event in done] == ["Verdict"]
    assert isinstance(done[0].parsed_arguments, Verdict)


def test_an_answer_that_breaks_half_way_fails_in_the_final_completion(gateway: DemoGateway) -> None:
    for route in gateway.settings.routes:
        gateway.providers[route.provider].script(route.name, always=SimulatedFault(kind=FaultKind.BREAK_MIDWAY))
    client = flatfee.Client(api_key=gateway.key, base_url=gateway.url)
    with client, client.chat.completions.stream(model="auto", messages=MESSAGES) as stream:
        with pytest.raises(flatfee.APIError) as caught:
            stream.get_final_completion()
        assert stream.current_completion_snapshot.choices[0].message.content
        assert stream.current_completion_snapshot.choices[0].finish_reason is None
    assert caught.value.receipt is not None
