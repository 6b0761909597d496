"""A rule that is written as JSON is the rule that the same call in Python makes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.testing.asking import asked

from flatfee.testing import OBEY, Gate, Raw, Reply, anything, call, contains, matches
from flatfee.testing.faults.edge import EDGES
from flatfee.testing.faults.failing import FAULTS
from flatfee.testing.scripting import forms
from flatfee.testing.scripting.closed import Closed
from flatfee.testing.scripting.forms import ANSWERS, RuleForm, read_answer, read_rule
from flatfee.testing.scripting.matching import KEYWORDS, Match
from flatfee.testing.scripting.played import Held, Played
from flatfee.testing.scripting.script import Rule, Script


def made(**form: Any) -> Rule:
    return read_rule({"replies": ["a"], **form}).add_to(Script(routes=["premium-a"]))


def test_every_keyword_but_the_function_has_a_member() -> None:
    members = {field.alias or name for name, field in RuleForm.model_fields.items()}
    assert members == {*KEYWORDS, "replies", "times", "first", "name"} - {"when"}


@pytest.mark.parametrize(
    ("form", "keywords"),
    [
        ({}, {}),
        ({"user": "Hello", "turn": 1, "stream": True}, {"user": "Hello", "turn": 1, "stream": True}),
        ({"turn": [1, 3], "user": None}, {"turn": [1, 3], "user": None}),
        ({"user": {"contains": "a"}}, {"user": contains("a")}),
        ({"user": {"contains": ["a", "b"]}}, {"user": contains("a", "b")}),
        ({"user": {"equals": "a"}}, {"user": "a"}),
        ({"system": {"anything": True}, "tool": {"anything": False}}, {"system": anything(), "tool": None}),
        ({"tool_result": {"get_weather": {"matches": "^2"}}}, {"tool_result": {"get_weather": matches("^2")}}),
        ({"schema": "city", "route": "premium-a"}, {"schema": "city", "route": "premium-a"}),
        ({"headers": {"X-A": {"contains": "b"}}}, {"headers": {"x-a": contains("b")}}),
        ({"messages": [{"content": {"contains": "a"}}]}, {"messages": [{"content": contains("a")}]}),
        ({"body": {"a": {"b": {"matches": "c"}}}}, {"body": {"a": {"b": matches("c")}}}),
    ],
)
def test_matches_are_those_of_python(form: dict[str, Any], keywords: dict[str, Any]) -> None:
    assert made(**form).match == Match.of(keywords)


def test_an_object_that_looks_like_a_matcher_can_be_asked_for() -> None:
    rule = made(body={"metadata": {"equals": {"contains": "x"}}})
    assert rule.match.holds(asked(metadata={"contains": "x"}))
    assert not rule.match.holds(asked(metadata="x"))


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        ("Hello", "Hello"),
        ({"text": "Hello", "delay": 2}, Reply(text="Hello", delay=2)),
        ({"json": None}, Reply(json=None)),
        (
            {"tool_calls": [{"name": "get_weather", "arguments": {"city": "Lisbon"}}]},
            Reply(tool_calls=(call("get_weather", city="Lisbon"),)),
        ),
        ({"kind": "raw", "status": 503, "body": "x"}, Raw(status=503, body="x")),
        ({"kind": "obey"}, OBEY),
    ],
)
def test_answers_are_those_of_python(form: Any, answer: Any) -> None:
    assert read_answer(form) == answer


def test_a_kind_has_one_form() -> None:
    assert len(ANSWERS) == len(("reply", "raw", "obey")) + len(FAULTS) + len(EDGES)


def test_times_place_and_name_are_taken() -> None:
    script = Script()
    script.add("before")
    rule = read_rule({"replies": ["a"], "times": 2, "first": True, "name": "mine"}).add_to(script)
    assert script.rules[0] is rule
    assert rule.name == "mine"
    assert not rule.takes_all


def test_answers_can_wait_behind_a_gate() -> None:
    script, gate = Script(), Gate()
    read_rule({"replies": ["a", {"text": "b"}]}).add_to(script, behind=gate)
    _, played = script.choose(asked()) or ("", Played())
    assert played.before == (Held(gate),)


def test_what_no_gate_can_hold_is_refused_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    class Edge(Closed):
        kind: str = "edge"

        def begin(self, asked: object) -> None:
            """Happen."""

    monkeypatch.setattr(forms, "ANSWERS", {"edge": Edge})
    with pytest.raises(ValueError, match=r"replies\[0\]: .* only what a provider answers can be held back"):
        read_rule({"replies": [{"kind": "edge"}]}).add_to(Script(), behind=Gate())


@pytest.mark.parametrize(
    ("form", "cure"),
    [
        ([], "valid dictionary"),
        ({}, "replies: Field required"),
        ({"replies": []}, "at least 1 item"),
        ({"replies": ["a"], "usr": "x"}, "RuleForm has no 'usr'; did you mean 'user'?"),
        ({"replies": ["a"], "when": "x"}, "RuleForm has no 'when'"),
        ({"replies": [5]}, r"replies[0]: 5 is no answer; give a text, or an object."),
        ({"replies": ["a", {"kind": "rwa"}]}, "replies[1]: there is no kind 'rwa'; there are: reply, raw, obey"),
        ({"replies": [{"kind": ["raw"]}]}, "there is no kind ['raw']"),
        ({"replies": [{"txt": "x"}]}, "replies[0]: Reply has no 'txt'; did you mean 'text'?"),
        ({"replies": [{"text": "x", "delay": -1}]}, "replies[0].delay: Input should be greater than or equal to 0"),
        ({"replies": ["a"], "turn": "1"}, "turn='1' is not possible"),
        ({"replies": ["a"], "user": {"contains": ""}}, "contains('')"),
        ({"replies": ["a"], "user": {"contains": 5}}, "contains(5)"),
        ({"replies": ["a"], "user": {"matches": "("}}, "is no regular expression"),
        ({"replies": ["a"], "user": {"anything": 1}}, "write true, or false"),
        ({"replies": ["a"], "user": {"like": "x"}}, "user={'like': 'x'} is not possible"),
        ({"replies": ["a"], "route": "premium-b"}, "did you mean 'premium-a'?"),
        ({"replies": ["a"], "times": 0}, "times=0 is not possible"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(form: Any, cure: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_rule(form).add_to(Script(routes=["premium-a"]))
    assert cure in str(caught.value)
    assert "pydantic" not in str(caught.value)
