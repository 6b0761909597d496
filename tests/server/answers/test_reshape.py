"""Answers of the other shape, over bytes written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.server.fakes import DONE, STREAM, completion, delta, event, usage_event
from tests.server.fakes_reshape import gathered, message, plain

from flatfee.server.answers import reshape
from flatfee.server.answers.members import UnusableAnswer
from flatfee.server.answers.plain import read_completion
from flatfee.server.answers.reshape import as_completion, as_stream, shape_of
from flatfee.server.answers.stream import MAX_BROKEN_EVENTS, RelayedStream

BOM = b"\xef\xbb\xbf"
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "\u2603"}'}}


def streamed(body: dict[str, Any], indent: int | None = None) -> list[dict[str, Any]]:
    """Return the chunks of a completion's stream."""
    events = as_stream(json.dumps(body, indent=indent).encode())
    assert all(found.startswith(b"data: ") and found.endswith(b"\n\n") and found.count(b"\n") == 2 for found in events)
    return [json.loads(found[6:]) for found in events]


# --- which shape ---


@pytest.mark.parametrize("start", [b"", b"\n\r ", BOM], ids=["at once", "after blanks", "after a byte order mark"])
@pytest.mark.parametrize(
    ("first", "shape"),
    [
        (b"{", "json"),
        (b"[", "json"),
        (b"data: {}", "events"),
        (b"data:{", "events"),
        (b"event: x", "events"),
        (b"id: 1", "events"),
        (b"retry: 1", "events"),
        (b": hello", "events"),
        (b"", None),
        (b"dat", None),
        (b"<html>", None),
    ],
)
def test_the_first_bytes_tell_the_shape(start: bytes, first: bytes, shape: str | None) -> None:
    assert shape_of(start + first) == shape


def test_half_a_byte_order_mark_tells_nothing() -> None:
    assert shape_of(BOM[:2]) is None


# --- a stream of a plain answer ---


def test_a_choice_is_its_message_and_its_end() -> None:
    first, last = streamed(plain({"content": "hello"}))
    head = {"object": "chat.completion.chunk", "id": "c1", "created": 7, "model": "m"}
    said = {"role": "assistant", "content": "hello"}
    assert first == {**head, "choices": [{"index": 0, "delta": said, "logprobs": None, "finish_reason": None}]}
    assert last == {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def test_told_usage_is_an_event_of_its_own() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    *_, last = streamed(plain({"content": "a"}, usage=usage))
    assert (last["choices"], last["usage"], last["id"]) == ([], usage, "c1")
    assert len(streamed(plain({"content": "a"}, usage=None))) == 2


def test_members_that_nobody_knows_are_told_once() -> None:
    body = plain({"content": "a", "odd": [1]}, service_tier="flex", odd={"x": 1})
    body["choices"][0]["stop_reason"] = 9
    first, last = streamed(body)
    assert (first["odd"], first["service_tier"], first["choices"][0]["delta"]["odd"]) == ({"x": 1}, "flex", [1])
    assert ("odd" in last, last["service_tier"], last["choices"][0]["stop_reason"]) == (False, "flex", 9)


def test_tool_calls_get_their_index() -> None:
    first, _ = streamed(plain({"content": None, "tool_calls": [CALL, CALL]}))
    assert first["choices"][0]["delta"]["tool_calls"] == [CALL | {"index": 0}, CALL | {"index": 1}]


def test_every_choice_keeps_its_index() -> None:
    body = plain({"content": "a"}, {"content": "b"})
    body["choices"].reverse()
    assert [chunk["choices"][0]["index"] for chunk in streamed(body)] == [1, 1, 0, 0]
    for choice in body["choices"]:
        del choice["index"]
    assert [chunk["choices"][0]["index"] for chunk in streamed(body)] == [0, 0, 1, 1]


def test_line_ends_within_the_json_do_not_end_an_event() -> None:
    body = plain({"content": "a\nb", "tool_calls": [CALL]}, odd=[1, {"a": 2}])
    assert streamed(body, indent=2) == streamed(body)


def test_the_relay_reads_the_stream_as_a_whole_answer() -> None:
    relayed = RelayedStream(include_usage=True)
    for found in as_stream(BOM + completion()):
        relayed.feed(found)
    assert relayed.whole
    assert relayed.usage is not None
    assert relayed.usage.completion_tokens == 5


NO_COMPLETION = {
    "no JSON": b"oops",
    "a list": b"[]",
    "an error": b'{"error": {"message": "no"}, "choices": [{}]}',
    "no choices": b'{"choices": []}',
    "odd choices": b'{"choices": [1]}',
    "no message": b'{"choices": [{"finish_reason": "stop"}]}',
    "an odd message": b'{"choices": [{"message": "hello", "finish_reason": "stop"}]}',
    "odd tool calls": b'{"choices": [{"message": {"tool_calls": {}}, "finish_reason": "stop"}]}',
    "no finish reason": b'{"choices": [{"message": {"content": "a"}}]}',
    "a name that is not UTF-8": b'{"\xff": 1, "choices": [{"message": {}, "finish_reason": "stop"}]}',
    "a receipt and such a name": b'{"\xff": 1, "flatfee": 1, "choices": [{"message": {}, "finish_reason": "stop"}]}',
    "too deep": b'{"choices": [{"message": ' + b'{"a":' * 100_000,
}


@pytest.mark.parametrize("body", NO_COMPLETION.values(), ids=NO_COMPLETION)
def test_what_is_no_whole_completion_is_no_stream(body: bytes) -> None:
    with pytest.raises(UnusableAnswer):
        as_stream(body)


# --- a plain answer of a stream ---


def test_a_stream_becomes_a_completion() -> None:
    found = gathered(*STREAM)
    said = {"role": "assistant", "content": "canary-answer"}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    assert found == {"id": "c1", "object": "chat.completion", "choices": [choice], "usage": usage}
    assert read_completion(as_completion(b"".join(STREAM))).usage is not None


def test_a_first_chunk_that_names_nothing_is_no_name() -> None:
    nameless = event({"id": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []})
    found = gathered(nameless, delta("a", created=1, model="m"), delta(finish="stop"))
    assert (found["id"], found["created"], found["model"], found["prompt_filter_results"]) == ("c1", 1, "m", [])


@pytest.mark.parametrize("name", ["content", "reasoning_content", "reasoning", "refusal"])
def test_texts_are_joined(name: str) -> None:
    assert message({name: "a\n"}, {name: None}, {name: ""}, {name: "\u2603"})[name] == "a\n\u2603"


def test_the_pieces_of_a_tool_call_are_joined_by_its_index() -> None:
    found = message(
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}]},
        {"tool_calls": [{"index": 1, "id": "", "function": {"name": None, "arguments": "[]"}}]},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "}"}}]},
    )
    assert found == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "[]"}},
        ],
    }


@pytest.mark.parametrize("index", [{"index": 0}, {}], ids=["the same index", "no index"])
def test_another_id_begins_another_tool_call(index: dict[str, int]) -> None:
    deltas = [{"tool_calls": [{"id": name, "function": {"name": name, "arguments": "{}"}, **index}]} for name in "ab"]
    assert [call["id"] for call in message(*deltas)["tool_calls"]] == ["a", "b"]


def test_tool_calls_without_index_are_told_apart_by_their_place() -> None:
    calls = [{"function": {"name": name, "arguments": "{}"}} for name in "ab"]
    assert message({"tool_calls": calls})["tool_calls"] == calls


def test_an_id_that_comes_late_is_the_calls_own() -> None:
    found = message(
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "}"}}]},
    )
    assert found["tool_calls"] == [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]


def test_a_function_call_is_joined() -> None:
    found = message({"function_call": {"name": "f", "arguments": "{"}}, {"function_call": {"arguments": "}"}})
    assert found["function_call"] == {"name": "f", "arguments": "{}"}


def test_logprobs_are_joined() -> None:
    events = [
        event({"choices": [{"index": 0, "delta": {"content": text}, "logprobs": {"content": [{"token": text}]}}]})
        for text in "ab"
    ]
    assert gathered(*events, delta(finish="stop"))["choices"][0]["logprobs"] == {
        "content": [{"token": "a"}, {"token": "b"}]
    }


def test_choices_are_told_apart_by_their_index() -> None:
    found = gathered(
        delta("b", index=1), delta("a"), delta("B", index=1), delta(index=1, finish="length"), delta(finish="stop")
    )
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in found["choices"]] == [
        (0, "a", "stop"),
        (1, "bB", "length"),
    ]


def test_members_of_the_chunks_are_kept() -> None:
    found = gathered(
        delta("a", created=1, model="m", system_fingerprint=None, odd=[1], usage=None),
        delta(finish="stop", created=2, model="n", system_fingerprint="fp", odd=[1, 2]),
        usage_event(),
    )
    assert (found["id"], found["created"], found["model"], found["odd"]) == ("c1", 1, "m", [1, 2])
    assert found["system_fingerprint"] == "fp"
    assert found["usage"]["prompt_tokens"] == 10


def test_the_last_usage_counts() -> None:
    assert gathered(usage_event(1, 1), delta("a"), delta(finish="stop"), usage_event(2, 3))["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 3,
    }


def test_usage_that_was_told_is_not_taken_back() -> None:
    assert gathered(usage_event(2, 3), delta("a"), delta(finish="stop", usage=None))["usage"]["completion_tokens"] == 3


def test_a_byte_order_mark_hides_no_event() -> None:
    assert gathered(BOM + STREAM[0], *STREAM[1:])["choices"][0]["message"]["content"] == "canary-answer"


@pytest.mark.parametrize("index", [-1, 1 << 31, 10**40, 0.5, "0"])
def test_an_event_whose_index_is_none_is_broken(index: object) -> None:
    odd = event({"choices": [{"index": index, "delta": {"content": "b"}, "finish_reason": "stop"}]})
    assert [choice["index"] for choice in gathered(odd, *STREAM)["choices"]] == [0]


def test_a_whole_completion_as_one_event_is_read() -> None:
    found = gathered(event(json.loads(completion("hello"))))
    assert found["choices"][0]["message"] == {"role": "assistant", "content": "hello"}


def test_a_whole_message_after_its_deltas_is_not_said_twice() -> None:
    whole = {"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}
    found = gathered(delta("a"), delta("b"), event({"choices": [whole]}))
    assert found["choices"][0]["message"]["content"] == "ab"


def test_what_comes_after_done_is_not_read() -> None:
    assert gathered(*STREAM, delta("more"))["choices"][0]["message"]["content"] == "canary-answer"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("last", [0, 1, 2], ids=["no line end", "one line end", "a blank line"])
def test_line_ends_comments_and_a_missing_last_line_make_no_difference(end: bytes, last: int) -> None:
    lines = (
        b": hello\n\nevent: message\n"
        b'data: {"id":"c1","choices":[\ndata: {"index":0,"delta":{"content":"gr\xc3\xbc"}}]}\n\n\n'
        b': x\n\ndata:{"choices":[{"index":0,"delta":{"content":"\xc3\x9f"},"finish_reason":"stop"}]}'
    )
    found = gathered(BOM + lines.replace(b"\n", end) + end * last)
    assert found["choices"][0]["message"]["content"] == "gr\u00fc\u00df"


def test_a_few_broken_events_are_dropped() -> None:
    broken = [b"data: {oops\n\n", b"data: []\n\n", b'data: {"choices":[{"index":"x"}]}\n\n'][:MAX_BROKEN_EVENTS]
    assert gathered(delta("a"), *broken, delta(finish="stop"))["choices"][0]["message"]["content"] == "a"


NOT_WHOLE = {
    "nothing": [b""],
    "nothing but the end": [DONE],
    "too many broken events": [*[b"data: {oops\n\n"] * (MAX_BROKEN_EVENTS + 1), *STREAM],
    "an error event": [delta("a"), event({"error": {"message": "no"}}), delta(finish="stop")],
    "an error after the end": [delta("a"), delta(finish="stop"), event({"error": "no", "choices": []})],
    "no finish reason": [delta("a"), DONE],
    "an empty finish reason": [delta("a"), delta(finish="")],
    "one choice of two": [delta("a"), delta("b", index=1), delta(finish="stop"), DONE],
    "no choices": [event({"id": "c1", "choices": []}), usage_event(), DONE],
}


@pytest.mark.parametrize("events", NOT_WHOLE.values(), ids=NOT_WHOLE)
def test_a_stream_that_is_not_whole_is_no_completion(events: Sequence[bytes]) -> None:
    with pytest.raises(UnusableAnswer):
        as_completion(b"".join(events))


def test_a_stream_of_too_many_lines_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reshape, "MAX_LINES", 100)
    with pytest.raises(UnusableAnswer, match="more than 100 lines"):
        as_completion(b"".join(STREAM) + b"\r\n" * 100)
