"""Tools of the simulated model: which it calls, with what, and how it takes their results."""

import json
from typing import Any

import msgspec
import pytest
from tests.server.providers.simulation.asking import answer, events, form, function, joined, said, user

from flatfee.server.providers.simulation import RefusedError

WEATHER = function(
    "weather",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
        "required": ["city", "days"],
    },
)
CLOCK = function("clock")
TOOLS = [WEATHER, CLOCK]
RESULT = [
    user("Hi"),
    {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "sunny"},
]


def calls(content: str = "Hello", **more: Any) -> list[tuple[str, Any]]:
    choice = said(content, **({"tools": TOOLS} | more))
    found = choice["message"].get("tool_calls", [])
    assert choice["finish_reason"] == ("tool_calls" if found else "stop")
    assert (choice["message"]["content"] is None) == bool(found)
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in found]


def test_the_first_tool_is_called_with_arguments_that_fit() -> None:
    assert calls() == [("weather", {"city": "text", "days": 2})]
    assert calls(tool_choice="auto") == calls()


def test_a_tool_is_not_called_against_the_callers_will() -> None:
    assert calls(tool_choice="none") == []


def test_a_required_or_forced_tool_is_called_whatever_came_before() -> None:
    clock = {"type": "function", "function": {"name": "clock"}}
    assert calls(messages=RESULT, tool_choice="required") == [("weather", {"city": "text", "days": 2})]
    assert calls(messages=RESULT, tool_choice=clock) == [("clock", {})]


def test_after_a_tools_result_it_answers_in_words_that_quote_it() -> None:
    assert calls(messages=RESULT) == []
    content = said(tools=TOOLS, messages=RESULT)["message"]["content"]
    assert "You said: Hi. The tool says: sunny. " in content


def test_after_a_tools_result_it_answers_in_the_form_that_was_asked_for() -> None:
    wanted = form({"type": "object", "properties": {"sky": {"const": "blue"}}, "required": ["sky"]})
    assert calls(response_format=wanted) == [("weather", {"city": "text", "days": 2})]
    found = said(tools=TOOLS, messages=RESULT, response_format=wanted)
    assert json.loads(found["message"]["content"]) == {"sky": "blue"}


def test_the_next_question_is_answered_with_a_tool_again() -> None:
    again = [*RESULT, {"role": "assistant", "content": "It is sunny"}, user("And now?")]
    assert calls(messages=again) == [("weather", {"city": "text", "days": 2})]


def test_a_tool_that_the_message_names_is_called() -> None:
    assert calls("Look at the clock, please.") == [("clock", {})]
    assert calls("Look at the clockwork") == [("weather", {"city": "text", "days": 2})]


def test_all_tools_that_the_message_names_are_called_at_once() -> None:
    asked = "Ask the clock and the weather"
    assert [name for name, _ in calls(asked)] == ["weather", "clock"]
    assert [name for name, _ in calls(asked, parallel_tool_calls=False)] == ["weather"]


@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        ('Use {"city": "Oslo", "days": 3}.', {"city": "Oslo", "days": 3}),
        ('{} {not} {"city": 5, "days": 3} then {"city": "Rome", "days": 4}', {"city": "Rome", "days": 4}),
        ("The weather with city=Lisbon, days=5.", {"city": "Lisbon", "days": 5}),
        ('city="New York" days=1 sky=blue', {"city": "New York", "days": 2}),
        ("city=12", {"city": "12", "days": 2}),
        ("weather('Oslo', 3)", {"city": "Oslo", "days": 3}),
        ("1 to 7 days in “São Paulo”", {"city": "São Paulo", "days": 7}),
        ("city=Oslo 'Rome' 4.5 5", {"city": "Oslo", "days": 5}),
        ("What's Anna's day? 2024-05-06, 19:30, GPT-4, v5, 6,000, x=7", {"city": "text", "days": 2}),
        ("days='x' \"\" ''", {"city": "text", "days": 2}),
    ],
)
def test_values_in_the_message_are_used_where_they_fit(content: str, arguments: Any) -> None:
    assert calls(content) == [("weather", arguments)]


def test_allowed_tools_are_the_only_ones_called() -> None:
    def allowed(mode: str) -> dict[str, Any]:
        tools = [{"type": "function", "function": {"name": "clock"}}]
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}

    assert calls("Ask the weather", tool_choice=allowed("auto")) == [("clock", {})]
    assert calls(messages=RESULT, tool_choice=allowed("auto")) == []
    assert calls(messages=RESULT, tool_choice=allowed("required")) == [("clock", {})]


def test_arguments_are_an_object_whatever_the_schema_leaves_open() -> None:
    assert calls(tools=[function("any", {})]) == [("any", {})]


def test_each_call_of_a_conversation_has_an_identity_of_its_own() -> None:
    def identities(**more: Any) -> list[str]:
        return [call["id"] for call in said(tools=TOOLS, tool_choice="required", **more)["message"]["tool_calls"]]

    assert identities() == identities()
    assert len({*identities(), *identities(messages=RESULT), *identities(seed=1)}) == 3
    assert len(set(identities(content="clock, weather"))) == 2


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "text"),
        ({"format": {"type": "text"}}, "text"),
        (
            {"format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "SELECT [a-z]+|x{9}"}}},
            "SELECT a",
        ),
    ],
)
def test_a_custom_tool_gets_a_text_of_its_grammar(given: dict[str, Any], text: str) -> None:
    tool = {"type": "custom", "custom": {"name": "query", **given}}
    choice = said(tools=[tool])
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["custom"]) == ("custom", {"name": "query", "input": text})
    assert joined(events(tools=[tool])) == [choice]


def test_functions_of_the_old_kind_are_called_the_old_way() -> None:
    functions = [tool["function"] for tool in TOOLS]
    choice = said(functions=functions, function_call={"name": "clock"})
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "clock", "arguments": "{}"}
    assert "function_call" in said(functions=functions)["message"]
    assert "function_call" not in said(functions=functions, function_call="none")["message"]
    after = [user("Hi"), {"role": "function", "name": "clock", "content": "noon"}]
    assert "The tool says: noon." in said(functions=functions, messages=after)["message"]["content"]


@pytest.mark.parametrize("kind", ["tools", "functions"])
def test_a_streamed_call_joins_to_the_plain_one(kind: str) -> None:
    offered = {kind: TOOLS if kind == "tools" else [tool["function"] for tool in TOOLS]}
    assert joined(events("clock, weather", **offered)) == answer("clock, weather", **offered)["choices"]


def test_a_call_is_cut_to_the_tokens_asked_for() -> None:
    found = answer("clock, weather", tools=TOOLS, max_tokens=3)
    (choice,) = found["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "length"
    assert call["function"]["arguments"] == '{"city":"tex'
    assert found["usage"]["completion_tokens"] == 3


def test_a_tool_without_arguments_that_fit_is_refused() -> None:
    endless = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    with pytest.raises(RefusedError) as raised:
        calls(tools=[CLOCK, function("walk", endless)], content="walk")
    assert raised.value.param == "tools[1].function.parameters"
    assert raised.value.code == "invalid_function_parameters"
    assert "'walk'" in raised.value.message
    assert "holds itself without an end" in raised.value.message


def test_a_custom_tool_whose_grammar_has_no_text_is_refused() -> None:
    def tool(definition: str) -> dict[str, Any]:
        grammar = {"syntax": "regex", "definition": definition}
        return {"type": "custom", "custom": {"name": "q", "format": {"type": "grammar", "grammar": grammar}}}

    for definition, why in ((r"(a)\1", "backreference"), ("[]", "no text"), ("(.*a.{30}){9}", "shorter pattern")):
        with pytest.raises(RefusedError, match=why):
            said(tools=[tool(definition)])


@pytest.mark.parametrize("odd", ["NaN", "Infinity", "1e999", r'"\ud800"', "[" * 300 + "]" * 300])
def test_what_no_reader_of_json_takes_is_no_argument(odd: str) -> None:
    """Python's own reader is more tolerant than those of clients."""
    tool = function("f", {"type": "object", "properties": {"a": {}}, "required": ["a"]})
    (call,) = said(f'{{"a": {odd}}}', tools=[tool])["message"]["tool_calls"]
    msgspec.json.decode(call["function"]["arguments"])
