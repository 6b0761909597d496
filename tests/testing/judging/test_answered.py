"""What a response said is read as far as it came, whatever it is."""

from __future__ import annotations

import gzip
import json

import pytest
from tests.testing.staged import called, chunk

from flatfee.client.sse import MAX_EVENT_BYTES
from flatfee.testing.judging.answered import Answered, ToolCall, read_answer

STREAM = {"content-type": "text/event-stream; charset=utf-8"}


def test_a_stream_adds_up() -> None:
    pieces = [chunk(content="It "), chunk(content="is."), chunk(tool_calls=[called('{"a":')]), b"data: [DONE]\n\n"]
    rest = {"index": 0, "function": {"arguments": " 1}"}}
    answer = read_answer(b"".join([*pieces[:3], chunk(tool_calls=[rest]), pieces[3]]), STREAM)
    assert (answer.text, answer.events, answer.done) == ("It is.", 4, True)
    assert answer.tool_calls == (ToolCall(id="call-1", name="pay", arguments='{"a": 1}'),)


def test_a_plain_answer_is_read_by_its_first_choice() -> None:
    choices = [
        {"index": 1, "message": {"content": "No."}},
        {"index": 0, "message": {"content": "Yes."}, "finish_reason": "stop"},
    ]
    answer = read_answer(json.dumps({"choices": choices, "usage": {"total_tokens": 3}}).encode(), {})
    assert (answer.text, answer.finish_reason, answer.usage) == ("Yes.", "stop", {"total_tokens": 3})


@pytest.mark.parametrize("cut", [0, 40])
def test_a_packed_answer_is_unpacked_as_far_as_it_came(cut: int) -> None:
    packed = gzip.compress(chunk(content="Yes.") + b": " + bytes(range(256)) * 4)
    read = read_answer(packed[: len(packed) - cut], {**STREAM, "content-encoding": "gzip"})
    assert read.text == "Yes."
    assert read_answer(b"no gzip", {**STREAM, "content-encoding": "gzip"}) == Answered()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{",
        b"[" * 100_000,
        b'{"choices": 3, "error": "x", "usage": []}',
        b'{"choices": [{"message": {"content": 1, "tool_calls": [7]}}]}',
        b"\xff",
    ],
)
def test_what_is_no_answer_says_nothing(body: bytes) -> None:
    assert read_answer(body, {}).text == ""
    assert read_answer(b"data: " + body + b"\n\n", STREAM).text == ""


def test_an_event_that_no_client_reads_says_nothing() -> None:
    assert read_answer(b"data: " + b"x" * (MAX_EVENT_BYTES + 1) + b"\n\n", STREAM) == Answered()
