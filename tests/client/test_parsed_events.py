"""Streams of events that are read into types: what is there of a value while it grows, and what is whole."""

import json
import pickle
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from flatfee import (
    ConfigurationError,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    StreamTruncated,
    StructuredOutputError,
    function_tool,
)
from flatfee.types import ParsedChatCompletion

SETTLED = {"request_id": "req_1", "state": "settled", "fair_use": {"charged": 7}}


class Verdict(BaseModel):
    passed: bool
    note: str = ""


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return city


def event(finish: Any = None, index: int = 0, extra: Any = None, **delta: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "choices": [choice], **(extra or {})}).encode() + b"\n\n"


def settled(finish: str = "stop") -> bytes:
    return event(finish, extra={"flatfee": SETTLED, "usage": {"completion_tokens": 9}})


def call(arguments: str, name: str | None = None, index: int = 0) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return {"tool_calls": [{"index": index, **({"id": f"call_{index}"} if name else {}), "function": function}]}


JSON = ('{"passed":', ' true, "no', 'te": "fi', 'ne"}')


@asynccontextmanager
async def opened(d: Any, **arguments: Any) -> Any:
    manager = d.client.chat.completions.stream(model="auto", messages=[], **arguments)
    if d.kind == "sync":
        with manager as stream:
            yield stream
    else:
        async with manager as stream:
            yield stream


async def read(d: Any, stream: Any, kinds: list[str]) -> None:
    while (each := await d.next(stream)) is not None:
        kinds.append(each.type)


@pytest.mark.pain(13)
async def test_a_structured_stream_keeps_headers_and_receipt(driver: Any, sse: Any) -> None:
    """Pain 13: headers were lost when structured output was streamed."""
    d = driver(lambda _: sse(*(event(content=part) for part in JSON), settled()))
    async with opened(d, response_format=Verdict) as stream:
        assert stream.response.headers["x-flatfee-lane"] == "premium"
        assert stream.receipt.lane == "premium"
        whole = await d.wait(stream.get_final_completion())
    assert whole.choices[0].message.parsed == Verdict(passed=True, note="fine")
    assert whole._request_id == "req_1"
    assert whole._origin.headers["x-flatfee-fair-use-remaining"] == "90"
    assert (whole.receipt.lane, whole.receipt.state, whole.receipt.fair_use.charged) == ("premium", "settled", 7)
    sent = json.loads(d.requests[0].content)
    assert sent["stream"] is True
    assert sent["response_format"]["json_schema"]["name"] == "Verdict"


async def test_what_is_there_of_a_value_can_be_had_while_it_grows(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*(event(content=part) for part in JSON), settled()))
    async with opened(d, response_format=Verdict) as stream:
        events = await d.all(stream)
    grown = [e.parsed for e in events if e.type == "content.delta"]
    assert grown == [{}, {"passed": True}, {"passed": True}, {"passed": True, "note": "fine"}]
    assert events[-1].type == "content.done"
    assert events[-1].parsed == Verdict(passed=True, note="fine")
    assert pickle.loads(pickle.dumps(events)) == events


async def test_a_snapshot_holds_what_is_there_of_the_value(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event(content=JSON[0]), event(content=JSON[1]), settled()))
    async with opened(d, response_format=Verdict) as stream:
        for _ in range(4):
            last = await d.next(stream)
        assert stream.current_completion_snapshot.choices[0].message.parsed == last.parsed == {"passed": True}


async def test_a_snapshot_holds_what_is_there_of_arguments(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event(**call('{"city": "Paris"', "weather")), settled("tool_calls")))
    async with opened(d, tools=[function_tool(weather)]) as stream:
        chunk = await d.next(stream)
    assert chunk.snapshot.choices[0].message.tool_calls[0].function.parsed_arguments == {"city": "Paris"}


async def test_arguments_are_read_as_the_tool_takes_them(driver: Any, sse: Any) -> None:
    parts = (call("", "weather"), call('{"city": "Par'), call('is"}'), call('{"a": 1}', "other", 1))
    d = driver(lambda _: sse(*(event(**part) for part in parts), settled("tool_calls")))
    other = {"type": "function", "function": {"name": "other"}}
    async with opened(d, tools=[function_tool(weather), other]) as stream:
        events = await d.all(stream)
        whole = await d.wait(stream.get_final_completion())
    grown = [e.parsed_arguments for e in events if e.type == "tool_calls.function.arguments.delta"]
    assert grown == [None, {}, {"city": "Paris"}, None]
    done = [e.parsed_arguments for e in events if e.type == "tool_calls.function.arguments.done"]
    called = [each.function.parsed_arguments for each in whole.choices[0].message.tool_calls]
    assert done == called
    assert done[0] is not None
    assert done[1] is None, "nobody said what to read them into"
    assert len(json.loads(d.requests[0].content)["tools"]) == 2


async def test_text_beside_calls_is_not_read(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event(content="Let me see."), event(**call("{}", "f")), settled("tool_calls")))
    async with opened(d, response_format=Verdict) as stream:
        done = [e for e in await d.all(stream) if e.type == "content.done"]
    assert [(e.content, e.parsed) for e in done] == [("Let me see.", None)]


async def test_text_beside_a_refusal_is_not_read(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event(content="Well."), event(refusal="No."), settled()))
    async with opened(d, response_format=Verdict) as stream:
        events = await d.all(stream)
    assert [(e.content, e.parsed) for e in events if e.type == "content.done"] == [("Well.", None)]


async def test_a_refusal_is_no_failure(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event(refusal="No."), settled()))
    async with opened(d, response_format=Verdict) as stream:
        whole = await d.wait(stream.get_final_completion())
    assert (whole.choices[0].message.refusal, whole.choices[0].message.parsed) == ("No.", None)


FAILURES = {
    "it was cut off": ((event(content=JSON[0]), settled("length")), LengthFinishReasonError),
    "it was cut off where it looks whole": (
        (event(content='{"passed": true}'), settled("length")),
        LengthFinishReasonError,
    ),
    "a filter cut it": ((event(content=JSON[0]), settled("content_filter")), ContentFilterFinishReasonError),
    "it is no JSON": ((event(content="hello"), settled()), StructuredOutputError),
    "it does not fit": ((event(content='{"note": "fine"}'), settled()), StructuredOutputError),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_an_answer_that_is_not_what_was_asked_for_fails_in_the_end(driver: Any, sse: Any, case: str) -> None:
    """Nothing is told to be done, and what came, usage and settled receipt included, is in the exception."""
    parts, failure = FAILURES[case]
    d = driver(lambda _: sse(*parts))
    events: list[str] = []
    async with opened(d, response_format=Verdict) as stream:
        with pytest.raises(failure) as caught:
            await read(d, stream, events)
        with pytest.raises(failure):
            await d.wait(stream.get_final_completion())
    assert events == ["chunk", "content.delta", "chunk"]
    error: Any = caught.value
    assert error.receipt.state == "settled"
    assert error.completion.usage.completion_tokens == 9
    assert error.completion.choices[0].message.content
    assert error.completion.choices[0].message.parsed is None
    assert error.partial == error.completion.choices[0].message.content
    assert error.response is stream.response


async def test_arguments_that_do_not_fit_fail_in_the_end(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event(**call('{"town": 1}', "weather")), settled("tool_calls")))
    events: list[str] = []
    async with opened(d, tools=[function_tool(weather)]) as stream:
        with pytest.raises(StructuredOutputError, match="weather") as caught:
            await read(d, stream, events)
    assert "tool_calls.function.arguments.done" not in events
    assert isinstance(caught.value.__cause__, ValidationError)


async def test_a_cut_stream_is_truncated_whatever_it_was_to_be(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event(content=JSON[0])))
    async with opened(d, response_format=Verdict) as stream:
        with pytest.raises(StreamTruncated):
            await d.wait(stream.get_final_completion())


async def test_a_plain_answer_may_be_cut_off(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event(content="Once"), settled("length")))
    async with opened(d) as stream:
        whole = await d.wait(stream.get_final_completion())
    assert isinstance(whole, ParsedChatCompletion)
    assert (whole.choices[0].message.content, whole.choices[0].message.parsed) == ("Once", None)


async def test_a_format_that_is_no_type_goes_onto_the_wire(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event(content="{}"), settled()))
    async with opened(d, response_format={"type": "json_object"}) as stream:
        events = await d.all(stream)
    assert json.loads(d.requests[0].content)["response_format"] == {"type": "json_object"}
    assert [e.parsed for e in events if e.type.startswith("content.")] == [None, None]


async def test_a_type_that_no_answer_can_be_read_into_is_refused_at_once(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse())
    with pytest.raises(ConfigurationError, match="response_format"):
        d.client.chat.completions.stream(model="auto", messages=[], response_format=int)
    assert d.requests == []
