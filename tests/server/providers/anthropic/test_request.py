"""Requests, field by field: what each becomes, what is left out, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.server.providers.anthropic.rules import refusals

from flatfee.server.providers.anthropic.errors import Untranslatable
from flatfee.server.providers.anthropic.models import generation_of
from flatfee.server.providers.anthropic.parameters import DEFAULT_MAX_TOKENS
from flatfee.server.providers.anthropic.request import read_request

HI = {"role": "user", "content": "Hi"}
NEW, MIDDLE, OLD = "claude-opus-4-8", "claude-sonnet-4-6", "claude-sonnet-4-5"
TOOL = {"type": "function", "function": {"name": "f"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def translated(**body: Any) -> dict[str, Any]:
    """Translate, and see that the API would not refuse the form of it."""
    whole = {"model": OLD, "messages": [HI], **body}
    request: dict[str, Any] = json.loads(read_request(json.dumps(whole).encode()).encoded())
    assert list(refusals(request)) == []
    return request


def refused(**body: Any) -> Untranslatable:
    with pytest.raises(Untranslatable) as caught:
        translated(**body)
    return caught.value


def test_a_request_without_anything_gets_a_limit_alone() -> None:
    assert translated() == {
        "model": OLD,
        "max_tokens": DEFAULT_MAX_TOKENS,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 9}, {"max_tokens": 9}),
        ({"temperature": 0.2}, {"temperature": 0.2}),
        ({"temperature": 1.5}, {"temperature": 1.0}),
        ({"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2}),
        ({"top_p": 0.9, "top_k": 5}, {"top_p": 0.9, "top_k": 5}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["END", "\n"]}, {"stop_sequences": ["END"]}),
        ({"stop": "\n\n"}, {}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
        ({"stream": False}, {}),
        ({"user": "jo@example.org"}, {}),
        ({"safety_identifier": "u-1"}, {"metadata": {"user_id": "u-1"}}),
        ({"metadata": {"user_id": "u-2", "team": "a"}}, {"metadata": {"user_id": "u-2"}}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"service_tier": "flex"}, {}),
        ({"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral"}}),
        ({"n": 1, "seed": 1, "logprobs": True, "presence_penalty": 1, "logit_bias": {}, "store": True}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        ({"tool_choice": "none"}, {}),
    ],
    ids=str,
)
def test_a_parameter_becomes_what_is_nearest_to_it(given: dict[str, Any], becomes: dict[str, Any]) -> None:
    plain = translated()
    assert {name: value for name, value in translated(**given).items() if plain.get(name) != value} == becomes


@pytest.mark.parametrize(
    ("model", "effort", "becomes"),
    [
        (NEW, "none", {"output_config": {"effort": "low"}}),
        (NEW, "high", {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}}),
        (
            NEW,
            "xhigh",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "xhigh"}},
        ),
        (
            MIDDLE,
            "xhigh",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
        ),
        (OLD, "none", {}),
        (OLD, "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (OLD, "high", {"thinking": {"type": "enabled", "budget_tokens": 16_000}}),
        ("deepseek-chat", "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
    ],
)
def test_an_effort_becomes_what_the_generation_takes(model: str, effort: str, becomes: dict[str, Any]) -> None:
    request = translated(model=model, reasoning_effort=effort)
    assert {name: request[name] for name in ("thinking", "output_config") if name in request} == becomes


@pytest.mark.parametrize(
    "body",
    [
        {"max_tokens": 1500},
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"messages": [HI, {"role": "assistant", "content": "I"}]},
        {
            "messages": [
                HI,
                {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "a", "content": "1"},
            ],
            "tools": [TOOL],
        },
    ],
    ids=["short", "required", "named", "prefilled", "loop without thoughts"],
)
def test_an_older_model_does_not_think_where_it_may_not(body: dict[str, Any]) -> None:
    assert "thinking" not in translated(reasoning_effort="high", **body)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_a_newer_model_that_must_call_a_tool_is_not_told_to_think(choice: Any) -> None:
    request = translated(model=NEW, reasoning_effort="high", tools=[TOOL], tool_choice=choice)
    assert "thinking" not in request
    assert request["output_config"] == {"effort": "high"}


def test_the_callers_own_thinking_goes_along() -> None:
    own = {"type": "enabled", "budget_tokens": 2000}
    request = translated(thinking=own, reasoning_effort="high", temperature=0.5, top_k=4)
    assert request["thinking"] == own
    assert not request.keys() & {"temperature", "top_k"}


@pytest.mark.parametrize("model", [NEW, "claude-mythos-preview", "claude-sonnet-5", "anthropic/claude-opus-5.5"])
def test_newer_models_get_no_sampling_that_they_refuse(model: str) -> None:
    request = translated(model=model, temperature=0.5, top_p=0.5, top_k=5)
    assert not request.keys() & {"temperature", "top_p", "top_k"}


@pytest.mark.parametrize(
    ("model", "adaptive", "sampling"),
    [
        ("claude-3-opus-20240229", False, True),
        ("claude-3-5-haiku-20241022", False, True),
        ("claude-opus-4-20250514", False, True),
        ("claude-haiku-4-5-20251001", False, True),
        ("claude-haiku-4.5", False, True),
        ("claude-opus-4-6", True, True),
        ("claude-opus-4-7", True, False),
        ("claude-fable-5", True, False),
        ("claude-opus-latest", True, False),
        ("MiniMax-M2", False, True),
    ],
)
def test_a_generation_is_read_from_the_name(model: str, adaptive: bool, sampling: bool) -> None:
    takes = generation_of(model)
    assert (takes.adaptive, takes.sampling) == (adaptive, sampling)


@pytest.mark.parametrize(
    ("function", "becomes"),
    [
        ({"name": "f"}, {"name": "f", "input_schema": {"type": "object"}}),
        ({"name": "f", "parameters": {}}, {"name": "f", "input_schema": {"type": "object"}}),
        (
            {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True},
            {"name": "f", "description": "d", "input_schema": SCHEMA, "strict": True},
        ),
        ({"name": "f", "strict": False}, {"name": "f", "input_schema": {"type": "object"}}),
        (
            {"name": "f", "cache_control": {"type": "ephemeral"}},
            {"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}},
        ),
    ],
    ids=str,
)
def test_a_function_becomes_a_tool(function: dict[str, Any], becomes: dict[str, Any]) -> None:
    assert translated(tools=[{"type": "function", "function": function}])["tools"] == [becomes]


def test_older_models_do_not_know_strict_tools() -> None:
    function = {"name": "f", "strict": True}
    tools = translated(model="claude-opus-4-1", tools=[{"type": "function", "function": function}])["tools"]
    assert tools == [{"name": "f", "input_schema": {"type": "object"}}]


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"parallel_tool_calls": True}, None),
    ],
    ids=str,
)
def test_a_tool_choice_becomes_what_is_nearest_to_it(given: dict[str, Any], becomes: dict[str, Any] | None) -> None:
    assert translated(tools=[TOOL], **given).get("tool_choice") == becomes


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"reasoning_effort": "fierce"}, "reasoning_effort"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0]"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "oracle", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0]"),
        ({"messages": [HI, {"role": "tool", "content": "x"}]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, None),
        ({"max_tokens": "many"}, None),
    ],
    ids=str,
)
def test_what_cannot_be_said_is_refused_and_named(body: dict[str, Any], param: str | None) -> None:
    error = refused(**body)
    assert error.param == param
    assert json.loads(error.body())["error"]["param"] == param
