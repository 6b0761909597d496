"""Events that are known without being read: what is heard and passed on is what the full reader hears and passes on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.fakes import DONE, delta, usage_event

from flatfee.server.answers.alike import Alike
from flatfee.server.answers.stream import MOST_IN_VAIN, RelayedStream


class FullReader(RelayedStream):
    """A stream of which every event is read."""

    def _learn(self, event: bytes, chunk: object) -> None:
        return


TEXTS = [
    *(b"a", b"bc", b"", b":", b",", b"c1", b"content", b"error", b"/", b"ufffd"),
    *(b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\x7f"),
    *(rb"\n", rb"\"", rb"\\", rb"\/", rb"\u00e9", rb"\ud83d\ude00", rb"\ud83d", rb"\ude00", rb"\ufffd", rb"\\ufffd"),
    *(rb"\", \"error\": {}, \"", rb"\"flatfee\"", rb"\n\nerror\r", b"a" * 300),
    *(b'"', b"\\", rb"\q", rb"\u12", b"\xff", b"\t", b"\0", b"\n", b"\r", b'", "error": {"message": "x'),
]
"""Insides of strings, and what is none or is read in its own way."""


def chunk_of(text: object, more: dict[str, Any], of_choice: dict[str, Any], of_delta: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "delta": {**of_delta, "content": text}, "finish_reason": None, **of_choice}
    return {"id": "c1", "object": "chat.completion.chunk", "choices": [choice], **more}


def as_event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


ORDINARY = chunk_of("said", {}, {}, {})
KINDS: list[dict[str, Any]] = [
    {},
    {"more": {"usage": None}},
    {"more": {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}},
    {"more": {"error": None}},
    {"more": {"error": {"message": "no"}}},
    {"more": {"object": "error"}},
    {"more": {"flatfee": {"units": 1}}},
    {"more": {"nested": {"flatfee": 1, "error": 2}}},
    {"more": {"obfuscation": "aB3"}},
    {"of_choice": {"finish_reason": "stop"}},
    {"of_choice": {"finish_reason": "error"}},
    {"of_choice": {"index": 1}},
    {"of_choice": {"logprobs": None}},
    {"of_delta": {"role": "assistant"}},
    {"of_delta": {"reasoning_content": "because"}},
    {"of_delta": {"tool_calls": [{"index": 0}]}},
    {"of_delta": {"refusal": None}},
]


SHAPES = [
    b"data: "
    + json.dumps(chunk_of("TEXT", **{"more": {}, "of_choice": {}, "of_delta": {}, **kind}), separators=marks).encode()
    + end
    for kind in KINDS
    for marks, end in [((",", ":"), b"\n\n"), ((" , ", ": "), b"\n\n"), ((",", ":"), b"\r\n\r\n")]
]
THOUGHT = as_event(chunk_of(None, {}, {}, {"reasoning_content": "TEXT"}))
THOUGHT_TWICE = as_event(chunk_of("", {}, {}, {"reasoning": "TEXT", "reasoning_content": "TEXT"}))
TWO = as_event({**ORDINARY, "choices": [*ORDINARY["choices"], {"index": 1, "delta": {"content": "TEXT"}}]})
BETWEEN = [
    *SHAPES,
    THOUGHT,
    THOUGHT_TWICE,
    TWO,
    b"event: error\n" + SHAPES[0],
    b": a comment\n\n",
    DONE,
    delta(finish="stop"),
    usage_event(),
    b"data: {\n\n",
]


@st.composite
def a_stream(draw: st.DrawFn) -> bytes:
    """Events of a few shapes, most of them like the one before, and what else may come between them."""
    events: list[bytes] = []
    for shape in draw(st.lists(st.sampled_from([*SHAPES[:6], *BETWEEN]), min_size=1, max_size=4)):
        texts = [b"some-text", *draw(st.lists(st.sampled_from(TEXTS), max_size=5))]
        events += [shape.replace(b"TEXT", text) for text in texts]
    data = b"".join(events)
    if draw(st.integers(0, 3)) == 3:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(max_size=2)) + data[at + 1 :]
    return data


def state(stream: RelayedStream) -> tuple[object, ...]:
    figures = stream.tokens, stream.delivered, stream.usage, stream.passed_on
    return (*figures, stream.done, stream.whole, stream.over, stream.half(), str(stream.failure))


def assert_read_alike(parts: Iterable[bytes], *, usage: bool = False, remember: bool = True) -> None:
    quick = RelayedStream(include_usage=usage, remember=remember)
    full = FullReader(include_usage=usage, remember=remember)
    for part in parts:
        assert quick.feed(part) == full.feed(part)
        assert state(quick) == state(full)
    assert quick.end() == full.end()
    assert state(quick) == state(full)
    assert quick.tail(b"{}") == full.tail(b"{}")


@settings(max_examples=150)
@given(a_stream(), st.lists(st.integers(0, 2000), max_size=6), st.booleans(), st.booleans())
def test_what_is_not_read_is_heard_and_passed_on_as_if_it_were(
    data: bytes, cuts: list[int], usage: bool, remember: bool
) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert_read_alike((data[start:stop] for start, stop in pairwise(edges)), usage=usage, remember=remember)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([*TEXTS[:20], b"a word "]), st.integers(1, 12), st.sampled_from([*TEXTS, *BETWEEN])),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
)
def test_long_runs_with_anything_between_them_are_heard_as_if_they_were_read(
    runs: list[tuple[bytes, int, bytes]], remember: bool
) -> None:
    events = said(b"some")
    for text, times, between in runs:
        events += said(*[text] * 4 * times)
        events.append(between if between in BETWEEN else said(between)[0])
    assert_read_alike([b"".join(events)], remember=remember)


class Counted(bytes):
    """Bytes that count how many of them are copied out."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        self.copied += len(part) if isinstance(part, bytes) else 1
        return part


@pytest.mark.parametrize("run", [1, 2, 6], ids=lambda run: f"runs of {run}")
def test_where_runs_are_short_what_follows_them_is_not_gone_through_each_time(run: int) -> None:
    other = b": a comment\n\n"
    data = Counted((b"".join(said(b"text") * run) + other) * 300)
    alike = Alike.to(said(b"text")[0], b'"text"')
    assert alike is not None
    start, heard = 0, 0
    while start < len(data):
        start, texts = alike.run(data, start)
        start, heard = start + len(other), heard + len(texts)
    assert heard == 300 * run
    assert data.copied < 8 * len(data)


def said(*texts: bytes, **more: Any) -> list[bytes]:
    return [as_event({**ORDINARY, **more}).replace(b"said", text) for text in texts]


COUNTED = [said(text, usage={"prompt_tokens": 3, "completion_tokens": len(text)})[0] for text in (b"a1", b"a1b2")]


@pytest.mark.parametrize(
    "events",
    [
        [*said(b"some"), DONE, *said(b"more")],
        [*said(b"some"), delta(finish="stop"), *said(b"more")],
        said(b"some", rb"\\\\", b"ufffd"),
        [COUNTED[0], usage_event(), COUNTED[0].replace(b"a1", b"a"), COUNTED[1]],
        [THOUGHT, THOUGHT.replace(b"TEXT", b"why"), *said(b"so", b"what"), THOUGHT.replace(b"TEXT", b"because")],
        [THOUGHT_TWICE, THOUGHT_TWICE.replace(b"TEXT", b"why")],
        [TWO, TWO.replace(b"said", b"more")],
        [*said(b"long"), *said(b"x" * 200_000) * 2],
        [*said(b"some"), *said(b'x", "error": {"message": "no')],
    ],
    ids=[
        "done",
        "finished",
        "meeting texts",
        "usage",
        "thoughts",
        "thoughts twice",
        "two choices",
        "too long",
        "an error",
    ],
)
def test_what_only_seems_alike_is_read(events: list[bytes]) -> None:
    assert_read_alike(events)
    assert_read_alike([b"".join(events)])


@pytest.mark.parametrize(
    ("more", "padding"),
    [({}, b""), ({"usage": None}, b""), ({"obfuscation": "aB3"}, b'"aB3"')],
    ids=["bare", "usage", "padded"],
)
def test_events_that_differ_in_their_text_are_alike(more: dict[str, Any], padding: bytes) -> None:
    event = as_event({**ORDINARY, **more})
    alike = Alike.to(event, b'"said"', padding)
    assert alike is not None
    texts = [b"a", rb"\"\\\n", b"", rb"\u00e9"]
    data = b"".join(event.replace(b"said", text).replace(b"aB3", b"x" + text) for text in texts)
    assert alike.run(data + delta(finish="stop"), 0) == (len(data), texts)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (b'data: {"choices":[{"delta":{"content":":"}}]}\n\n', b'":"'),
        (b'data: {"id":"a","content":"a"}\n\n', b'"a"'),
        (b'data: {"\\u0065rror":{"a":1},"content":"b"}\n\n', b'"b"'),
        (b'data: {"content":"b"}\ndata: \n\n', b'"b"'),
        (b'event: error\ndata: {"content":"b"}\n\n', b'"b"'),
        (b'data: {"content":"b"}\r\n\r\n', b'"b"'),
        (b'data: {"content":"b"}\n\n', b'"c"'),
    ],
    ids=["a colon", "twice", "escaped name", "two lines", "named", "CRLF", "not there"],
)
def test_an_event_whose_text_is_not_certain_is_no_model_for_others(event: bytes, text: bytes) -> None:
    assert Alike.to(event, text) is None


@pytest.mark.parametrize("padding", ["finish_reason", "absent"])
def test_an_event_whose_padding_is_not_certain_is_no_model_for_others(padding: str) -> None:
    event = as_event({**ORDINARY, "obfuscation": padding.removeprefix("absent")})
    assert Alike.to(event, b'"said"', json.dumps(padding).encode()) is None


def test_events_that_are_alike_are_passed_on_in_one_piece() -> None:
    stream = RelayedStream(include_usage=False, remember=True)
    stream.feed(delta("a-first-text"))
    run = b"".join(delta(f"text-{number}") for number in range(100))
    out: list[bytes] = []
    stream._take_all(run, out)
    assert out == [run]
    assert stream.tokens == 101


@pytest.mark.parametrize("text", [rb"\ud83d", rb"\uDE00", rb"\q", rb"\u12", b"\t", b"\n", b"\0", b"\\", b'a"b', b'",'])
def test_what_is_no_inside_of_a_string_or_half_a_character_is_for_the_full_reader(text: bytes) -> None:
    event = as_event(ORDINARY)
    alike = Alike.to(event, b'"said"')
    assert alike is not None
    assert alike.run(event.replace(b"said", text), 0) == (0, [])


def test_halves_of_a_character_in_two_events_are_no_text_to_go_on_from() -> None:
    stream = RelayedStream(include_usage=False, remember=True)
    for text in (b"said", rb"\ud83d", rb"\ude00"):
        stream.feed(as_event(ORDINARY).replace(b"said", text))
    assert stream.half() is None


def test_a_stream_whose_events_all_differ_is_soon_read_only() -> None:
    stream = RelayedStream(include_usage=False)
    for number in range(MOST_IN_VAIN):
        stream.feed(delta("some", id_=number))
    out: list[bytes] = []
    alike = [delta("text-1"), delta("text-2"), delta("text-3")]
    stream._take_all(b"".join(alike), out)
    assert out == alike


def test_a_run_of_events_makes_up_for_those_that_differed() -> None:
    stream = RelayedStream(include_usage=False)
    for number in range(3 * MOST_IN_VAIN):
        stream.feed(delta("some", id_=number) + delta("more", id_=number))
    out: list[bytes] = []
    stream._take_all(delta("text-1") + delta("text-2") + delta("text-3"), out)
    assert out == [delta("text-1"), delta("text-2") + delta("text-3")]
