"""Provider answers on their way through, over bytes written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.fakes import STREAM, delta, event, usage_event

from flatfee.server.answers import sse
from flatfee.server.answers import stream as streams
from flatfee.server.answers.members import UnusableAnswer
from flatfee.server.answers.plain import read_completion, read_refusal
from flatfee.server.answers.sse import DONE, cut_events
from flatfee.server.answers.stream import RelayedStream
from flatfee.server.statement import UsedTokens

RECEIPT = b'{"request_id":"req_1"}'


def relay(pieces: Iterable[bytes], *, include_usage: bool = False, choices: int = 1) -> bytes:
    """Pass a whole stream through, and return what the caller gets."""
    stream = RelayedStream(include_usage=include_usage, choices=choices)
    out = b"".join([stream.feed(piece) for piece in pieces]) + stream.end()
    assert stream.whole
    return out + stream.tail(RECEIPT)


def in_two(data: bytes) -> Iterable[tuple[bytes, bytes]]:
    return ((data[:at], data[at:]) for at in range(len(data) + 1))


def receipts(body: bytes) -> list[bool]:
    """Tell of each event of a stream whether it has a receipt."""
    found = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line.startswith(b"data: ")]
    return ["flatfee" in json.loads(data) for data in found if data != b"[DONE]"]


LF = b"".join(STREAM)
AWKWARD = (
    ": hello\n\n"
    'data: {"choices":[{"index":0,"delta":{"content":"gr\u00fc\u00df \U0001f30d \\n\\n data: x"}}]}\n\n'
    ": keep-alive\n\n\n"
    'event: message\ndata: {"choices":[\ndata: {"index":0,"delta":{"content":"b"}}]}\n\n'
    'data:{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    "data: [DONE]\n\n"
).encode()
LINE_ENDS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}


@pytest.mark.parametrize("end", LINE_ENDS.values(), ids=LINE_ENDS)
@pytest.mark.parametrize("text", [LF, AWKWARD], ids=["plain", "awkward"])
def test_every_split_of_a_stream_gives_the_same_bytes(text: bytes, end: bytes) -> None:
    data = text.replace(b"\n", end)
    whole = relay([data])
    assert relay(data[at : at + 1] for at in range(len(data))) == whole
    for parts in in_two(data):
        assert relay(parts) == whole


@given(st.lists(st.integers(0, len(AWKWARD) * 2)), st.sampled_from(sorted(LINE_ENDS)), st.booleans())
def test_any_chunking_gives_the_same_bytes(cuts: list[int], end: str, usage: bool) -> None:
    data = AWKWARD.replace(b"\n", LINE_ENDS[end])
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[start:stop] for start, stop in pairwise(edges)]
    assert relay(parts, include_usage=usage) == relay([data], include_usage=usage)


@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: {}", b": c", b"data: [DONE", b"x"]), max_size=12))
def test_mixed_line_ends_are_cut_the_same_whatever_the_chunks(parts: list[bytes]) -> None:
    data = b"".join(parts)
    whole, bytewise = RelayedStream(include_usage=True), RelayedStream(include_usage=True)
    out = whole.feed(data) + whole.end()
    assert b"".join(bytewise.feed(data[at : at + 1]) for at in range(len(data))) + bytewise.end() == out


@pytest.mark.parametrize("end", LINE_ENDS.values(), ids=LINE_ENDS)
def test_all_events_but_the_last_pass_byte_for_byte(end: bytes) -> None:
    body = AWKWARD.replace(b"\n", end)
    last = body.index(b'data:{"choices"')
    out = relay([body])
    assert out.startswith(body[:last])
    assert out[last:] == (
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"flatfee":' + RECEIPT + b"}\n\n" + DONE
    )


def test_only_the_last_data_event_carries_the_receipt() -> None:
    assert receipts(relay(STREAM)) == [False, False, True]
    assert receipts(relay(STREAM, include_usage=True)) == [False, False, False, True]


def test_usage_that_the_caller_did_not_ask_for_is_read_and_left_out() -> None:
    stream = RelayedStream(include_usage=False)
    out = b"".join(stream.feed(piece) for piece in STREAM)
    assert stream.usage == UsedTokens(prompt_tokens=10, completion_tokens=5, cached_tokens=0)
    assert b'"usage"' not in out + stream.tail(RECEIPT)


def test_usage_that_the_caller_asked_for_is_the_last_event() -> None:
    out = relay(STREAM, include_usage=True)
    last = out.removesuffix(DONE).rstrip().rsplit(b"\n\n", 1)[1]
    assert json.loads(last.removeprefix(b"data: ")) == {
        "id": "c1",
        "choices": [],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        "flatfee": {"request_id": "req_1"},
    }


def test_usage_before_the_answer_is_read_and_left_out() -> None:
    stream = RelayedStream(include_usage=False)
    assert stream.feed(usage_event()) == b""
    assert not stream.tokens
    assert not stream.whole


def test_usage_in_every_chunk_counts_as_the_last_one_told() -> None:
    stream = RelayedStream(include_usage=False)
    usages = [{"prompt_tokens": 7, "completion_tokens": count} for count in (1, 2)]
    events = [delta("a", usage=usages[0]), delta("b", usage=usages[1]), delta(finish="stop", usage=None)]
    out = b"".join(stream.feed(event) for event in events)
    assert out == events[0] + events[1]
    assert stream.usage == UsedTokens(prompt_tokens=7, completion_tokens=2, cached_tokens=0)


@pytest.mark.parametrize(
    "usage",
    [None, {}, [], "12", {"prompt_tokens": None}, {"prompt_tokens": -1}, {"prompt_tokens": 1 << 80}, {"x": 1}],
)
def test_usage_without_figures_that_can_be_is_no_usage(usage: object) -> None:
    stream = RelayedStream(include_usage=False)
    stream.feed(delta("a") + delta(finish="stop", usage=usage))
    assert stream.whole
    assert stream.usage is None


def test_cached_tokens_are_told() -> None:
    details = {"cached_tokens": 3, "audio_tokens": 0}
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": details}
    assert read_completion(json.dumps({"choices": [{}], "usage": usage}).encode()).usage == UsedTokens(
        prompt_tokens=7, completion_tokens=2, cached_tokens=3
    )


def test_a_stream_without_done_is_whole_and_gets_one() -> None:
    assert relay(STREAM[:-1]) == relay(STREAM)


def test_a_last_event_without_its_blank_line_counts() -> None:
    assert relay([*STREAM[:2], STREAM[2].rstrip()]) == relay(STREAM)


def test_a_stream_without_finish_reason_is_not_whole() -> None:
    stream = RelayedStream(include_usage=False)
    stream.feed(delta("a") + usage_event() + DONE)
    assert stream.done
    assert not stream.whole


def test_what_comes_after_done_is_ignored() -> None:
    assert relay([*STREAM, delta("more"), b"data: junk"]) == relay(STREAM)


def test_choices_that_finish_apart_are_whole_once_the_last_has_finished() -> None:
    stream = RelayedStream(include_usage=False, choices=2)
    first, second = delta("a", index=0), delta("b", index=1)
    assert stream.feed(first + second) == first + second
    finish = delta(finish="stop", index=0)
    assert stream.feed(finish) == finish
    assert (stream.whole, stream.over) == (False, False)
    assert stream.feed(delta(finish="stop", index=1)) == b""
    assert (stream.whole, stream.over) == (True, True)


def test_a_choice_that_begins_after_another_has_finished_opens_the_stream_again() -> None:
    stream = RelayedStream(include_usage=False, choices=2)
    finish = delta(finish="stop", index=0)
    stream.feed(delta("a", index=0) + finish)
    assert (stream.whole, stream.over) == (True, False)
    late = delta("b", index=1)
    assert stream.feed(late) == finish + late
    assert not stream.whole


def test_a_finished_choice_stays_finished_whatever_is_said_of_it_later() -> None:
    finish, later = delta(finish="stop"), delta("", content_filter_results={})
    out = relay([delta("a"), finish, later, DONE])
    assert out.startswith(delta("a") + finish)
    assert receipts(out) == [False, False, True]


@pytest.mark.parametrize("later", [{"choices": []}, {"id": "x"}, {"choices": "odd"}, {"choices": [], "usage": None}])
def test_an_event_after_the_finish_reason_carries_the_receipt(later: dict[str, Any]) -> None:
    out = relay([delta("a"), delta(finish="stop"), event(later), usage_event(), usage_event(), DONE])
    assert receipts(out) == [False, False, True]


def test_objects_of_unknown_shape_pass() -> None:
    odd = event({"choices": {"0": "a"}, "usage": 7})
    out = relay([odd, delta("a"), odd, delta(finish="stop")])
    assert out.startswith(odd + delta("a") + odd)


def test_three_broken_events_are_dropped_and_the_fourth_fails() -> None:
    stream = RelayedStream(include_usage=False)
    broken = [b"data: {oops\n\n", b'data: "ping"\n\n', b"data: 5\n\n"]
    assert stream.feed(b"".join([broken[0], delta("a"), *broken[1:]])) == delta("a")
    assert stream.failure is None
    assert stream.feed(b"data: [\n\n") == b""
    assert "more than 3 broken" in str(stream.failure)


def test_deep_nesting_is_a_broken_event_and_not_a_crash() -> None:
    stream = RelayedStream(include_usage=False)
    assert stream.feed(b'data: {"choices":' + b"[" * 200_000 + b"\n\n") == b""


@pytest.mark.parametrize("error", ['{"message":"x"}', '"x"', "true"])
def test_an_error_event_fails(error: str) -> None:
    stream = RelayedStream(include_usage=False)
    assert stream.feed(b'data: {"error":' + error.encode() + b"}\n\n") == b""
    assert "error" in str(stream.failure)


def test_what_came_before_a_failure_in_the_same_bytes_is_passed_on_and_nothing_after_it() -> None:
    stream = RelayedStream(include_usage=False)
    assert stream.feed(delta("a") + event({"error": {"message": "x"}}) + delta("b")) == delta("a")
    assert stream.feed(delta("c")) == b""
    assert stream.end() == b""
    assert stream.delivered == 1


def test_a_providers_own_receipt_is_replaced() -> None:
    foreign = {"request_id": "theirs", "lane": "premium"}
    out = relay([delta("a", flatfee=foreign), delta(finish="stop", flatfee=foreign), DONE])
    assert b"theirs" not in out
    assert receipts(out) == [False, True]
    assert out.count(b'"flatfee"') == 1


def test_a_last_event_over_several_lines_stays_one_event() -> None:
    last = (
        b": note\nid: 7\n"
        b'data: {"choices":[{"index":0,"finish_reason":"stop",\ndata:  "delta":{}}],\ndata: "flatfee":1}\n\n'
    )
    out = relay([delta("a"), last])
    tail = out.removeprefix(delta("a")).removesuffix(DONE)
    fields, data = tail.split(b"data: ", 1)
    assert fields == b": note\nid: 7\n"
    assert data.endswith(b"\n\n")
    assert json.loads(data.replace(b"\ndata: ", b"\n"))["flatfee"] == {"request_id": "req_1"}


def test_a_pretty_last_event_keeps_its_lines() -> None:
    last = b'data: {\ndata:   "choices": [{"finish_reason": "stop"}]\ndata: }\n\n'
    out = relay([last]).removesuffix(DONE)
    assert all(line.startswith(b"data: ") for line in out.strip().split(b"\n"))
    assert json.loads(out.replace(b"data: ", b""))["flatfee"] == {"request_id": "req_1"}


def test_an_event_of_ten_megabytes_survives() -> None:
    big = delta("x" * 10_000_000)
    stream = RelayedStream(include_usage=False)
    out = [stream.feed(big[at : at + 262_144]) for at in range(0, len(big), 262_144)]
    assert b"".join(out) == big
    assert stream.delivered == 10_000_000


def test_an_event_without_end_fails_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_EVENT", 1000)
    stream = RelayedStream(include_usage=False)
    stream.feed(b"data: " + b"x" * 990)
    assert stream.failure is None
    assert stream.feed(b"y" * 10) == b""
    assert "more than 1000 bytes" in str(stream.failure)


def test_output_is_counted_in_bytes_whatever_it_is() -> None:
    stream = RelayedStream(include_usage=False)
    said = {"content": None, "reasoning_content": "abc", "tool_calls": [{"index": 0}]}
    stream.feed('data: {"choices":[{"index":0,"delta":{"content":"grün"}}]}\n\n'.encode())
    assert stream.delivered == 5
    stream.feed(event({"choices": [{"delta": said}]}))
    assert stream.delivered == 5 + 3 + len('{"index": 0}')
    stream.feed(event({"choices": [{"delta": {"content": [{"type": "text", "text": "y"}]}}]}))
    assert stream.delivered > 30


def test_comments_are_no_tokens() -> None:
    stream = RelayedStream(include_usage=False)
    assert stream.feed(b": still here\n\n") == b": still here\n\n"
    assert stream.tokens == 0
    stream.feed(delta("a"))
    assert stream.tokens == 1


@pytest.mark.parametrize("said", [{}, {"role": "assistant", "content": ""}, {"content": None, "refusal": None}])
def test_an_event_that_says_nothing_is_no_token(said: dict[str, Any]) -> None:
    stream = RelayedStream(include_usage=False)
    assert stream.feed(event({"choices": [{"index": 0, "delta": said, "finish_reason": None}]}))
    assert (stream.tokens, stream.delivered) == (0, 0)


def test_output_of_a_kind_that_we_do_not_know_is_a_token() -> None:
    stream = RelayedStream(include_usage=False)
    stream.feed(event({"choices": [{"index": 0, "delta": {"sketch": {"lines": [1, 2]}}}]}))
    assert stream.tokens == 1
    assert stream.delivered > 0


def test_thoughts_that_are_told_under_two_names_are_measured_once() -> None:
    stream = RelayedStream(include_usage=False)
    stream.feed(event({"choices": [{"index": 0, "delta": {"reasoning": "hmm", "reasoning_content": "hmm"}}]}))
    assert stream.delivered == 3


@pytest.mark.parametrize("indent", [None, 2], ids=["compact", "pretty"])
@pytest.mark.parametrize("end", ["", "\n"], ids=["bare", "newline"])
def test_a_plain_answer_gets_the_receipt_as_its_last_member_and_is_else_untouched(indent: int | None, end: str) -> None:
    data = (json.dumps({"choices": [{"m": "\u00fc  \U0001f30d"}], "x": 1.10}, indent=indent) + end).encode()
    out = read_completion(data).with_receipt(RECEIPT)
    assert out.startswith(data.rstrip().removesuffix(b"}").rstrip())
    assert out.endswith(b',"flatfee":' + RECEIPT + b"}")
    assert list(json.loads(out)) == ["choices", "x", "flatfee"]


def test_a_plain_answers_own_receipt_is_replaced() -> None:
    out = read_completion(b'{"flatfee": {"a": 1}, "choices": [1.50], "z": "\\u00fc"}').with_receipt(RECEIPT)
    assert out == b'{"choices":[1.50],"z":"\\u00fc","flatfee":' + RECEIPT + b"}"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a completion"),
        (b"<html>", "not a completion"),
        (b"[]", "not a completion"),
        (b'{"choices": 1}', "no choices"),
        (b'{"choices": ' + b"[" * 200_000, "not a completion"),
        (b'{"choices": []}', "no choices"),
        (b'{"choices": null}', "no choices"),
        (b"{}", "no choices"),
        (b'{"error": {"message": "x"}}', "error with status 200"),
        (b'{"error": "x", "choices": [1]}', "error with status 200"),
    ],
)
def test_what_is_no_completion_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(UnusableAnswer, match=why):
        read_completion(data)


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_an_answer_that_its_provider_broke_off_is_not_whole(reason: str) -> None:
    choices = b'[{"index":0,"message":{"content":"a"},"finish_reason": "%b"}]' % reason.encode()
    with pytest.raises(UnusableAnswer, match="broken off"):
        read_completion(b'{"choices": %b}' % choices)
    stream = RelayedStream(include_usage=False)
    said = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    assert (
        stream.feed(said + b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"%b"}]}\n\n' % reason.encode())
        == said
    )
    assert isinstance(stream.failure, UnusableAnswer)


def test_a_text_that_reads_like_a_broken_answer_is_none() -> None:
    text = json.dumps('"finish_reason":"error"').encode()
    assert read_completion(b'{"choices": [{"message":{"content":%b},"finish_reason":"stop"}]}' % text).usage is None


@pytest.mark.parametrize(
    ("told", "output", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 4}}, 5, 4),
        ({"prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 4}, 5, 6),
        ({"cached_tokens": 3, "prompt_tokens_details": None}, 5, 3),
        ({"cached_tokens": "many", "prompt_cache_hit_tokens": -1, "total_tokens": "odd"}, 5, 0),
        ({"total_tokens": 22}, 12, 0),
        ({"total_tokens": 22, "completion_tokens_details": None, "prompt_tokens_details": {"cached_tokens": 3}}, 12, 3),
        ({"total_tokens": 22, "prompt_tokens_details": {"cached_tokens": 7}}, 5, 7),
        ({"total_tokens": 14}, 5, 0),
        ({"total_tokens": 999_999_999}, 5, 0),
        ({"total_tokens": 22, "completion_tokens_details": {"reasoning_tokens": 7}}, 12, 0),
        ({"total_tokens": 15, "completion_tokens_details": {"reasoning_tokens": 4}}, 5, 0),
        ({"total_tokens": 99, "completion_tokens_details": {"reasoning_tokens": 4}}, 5, 0),
        ({"total_tokens": 22, "completion_tokens_details": [7]}, 5, 0),
    ],
)
def test_usage_is_read_by_whatever_names_a_service_has(told: dict[str, object], output: int, cached: int) -> None:
    usage = json.dumps({"prompt_tokens": 10, "completion_tokens": 5, **told}).encode()
    found = read_completion(b'{"choices": [{"a": 1}], "usage": %b}' % usage).usage
    assert found is not None
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == (10, output, cached)


def test_an_answer_that_tells_no_usage_has_none() -> None:
    found = read_completion(b'{"choices": [{"a": 1}], "error": null, "usage": {"prompt_tokens": 1.5}}')
    assert found.usage is None
    assert found.size == len(b'{"a": 1}')


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"error": {"message": "m", "code": "c", "extra": 1}}', {"message": "m", "code": "c", "extra": 1}),
        (b'{"error": "said so"}', {"message": "said so", "code": None}),
        (
            b'{"object": "error", "message": "m", "type": "t", "code": 400}',
            {"message": "m", "type": "t", "code": "400"},
        ),
        (b'[{"error": {"message": "m", "code": 400}}]', {"message": "m", "code": "400"}),
        (b'{"detail": "elsewhere"}', {"message": "elsewhere"}),
        (b'{"code": "Invalid argument", "error": "no"}', {"message": "no", "code": "Invalid argument"}),
        (b'{"error": null, "message": "m"}', {"message": "m"}),
        (
            b'{"detail":[{"type":"extra_forbidden","loc":["body","store"],"msg":"Extra inputs"},{"msg":"x"},7]}',
            {"message": "body.store: Extra inputs; x", "type": "invalid_request_error"},
        ),
        (
            b'{"object":"error","message":{"detail":[{"loc":["body","x"],"msg":"no"}]},"type":"t","code":null}',
            {"message": "body.x: no", "type": "t", "code": None},
        ),
        (b'{"detail": [{}]}', {"message": "The provider refused the request and gave no reason."}),
        (b'{"error": 7}', {"message": "The provider refused the request and gave no reason."}),
        (b"[1]", {"message": "The provider refused the request and gave no reason."}),
        (b"<html>", {"message": "The provider refused the request and gave no reason."}),
        (b'{"error": ' + b"[" * 200_000, {"message": "The provider refused the request and gave no reason."}),
    ],
)
def test_a_refusal_has_every_field_of_an_error(data: bytes, expected: dict[str, object]) -> None:
    error = read_refusal(data)
    assert {"message", "type", "param", "code"} <= set(error)
    assert error.items() >= expected.items()


HALVES = rb'data: {"choices":[{"index":0,"delta":{"content":"\ud83d"}}]}' + b"\n\n"


def test_half_a_character_is_no_broken_event() -> None:
    """Providers that cut text into UTF-16 units send one half with each of two events."""
    stream = RelayedStream(include_usage=False)
    other = HALVES.replace(rb"\ud83d", rb"\ude00")
    assert stream.feed(HALVES * 5 + other) == HALVES * 5 + other
    assert stream.tokens == 6


def test_half_a_character_in_the_event_that_gets_the_receipt_is_kept_as_it_came() -> None:
    last = rb'{"choices":[{"index":0,"delta":{"content":"\ude00"},"finish_reason":"stop"}]}'
    assert relay([b"data: " + last + b"\n\n"]).startswith(b"data: " + last[:-1])


def test_half_a_character_does_not_make_a_completion_unusable() -> None:
    data = rb'{"choices":[{"message":{"content":"\ud83d!"}}]}'
    assert read_completion(data).with_receipt(RECEIPT).startswith(data[:-1])


def test_a_completion_that_cannot_be_taken_apart_keeps_what_it_has() -> None:
    data = b'{"choices":[{"a":1}],"flatfee":{},"\xff":1}'
    assert read_completion(data).with_receipt(RECEIPT).startswith(data[:-1])


def test_a_name_that_is_not_utf_8_is_a_broken_event() -> None:
    stream = RelayedStream(include_usage=False)
    assert stream.feed(b'data: {"choices":[{"delta":{"\xff":"a"}}]}\n\n') == b""


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b'event: error\ndata: {"message": "Overloaded"}\n\n', id="by its name"),
        pytest.param(b'data: {"message": "Overloaded"}\r\nevent:error\r\n\r\n', id="by its name, last"),
        pytest.param(event({"object": "error", "message": "out of memory"}), id="by its object"),
    ],
)
def test_an_error_without_a_member_of_that_name_is_one(said: bytes) -> None:
    stream = RelayedStream(include_usage=False)
    stream.feed(delta("canary-"))
    assert stream.feed(said) == b""
    assert "an error in mid-stream" in str(stream.failure)


def test_a_text_about_error_events_is_a_text() -> None:
    stream = RelayedStream(include_usage=False)
    assert b"event: error" in stream.feed(b"event: message\n" + delta("event: error"))


def test_an_error_beside_what_cannot_be_read_never_reaches_the_caller() -> None:
    stream = RelayedStream(include_usage=False)
    assert stream.feed(event({"choices": {}, "error": {"message": "canary-key"}})) == b""
    assert stream.failure is not None


def test_another_gateways_receipt_beside_what_cannot_be_read_is_taken_out() -> None:
    stream = RelayedStream(include_usage=False)
    out = stream.feed(event({"choices": [{"index": "0"}], "flatfee": {"lane": "canary"}}))
    assert b"canary" not in out
    assert b'"index"' in out


@pytest.mark.parametrize("empty", [[], None, {}])
def test_a_finish_with_an_empty_delta_of_any_kind_is_one(empty: Any) -> None:
    stream = RelayedStream(include_usage=False)
    stream.feed(delta("a") + event({"choices": [{"index": 0, "delta": empty, "finish_reason": "stop"}]}))
    assert stream.whole


def test_events_without_data_are_no_broken_events() -> None:
    stream = RelayedStream(include_usage=False)
    assert stream.feed(b"data:\n\n" * 9 + b"data: \n\n" * 9)
    assert stream.failure is None


@pytest.mark.parametrize("nothing", ["", [], {}, False, None])
def test_an_error_that_says_nothing_is_none(nothing: Any) -> None:
    stream = RelayedStream(include_usage=False)
    stream.feed(event({"choices": [], "error": nothing}))
    assert stream.failure is None
    assert read_completion(json.dumps({"choices": [{}], "error": nothing}).encode()).usage is None


@pytest.mark.parametrize("details", [[], {"cached_tokens": -1}, {"cached_tokens": "many"}, 5])
def test_an_odd_detail_does_not_spoil_the_usage(details: Any) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": details}
    found = read_completion(json.dumps({"choices": [{}], "usage": usage}).encode())
    assert found.usage == UsedTokens(prompt_tokens=10, completion_tokens=5, cached_tokens=0)


@pytest.mark.parametrize("end", LINE_ENDS.values(), ids=LINE_ENDS)
def test_a_large_event_of_many_lines_is_put_together_once(end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[int] = []

    def counted(data: bytes) -> tuple[list[bytes], bytes]:
        cut.append(len(data))
        return cut_events(data)

    monkeypatch.setattr(sse, "cut_events", counted)
    stream = RelayedStream(include_usage=False)
    for _ in range(2000):
        stream.feed(b"data: 1," + end)
    stream.feed(end + b"x")
    assert sum(cut) < 3 * 2000 * 10


def test_an_event_that_is_called_an_error_is_one_whatever_its_data() -> None:
    stream = RelayedStream(include_usage=False)
    stream.feed(b"event: error\ndata: upstream died\n\n")
    assert stream.failure is not None


def test_zeros_behind_real_figures_are_no_usage() -> None:
    stream = RelayedStream(include_usage=False)
    stream.feed(delta("a", usage={"prompt_tokens": 10, "completion_tokens": 5}))
    stream.feed(delta(finish="stop", usage={"prompt_tokens": 0, "completion_tokens": 0}))
    assert stream.usage == UsedTokens(prompt_tokens=10, completion_tokens=5, cached_tokens=0)


def test_a_trailer_that_was_cut_is_not_passed_on() -> None:
    stream = RelayedStream(include_usage=False)
    stream.feed(delta(finish="stop") + b"data: ")
    assert stream.end() == b""
