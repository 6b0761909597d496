"""What the simulated model refuses: what OpenAI refuses, with the parameter and the cure."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.providers.simulation.asking import body, form, function, user

from flatfee.server.providers import simulation
from flatfee.server.providers.simulation import RefusedError

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ASSISTANT = {"role": "assistant", "tool_calls": [CALL, {**CALL, "id": "d"}]}
LONG = [{"type": "function", "function": {"name": f"f{index}"}} for index in range(3)]


def refusal(**more: Any) -> RefusedError:
    with pytest.raises(RefusedError) as raised:
        simulation.plain(body(**more))
    return raised.value


def result(identity: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": "x"}


@pytest.mark.parametrize(
    ("wrong", "param", "code", "words"),
    [
        ({"model": None}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
        ({"model": 5}, "model", "invalid_type", "expected a string, but got an integer"),
        ({"n": 0}, "n", "integer_below_min_value", "Expected a value >= 1, but got 0"),
        ({"n": 1000}, "n", "integer_above_max_value", "Expected a value <= 128, but got 1000"),
        ({"n": True}, "n", "invalid_type", "expected an integer, but got a boolean"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value", ">= 1"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens", "invalid_type", "an integer"),
        ({"temperature": 2.5}, "temperature", "decimal_above_max_value", "<= 2"),
        ({"temperature": "hot"}, "temperature", "invalid_type", "a decimal"),
        ({"presence_penalty": -3}, "presence_penalty", "decimal_below_min_value", ">= -2"),
        ({"seed": 0.5}, "seed", "invalid_type", "an integer, but got a decimal"),
        ({"logprobs": 1}, "logprobs", "invalid_type", "a boolean"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_request_error", "only allowed with 'logprobs'"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "integer_above_max_value", "<= 20"),
        ({"stop": 5}, "stop", "invalid_type", "a string or an array of strings"),
        ({"stop": ["a", 5]}, "stop", "invalid_type", "array of strings"),
        ({"stop": list("abcde")}, "stop", "array_above_max_length", "at most 4"),
        ({"stop": ""}, "stop", "invalid_value", "Leave it out"),
        ({"reasoning_effort": "hard"}, "reasoning_effort", "invalid_value", "'low', 'medium', 'high'"),
        ({"modalities": ["text", "audio"]}, "modalities", "invalid_value", "Send 'modalities': ['text']"),
        ({"stream_options": []}, "stream_options", "invalid_type", "an object, but got an array"),
    ],
)
def test_a_parameter_out_of_range_is_refused(wrong: dict[str, Any], param: str, code: str, words: str) -> None:
    found = refusal(**wrong)
    assert (found.status, found.param, found.code) == (400, param, code)
    assert words in found.message


@pytest.mark.parametrize(
    ("messages", "param", "words"),
    [
        (None, "messages", "Missing"),
        ({}, "messages", "an array of objects"),
        ([], "messages", "Send at least one message"),
        (["x"], "messages[0]", "an object, but got a string"),
        ([{"content": "x"}], "messages[0].role", "Missing"),
        ([{"role": "king", "content": "x"}], "messages[0].role", "'developer', 'user'"),
        ([{"role": "user"}], "messages[0].content", "Missing"),
        ([user(None)], "messages[0].content", "got null"),
        ([user(7)], "messages[0].content", "got an integer"),
        ([user(["bare"])], "messages[0].content[0]", "an object"),
        ([user([{"text": "x"}])], "messages[0].content[0].type", "Missing"),
        ([user([{"type": "smell"}])], "messages[0].content[0].type", "'image_url'"),
        ([user([{"type": "image_url"}])], "messages[0].content[0].image_url", "Missing"),
        ([user([{"type": "image_url", "image_url": "http"}])], "messages[0].content[0].image_url", "an object"),
        ([user([{"type": "text", "text": {}}])], "messages[0].content[0].text", "a string"),
        ([user("x"), result("c")], "messages[1].role", "must be a response to a preceding message with 'tool_calls'"),
        ([ASSISTANT, result("c")], "messages", "did not have response messages: d"),
        ([ASSISTANT, user("x")], "messages", "did not have response messages: c, d"),
        ([ASSISTANT, result("c"), result("c")], "messages[2].tool_call_id", "one result for each call"),
        ([ASSISTANT, result(None)], "messages[1].tool_call_id", "Missing"),
        ([{"role": "assistant", "tool_calls": {"x": 1}}], "messages[0].tool_calls", "an array"),
        ([{"role": "assistant", "tool_calls": [7]}], "messages[0].tool_calls[0]", "an object"),
        ([{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0].id", "Missing"),
        ([{"role": "assistant", "tool_calls": [{"id": 7}]}], "messages[0].tool_calls[0].id", "a string"),
    ],
)
def test_messages_that_are_no_conversation_are_refused(messages: Any, param: str, words: str) -> None:
    found = refusal(messages=messages)
    assert found.param == param
    assert words in found.message


def test_results_that_match_their_calls_are_taken_in_any_order() -> None:
    simulation.plain(body(messages=[ASSISTANT, result("d"), result("c")]))


@pytest.mark.parametrize(
    ("wrong", "param", "words"),
    [
        ({"tools": {}}, "tools", "an array of objects"),
        ({"tools": [7]}, "tools[0]", "an object"),
        ({"tools": [{}]}, "tools[0].type", "Missing"),
        ({"tools": [{"type": "search"}]}, "tools[0].type", "'function' and 'custom'"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "Missing"),
        ({"tools": [{"type": "function", "function": 7}]}, "tools[0].function", "an object"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "Missing"),
        ({"tools": [function("two words")]}, "tools[0].function.name", "Use letters, digits"),
        ({"tools": [{"type": "function", "function": {"name": 7}}]}, "tools[0].function.name", "a string"),
        ({"tools": [function("f"), function("f")]}, "tools", "'f' is there more than once"),
        ({"tools": [function("f", [])]}, "tools[0].function.parameters", "an object"),
        ({"tools": [function("f", {"type": "objet"})]}, "tools[0].function.parameters", "at '#/type'"),
        ({"tools": [function("f", {"type": "string"})]}, "tools[0].function.parameters", "'f'"),
        ({"tools": [function("f", {"type": "object"}, strict=True)]}, "tools[0].function.parameters", "strict"),
        ({"functions": [7]}, "functions[0]", "an object"),
        ({"tool_choice": "required"}, "tool_choice", "only allowed when 'tools' are specified"),
        ({"tools": LONG, "tool_choice": "any"}, "tool_choice", "'none', 'auto', 'required'"),
        ({"tools": LONG, "tool_choice": 7}, "tool_choice", "a string or an object"),
        ({"tools": LONG, "tool_choice": {"type": "function"}}, "tool_choice.function", "Missing"),
        ({"tools": LONG, "tool_choice": {"type": "function", "function": 7}}, "tool_choice.function", "an object"),
        ({"tools": LONG, "tool_choice": {"type": "search"}}, "tool_choice.type", "'allowed_tools'"),
        (
            {"tools": LONG, "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice.function.name",
            "'g' not found in 'tools' parameter; there is f0, f1, f2",
        ),
        ({"tools": LONG, "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools.tools", "Missing"),
        (
            {"tools": LONG, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "x", "tools": []}}},
            "tool_choice.allowed_tools.mode",
            "'auto' and 'required'",
        ),
        (
            {"tools": LONG, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [7]}}},
            "tool_choice.allowed_tools.tools[0]",
            "an object",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "q", "format": 7}}]}, "tools[0].custom.format", "an object"),
        (
            {"tools": [{"type": "custom", "custom": {"name": "q", "format": {"type": "grammar"}}}]},
            "tools[0].custom.format.grammar.definition",
            "Missing",
        ),
        (
            {
                "tools": [
                    {
                        "type": "custom",
                        "custom": {
                            "name": "q",
                            "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}},
                        },
                    }
                ]
            },
            "tools[0].custom.format.grammar.syntax",
            "'regex'",
        ),
    ],
)
def test_an_offer_that_makes_no_sense_is_refused(wrong: dict[str, Any], param: str, words: str) -> None:
    found = refusal(**wrong)
    assert found.param == param
    assert words in found.message


def test_a_choice_without_tools_that_asks_for_none_is_no_mistake() -> None:
    simulation.plain(body(tools=[], tool_choice="auto"))


@pytest.mark.parametrize(
    ("wanted", "param", "words"),
    [
        ({"type": "xml"}, "response_format.type", "'json_object', 'json_schema' and 'text'"),
        ({"kind": "json"}, "response_format.type", "Missing"),
        ({"type": "json_schema"}, "response_format.json_schema", "Missing"),
        ({"type": "json_schema", "json_schema": 5}, "response_format.json_schema", "an object"),
        (form([]), "response_format.json_schema.schema", "an object"),
        (form({"type": "integer", "minimum": "x"}), "response_format", "at '#/minimum', it has to be a finite number"),
        (form({"anyOf": {"x": 1}}), "response_format", "a list of one schema or more"),
        (form({"allOf": [7]}), "response_format", "a list of one schema or more"),
        (form({"type": "string", "enum": [1]}), "response_format", "no value was found"),
        (form({"$ref": "#/nowhere"}), "response_format", "there is no schema at '#/nowhere'"),
        (
            form({"type": "object", "properties": {}}, strict=True),
            "response_format",
            "'additionalProperties' is required",
        ),
        (
            form({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, strict=True),
            "response_format",
            "'required' has to list every property in strict mode, and lacks 'a'",
        ),
    ],
)
def test_a_form_that_nothing_fits_is_refused(wanted: dict[str, Any], param: str, words: str) -> None:
    found = refusal(response_format=wanted)
    assert found.param == param
    assert words in found.message


def test_a_strict_form_that_closes_each_object_is_taken() -> None:
    inner = {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"], "additionalProperties": False}
    outer = {**inner, "properties": {"a": {"type": "array", "items": {"anyOf": [inner]}}}}
    simulation.plain(body(response_format=form(outer, strict=True)))


@pytest.mark.parametrize("raw", [b"{", b"[]", b"5", b'{"n": NaN}', b'{"n": 1e999}', b"\xff", b"[" * 100_000, b""])
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    for answer in (simulation.plain, simulation.streamed):
        with pytest.raises(RefusedError):
            answer(raw)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "name", "function", "id"]), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = [
    "n",
    "stop",
    "reasoning_effort",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
    "messages",
    "logprobs",
]


@given(st.dictionaries(st.sampled_from(NAMES), anything, max_size=3))
def test_any_body_is_answered_or_refused(wrong: dict[str, Any]) -> None:
    with suppress(RefusedError):
        simulation.plain(body(**wrong))
