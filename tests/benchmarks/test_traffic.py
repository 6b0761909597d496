"""The fixed requests and answers, and what counts as a wrong answer."""

from __future__ import annotations

import json

import pytest
from benchmarks.load import dechunk

from benchmarks import traffic


def test_the_completion_has_its_published_size() -> None:
    assert len(traffic.completion()) == traffic.COMPLETION_BYTES == 684


def test_the_stream_has_its_published_shape() -> None:
    events = traffic.stream_events()
    assert len(events) == traffic.STREAM_EVENTS == 203
    assert {len(event) for event in events[:200]} == {230}
    finish, usage, done = events[200:]
    assert json.loads(finish[6:])["choices"][0]["finish_reason"] == "stop"
    assert json.loads(usage[6:])["usage"]["completion_tokens"] == 200
    assert done == traffic.DONE


@pytest.mark.parametrize("receipt", [True, False])
def test_the_fixed_answers_are_right(receipt: bool) -> None:
    stream = b"".join(traffic.stream_events(receipt=receipt))
    assert traffic.complaint_about("plain", traffic.completion(receipt=receipt), receipt=receipt) is None
    assert traffic.complaint_about("stream", stream, receipt=receipt) is None


@pytest.mark.parametrize(
    ("shape", "body", "receipt", "complaint"),
    [
        ("plain", b"{}", False, "2 bytes"),
        ("plain", b"x" * 684, False, "other text"),
        ("plain", traffic.completion(), True, "no receipt"),
        ("stream", b"".join(traffic.stream_events()[:-1]), False, "[DONE]"),
        ("stream", b"".join(traffic.stream_events()[1:]), False, "202 events"),
        ("stream", b"".join(traffic.stream_events()), True, "no receipt"),
    ],
)
def test_a_wrong_answer_is_named(shape: traffic.Shape, body: bytes, receipt: bool, complaint: str) -> None:
    said = traffic.complaint_about(shape, body, receipt=receipt)
    assert said is not None
    assert complaint in said


def test_chunks_may_split_anywhere() -> None:
    assert dechunk(b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n") == b"abc0123456789"
