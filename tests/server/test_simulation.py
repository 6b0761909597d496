"""What the simulated provider says: the same for the same request, in the shapes a real one uses."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatfee.server.providers import simulation

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
            "required": ["city", "days"],
        },
    },
}
OTHER = {"type": "function", "function": {"name": "clock"}}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 6},
        "kind": {"enum": ["cat", "dog"]},
        "ages": {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 3}, "minItems": 2},
        "owner": {"$ref": "#/$defs/owner"},
    },
    "required": ["name", "kind", "ages", "owner"],
    "$defs": {"owner": {"type": "object", "properties": {"rich": {"type": "boolean"}}, "required": ["rich"]}},
}


def body(text: Any = "Tell me of the sea and of the wind", **more: Any) -> bytes:
    asked = {"model": "sim-large", "messages": [{"role": "user", "content": text}]} | more
    return json.dumps(asked).encode()


def answer(*args: Any, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(simulation.plain(body(*args, **more)))
    return found


def said(*args: Any, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer(*args, **more)["choices"][0]
    return found


def events(*args: Any, **more: Any) -> list[dict[str, Any]]:
    *pieces, done = simulation.streamed(body(*args, **more))
    assert done == b"data: [DONE]\n\n"
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in pieces)
    return [json.loads(piece[6:]) for piece in pieces]


def test_the_same_request_gets_the_same_bytes() -> None:
    assert simulation.plain(body()) == simulation.plain(body())
    assert simulation.streamed(body()) == simulation.streamed(body())
    assert simulation.plain(body()) != simulation.plain(body("Something else"))


def test_an_answer_has_openais_shape() -> None:
    found = answer()
    assert (found["object"], found["model"]) == ("chat.completion", "sim-large")
    assert found["id"].startswith("chatcmpl-")
    (choice,) = found["choices"]
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "stop", "assistant")
    assert "Tell me of the sea" in choice["message"]["content"]
    usage = found["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_tokens_are_four_bytes_of_text() -> None:
    content = said()["message"]["content"]
    assert answer()["usage"]["completion_tokens"] == -(-len(content.encode()) // 4)
    assert answer("x" * 400)["usage"]["prompt_tokens"] == 102


@pytest.mark.parametrize(
    ("content", "about"),
    [
        ([{"type": "text", "text": "Two"}, {"type": "image_url"}, {"type": "text", "text": "parts"}], "Two parts"),
        ("", "nothing"),
        (None, "nothing"),
        (7, "nothing"),
        (["bare"], "nothing"),
    ],
)
def test_the_last_user_message_is_heard_in_any_shape(content: Any, about: str) -> None:
    assert f"You said: {about}." in said(content)["message"]["content"]


def test_without_a_user_message_it_still_answers() -> None:
    found = said(messages=[{"role": "system", "content": "Be kind"}])
    assert "You said: nothing." in found["message"]["content"]


def test_n_answers_are_told_apart() -> None:
    found = answer(n=3)
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in found["choices"]}) == 3


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_is_cut_to_the_tokens_asked_for(name: str) -> None:
    found = answer(**{name: 5})
    (choice,) = found["choices"]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"].encode()) == 20
    assert found["usage"]["completion_tokens"] == 5
    assert said(**{name: 1000})["finish_reason"] == "stop"


def test_a_cut_never_splits_a_character() -> None:
    content = said("ééééééééééééééééééééé", max_tokens=13)["message"]["content"]
    content.encode().decode()
    assert "�" not in content


def call(**more: Any) -> dict[str, Any] | None:
    choice = said(tools=[TOOL, OTHER], **more)
    calls = choice["message"].get("tool_calls")
    assert choice["finish_reason"] == ("tool_calls" if calls else "stop")
    return calls[0]["function"] if calls else None


def test_an_offered_tool_is_called_with_arguments_that_fit() -> None:
    found = call()
    assert found is not None
    assert (found["name"], json.loads(found["arguments"])) == ("weather", {"city": "text", "days": 2})


def test_a_tool_is_not_called_against_the_callers_will() -> None:
    assert call(tool_choice="none") is None


def test_a_required_or_forced_tool_is_called_whatever_came_before() -> None:
    results = [{"role": "user", "content": "Hi"}, {"role": "tool", "tool_call_id": "c", "content": "sunny"}]
    for choice, name in (("required", "weather"), ({"type": "function", "function": {"name": "clock"}}, "clock")):
        found = call(messages=results, tool_choice=choice)
        assert found is not None
        assert found["name"] == name


def test_after_a_tools_result_it_answers_in_text() -> None:
    results = [{"role": "user", "content": "Hi"}, {"role": "tool", "tool_call_id": "c", "content": "sunny"}]
    assert call(messages=results) is None


def test_a_forced_tool_that_was_not_offered_is_not_called() -> None:
    assert call(tool_choice={"type": "function", "function": {"name": "unheard-of"}}) is None


def test_tools_of_other_kinds_are_left_alone() -> None:
    assert said(tools=[{"type": "custom", "custom": {"name": "x"}}])["finish_reason"] == "stop"


def text_of(found: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for event in found for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@pytest.mark.parametrize("more", [{}, {"n": 2}, {"max_tokens": 7}, {"response_format": {"type": "json_object"}}])
def test_a_stream_says_what_the_plain_answer_says(more: dict[str, Any]) -> None:
    plain, found = answer(**more), events(**more)
    for choice in plain["choices"]:
        assert text_of(found, choice["index"]) == choice["message"]["content"]
        ends = [part["finish_reason"] for event in found for part in event["choices"]
                if part["index"] == choice["index"] and part["finish_reason"]]  # fmt: skip
        assert ends == [choice["finish_reason"]]


def test_a_streamed_tool_call_joins_to_the_plain_one() -> None:
    (plain,) = said(tools=[TOOL])["message"]["tool_calls"]
    parts = [
        delta
        for event in events(tools=[TOOL])
        for choice in event["choices"]
        for delta in choice["delta"].get("tool_calls", ())
    ]
    assert {part["index"] for part in parts} == {0}
    assert parts[0]["id"] == plain["id"]
    assert "".join(part["function"]["arguments"] for part in parts) == plain["function"]["arguments"]


def test_usage_is_streamed_when_it_is_asked_for_and_the_same_as_in_a_plain_answer() -> None:
    last = events(stream_options={"include_usage": True}, n=2)[-1]
    assert last["choices"] == []
    # The bodies differ in stream_options only, which are no text.
    assert last["usage"] == answer(n=2)["usage"]
    assert all("usage" not in event for event in events(stream_options=None))


@given(st.text(), st.integers(1, 50))
def test_any_text_streams_as_it_is_answered(text: str, most: int) -> None:
    assert text_of(events(text, max_tokens=most)) == said(text, max_tokens=most)["message"]["content"]


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Tell whether a value fits a schema: a checker of the few keywords used here."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return fits(value, root["$defs"][name], root)
    if "const" in schema:
        return bool(value == schema["const"])
    if "enum" in schema:
        return value in schema["enum"]
    if "anyOf" in schema:
        return any(fits(value, option, root) for option in schema["anyOf"])
    match schema.get("type"):
        case "object":
            known = schema.get("properties", {})
            return (
                isinstance(value, dict)
                and set(schema.get("required", ())) <= set(value)
                and all(fits(part, known[name], root) for name, part in value.items())
            )
        case "array":
            return (
                isinstance(value, list)
                and len(value) >= schema.get("minItems", 0)
                and all(fits(part, schema["items"], root) for part in value)
            )
        case "string":
            return isinstance(value, str) and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**6)
        case "integer" | "number" as kind:
            whole = kind == "number" or (isinstance(value, int) and not isinstance(value, bool))
            return whole and schema.get("minimum", value) <= value <= schema.get("maximum", value)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case _:
            return True


def test_an_answer_obeys_the_schema_that_was_asked_for() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "pet", "schema": SCHEMA}}
    value = json.loads(said(response_format=wanted)["message"]["content"])
    assert fits(value, SCHEMA, SCHEMA)
    assert value["ages"] == [4, 4]
    assert not fits({"name": "x"}, SCHEMA, SCHEMA)


def test_a_json_object_is_an_object() -> None:
    assert json.loads(said(response_format={"type": "json_object"})["message"]["content"]) == {}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, "text"),
        ({"const": 5}, 5),
        ({"default": [1]}, [1]),
        ({"enum": ["a", "b"]}, "a"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"oneOf": [{"type": "boolean"}]}, True),
        ({"allOf": [{"type": "integer"}, {"minimum": 4}]}, 4),
        ({"type": ["integer", "null"]}, 0),
        ({"properties": {"a": {"type": "null"}}}, {"a": None}),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["b"]}, {"b": "text"}),
        ({"type": "object", "required": ["unknown"]}, {"unknown": "text"}),
        ({"type": "array"}, []),
        ({"type": "array", "minItems": 2, "items": {"type": "boolean"}}, [True, True]),
        ({"type": "integer", "minimum": 2.5}, 3),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "integer", "maximum": -2.5}, -3),
        ({"type": "integer", "exclusiveMinimum": 2.5}, 3),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "number", "minimum": 1, "maximum": 2}, 1.0),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, 0.25),
        ({"type": "string", "minLength": 6}, "text.."),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "boolean"}}}, True),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "boolean"}}}, True),
        ({"$ref": "#/nowhere/at/all"}, "text"),
        ({"type": "array", "minItems": 1, "items": 7}, [None]),
    ],
)
def test_an_instance_is_the_smallest_that_fits(schema: dict[str, Any], value: Any) -> None:
    assert simulation.instance(schema) == value


def test_a_schema_that_holds_itself_comes_to_an_end() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert simulation.instance(node)["next"]["next"]["next"]


schemas = st.recursive(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": "x"}, {"enum": [3, 4]}])
    | st.builds(
        lambda kind, least, more: {"type": kind, "minimum": least, "maximum": least + more},
        st.sampled_from(["integer", "number"]), st.integers(-50, 50), st.integers(0, 9),
    )
    | st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 9), st.integers(0, 9),
    ),
    lambda inner: st.builds(lambda item, least: {"type": "array", "items": item, "minItems": least}, inner,
                            st.integers(0, 3))
    | st.builds(lambda known: {"type": "object", "properties": known, "required": sorted(known)},
                st.dictionaries(st.text(max_size=3), inner, max_size=3))
    | st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=2)),
    max_leaves=8,
)  # fmt: skip


@given(schemas)
def test_instances_fit_their_schemas(schema: dict[str, Any]) -> None:
    assert fits(simulation.instance(schema), schema, schema)
