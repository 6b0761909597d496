"""The table that decides the tier of ``auto``: each default row, each condition, in words too."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatfee.server.policy.facts import Facts
from flatfee.server.policy.rules import Step, Verdict, decide, explain, mismatch
from flatfee.server.policy.tables import POLICY_REASONS, Condition, RuleSettings
from flatfee.server.settings import PolicySettings
from flatfee.wire import OnExhausted, Reason, Task, Tier

FRAGILE = Verdict(Tier.PREMIUM, Reason.FRAGILE_REASONING)
LARGE = Verdict(Tier.ECONOMY, Reason.CONTEXT_SIZE)
SMALL = Verdict(Tier.ECONOMY, Reason.SMALL_TASK)
DEFAULT = Verdict(Tier.PREMIUM, Reason.DEFAULT)


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({"task": Task.PLAN}, FRAGILE),
        ({"task": Task.EDIT}, FRAGILE),
        ({"task": Task.REVIEW}, FRAGILE),
        ({"task": Task.FINAL}, FRAGILE),
        ({"reasoning_effort": "high"}, FRAGILE),
        ({"reasoning_effort": "xhigh"}, FRAGILE),
        ({"reasoning_effort": "medium"}, DEFAULT),
        ({"task": Task.PLAN, "prompt_tokens": 500_000}, FRAGILE),
        ({"task": Task.CHAT, "reasoning_effort": "high"}, FRAGILE),
        ({"prompt_tokens": 120_001}, LARGE),
        ({"prompt_tokens": 120_000}, DEFAULT),
        ({"prompt_tokens": 120_001, "task": Task.CHAT}, LARGE),
        ({"task": Task.CHAT}, SMALL),
        ({"task": Task.SUMMARIZE, "tools": True}, SMALL),
        ({"prompt_tokens": 1999, "output_tokens": 256}, SMALL),
        ({"prompt_tokens": 2000, "output_tokens": 256}, DEFAULT),
        ({"prompt_tokens": 1999, "output_tokens": 257}, DEFAULT),
        ({"prompt_tokens": 1999, "output_tokens": None}, DEFAULT),
        ({"prompt_tokens": 1999, "output_tokens": 256, "tools": True}, DEFAULT),
        ({}, DEFAULT),
    ],
)
def test_the_default_table_is_the_contracts(facts: Any, told: dict[str, Any], verdict: Verdict) -> None:
    assert decide(PolicySettings(), facts(**told)) == verdict


@pytest.mark.parametrize(
    ("when", "told", "because"),
    [
        ({"task": ["plan"]}, {}, "no task hint"),
        ({"task": ["plan"]}, {"task": Task.CHAT}, "task is chat"),
        ({"reasoning_effort": ["high"]}, {}, "no reasoning_effort"),
        ({"reasoning_effort": ["high"]}, {"reasoning_effort": "low"}, "reasoning_effort is low"),
        ({"context_over": 10}, {"prompt_tokens": 10}, "context is about 10 tokens, not over 10"),
        ({"context_under": 10}, {"prompt_tokens": 10}, "context is about 10 tokens, not under 10"),
        ({"output_at_most": 10}, {}, "no output limit asked for, not at most 10"),
        ({"output_at_most": 10}, {"output_tokens": 11}, "11 output tokens asked for, not at most 10"),
        ({"tools": False}, {"tools": True}, "tools are given"),
        ({"tools": True}, {}, "no tools are given"),
        ({"task": ["chat"], "tools": True}, {"task": Task.CHAT}, "no tools are given"),
        ({}, {}, None),
        ({"task": ["chat", "plan"]}, {"task": Task.PLAN}, None),
        ({"reasoning_effort": ["high"]}, {"reasoning_effort": "high"}, None),
        ({"context_over": 10}, {"prompt_tokens": 11}, None),
        ({"context_under": 10}, {"prompt_tokens": 9}, None),
        ({"output_at_most": 10}, {"output_tokens": 10}, None),
        ({"tools": True}, {"tools": True}, None),
        ({"tools": False}, {}, None),
    ],
)
def test_a_condition_says_what_does_not_hold(
    facts: Any, when: dict[str, Any], told: dict[str, Any], because: str | None
) -> None:
    assert mismatch(Condition.model_validate(when), facts(**told)) == because


def test_the_first_rule_that_matches_wins(facts: Any) -> None:
    rules = (
        RuleSettings(when=Condition(tools=True), tier=Tier.PREMIUM, reason=Reason.DEFAULT),
        RuleSettings(tier=Tier.ECONOMY, reason=Reason.SMALL_TASK),
        RuleSettings(tier=Tier.PREMIUM, reason=Reason.FRAGILE_REASONING),
    )
    policy = PolicySettings(rules=rules)
    assert decide(policy, facts()) == SMALL
    assert decide(policy, facts(tools=True)) == DEFAULT


def test_a_table_that_decides_nothing_ends_with_the_default(facts: Any) -> None:
    nothing = PolicySettings(rules=())
    assert decide(nothing, facts()) == DEFAULT
    assert explain(nothing, facts()) == [Step("default", matched=True)]


def test_an_explanation_lists_what_was_looked_at_up_to_the_match(facts: Any) -> None:
    assert explain(PolicySettings(), facts(prompt_tokens=200_000)) == [
        Step("fragile_reasoning", matched=False, because="no task hint"),
        Step("fragile_reasoning", matched=False, because="no reasoning_effort"),
        Step("context_size", matched=True, because="context is about 200000 tokens, over 120000"),
    ]


YEARS = (datetime(2026, 1, 1), datetime(2028, 1, 1))  # noqa: DTZ001 - hypothesis adds the timezone itself

every_facts = st.builds(
    Facts,
    model=st.just("auto"),
    account=st.sampled_from(["acme", "other"]),
    project=st.none() | st.sampled_from(["ci", "web"]),
    workflow=st.none() | st.sampled_from(["nightly-1", "nightly-", "chat"]),
    at=st.datetimes(*YEARS, timezones=st.sampled_from([UTC, ZoneInfo("Asia/Tokyo")])),
    task=st.none() | st.sampled_from(Task),
    reasoning_effort=st.none() | st.sampled_from(["low", "high", "xhigh", "extreme"]),
    prompt_tokens=st.integers(0, 300_000),
    output_tokens=st.none() | st.integers(1, 10_000),
    choices=st.integers(1, 4),
    tools=st.booleans(),
    images=st.booleans(),
    json_schema=st.booleans(),
    on_exhausted=st.sampled_from(OnExhausted),
    fair_use_left=st.none() | st.floats(0, 1),
)
every_condition = st.builds(
    Condition,
    task=st.none() | st.lists(st.sampled_from(Task), min_size=1).map(tuple),
    context_over=st.none() | st.integers(0, 300_000),
    context_under=st.none() | st.integers(1, 300_000),
    output_over=st.none() | st.integers(0, 10_000),
    output_at_most=st.none() | st.integers(1, 10_000),
    tools=st.none() | st.booleans(),
    images=st.none() | st.booleans(),
    json_schema=st.none() | st.booleans(),
    workflow=st.sampled_from([None, True, False, ("nightly-*",), ("chat", "n*")]),
    account=st.sampled_from([None, ("acme",), ("acme", "other")]),
    project=st.sampled_from([None, ("ci",)]),
    hours=st.sampled_from([None, ("22:00-06:00",), ("08:00-12:00", "13:00-24:00")]),
    days=st.sampled_from([None, ("sat", "sun"), ("mon",)]),
    fair_use_left_under=st.sampled_from([None, 0.2, 1.0]),
    fair_use_left_over=st.sampled_from([None, 0.0, 0.5]),
)
every_rule = st.builds(
    RuleSettings, when=every_condition, tier=st.sampled_from(Tier), reason=st.sampled_from(POLICY_REASONS)
)


@given(st.lists(every_rule, max_size=5).map(tuple), every_facts)
def test_explanation_and_decision_agree(rules: tuple[RuleSettings, ...], facts: Facts) -> None:
    policy = PolicySettings(rules=rules, timezone="Europe/Berlin")
    *missed, last = explain(policy, facts)
    assert last.matched
    assert last.rule == decide(policy, facts).reason
    assert all(not step.matched and step.because for step in missed)
