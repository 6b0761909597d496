"""A request body is read as the conversation that it is, whatever its shape."""

from __future__ import annotations

from typing import Any

import pytest

from flatfee.testing.scripting.conversation import Conversation, text_of

ASKED = {"role": "user", "content": "What is the weather in Lisbon?"}


def called(*calls: tuple[str, str]) -> dict[str, Any]:
    made = [
        {"id": identity, "type": "function", "function": {"name": name, "arguments": "{}"}} for identity, name in calls
    ]
    return {"role": "assistant", "content": None, "tool_calls": made}


def result(identity: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": text}


def conversation(*messages: Any, **more: Any) -> Conversation:
    return Conversation({"messages": list(messages), **more})


def test_turn_counts_the_answers_before_it() -> None:
    assert conversation(ASKED).turn == 1
    assert conversation(ASKED, called(("1", "a")), result("1", "x")).turn == 2


def test_user_is_what_the_user_said_last() -> None:
    assert conversation(
        ASKED, {"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "Sure?"}
    ).user == ("Sure?")
    assert conversation().user is None


def test_text_parts_are_joined_and_others_passed_over() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [{"type": "text", "text": "Look: "}, image, {"type": "text", "text": "a cat"}, "odd", {"text": 3}]
    assert text_of(parts) == "Look: a cat"
    assert conversation({"role": "user", "content": parts}).user == "Look: a cat"


def test_system_is_all_instructions() -> None:
    told = conversation({"role": "system", "content": "Be brief."}, ASKED, {"role": "developer", "content": "Be kind."})
    assert told.system == "Be brief.\nBe kind."
    assert conversation(ASKED).system is None


def test_tool_results_have_the_names_of_their_tools() -> None:
    told = conversation(
        ASKED, called(("1", "get_weather"), ("2", "get_time")), result("2", "noon"), result("1", "22 °C")
    )
    assert [(each.name, each.text) for each in told.tool_results] == [("get_time", "noon"), ("get_weather", "22 °C")]


def test_a_result_without_its_call_has_the_name_that_it_tells() -> None:
    told = conversation(ASKED, result("9", "x"), {"role": "tool", "name": "get_time", "content": "noon"})
    assert [each.name for each in told.tool_results] == ["", "get_time"]


def test_results_that_were_answered_are_not_this_turns() -> None:
    answered = conversation(
        ASKED, called(("1", "a")), result("1", "x"), {"role": "assistant", "content": "Done."}, ASKED
    )
    assert answered.tool_results == ()


def test_calls_are_answered_once_a_result_has_come() -> None:
    assert conversation(ASKED, called(("1", "a"))).answered_calls == ()
    assert conversation(ASKED, called(("1", "a")), result("1", "x")).answered_calls == (("a", {}),)
    assert conversation(ASKED, result("1", "x")).answered_calls == ()


def test_calls_are_known_again_however_their_arguments_are_written() -> None:
    """A client that reads arguments writes them in its own way when it sends them back."""
    sent = called(("1", "a"))
    sent["tool_calls"][0]["function"]["arguments"] = '{ "city" : "Lisbon" }'
    assert conversation(ASKED, sent, result("1", "x")).answered_calls == (("a", {"city": "Lisbon"}),)
    sent["tool_calls"][0]["function"]["arguments"] = '{"city'
    assert conversation(ASKED, sent, result("1", "x")).answered_calls == (("a", '{"city'),)


def test_offered_tools_and_the_schema_have_names() -> None:
    told = conversation(
        tools=[
            {"type": "function", "function": {"name": "a"}},
            {"type": "custom", "custom": {"name": "b"}},
            {"type": 3},
        ],
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": {}}},
    )
    assert told.tools == ("a", "b")
    assert told.schema == "city"
    assert conversation(response_format={"type": "json_object"}).schema is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": None},
        {"messages": "hello"},
        {"messages": [None, 3, [], {"role": 7}, {"role": "user", "content": 5}]},
        {"messages": [{"role": "assistant", "tool_calls": [None, {"function": 3}, {}]}, {"role": "tool"}]},
        {"tools": {"a": 1}, "response_format": "json"},
        {
            "tools": [{"type": "function", "function": "f"}],
            "response_format": {"type": "json_schema", "json_schema": 1},
        },
    ],
)
def test_odd_shapes_are_passed_over(body: dict[str, Any]) -> None:
    told = Conversation(body)
    assert told.turn >= 1
    assert told.tools == ()
    assert told.schema is None
    assert told.system is None
    assert (told.user, told.tool_results, told.answered_calls) is not None
