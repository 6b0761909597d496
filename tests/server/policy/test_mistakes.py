"""What can be told to be wrong with rules and aliases before any request comes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from tests.server.policy.strategies import conditions, few_conditions
from tests.server.policy.strategies import facts as any_facts

from flatfee.server.policy.facts import Facts
from flatfee.server.policy.mistakes import doubts, implies, mistakes
from flatfee.server.policy.rules import matches
from flatfee.server.policy.tables import DEFAULT_RULES, Condition
from flatfee.server.settings import RouteSettings, Settings

Rule = dict[str, Any]


def settings(*rules: Rule, routes: list[RouteSettings] | None = None, **more: Any) -> Settings:
    usual = [
        {"name": "p", "provider": "sim", "model": "m", "tier": "premium", "context_tokens": 400_000},
        {
            "name": "e",
            "provider": "sim",
            "model": "m",
            "tier": "economy",
            "context_tokens": 128_000,
            "capabilities": [],
        },
    ]
    written = {
        "providers": [{"name": "sim", "kind": "simulated"}],
        "routes": usual if routes is None else routes,
        "plans": [{"name": "pro", "fair_use": 10}],
        "policy": {"rules": rules},
    }
    return Settings.model_validate(written | more)


def rule(when: dict[str, Any] | None = None, tier: str = "economy", **more: Any) -> Rule:
    return {"when": when or {}, "tier": tier, "reason": "default", **more}


@pytest.mark.parametrize(
    ("when", "line"),
    [
        (
            {"context_over": 10, "context_under": 11},
            "context_under: 11 leaves no number of tokens above context_over, 10",
        ),
        ({"output_over": 9, "output_at_most": 9}, "output_at_most: 9 leaves no number of tokens above output_over, 9"),
        (
            {"fair_use_left_over": 0.5, "fair_use_left_under": 0.5},
            "fair_use_left_under: 0.5 leaves no share above fair_use_left_over, 0.5",
        ),
    ],
)
def test_limits_with_nothing_between_them_contradict_one_another(when: dict[str, Any], line: str) -> None:
    (found,) = mistakes(settings(rule({"tools": True}), rule(when)))
    assert found == f"policy.rules[1].when.{line}; change one of them"


@pytest.mark.parametrize(
    "when",
    [
        {"context_over": 10, "context_under": 12},
        {"output_over": 9, "output_at_most": 10},
        {"fair_use_left_over": 0.5, "fair_use_left_under": 0.51},
    ],
)
def test_limits_with_anything_between_them_do_not(when: dict[str, Any]) -> None:
    assert list(mistakes(settings(rule(when)))) == []


def test_a_rule_behind_one_that_takes_all_it_would_is_never_reached() -> None:
    first = rule({"context_over": 1000}, name="long")
    found = list(mistakes(settings(first, rule({"context_over": 2000, "tools": True}), rule(tier="premium"), rule())))
    never = "is never reached, for policy.rules"
    assert found == [
        f"policy.rules[1]: {never}[0] ('long') matches whatever it does; move it up, or delete it",
        f"policy.rules[3]: {never}[2] matches whatever it does; move it up, or delete it",
    ]


def test_a_contradiction_is_told_once() -> None:
    nothing = {"context_over": 10, "context_under": 5}
    assert len(list(mistakes(settings(rule({"context_over": 1}), rule(nothing))))) == 1


IMPLIED = [
    ({"task": ["plan"]}, {"task": ["plan", "edit"]}),
    ({"reasoning_effort": ["high"]}, {"reasoning_effort": ["high"]}),
    ({"context_over": 11}, {"context_over": 10}),
    ({"context_under": 10}, {"context_under": 11}),
    ({"output_over": 11}, {"output_over": 10}),
    ({"output_at_most": 10}, {"output_at_most": 11}),
    ({"tools": True}, {"tools": True}),
    ({"images": False}, {"images": False}),
    ({"json_schema": True}, {"json_schema": True}),
    ({"account": ["a"]}, {"account": ["a", "b"]}),
    ({"project": ["a"]}, {"project": ["a", "b"]}),
    ({"workflow": ["nightly-1", "x"]}, {"workflow": ["nightly-*", "x"]}),
    ({"workflow": ["nightly-*"]}, {"workflow": ["n*"]}),
    ({"workflow": ["nightly-*"]}, {"workflow": True}),
    ({"workflow": False}, {"workflow": False}),
    ({"hours": ["23:00-01:00"]}, {"hours": ["22:00-00:30", "00:30-06:00"]}),
    ({"hours": ["23:00-01:00"], "days": ["sat"]}, {"days": ["sat", "sun"]}),
    ({"days": ["sat"]}, {"hours": ["00:00-24:00"]}),
    ({"fair_use_left_under": 0.1}, {"fair_use_left_under": 0.2}),
    ({"fair_use_left_over": 0.2}, {"fair_use_left_over": 0.1}),
    ({"tools": True, "task": ["plan"]}, {"task": ["plan"]}),
    ({"tools": True}, {}),
]


@pytest.mark.parametrize(("narrow", "wide"), IMPLIED)
def test_one_condition_implies_another_field_by_field(narrow: dict[str, Any], wide: dict[str, Any]) -> None:
    assert implies(Condition.model_validate(narrow), Condition.model_validate(wide))


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        *((wide, narrow) for narrow, wide in IMPLIED if narrow != wide),
        ({"workflow": False}, {"workflow": True}),
        ({"workflow": True}, {"workflow": False}),
        ({"tools": True}, {"tools": False}),
        ({"hours": ["22:00-06:00"], "days": ["sat"]}, {"hours": ["00:00-24:00"], "days": ["sat"]}),
    ],
)
def test_a_condition_implies_none_that_asks_for_more(narrow: dict[str, Any], wide: dict[str, Any]) -> None:
    assert not implies(Condition.model_validate(narrow), Condition.model_validate(wide))


@given(narrow=few_conditions | conditions, wide=few_conditions, facts=any_facts)
def test_what_is_implied_holds_for_every_request(narrow: Condition, wide: Condition, facts: Facts) -> None:
    assert not (implies(narrow, wide) and matches(narrow, facts)) or matches(wide, facts)


def test_a_rule_and_an_alias_for_a_tier_without_a_route_name_nothing() -> None:
    premium = settings().routes[:1]
    found = settings(rule({"tools": True}), routes=list(premium), aliases={"mini": "economy", "any": "auto"})
    assert list(mistakes(found)) == [
        "policy.rules[0].tier: 'economy', and no route has this tier; add such a route, or change the rule",
        "aliases.mini: 'economy', and no route has this tier; add such a route, or change the alias",
    ]


@pytest.mark.parametrize("alias", ["", "a\0b", "x" * 257, "x" * 256 + "*"])
def test_an_alias_that_no_request_can_ask_for_is_none(alias: str) -> None:
    [found] = mistakes(settings(aliases={alias: "auto"}))
    assert found.startswith(f"aliases: {alias[:40]!r} is no name to ask for; use one of 1 to 256 characters")


def test_a_star_stands_at_the_end_of_an_alias() -> None:
    found = settings(aliases={"gpt-*-mini": "economy", "claude-*": "premium", "*": "auto", "x**": "auto"})
    assert list(mistakes(found)) == [
        "aliases.gpt-*-mini: * may stand at the end only; end the name there",
        "aliases.x**: * may stand at the end only; end the name there",
    ]


def test_the_built_in_table_is_without_mistakes_and_not_looked_at_where_its_tiers_are_missing() -> None:
    assert list(mistakes(settings(*[row.model_dump() for row in DEFAULT_RULES]))) == []
    premium = list(settings().routes[:1])
    assert list(mistakes(settings(routes=premium, policy={}))) == []
    assert list(doubts(settings(routes=premium, policy={}))) == []


ACCOUNTS = [{"name": "acme", "plan": "pro", "projects": [{"name": "ci"}]}, {"name": "solo", "plan": "pro"}]


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ({"account": ["acme", "other"]}, "policy.rules[0].when.account: 'other' is not in this file"),
        ({"project": ["web"]}, "policy.rules[0].when.project: 'web' is not in this file"),
        ({"account": ["solo"], "project": ["ci"]}, "policy.rules[0].when.project: 'ci' is not in this file"),
        (
            {"reasoning_effort": ["high", "huge"]},
            "policy.rules[0].when.reasoning_effort: 'huge' is none that we know of",
        ),
        (
            {"context_over": 128_000},
            "policy.rules[0]: no economy route can take more than 128000 tokens, as each of its requests needs",
        ),
        ({"images": True}, "policy.rules[0]: no economy route can take images, as each of its requests needs"),
        (
            {"context_over": 1000, "tools": True},
            "policy.rules[0]: no economy route can take tools and more than 1000 tokens, as each of its requests needs",
        ),
        ({"account": ["acme"], "project": ["ci"], "reasoning_effort": ["high"], "context_over": 127_999}, None),
    ],
)
def test_what_is_probably_not_meant_is_a_doubt(when: dict[str, Any], found: str | None) -> None:
    told = settings(rule(when), accounts=ACCOUNTS)
    assert [doubt.found for doubt in doubts(told)] == ([found] if found else [])
    assert all(doubt.cure for doubt in doubts(told))
    assert list(mistakes(told)) == []


def test_a_long_context_may_be_trimmed_for_economy_and_not_for_premium() -> None:
    policy = {"rules": [rule({"context_over": 500_000}), rule({"context_over": 400_000}, "premium")]}
    found = settings(policy=policy | {"compaction": {"over": 60_000, "to": 40_000}})
    assert [doubt.found[:15] for doubt in doubts(found)] == ["policy.rules[1]"]
    assert [doubt.found[:15] for doubt in doubts(settings(policy=policy))] == ["policy.rules[0]", "policy.rules[1]"]
