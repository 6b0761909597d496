"""A rule matches where all that it asks for holds, says why it does not, and cannot ask for what there is not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.testing.asking import asked, user

from flatfee.testing import Asked, anything, contains, matches
from flatfee.testing.scripting.matchers import MAX_PATTERN, MAX_SEARCHED
from flatfee.testing.scripting.matching import KEYWORDS, Match
from flatfee.wire import Tier

CALL = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
IN_A_TOOL_LOOP = asked(
    messages=[
        {"role": "system", "content": "Be brief."},
        user("What is the weather?"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "22 °C"},
    ],
    tools=[{"type": "function", "function": {"name": "get_weather"}}],
    response_format={"type": "json_schema", "json_schema": {"name": "report"}},
    metadata={"run": {"id": 7}},
    headers={"x-flatfee-workflow": "run-1", "x-flatfee-task": "plan", "x-tenant": "acme"},
    attempt=2,
    number=5,
)


def match(**keywords: Any) -> Match:
    return Match.of(keywords, ("premium-a", "economy-a"))


HOLDING: dict[str, Any] = {
    "route": "premium-a",
    "tier": Tier.PREMIUM,
    "attempt": 2,
    "nth": range(1, 3),
    "number": [4, 5],
    "stream": False,
    "model": "premium",
    "workflow": matches(r"^run-\d$"),
    "task": "plan",
    "turn": 2,
    "user": contains("weather", "What"),
    "system": lambda text: text.endswith("brief."),
    "schema": "report",
    "tool": "get_weather",
    "tool_result": {"get_weather": contains("22")},
    "headers": {"X-Tenant": "acme", "x-other": None},
    "messages": [{"role": "system"}, {"content": contains("weather")}, {}, {"role": "tool", "content": anything()}],
    "body": {"metadata": {"run": {"id": 7}}, "temperature": None},
    "when": lambda asked: asked.attempt == 2,
}

FAILING: dict[str, tuple[Any, str]] = {
    "route": ("economy-a", "expected 'economy-a', got 'premium-a'"),
    "tier": (Tier.ECONOMY, "expected 'economy', got 'premium'"),
    "attempt": (1, "expected 1, got 2"),
    "nth": ([2, 3], "expected 2 or 3, got 1"),
    "number": (range(1, 3), "expected range(1, 3), got 5"),
    "stream": (True, "expected True, got False"),
    "model": ("auto", "expected 'auto', got 'premium'"),
    "workflow": (None, "expected nothing, got 'run-1'"),
    "task": (matches("^edit"), "expected matches('^edit'), got 'plan'"),
    "turn": (1, "expected 1, got 2"),
    "user": ("weather", "expected 'weather', got 'What is the weather?'"),
    "system": (contains("kind"), "expected contains('kind'), got 'Be brief.'"),
    "schema": (None, "expected nothing, got 'report'"),
    "tool": ("get_time", "expected 'get_time', got 'get_weather'"),
    "tool_result": ({"get_time": anything()}, "expected anything(), got get_weather: '22 °C'"),
    "headers": ({"x-tenant": "emca"}, "expected 'emca', got 'acme'"),
    "messages": (
        [{}],
        "expected 1 messages, got 4, of which the first 1 are as expected: system, user, assistant, tool",
    ),
    "body": ({"metadata": {"run": {"id": 8}}}, "expected 8, got 7"),
}


def difference(asked: Asked, **keywords: Any) -> tuple[str, str]:
    (checked,) = match(**keywords).check(asked)
    assert checked.difference is not None
    assert not match(**keywords).holds(asked)
    return checked.difference.path, str(checked.difference)


def test_the_tables_have_every_keyword() -> None:
    assert set(HOLDING) == {*FAILING, "when"} == set(KEYWORDS)


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_a_keyword_holds(keyword: str) -> None:
    wanted = match(**{keyword: HOLDING[keyword]})
    assert wanted.holds(IN_A_TOOL_LOOP)
    assert [each.difference for each in wanted.check(IN_A_TOOL_LOOP)] == [None]


@pytest.mark.parametrize("keyword", FAILING)
def test_a_keyword_that_does_not_hold_says_why(keyword: str) -> None:
    wanted, why = FAILING[keyword]
    assert difference(IN_A_TOOL_LOOP, **{keyword: wanted})[1] == why


def test_a_function_of_the_try_that_says_no_is_named() -> None:
    def is_urgent(asked: Asked) -> bool:
        return asked.attempt > 2

    assert difference(IN_A_TOOL_LOOP, when=is_urgent)[1].endswith("is_urgent(asked) to hold, got no")


def test_all_conditions_must_hold() -> None:
    assert match(**HOLDING).holds(IN_A_TOOL_LOOP)
    assert not match(**{**HOLDING, "turn": 1}).holds(IN_A_TOOL_LOOP)


def test_no_condition_matches_everything() -> None:
    assert match().holds(asked())
    assert str(match()) == "any request"


def test_a_match_is_told_as_it_is_written() -> None:
    assert str(match(user=contains("a", "b"), turn=1, tool_result=None)) == (
        "turn=1, user=contains('a', 'b'), tool_result=nothing"
    )


@pytest.mark.parametrize("keyword", ["user", "system", "tool", "tool_result", "schema", "workflow", "task"])
def test_what_is_absent_can_be_asked_for(keyword: str) -> None:
    nothing = asked(messages=[])
    assert match(**{keyword: None}).holds(nothing)
    assert not match(**{keyword: anything()}).holds(nothing)
    assert not match(**{keyword: None}).holds(IN_A_TOOL_LOOP)


def test_plain_text_is_equality_not_a_part() -> None:
    assert match(user="Hello").holds(asked("Hello"))
    assert not match(user="Hello").holds(asked("Hello there"))


def test_a_function_of_the_text_is_not_asked_without_a_text() -> None:
    assert not match(system=lambda text: len(text) >= 0).holds(asked())


def test_any_tool_result_of_this_turn_will_do() -> None:
    assert match(tool_result=contains("22")).holds(IN_A_TOOL_LOOP)
    assert difference(asked(), tool_result=anything())[1] == (
        "expected anything(), got no tool result since the last answer"
    )


def test_a_message_of_parts_has_the_text_of_its_parts() -> None:
    parts = asked([{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "data:,"}}])
    assert match(messages=[{"content": contains("Look")}]).holds(parts)
    assert match(messages=[{"content": [{"type": "text"}, {"type": "image_url"}]}]).holds(parts)
    assert not match(messages=[{"content": [{"type": "text"}]}]).holds(parts)


def test_a_difference_says_where_it_is() -> None:
    wanted = [{}, {"content": "weather"}, {"tool_calls": [{"function": {"name": "get_time"}}]}, {}]
    assert difference(IN_A_TOOL_LOOP, messages=wanted)[0] == "[1].content"
    assert difference(IN_A_TOOL_LOOP, messages=[{}, {}, wanted[2], {}])[0] == "[2].tool_calls[0].function.name"
    assert difference(IN_A_TOOL_LOOP, body={"tools": []}) == (
        "tools",
        "expected 0 entries, got 1: [{'type': 'function', 'function': {'name': 'get_weather'}}]",
    )
    assert difference(IN_A_TOOL_LOOP, body={"metadata": {"run": "7"}})[0] == "metadata.run"


def test_true_is_not_one() -> None:
    assert not match(body={"seed": 1}).holds(asked(seed=True))
    assert match(body={"seed": 1}).holds(asked(seed=1))


def test_a_difference_shows_long_texts_from_where_they_part() -> None:
    same = "x" * 1000
    _, why = difference(asked(same + "one"), user=same + "two")
    assert "one'" in why
    assert "two'" in why
    assert len(why) < 500


def test_a_regular_expression_is_searched_in_a_bounded_part() -> None:
    assert match(user=matches(re.compile("B", re.IGNORECASE))).holds(asked("abc"))
    assert not match(user=matches("b")).holds(asked("a" * MAX_SEARCHED + "b"))


@pytest.mark.parametrize(
    ("keyword", "value", "cure"),
    [
        ("turn", 0, "turn=0 is not possible: it counts from 1; give an int, or several"),
        ("turn", True, "turn=True is not possible"),
        ("turn", "1", "turn='1' is not possible"),
        ("attempt", [], r"attempt=\[\] is not possible"),
        ("attempt", range(3), r"attempt=range\(0, 3\) is not possible"),
        ("user", 5, "user=5 is not possible: give a text, contains"),
        ("stream", "yes", "stream='yes' is not possible: give True or False"),
        ("headers", "x-a", "headers='x-a' is not possible: give a mapping"),
        ("headers", {"x-a": 1}, r"headers\['x-a'\]=1 is not possible"),
        ("headers", {"Authorization": "Bearer"}, "it holds a secret and is not kept"),
        ("headers", {"x-my-token": "t"}, "it holds a secret and is not kept"),
        ("messages", {"role": "user"}, "give a list of messages"),
        ("tool_result", {"get_time": 5}, r"tool_result\['get_time'\]=5 is not possible"),
        ("body", [], "give a mapping with the members that matter"),
        ("when", "now", "give a function of an Asked"),
        ("route", "premium-b", "there is no such route; did you mean 'premium-a'?"),
        ("tier", "gold", "there is no such tier; there are: premium, economy"),
    ],
)
def test_impossible_values_are_refused_when_the_rule_is_written(keyword: str, value: object, cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        match(**{keyword: value})


def test_an_unknown_keyword_names_the_nearest_or_all() -> None:
    with pytest.raises(TypeError, match="There is no match keyword 'usr'; did you mean 'user'"):
        match(usr="Hello")
    with pytest.raises(TypeError, match="'zzz'; there are: attempt, body"):
        match(zzz=1)


@pytest.mark.parametrize("parts", [(), ("a", ""), (5,)])
def test_contains_wants_something(parts: Any) -> None:
    with pytest.raises(ValueError, match=r"any text is anything\(\)"):
        contains(*parts)


@pytest.mark.parametrize("pattern", ["(", "x" * (MAX_PATTERN + 1), 5, re.compile(b"x")])
def test_matches_wants_a_regular_expression(pattern: Any) -> None:
    with pytest.raises(ValueError, match="regular expression"):
        matches(pattern)


def test_a_match_covers_those_that_ask_for_more() -> None:
    assert match().covers(match(turn=1))
    assert match(user=contains("a")).covers(match(turn=1, user=contains("a")))
    assert not match(user=contains("a")).covers(match(user=contains("b")))
    assert not match(turn=1).covers(match())
