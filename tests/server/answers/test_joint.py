"""Where an answer goes on from another: event by event, over bytes written by hand."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from flatfee.server.answers import joint as joining
from flatfee.server.answers.joint import ECHO_FROM, Diverged, Half, Joint
from flatfee.server.answers.stream import RelayedStream

HAD = "The quick brown fox jumps over the lazy dog, and sleeps."


def half(text: str = HAD, **head: Any) -> Half:
    return Half(text, {name: Raw(json.dumps(value).encode()) for name, value in head.items()})


def chunk(delta: Any, *, finish: str | None = None, **extra: Any) -> bytes:
    return json.dumps(
        {"id": "c2", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **extra}
    ).encode()


def text(piece: str, **extra: Any) -> bytes:
    return chunk({"content": piece}, **extra)


def fit(joint: Joint, *payloads: bytes) -> list[dict[str, Any]]:
    """Fit events; return those that the caller gets."""
    fitted = [joint.fit(b"data: " + payload + b"\n\n", payload) for payload in payloads]
    return [json.loads(event.removeprefix(b"data: ")) for event in fitted if event]


def said(events: list[dict[str, Any]]) -> str:
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


ANY_TEXT = st.text(st.sampled_from('ab "\\\n\té\U0001f600{}'), max_size=120)


@given(ANY_TEXT, ANY_TEXT, st.lists(st.integers(0, 240)), st.booleans(), st.sampled_from([{}, None, [], {"role": "x"}]))
def test_whatever_was_had_and_however_it_is_cut_the_caller_gets_the_rest_once(
    had: str, rest: str, cuts: list[int], prefilled: bool, last: Any
) -> None:
    whole = rest if prefilled else had + rest
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    joint = Joint(half(had), prefilled=prefilled)
    events = fit(joint, *(text(whole[a:b]) for a, b in pairwise(edges)), chunk(last, finish="stop"))
    echoed = prefilled and len(had) >= ECHO_FROM and rest.startswith(had)
    assert said(events) == (rest[len(had) :] if echoed else rest)
    assert [event["choices"][0]["finish_reason"] for event in events][-1:] == ["stop"]
    found = joint.half()
    assert found is not None
    assert found.text == had + said(events)


@pytest.mark.parametrize("nothing", [{}, None, []])
def test_what_was_held_back_as_a_possible_echo_is_said_at_the_end(nothing: Any) -> None:
    joint = Joint(half("```python\n" + "x = 1\n" * 10), prefilled=True)
    events = fit(joint, text("```"), chunk(nothing, finish="stop"))
    assert said(events) == "```"
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_choice_of_another_number_is_another_answer() -> None:
    payload = json.dumps({"choices": [{"index": 1, "delta": {"content": HAD}}]}).encode()
    for prefilled in (True, False):
        with pytest.raises(Diverged):
            fit(Joint(half("short"), prefilled=prefilled), payload)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"choices":[{"index":"0","delta":{"content":"The"}}]}',
        b'{"choices":[{"delta":{"content":5}}]}',
        b'{"choices":[5]}',
        b'{"choices":[{"delta":{"\xff":"a"}}]}',
        rb'{"choices":[{"delta":{"content":"\ud83d"}}]}',
    ],
)
def test_what_cannot_be_read_does_not_repeat_the_text(payload: bytes) -> None:
    with pytest.raises(Diverged):
        fit(Joint(half(), prefilled=False), payload)


@pytest.mark.parametrize("payload", [rb'{"choices":[{"delta":{"content":"\ud83d"}}]}', b'{"choices":[{"\xff":1}]}'])
def test_behind_the_joint_what_cannot_be_read_is_passed_on_as_it_came(payload: bytes) -> None:
    joint = Joint(half(), prefilled=False)
    fit(joint, text(HAD))
    event = b"data: " + payload + b"\n\n"
    assert joint.fit(event, payload) == event
    assert joint.half() is None, "nobody can go on from what nobody could read"


def test_odd_numbers_and_bytes_beside_the_text_pass_as_they_are() -> None:
    joint = Joint(half(), prefilled=False)
    fit(joint, text(HAD))
    payload = b'{"id":"c2","big":1e999,"raw":"\xff","choices":[{"index":0,"delta":{"content":"x"}}]}'
    out = joint.fit(b"data: " + payload + b"\n\n", payload)
    assert b'"big":1e999' in out
    assert b'"raw":"\xff"' in out


def test_events_without_choices_wait_for_the_joint() -> None:
    filters = json.dumps({"choices": [], "prompt_filter_results": []}).encode()
    joint = Joint(half(), prefilled=False)
    assert fit(joint, filters, text(HAD[:9])) == []
    assert len(fit(joint, text(HAD[9:] + "!"), filters)) == 2


def test_a_name_beside_the_role_is_no_output() -> None:
    joint = Joint(half(), prefilled=False)
    assert fit(joint, chunk({"role": "assistant", "name": "fox", "content": ""})) == []
    assert said(fit(joint, text(HAD + "!"))) == "!"


def test_usage_that_stands_in_every_event_makes_no_event_of_its_own() -> None:
    joint = Joint(half(), prefilled=False)
    assert fit(joint, text(HAD[:9], usage={"prompt_tokens": 1})) == []


def test_the_head_is_the_first_answers() -> None:
    joint = Joint(half(id="c1", created=7), prefilled=True)
    (event,) = fit(joint, text("x" * 50, created=9, system_fingerprint="fp"))
    assert (event["id"], event["created"], event["system_fingerprint"]) == ("c1", 7, "fp")


def test_no_more_is_remembered_than_a_bounded_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "MOST_REMEMBERED", 100)
    joint = Joint(half(), prefilled=False)
    fit(joint, text(HAD), *[text("x" * 60)] * 3)
    assert joint.half() is None


def test_nothing_is_remembered_where_nobody_follows() -> None:
    joint = Joint(half(), prefilled=False, remember=False)
    fit(joint, text(HAD + "x"))
    assert joint.half() is None


def test_the_head_is_that_of_the_first_event_that_said_something() -> None:
    stream = RelayedStream(include_usage=False, remember=True)
    stream.feed(b'data: {"id":"","created":0,"choices":[],"prompt_filter_results":[]}\n\n')
    stream.feed(b"data: " + text("a", created=5) + b"\n\n")
    found = stream.half()
    assert found is not None
    assert {name: bytes(value) for name, value in found.head.items()} == {"id": b'"c2"', "created": b"5"}


def test_text_in_an_event_of_another_shape_is_nothing_to_go_on_from() -> None:
    stream = RelayedStream(include_usage=False, remember=True)
    stream.feed(b"data: " + text("a") + b"\n\n")
    assert stream.half() is not None
    stream.feed(b'data: {"choices":[{"index":"0","delta":{"content":"b"}}]}\n\n')
    assert stream.half() is None
