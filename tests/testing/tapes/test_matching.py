"""Requests that ask for the same are the same, however they are spelled; others differ where they differ."""

from __future__ import annotations

from typing import Any

import pytest

from flatfee.testing.tapes.matching import Comparison, differences

HI = {"role": "user", "content": "Hi"}


def differ(recorded: dict[str, Any], asked: dict[str, Any], *ignore: str) -> list[str]:
    compare = Comparison.ignoring(ignore)
    return [str(each) for each in differences(compare.wanted(recorded), compare.wanted(asked))]


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1}),
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"tools": None}, {}),
        ({"stream": False}, {}),
        ({"model": "a", "user": "x", "metadata": {}}, {"model": "b"}),
        ({"stream_options": {"include_usage": True}}, {}),
        ({"max_tokens": 5}, {"max_completion_tokens": 5}),
        ({"messages": [HI]}, {"messages": [{"content": [{"type": "text", "text": "Hi"}], "role": "user"}]}),
        (
            {"messages": [{"role": "user", "content": "my [redacted]!"}]},
            {"messages": [{"role": "user", "content": "my key!"}]},
        ),
        ({"messages": ["[redacted]"]}, {"messages": [HI]}),
    ],
)
def test_requests_that_ask_for_the_same(recorded: dict[str, Any], asked: dict[str, Any]) -> None:
    assert differ(recorded, asked) == []


@pytest.mark.parametrize(
    ("recorded", "asked", "told"),
    [
        ({"temperature": 1}, {"temperature": 0}, "temperature: recorded 1, asked 0"),
        ({"temperature": 1}, {}, "temperature: recorded 1, asked nothing"),
        ({}, {"stream": True}, "stream: recorded nothing, asked true"),
        ({"n": 1}, {"n": True}, "n: recorded 1, asked true"),
        ({"messages": [HI]}, {"messages": [HI, HI]}, "messages[1]: recorded nothing, asked"),
        ({"tools": [{"name": "a"}]}, {"tools": [{"name": "b"}]}, 'tools[0].name: recorded "a", asked "b"'),
        ({"user_text": "my [redacted]!"}, {"user_text": "my key?"}, "user_text: recorded"),
        ({"t": "a[redacted]b[redacted]c"}, {"t": "abc"}, ""),
        ({"t": "ab[redacted]ba"}, {"t": "aba"}, "t: recorded"),
        ({"t": "x[redacted]y[redacted]z"}, {"t": "x..z"}, "t: recorded"),
        ({"t": "x" * 100}, {"t": "y"}, "… (102 characters), asked"),
    ],
)
def test_requests_differ_where_they_differ(recorded: dict[str, Any], asked: dict[str, Any], told: str) -> None:
    found = differ(recorded, asked)
    assert len(found) == bool(told)
    assert all(told in line for line in found)


def test_arguments_of_calls_are_compared_by_what_they_say() -> None:
    def request(arguments: str) -> dict[str, Any]:
        call = {"id": "x", "function": {"name": "f", "arguments": arguments}}
        return {"messages": [{"role": "assistant", "tool_calls": [call]}]}

    assert differ(request('{"a": 1, "b": 2}'), request('{"b":2,"a":1}')) == []
    assert differ(request('{"a": 1}'), request('{"a": 2}')) == [
        "messages[0].tool_calls[0].function.arguments.a: recorded 1, asked 2"
    ]
    assert differ(request("{broken"), request("{broken")) == []


def test_a_result_that_answers_another_call_differs() -> None:
    def request(*answered: str) -> dict[str, Any]:
        calls: list[Any] = [{"id": name, "function": {}} for name in ("x", "y")]
        results = [{"role": "tool", "tool_call_id": name} for name in answered]
        return {"messages": [{"role": "assistant", "tool_calls": calls}, *results]}

    assert differ(request("x", "y"), request("x", "y")) == []
    assert differ(request("x", "y"), request("y", "x")) != []


def test_authors_say_what_may_differ() -> None:
    recorded = {"seed": 1, "messages": [{"content": "Today is Monday.", "name": "a"}, HI]}
    asked = {"seed": 2, "messages": [{"content": "Today is Tuesday.", "name": "b"}, HI]}
    assert differ(recorded, asked, "seed", "messages[0].content", "$.messages[*].name") == []
    assert len(differ(recorded, asked, "seed")) == 2
    assert len(differ(recorded, asked, "messages[1].content", "messages[0].nam")) == 3
    assert differ({"stop": ["a", "b"]}, {"stop": ["a", "c"]}, "stop[1]") == []
    assert differ({"messages": [{**HI, "name": "a"}]}, {"messages": [HI]}, "messages[*].name") == []
    with pytest.raises(ValueError, match=r"ignore='\$.a b.c' is no path"):
        Comparison.ignoring("a b.c")
