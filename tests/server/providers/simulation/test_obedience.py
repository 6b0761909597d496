"""Whatever is asked for together: what is streamed is what is answered, and the figures are right."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.server.providers.simulation.asking import MODEL, answer, body, events_of, form, function, joined, user

from flatfee.server.providers import simulation
from flatfee.server.providers.simulation import RefusedError

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[é€]{3}$"},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 2, "uniqueItems": True},
    },
    "required": ["name", "tags"],
    "additionalProperties": False,
}
TOOLS = [function("weather", SCHEMA, strict=True), function("clock"), {"type": "custom", "custom": {"name": "query"}}]
CALL = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "it is späť"}

texts = st.text("ab é€😀.{", max_size=12) | st.sampled_from(["weather", "clock and query", 'name="€€€"', '{"name": 5}'])
picture = {"type": "image_url", "image_url": {"url": "x"}}
contents = texts | texts.map(lambda text: [{"type": "text", "text": text}, picture])
endings: Any = st.sampled_from(
    [[], [{"role": "assistant", "content": "This is"}], [{"role": "assistant", "tool_calls": [CALL]}, RESULT]]
)
choices: Any = st.sampled_from(["auto", "none", "required", {"type": "function", "function": {"name": "weather"}}])
bodies = st.fixed_dictionaries(
    {"messages": st.builds(lambda first, ending: [user(first), *ending], contents, endings)},
    optional={
        "n": st.integers(1, 3),
        "max_tokens": st.integers(1, 40),
        "stop": texts.filter(bool) | st.lists(texts.filter(bool), max_size=2),
        "seed": st.integers(0, 9),
        "tools": st.just(TOOLS),
        "parallel_tool_calls": st.booleans(),
        "response_format": st.sampled_from([{"type": "json_object"}, form(SCHEMA, strict=True)]),
        "logprobs": st.booleans(),
        "reasoning_effort": st.sampled_from(["none", "low", "high"]),
    },
)


def spoken(choice: dict[str, Any]) -> list[str]:
    """Return the texts of a choice that count."""
    message = choice["message"]
    calls = message.get("tool_calls", [])
    return [call["custom"]["input"] if "custom" in call else call["function"]["arguments"] for call in calls] or [
        message["content"] or ""
    ]


@given(bodies, choices)
def test_a_stream_says_what_the_plain_answer_says_in_every_way(asked: dict[str, Any], choice: Any) -> None:
    asked = {"model": MODEL, **asked, **({"tool_choice": choice} if "tools" in asked else {})}
    plain = json.loads(simulation.plain(json.dumps(asked).encode()))
    streaming = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    found = events_of(simulation.streamed(json.dumps(streaming).encode()))
    assert joined(found[:-1]) == plain["choices"]
    assert found[-1]["usage"] == plain["usage"]
    assert len({event["id"] for event in found}) == 1


@given(bodies, choices)
def test_limits_are_kept_and_figures_add_up(asked: dict[str, Any], choice: Any) -> None:
    asked = {"model": MODEL, **asked, **({"tool_choice": choice} if "tools" in asked else {})}
    found = json.loads(simulation.plain(json.dumps(asked).encode()))
    usage, most = found["usage"], asked.get("max_tokens")
    assert len(found["choices"]) == asked.get("n", 1)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    if most is not None:
        assert usage["completion_tokens"] <= most * len(found["choices"])
        if all(one["finish_reason"] == "length" for one in found["choices"]):
            assert usage["completion_tokens"] == most * len(found["choices"])
    stops = asked.get("stop", [])
    for one in found["choices"]:
        content = one["message"]["content"]
        if content is not None:
            assert not any(stop in content for stop in ([stops] if isinstance(stops, str) else stops))
        if one["finish_reason"] == "tool_calls":
            for call in one["message"]["tool_calls"]:
                if call.get("function", {}).get("name") == "weather":
                    Draft202012Validator(SCHEMA).validate(json.loads(call["function"]["arguments"]))
        if (
            one["finish_reason"] == "stop"
            and "response_format" in asked
            and not stops
            and asked["messages"][-1]["role"] != "assistant"
        ):
            json.loads(content)


@pytest.mark.parametrize(
    "more",
    [
        {"response_format": form({"type": "string", "minLength": 50_000}), "n": 128},
        {
            "tools": [function("f", {"required": ["a"], "properties": {"a": {"type": "string", "minLength": 50_000}}})],
            "n": 128,
        },
        {
            "response_format": form({"type": "string", "minLength": 50_000}),
            "logprobs": True,
            "top_logprobs": 20,
            "n": 9,
        },
        {"tools": [function(f"f{index}", {"enum": [{"a": ["x"] * 20}] * 99}) for index in range(60)]},
        {
            "tools": [
                function(f"f{index}", {"properties": {"a": {"pattern": "(.*a.{30}){9}"}}, "required": ["a"]})
                for index in range(3)
            ]
        },
    ],
    ids=["text", "arguments", "logprobs", "tools", "patterns"],
)
def test_what_a_body_takes_is_bounded_in_all(more: dict[str, Any]) -> None:
    names = " ".join(tool["function"]["name"] for tool in more.get("tools", ()))
    try:
        answer(names, **more)
    except RefusedError as refused:
        assert refused.message  # noqa: PT017 - either outcome will do


def test_a_long_message_is_not_repeated_at_length() -> None:
    assert len(simulation.plain(body("x" * 1_000_000, n=128))) < 200_000


@pytest.mark.parametrize("keyword", ["const", "default", "not"])
def test_what_is_too_deep_is_refused(keyword: str) -> None:
    inner = b'{"not":' * 900 + b"1" + b"}" * 900
    asked = body(response_format={"type": "json_schema", "json_schema": {"schema": {keyword: "DEEP"}}})
    asked = asked.replace(b'"DEEP"', inner)
    with pytest.raises(RefusedError):
        simulation.plain(asked)
