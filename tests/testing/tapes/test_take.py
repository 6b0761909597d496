"""What came over the wire becomes a readable tape, and the tape becomes what came over the wire."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.fakes_upstream import a_route

from flatfee.server.providers.base import ProviderFailure
from flatfee.testing.scripting.played import Failure, Held, Pause
from flatfee.testing.tapes.redaction import Redaction
from flatfee.testing.tapes.replay import play
from flatfee.testing.tapes.take import Developer, Take
from flatfee.testing.tapes.tape import Answer, Tape, parse
from flatfee.wire import AttemptOutcome

BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}'
CHUNK = {"id": "", "choices": [{"index": 0, "delta": {"content": "Olá"}, "finish_reason": None}]}


def taken(*parts: bytes, stream: bool = True, whole: bool = True, kind: str = "text/event-stream") -> Take:
    """Return a take whose head came after a second, and each part a second after the one before."""
    take = Take(route=a_route(), body=BODY, stream=stream, began=100.0)
    take.head(200, {"content-type": kind}, 101.0)
    for number, part in enumerate(parts, 2):
        take.part(part, 100.0 + number)
    take.end(101.0 + len(parts), whole=whole)
    return take


def developed(take: Take) -> Tape:
    """Return the tape of a take, by way of its file."""
    written = Developer(redaction=Redaction.of()).tape(take, "2026-11-25").write().encode()
    return parse(written.decode(), "here")


def replayed(take: Take) -> list[Any]:
    return list(play(developed(take).answer).pieces)


def event(value: Any, **spelled: Any) -> bytes:
    return b"data: " + json.dumps(value, **spelled).encode() + b"\n\n"


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_events_are_replayed_byte_for_byte(ascii_only: bool, separators: tuple[str, str], end: bytes) -> None:
    one = event(CHUNK, ensure_ascii=ascii_only, separators=separators).replace(b"\n", end)
    done = b"data: [DONE]" + end * 2
    keep_alive = b": wait" + end * 2
    take = taken(one, keep_alive, one + one, done)
    assert replayed(take) == [Pause(1), one, Pause(1), keep_alive, Pause(1), one + one, Pause(1), done]


def test_halves_of_a_character_are_replayed_as_they_came() -> None:
    """Some providers cut an emoji in two."""
    halves = [
        b'data: {"choices":[{"index":0,"delta":{"content":"\\u' + half + b'"}}]}\n\n' for half in (b"d83d", b"de00")
    ]
    first, second = halves
    assert replayed(taken(first, second)) == [Pause(1), first, Pause(1), second]


def test_parts_that_came_at_once_are_still_two() -> None:
    take = Take(route=a_route(), body=BODY, stream=True, began=100.0)
    take.head(200, {"content-type": "text/event-stream"}, 100.0)
    for _ in range(3):
        take.part(event(CHUNK, separators=(",", ":")), 100.001)
    take.end(100.001, whole=True)
    assert [type(piece) for piece in replayed(take)] == [Pause, bytes] * 3


def test_events_stand_in_the_file_as_json_a_line_each() -> None:
    text = developed(taken(event(CHUNK), b"data: [DONE]\n\n")).write()
    assert f'      {{"at_ms": 2000.0, "data": {json.dumps(CHUNK, ensure_ascii=False)}}},\n' in text
    assert '      {"at_ms": 3000.0, "data": "[DONE]"}\n' in text


@pytest.mark.parametrize(
    "odd",
    [
        b"data: {broken\n\n",
        b'data: {"a":1,"a":2}\n\n',
        b'data: {"a":NaN}\n\n',
        b"event: error\ndata: {}\n\n",
        b'data: "text"\n\n',
        b"data: \xff\xfe\n\n",
        b"data: {\n" + b"data: }\n\n",
        b"data: " + b"[" * 50_000 + b"\n\n",
        b"\n\n",
    ],
)
def test_what_is_no_plain_event_is_kept_as_it_came(odd: bytes) -> None:
    take = taken(event(CHUNK), odd, b"data: [DONE]\n\n")
    assert b"".join(piece for piece in replayed(take) if isinstance(piece, bytes)) == b"".join(
        part for _, part in take.parts
    )


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 200), max_size=12))
def test_an_answer_is_the_same_however_it_was_cut(cuts: list[int]) -> None:
    data = event(CHUNK, ensure_ascii=False) * 2 + b": \xe2\x82\xac\n\n" + b"data: [DONE]\n\n"
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    take = taken(*(data[a:b] for a, b in pairwise(places)))
    assert b"".join(piece for piece in replayed(take) if isinstance(piece, bytes)) == data


@pytest.mark.parametrize("spelled", [{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])
def test_a_plain_answer_is_replayed_byte_for_byte(spelled: dict[str, Any]) -> None:
    data = json.dumps({"id": "", "choices": [{"message": {"content": "Olá"}}]}, **spelled).encode()
    assert replayed(taken(data, stream=False, kind="application/json")) == [Pause(1), data]


@pytest.mark.parametrize("data", [b"<html>busy</html>", b"busy", b"{broken", b'{"a": Infinity}', b"\xff"])
def test_an_answer_that_is_no_json_is_kept_as_it_came(data: bytes) -> None:
    take = taken(data, stream=False, kind="text/html")
    assert replayed(take) == [Pause(1), data]
    assert developed(take).answer.events is None


def test_events_that_somebody_put_in_another_order_are_sent_in_that_order() -> None:
    said = [{"at_ms": at, "text": f"{number}"} for number, at in enumerate([2000, 1000, 2000, 2000])]
    answer = Answer.model_validate({"status": 200, "events": said, "ended_ms": 2000})
    assert list(play(answer).pieces) == [Pause(2), b"0", b"1", b"23"]


def test_an_answer_that_was_left_goes_silent() -> None:
    take = taken(event(CHUNK), whole=False)
    assert developed(take).answer.partial
    assert [type(piece) for piece in replayed(take)[-2:]] == [Held, Pause]
    assert replayed(take)[-1] == Pause(None)


def test_a_stream_that_was_left_after_its_last_event_was_whole() -> None:
    assert not developed(taken(event(CHUNK), b"data: [DONE]\n\n", whole=False)).answer.partial


def test_a_connection_that_broke_off_breaks_off_again() -> None:
    take = Take(route=a_route(), body=BODY, stream=True, began=100.0)
    take.head(200, {}, 100.0)
    take.part(event(CHUNK), 101.0)
    take.fail(ProviderFailure(AttemptOutcome.ERROR, "broke off: SomeError"), 103.0)
    take.end(103.0)
    assert replayed(take)[2:] == [Pause(2), Failure(AttemptOutcome.ERROR, "broke off: SomeError")]


@pytest.mark.parametrize("outcome", [AttemptOutcome.TIMEOUT, AttemptOutcome.UNAVAILABLE, AttemptOutcome.ERROR])
def test_a_request_that_nobody_answered_fails_again(outcome: AttemptOutcome) -> None:
    take = Take(route=a_route(), body=BODY, stream=True, began=100.0)
    take.fail(ProviderFailure(outcome, "gone"), 105.0)
    take.end(105.0)
    assert play(developed(take).answer).before == (Pause(5), Failure(outcome, "gone"))


def test_a_provider_that_was_given_up_is_silent_again() -> None:
    take = Take(route=a_route(), body=BODY, stream=True, began=100.0)
    take.end(110.0)
    silent, _, for_ever = play(developed(take).answer).before
    assert (silent, for_ever) == (Pause(10), Pause(None))


def test_headers_that_tell_of_limits_are_kept_and_others_are_not() -> None:
    take = taken(b"{}", stream=False, kind="application/json")
    take.headers = {
        "content-type": "application/json",
        "retry-after": "2",
        "x-ratelimit-remaining-tokens": "5",
        "x-ratelimit-project": "sk-canary-a1b2c3d4",
        "x-request-id": "req_abcdefghijkl",
        "set-cookie": "a=b",
        "openai-organization": "org",
        "content-encoding": "gzip",
    }
    kept = dict(developed(take).answer.headers)
    assert kept.pop("x-request-id").startswith("req_")
    assert kept == {
        "content-type": "application/json",
        "retry-after": "2",
        "x-ratelimit-remaining-tokens": "5",
        "x-ratelimit-project": "[redacted]",
    }


def test_more_than_the_gateway_takes_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatfee.testing.tapes.take.MAX_ANSWER", 100)
    answer = developed(taken(b": " + b"x" * 80 + b"\n\n", b": " + b"y" * 80 + b"\n\n")).answer
    assert answer.partial
    assert answer.events is not None
    assert len(answer.events) == 1
