"""What is different in form between two answers, and how bad that is for who reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flatfee.testing.tapes.shapes import Change, Finding, Severity, compare, read_by_clients, shape
from flatfee.testing.tapes.tape import Answer
from flatfee.types import ChatCompletion, ChatCompletionChunk

BREAKING, CHANGED, NEW = Severity


def completion() -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m",
        "service_tier": "default",
        "timings": {"ms": 1.5},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


def plain(change: Callable[[dict[str, Any]], Any] = lambda _: None, **said: Any) -> Answer:
    body = completion()
    change(body)
    return Answer.model_validate({"status": 200, "body": body, "ended_ms": 1, **said})


def streamed(*events: Any) -> Answer:
    said = [{"at_ms": number, "data": event} for number, event in enumerate(events)]
    return Answer.model_validate({"status": 200, "events": said, "ended_ms": 1})


def chunk(content: str | None = None, reason: str | None = None) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {
        "id": "x",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }


USAGE = {"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 3}}


def told(found: list[Finding]) -> list[tuple[Severity, Change, str]]:
    return [(finding.severity, finding.change, finding.path) for finding in found]


def test_another_text_is_no_difference() -> None:
    live = plain(
        lambda said: said.update(
            id="y", model="n", usage={"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 7}
        )
    )
    assert compare(plain(), live) == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda said: said.pop("usage"), (BREAKING, Change.MISSING, "usage")),
        (lambda said: said["usage"].pop("total_tokens"), (BREAKING, Change.MISSING, "usage.total_tokens")),
        (lambda said: said["choices"][0].pop("finish_reason"), (BREAKING, Change.MISSING, "choices[].finish_reason")),
        (lambda said: said["choices"][0].pop("message"), (BREAKING, Change.MISSING, "choices[].message")),
        (lambda said: said["usage"].update(total_tokens="3"), (BREAKING, Change.RETYPED, "usage.total_tokens")),
        (lambda said: said["choices"][0].update(index=None), (BREAKING, Change.RETYPED, "choices[].index")),
        (
            lambda said: said["choices"][0]["message"].update(content=[1]),
            (BREAKING, Change.RETYPED, "choices[].message.content"),
        ),
        (
            lambda said: said["choices"][0].update(finish_reason="completed"),
            (BREAKING, Change.WORD, "choices[].finish_reason"),
        ),
        (lambda said: said.update(object="completion"), (BREAKING, Change.WORD, "object")),
        (lambda said: said.pop("service_tier"), (CHANGED, Change.MISSING, "service_tier")),
        (lambda said: said.pop("timings"), (CHANGED, Change.MISSING, "timings")),
        (lambda said: said["timings"].update(ms="1"), (CHANGED, Change.RETYPED, "timings.ms")),
        (lambda said: said["choices"][0].update(finish_reason="length"), (NEW, Change.WORD, "choices[].finish_reason")),
        (
            lambda said: said["choices"][0]["message"].update(content=None),
            (NEW, Change.RETYPED, "choices[].message.content"),
        ),
        (lambda said: said["choices"][0]["message"].pop("content"), (NEW, Change.MISSING, "choices[].message.content")),
        (lambda said: said.update(brand_new={"a": 1}), (NEW, Change.ADDED, "brand_new")),
    ],
)
def test_a_difference_is_as_bad_as_it_is_for_clients(
    change: Callable[[dict[str, Any]], Any], finding: tuple[Severity, Change, str]
) -> None:
    assert told(compare(plain(), plain(change))) == [finding]


def test_a_field_that_has_another_name_now_is_missing_and_new() -> None:
    def renamed(said: dict[str, Any]) -> None:
        said["choices"][0]["stop_reason"] = said["choices"][0].pop("finish_reason")

    assert told(compare(plain(), plain(renamed))) == [
        (BREAKING, Change.MISSING, "choices[].finish_reason"),
        (NEW, Change.ADDED, "choices[].stop_reason"),
    ]


def test_headers_are_compared_by_name_and_the_kind_of_content() -> None:
    recorded = plain(headers={"content-type": "application/json; charset=utf-8", "x-ratelimit-limit-tokens": "1"})
    live = plain(headers={"content-type": "text/plain", "retry-after": "1"})
    assert told(compare(recorded, live)) == [
        (CHANGED, Change.WORD, "headers.content-type"),
        (CHANGED, Change.MISSING, "headers.x-ratelimit-limit-tokens"),
        (NEW, Change.ADDED, "headers.retry-after"),
    ]


def test_another_status_is_all_that_is_told_of_an_answer() -> None:
    assert told(compare(plain(), plain(lambda said: said.clear(), status=400))) == [(BREAKING, Change.STATUS, "status")]


STREAM = [chunk("Hi "), chunk("there"), chunk(reason="stop"), USAGE, "[DONE]"]


def test_a_longer_stream_is_no_difference() -> None:
    assert compare(streamed(*STREAM), streamed(*STREAM[:2], *STREAM)) == []


@pytest.mark.parametrize(
    ("live", "finding"),
    [
        ([*STREAM[:2], *STREAM[3:]], (BREAKING, Change.ORDER, "events")),
        ([*STREAM[:3], "[DONE]"], (CHANGED, Change.ORDER, "events")),
        (STREAM[:4], (CHANGED, Change.ORDER, "events")),
        ([USAGE, *STREAM[:3], "[DONE]"], (CHANGED, Change.ORDER, "events")),
    ],
)
def test_events_that_are_missing_or_come_at_another_time(
    live: list[Any], finding: tuple[Severity, Change, str]
) -> None:
    assert finding in told(compare(streamed(*STREAM), streamed(*live)))


def test_a_stream_that_is_a_completion_now_has_none_of_its_events() -> None:
    assert (BREAKING, Change.ORDER, "events") in told(compare(streamed(*STREAM), plain()))


def test_a_shape_is_every_path_with_its_types() -> None:
    assert shape([{"a": [1, "x", None, True, 1.5, {"b": []}]}]) == {
        "": {"object"},
        "a": {"list"},
        "a[]": {"integer", "string", "null", "boolean", "number", "object"},
        "a[].b": {"list"},
    }


def test_what_clients_read_is_what_our_types_read() -> None:
    plain_paths, chunk_paths = read_by_clients(ChatCompletion), read_by_clients(ChatCompletionChunk)
    assert {"id", "choices", "choices[].message.tool_calls[].function.name", "usage.total_tokens"} <= plain_paths
    assert {"choices[].delta.content", "choices[].finish_reason", "choices[].delta.tool_calls[].index"} <= chunk_paths
