"""Typed events of a stream: what is told, what it adds up to, and that nothing looks whole when it is not."""

import copy
import json
import pickle
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatfee import (
    APIConnectionError,
    APIResponseValidationError,
    FallbackExhausted,
    Lane,
    RateLimitError,
    Receipt,
    StreamTruncated,
)
from flatfee.client.events import EventMaker
from flatfee.types import ChatCompletion, ChatCompletionChunk
from flatfee.types.events import ChunkEvent, ContentDeltaEvent, ContentDoneEvent

SETTLED = {"request_id": "req_1", "lane": "fallback", "state": "settled", "fair_use": {"charged": 7, "remaining": 83}}
DONE = b"data: [DONE]\n\n"


def body(*choices: Any, **extra: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m", "created": 1, "choices": list(choices), **extra}


def piece(finish: Any = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def event(*choices: Any, **extra: Any) -> bytes:
    return b"data: " + json.dumps(body(*choices, **extra)).encode() + b"\n\n"


def call(
    index: int, arguments: str | None = None, name: str | None = None, call_id: str | None = None
) -> dict[str, Any]:
    told = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [{name: value for name, value in told.items() if value is not None}]}


WHOLE = (
    event(piece(role="assistant", content="")),
    event(piece(content="Hel")),
    event(piece(content="lo")),
    event(piece("stop"), flatfee=SETTLED),
    DONE,
)


@asynccontextmanager
async def opened(d: Any, **arguments: Any) -> Any:
    manager = d.client.chat.completions.stream(model="auto", messages=[{"role": "user", "content": "hi"}], **arguments)
    if d.kind == "sync":
        with manager as stream:
            yield stream
    else:
        async with manager as stream:
            yield stream


def told(*bodies: dict[str, Any]) -> tuple[list[Any], ChatCompletion]:
    """Return the events of chunks, and what the chunks add up to."""
    maker: EventMaker[Any] = EventMaker({})
    events = [event for each in bodies for event in maker.take(ChatCompletionChunk.model_validate(each))]
    return events, maker.final()


def added_up(*bodies: dict[str, Any]) -> ChatCompletion:
    return told(*bodies)[1]


def kinds(events: list[Any]) -> list[str]:
    return [event.type for event in events if event.type != "chunk"]


async def test_each_chunk_is_told_then_what_it_adds_then_what_is_whole(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE))
    async with opened(d) as stream:
        events = await d.all(stream)
    assert [event.type for event in events] == [
        *("chunk", "content.delta"),
        *("chunk", "content.delta"),
        *("chunk", "content.delta"),
        *("chunk", "content.done"),
    ]
    assert [event.delta for event in events if event.type == "content.delta"] == ["", "Hel", "lo"]
    assert events[-1] == ContentDoneEvent(content="Hello", parsed=None, choice_index=0)
    assert json.loads(d.requests[0].content)["stream"] is True
    assert d.requests[0].headers["idempotency-key"]


async def test_the_final_completion_is_whole_and_knows_its_receipt_and_headers(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE))
    async with opened(d) as stream:
        whole = await d.wait(stream.get_final_completion())
    assert whole.choices[0].message.content == "Hello"
    assert whole.choices[0].finish_reason == "stop"
    assert (whole.id, whole.model, whole.created, whole.object) == ("c", "m", 1, "chat.completion")
    assert whole.receipt.state == "settled"
    assert whole.receipt.fair_use.charged == 7
    assert whole.receipt.reason == "default", "what only the headers told is kept"
    assert whole._request_id == stream._request_id == "req_1"
    assert whole._origin.headers["x-flatfee-lane"] == "premium"
    assert stream.response.headers["x-flatfee-lane"] == "premium"


async def test_the_stream_has_its_receipt_before_the_first_token_and_settled_in_the_end(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE))
    async with opened(d) as stream:
        assert stream.receipt.lane == Lane.PREMIUM
        assert stream.receipt.state == "in_flight"
        assert await d.wait(stream.until_done()) is stream
        assert stream.receipt.lane == Lane.FALLBACK
        assert Receipt.of(stream) is stream.receipt


async def test_the_answer_can_be_had_after_the_block_once_the_stream_is_read(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE))
    async with opened(d) as stream:
        await d.all(stream)
    assert (await d.wait(stream.get_final_completion())).choices[0].message.content == "Hello"
    assert await d.all(stream) == []


async def test_the_snapshot_is_what_has_come_so_far(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE))
    async with opened(d) as stream:
        assert stream.current_completion_snapshot.choices == []
        for _ in range(4):
            last = await d.next(stream)
        early = stream.current_completion_snapshot
        assert last.snapshot == "Hel"
        await d.all(stream)
    assert early.choices[0].message.content == "Hel"
    assert early.choices[0].finish_reason is None
    assert last.snapshot == "Hel", "an event stays what it was"


async def test_text_deltas_are_the_text_of_the_first_choice(driver: Any, sse: Any) -> None:
    other = event(piece(content="other", index=1)), event(piece("stop", index=1))
    d = driver(lambda _: sse(*other, *WHOLE))
    async with opened(d) as stream:
        assert await d.all(stream.text_deltas()) == ["", "Hel", "lo"]


MID_STREAM = (
    b'data: {"error":{"message":"x","code":"rate_limited"},"flatfee":{"request_id":"req_1","lane":"budget"}}\n\n'
)
ENDS = {
    "an error event": ((MID_STREAM,), RateLimitError),
    "the end of the bytes": ((), StreamTruncated),
    "[DONE] without a finish reason": ((DONE,), StreamTruncated),
    "half an event": ((b'data: {"choices":[{"ind',), StreamTruncated),
    "a broken connection": ((httpx.ReadError("gone"),), APIConnectionError),
    "nonsense": ((b"data: {\n\n", *WHOLE), APIResponseValidationError),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_failed_stream_fails_in_the_iteration_and_in_the_final_completion(
    driver: Any, sse: Any, end: Any
) -> None:
    parts, failure = ENDS[end]
    d = driver(lambda _: sse(*WHOLE[:2], *parts), max_retries=0)
    async with opened(d) as stream:
        events = [await d.next(stream) for _ in range(4)]
        assert kinds(events) == ["content.delta", "content.delta"]
        with pytest.raises(failure) as first:
            await d.next(stream)
        with pytest.raises(failure) as second:
            await d.wait(stream.get_final_completion())
    with pytest.raises(failure):
        await d.all(stream)
    assert second.value is first.value
    assert Receipt.of(first.value) is not None
    assert stream.current_completion_snapshot.choices[0].finish_reason is None


async def test_a_cut_stream_tells_the_text_so_far(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE[:3]))
    async with opened(d) as stream:
        with pytest.raises(StreamTruncated) as caught:
            await d.wait(stream.get_final_completion())
    assert caught.value.partial == "Hello"


async def test_a_stream_that_was_left_early_has_no_final_completion(driver: Any, sse: Any) -> None:
    response = sse(*WHOLE)
    d = driver(lambda _: response)
    async with opened(d) as stream:
        await d.next(stream)
    assert response.extensions["pieces"].closed
    with pytest.raises(StreamTruncated, match="closed"):
        await d.next(stream)
    with pytest.raises(StreamTruncated, match="closed"):
        await d.wait(stream.get_final_completion())


async def test_a_stream_of_events_is_not_copied(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE))
    async with opened(d) as stream:
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="reads from a connection"):
                attempt(stream)


async def test_close_frees_the_connection(driver: Any, sse: Any) -> None:
    response = sse(*WHOLE)
    d = driver(lambda _: response)
    async with opened(d) as stream:
        await d.wait(stream.close())
        assert response.extensions["pieces"].closed
        await d.wait(stream.close())


async def test_a_refusal_is_raised_when_the_block_is_entered(driver: Any, refuse: Any) -> None:
    d = driver(refuse("fallback_exhausted"))
    with pytest.raises(FallbackExhausted):
        async with opened(d):
            pytest.fail("there is no stream")


async def test_nothing_is_sent_before_the_block_and_a_try_is_repeated_in_it(driver: Any, sse: Any, refuse: Any) -> None:
    answers = [refuse("gateway_overloaded", retry_after="1"), sse(*WHOLE)]
    d = driver(lambda _: answers.pop(0))
    d.client.chat.completions.stream(model="auto", messages=[])
    assert d.requests == []
    async with opened(d) as stream:
        assert (await d.wait(stream.get_final_completion())).choices[0].message.content == "Hello"
    keys = {request.headers["idempotency-key"] for request in d.requests}
    assert (len(d.requests), len(keys)) == (2, 1)


async def test_who_forgets_with_is_told(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE))
    manager = d.client.chat.completions.stream(model="auto", messages=[])
    cure = r"async with client\.chat.*without `await`" if d.kind == "async" else r"`with client\.chat"
    with pytest.raises(TypeError, match=cure):
        await d.all(manager)
    with pytest.raises(TypeError, match=cure):
        await manager
    with pytest.raises(AttributeError, match=rf"no 'get_final_completion' here.*{cure}"):
        manager.get_final_completion()
    assert d.requests == []


@pytest.mark.pain(19)
async def test_an_unknown_finish_reason_loses_nothing_of_a_whole_answer(driver: Any, answer: Any) -> None:
    """Pain 19: an unknown ``finish_reason`` lost the whole response."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "weather"}
    completion = await driver(answer(choices=[choice])).create()
    assert completion.choices[0].finish_reason == "weather"
    assert completion.choices[0].message.content == "hi"


@pytest.mark.pain(19)
async def test_an_unknown_finish_reason_loses_nothing_of_a_stream(driver: Any, sse: Any) -> None:
    """Pain 19: an unknown ``finish_reason`` lost the whole response."""
    d = driver(lambda _: sse(event(piece(content="hi")), event(piece("weather"), flatfee=SETTLED)))
    stream = await d.stream()
    chunks = await d.all(stream)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, "weather"]
    assert stream.receipt.state == "settled"


@pytest.mark.pain(19)
async def test_an_unknown_finish_reason_loses_nothing_of_a_stream_of_events(driver: Any, sse: Any) -> None:
    """Pain 19: an unknown ``finish_reason`` lost the whole response."""
    d = driver(lambda _: sse(event(piece(content="hi")), event(piece("weather"), flatfee=SETTLED)))
    async with opened(d) as stream:
        assert kinds(await d.all(stream)) == ["content.delta", "content.done"]
        whole = await d.wait(stream.get_final_completion())
    assert whole.choices[0].finish_reason == "weather"
    assert whole.choices[0].message.content == "hi"
    assert whole.receipt.state == "settled"


def test_unknown_fields_of_a_delta_are_kept() -> None:
    message = (
        added_up(
            body(
                piece(role="assistant", reasoning_content="Fir", score=1, audio={"id": "a", "data": "AA"}, tags=["x"])
            ),
            body(piece(role="assistant", reasoning_content="st", score=2, audio={"id": "a", "data": "BB"}, tags=["y"])),
            body(piece(reasoning_content=None, odd=None, content="hi")),
            body(piece("stop")),
        )
        .choices[0]
        .message.to_dict()
    )
    assert message == {
        "role": "assistant",
        "content": "hi",
        "reasoning_content": "First",
        "score": 2,
        "audio": {"id": "a", "data": "AABB"},
        "tags": ["x", "y"],
        "odd": None,
    }


def test_parts_of_a_list_are_added_to_the_part_of_their_index() -> None:
    parts = [
        [{"index": 0, "type": "text", "text": "a", "format": "v1"}],
        [{"index": 1, "type": "text", "text": "x", "format": "v1"}, {"index": 0, "type": "text", "text": "b"}],
        [{"index": 1, "text": "y", "signature": None}, {"note": "no index"}, {"note": "nor here"}],
    ]
    whole = added_up(*(body(piece(details=each)) for each in parts), body(piece("stop")))
    assert whole.choices[0].message.to_dict()["details"] == [
        {"index": 0, "type": "text", "text": "ab", "format": "v1"},
        {"index": 1, "type": "text", "text": "xy", "format": "v1", "signature": None},
        {"note": "no index"},
        {"note": "nor here"},
    ]


def test_a_field_that_changes_its_kind_is_what_it_was_last() -> None:
    odd = ["text", 1, {"a": "b"}, [1], "text"]
    for first in odd:
        for last in odd:
            message = added_up(body(piece(odd=first)), body(piece(odd=last)), body(piece("stop"))).choices[0].message
            assert message.to_dict()["odd"] in (last, "texttext", [1, 1], {"a": "bb"})


def test_what_a_provider_repeats_is_not_doubled() -> None:
    def again(arguments: str) -> dict[str, Any]:
        function = {"name": "weather", "arguments": arguments}
        return {"role": "assistant", "tool_calls": [{"index": 0, "id": "x", "type": "function", "function": function}]}

    message = (
        added_up(body(piece(**again("{"))), body(piece(**again("}"))), body(piece("tool_calls"))).choices[0].message
    )
    assert message.to_dict() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "x", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    }


def test_fields_that_only_one_provider_has_are_kept_in_tool_calls() -> None:
    first = {"index": 0, "id": "x", "extra": {"signature": "a"}, "function": {"name": "f", "arguments": "", "odd": "p"}}
    more = {"index": 0, "extra": {"signature": "b"}, "function": {"arguments": "{}", "odd": "q"}}
    whole = added_up(body(piece(tool_calls=[first])), body(piece(tool_calls=[more])), body(piece("tool_calls")))
    assert whole.choices[0].message.to_dict()["tool_calls"] == [
        {
            "id": "x",
            "type": "function",
            "extra": {"signature": "ab"},
            "function": {"name": "f", "arguments": "{}", "odd": "pq"},
        }
    ]


def test_calls_of_custom_tools_and_of_the_old_kind_are_kept() -> None:
    custom = [
        {"index": 0, "id": "x", "type": "custom", "custom": {"name": "sql", "input": ""}},
        {"index": 0, "custom": {"input": "select 1"}},
    ]
    events, whole = told(*(body(piece(tool_calls=[each])) for each in custom), body(piece("tool_calls")))
    assert kinds(events) == []
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].custom is not None
    assert (calls[0].custom.name, calls[0].custom.input) == ("sql", "select 1")

    old = added_up(
        body(piece(function_call={"name": "f"})), body(piece(function_call={"arguments": "{}"})), body(piece("stop"))
    )
    assert old.choices[0].message.function_call is not None
    assert old.choices[0].message.function_call.to_dict() == {"name": "f", "arguments": "{}"}


def test_what_stands_beside_the_deltas_is_kept() -> None:
    whole = added_up(
        body({**piece(content="a"), "token_ids": [1], "native": None}, citations=["u"], obfuscation="abc"),
        body({**piece(content="b"), "token_ids": [2, 3], "native": "x"}, service_tier="flex", citations=["u", "v"]),
        body({**piece("stop"), "native": "end"}, system_fingerprint="fp", flatfee=SETTLED),
        {**body({**piece(), "native": None}), "id": "late", "model": "late"},
        {"choices": [], "usage": {"total_tokens": 5}},
    )
    assert whole.model_extra == {"citations": ["u", "v"], "flatfee": SETTLED}
    assert whole.choices[0].model_extra == {"token_ids": [1, 2, 3], "native": "end"}
    assert (whole.id, whole.model) == ("c", "m"), "the first chunk tells"
    assert (whole.service_tier, whole.system_fingerprint) == ("flex", "fp"), "the last that tells"
    assert whole.usage is not None
    assert whole.usage.total_tokens == 5


def test_the_chunks_stay_as_they_came() -> None:
    chunk = ChatCompletionChunk.model_validate(body({**piece(tags=["x"]), "token_ids": [1]}))
    before = chunk.model_copy(deep=True)
    maker: EventMaker[Any] = EventMaker({})
    for _ in range(2):
        maker.take(chunk)
    assert chunk == before


def test_choices_may_come_in_any_order() -> None:
    whole = added_up(
        body(piece(content="b", index=1)),
        body(piece(content="a"), piece("stop", index=1, content="B")),
        body(piece("length", content="A")),
    )
    assert [(choice.index, choice.message.content, choice.finish_reason) for choice in whole.choices] == [
        (0, "aA", "length"),
        (1, "bB", "stop"),
    ]


@given(pieces=st.lists(st.tuples(st.integers(0, 2), st.text(max_size=3)), max_size=30))
def test_the_answer_and_the_last_snapshot_are_the_sum_of_the_deltas(pieces: Any) -> None:
    events, whole = told(*(body(piece(content=text, index=index)) for index, text in pieces))
    for choice in whole.choices:
        deltas = [e for e in events if e.type == "content.delta" and e.choice_index == choice.index]
        text = "".join(text for index, text in pieces if index == choice.index)
        assert choice.message.content == "".join(e.delta for e in deltas) == deltas[-1].snapshot == text
        for number, each in enumerate(deltas, 1):
            assert each.snapshot == "".join(e.delta for e in deltas[:number])


def done(events: list[Any]) -> list[tuple[int, str]]:
    return [(e.index, e.arguments) for e in events if e.type == "tool_calls.function.arguments.done"]


def test_a_call_that_comes_with_the_finish_is_told_to_be_done() -> None:
    events, _ = told(body(piece("tool_calls", **call(0, "{}", "f", "x"))))
    assert kinds(events) == ["tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"]
    assert done(events) == [(0, "{}")]


def test_a_call_that_goes_on_after_another_began_is_done_again_with_all_of_it() -> None:
    events, whole = told(
        body(piece(**call(0, "[1,", "f", "x"))),
        body(piece(**call(1, "[2]", "g", "y"))),
        body(piece(**call(0, "3]"))),
        body(piece("tool_calls")),
    )
    assert done(events)[-2:] == [(1, "[2]"), (0, "[1,3]")]
    assert whole.choices[0].message.tool_calls is not None
    assert [c.function.arguments for c in whole.choices[0].message.tool_calls if c.function] == ["[1,3]", "[2]"]


def test_content_that_goes_on_after_a_call_is_done_again_with_all_of_it() -> None:
    events, _ = told(
        body(piece(content="a")), body(piece(**call(0, "{}", "f", "x"))), body(piece(content="b")), body(piece("stop"))
    )
    assert [e.content for e in events if e.type == "content.done"] == ["a", "ab"]


def test_an_empty_text_after_a_call_opens_nothing_again() -> None:
    events, _ = told(
        body(piece(content="a")), body(piece(**call(0, "{}", "f", "x"), content="")), body(piece("stop", content=""))
    )
    assert kinds(events).count("content.done") == 1


def test_a_refusal_that_goes_on_after_a_call_is_done_again_with_all_of_it() -> None:
    events, _ = told(
        body(piece(refusal="a")), body(piece(**call(0, "{}", "f", "x"))), body(piece(refusal="b")), body(piece("stop"))
    )
    assert [e.refusal for e in events if e.type == "refusal.done"] == ["a", "ab"]


def test_calls_stand_in_the_order_of_their_index() -> None:
    _, whole = told(
        body(piece(**call(1, "[1]", "g", "y"))), body(piece(**call(0, "[0]", "f", "x"))), body(piece("tool_calls"))
    )
    assert whole.choices[0].message.tool_calls is not None
    assert [c.id for c in whole.choices[0].message.tool_calls] == ["x", "y"]


def test_log_probabilities_grow_with_the_text() -> None:
    events, whole = told(
        *(body({**piece(content=text), "logprobs": {"content": [token(text)]}}) for text in "ab"), body(piece("stop"))
    )
    grown = [[each.token for each in e.snapshot] for e in events if e.type == "logprobs.content.delta"]
    assert grown == [["a"], ["a", "b"]]
    assert [[t.token for t in e.content] for e in events if e.type == "logprobs.content.done"] == [["a", "b"]]
    assert whole.choices[0].logprobs is not None
    assert whole.choices[0].logprobs.content is not None
    assert [each.token for each in whole.choices[0].logprobs.content] == ["a", "b"]


def test_calls_that_all_have_the_index_zero_stay_apart() -> None:
    events, whole = told(
        body(piece(**call(0, "[1]", "f", "x"))), body(piece(**call(0, "[2]", "f", "y"))), body(piece("tool_calls"))
    )
    assert done(events) == [(0, "[1]"), (1, "[2]")]
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    assert [(c.id, c.function and c.function.arguments) for c in calls] == [("x", "[1]"), ("y", "[2]")]


def test_a_call_without_a_function_or_a_name_is_no_failure() -> None:
    events, whole = told(
        body(piece(tool_calls=[{"index": 3, "id": "x"}])), body(piece(**call(3, "{}"))), body(piece("stop"))
    )
    assert done(events) == [(3, "{}")]
    assert whole.choices[0].message.tool_calls is not None
    assert whole.choices[0].message.tool_calls[0].function is not None
    assert whole.choices[0].message.tool_calls[0].function.name == ""


def test_chunks_that_add_up_to_no_completion_are_an_error_that_shows_no_content() -> None:
    with pytest.raises(
        APIResponseValidationError, match=r"not a valid completion: \w+ at choices\.0\.message"
    ) as caught:
        added_up(body(piece(tool_calls=[{"index": 0, "custom": {"name": ["secret"]}}])), body(piece("stop")))
    assert "secret" not in str(caught.value)


def token(text: str) -> dict[str, Any]:
    return {"token": text, "logprob": -1.0}


EVERY_EVENT = (
    body({**piece(role="assistant", content="a"), "logprobs": {"content": [token("a")], "refusal": [token("b")]}}),
    body(piece(refusal="b"), flatfee=SETTLED),
    body(piece(**call(0, "{}", "f", "x"))),
    body(piece("stop")),
)


def test_every_event_survives_pickle_and_copy_and_is_equal_by_content() -> None:
    events, _ = told(*EVERY_EVENT)
    assert len(set(kinds(events))) == 10
    for each in events:
        for other in (pickle.loads(pickle.dumps(each)), copy.deepcopy(each), copy.copy(each)):
            assert other == each
            assert other.type == each.type
            assert getattr(other, "snapshot", None) == getattr(each, "snapshot", None)
    assert events[0] != events[1]
    assert events[1] != told(body(piece(content="b")))[0][1]


def test_every_event_can_be_dumped_as_a_model_can() -> None:
    """LangChain dumps what it is given, and looks for ``type`` and ``chunk``."""
    events, _ = told(*EVERY_EVENT)
    for each in events:
        plain = each.model_dump()
        assert plain["type"] == each.type
        assert json.loads(json.dumps(plain)) == plain == each.to_dict()
    assert events[0].model_dump(exclude_unset=True)["chunk"] == EVERY_EVENT[0]
    assert events[1].model_dump() == {
        "type": "content.delta",
        "delta": "a",
        "choice_index": 0,
        "snapshot": "a",
        "parsed": None,
    }


def test_events_show_no_more_than_their_own_part() -> None:
    events, _ = told(*EVERY_EVENT)
    assert repr(events[1]) == "ContentDeltaEvent(delta='a', choice_index=0)"


def test_nothing_is_joined_before_it_is_asked_for() -> None:
    maker: EventMaker[Any] = EventMaker({})
    for _ in range(50):
        _, delta = maker.take(ChatCompletionChunk.model_validate(body(piece(content="word", thoughts="hm"))))
    assert isinstance(delta, ContentDeltaEvent)
    assert len(delta._text._pieces) == 50
    assert delta.snapshot == "word" * 50
    assert len(delta._text._pieces) == 1


def test_the_snapshot_of_a_chunk_is_the_answer_so_far() -> None:
    events, _ = told(body(piece(content="a")), body(piece("stop", content="b")))
    assert isinstance(events[0], ChunkEvent)
    assert events[0].snapshot.choices[0].message.content == "ab"
