"""Answers of the other shape, over bytes made by chance: nothing is lost on the way, and nothing odd is fatal."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.fakes_reshape import gathered, message, plain

from flatfee.server.answers.members import UnusableAnswer
from flatfee.server.answers.plain import read_completion
from flatfee.server.answers.reshape import as_completion, as_stream, shape_of

pytestmark = pytest.mark.slow

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
UNKNOWN = st.dictionaries(st.text().map("odd_".__add__), VALUES, max_size=2)
CALLS = st.lists(
    st.fixed_dictionaries(
        {"id": st.uuids().map(str), "function": st.fixed_dictionaries({"name": st.text(), "arguments": st.text()})}
    ),
    max_size=3,
)


def _message(known: dict[str, Any], unknown: dict[str, Any]) -> dict[str, Any]:
    return known | unknown


def _body(messages: list[dict[str, Any]], unknown: dict[str, Any], usage: dict[str, int]) -> dict[str, Any]:
    return plain(*messages, **unknown, usage=usage)


MESSAGES = st.builds(
    _message,
    st.fixed_dictionaries(
        {"content": st.none() | st.text()},
        optional={"reasoning_content": st.text(), "refusal": st.none() | st.text(), "tool_calls": CALLS},
    ),
    UNKNOWN,
)
BODIES = st.builds(
    _body,
    st.lists(MESSAGES, min_size=1, max_size=3),
    UNKNOWN,
    st.fixed_dictionaries({"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)}),
)


@given(BODIES, st.sampled_from([None, 1]), st.booleans())
def test_a_completion_survives_the_way_there_and_back(body: dict[str, Any], indent: int | None, escaped: bool) -> None:
    data = json.dumps(body, indent=indent, ensure_ascii=escaped).encode()
    assert gathered(*as_stream(data)) == body


@given(MESSAGES, st.lists(st.integers(0, 40)))
def test_how_a_message_is_cut_into_deltas_makes_no_difference(said: dict[str, Any], cuts: list[int]) -> None:
    def pieces(text: str) -> list[str]:
        edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
        return [text[start:stop] for start, stop in pairwise(edges)]

    deltas: list[dict[str, Any]] = []
    for name, value in said.items():
        if name in {"content", "reasoning_content", "refusal"} and value is not None:
            deltas += [{name: piece} for piece in pieces(value)]
        elif name == "tool_calls" and value is not None:
            deltas += [{name: []}] + [
                {name: [{"index": index, "function": {"arguments": piece}}]}
                if at
                else {name: [{**call, "index": index, "function": {**call["function"], "arguments": piece}}]}
                for index, call in enumerate(value)
                for at, piece in enumerate(pieces(call["function"]["arguments"]))
            ]
        else:
            deltas.append({name: value})
    assert message(*deltas) == {"role": "assistant", **said}


ODD_VALUES = st.sampled_from(
    [b"null", b"{}", b"[]", b'""', b'"x"', b"0", b"-1", b"1e9", b"9" * 40, b'"\xff"', b"[{}]", b"[null]", b'{"\xff":1}']
)
NAMES = ["choices", "index", "delta", "message", "finish_reason", "logprobs", "usage", "error", "id", "tool_calls"]


def _object(members: list[tuple[str, bytes]]) -> bytes:
    return b"{" + b",".join(b'"' + name.encode() + b'":' + value for name, value in members) + b"}"


def _list(members: list[bytes]) -> bytes:
    return b"[" + b",".join(members) + b"]"


NAMES_IN_MESSAGES = ["content", "role", "function", "function_call", "audio", "arguments", "name"]
ODD = st.recursive(
    ODD_VALUES,
    lambda inner: (
        st.lists(st.tuples(st.sampled_from(NAMES + NAMES_IN_MESSAGES), inner), max_size=5).map(_object)
        | st.lists(inner, max_size=3).map(_list)
    ),
)
ODD_CHOICES = st.lists(st.tuples(st.sampled_from(NAMES), ODD), max_size=4).map(
    lambda members: _object([*members, ("finish_reason", b'"stop"')])
)


def _chunk(choices: list[bytes], members: list[tuple[str, bytes]]) -> bytes:
    return _object([("choices", _list(choices)), *members])


ODD_CHUNKS = st.builds(
    _chunk,
    st.lists(ODD_CHOICES, min_size=1, max_size=2),
    st.lists(st.tuples(st.sampled_from(["usage", "id", "error", "flatfee"]), ODD), max_size=2),
)


@given(st.lists(ODD_CHUNKS, max_size=4))
def test_odd_answers_are_read_or_unusable(chunks: list[bytes]) -> None:
    for chunk in chunks:
        with suppress(UnusableAnswer):
            assert all(shape_of(found) == "events" for found in as_stream(chunk))
    with suppress(UnusableAnswer):
        read_completion(as_completion(b"".join(b"data: " + chunk + b"\n\n" for chunk in chunks)))


@given(st.binary())
def test_any_bytes_are_read_or_unusable(data: bytes) -> None:
    shape_of(data)
    for reshaped in (as_stream, as_completion):
        with pytest.raises(UnusableAnswer):
            reshaped(data)
