"""The table that decides the tier of ``auto``: each default row, each condition, in words too."""

from typing import Any

import pytest
from hypothesis import given
from tests.server.policy.strategies import facts as any_facts
from tests.server.policy.strategies import policies

from flatfee.server.policy.conditions import CHECKS
from flatfee.server.policy.facts import Facts
from flatfee.server.policy.rules import Step, Verdict, decide, explain, mismatch
from flatfee.server.policy.tables import Condition, RuleSettings
from flatfee.server.settings import PolicySettings
from flatfee.wire import Reason, Task, Tier

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
        ({"output_over": 10}, {}, "no output limit asked for, not over 10"),
        ({"output_over": 10}, {"output_tokens": 10}, "10 output tokens asked for, not over 10"),
        ({"images": True}, {}, "no images are given"),
        ({"json_schema": False}, {"json_schema": True}, "a JSON schema is asked for"),
        ({"account": ["other"]}, {}, "account is acme"),
        ({"project": ["web"]}, {}, "project is ci"),
        ({"project": ["web"]}, {"project": None}, "a team key, of no project"),
        ({"workflow": ["nightly-*"]}, {"workflow": "night"}, "workflow is night"),
        ({"workflow": ["nightly-1"]}, {"workflow": "nightly-12"}, "workflow is nightly-12"),
        ({"workflow": True}, {}, "no workflow is named"),
        ({"workflow": False}, {"workflow": "run"}, "workflow is run"),
        ({"hours": ["22:00-06:00"]}, {}, "it is wed 12:00, not in 22:00-06:00"),
        ({"days": ["sat", "sun"]}, {}, "it is wed 12:00, not in sat or sun"),
        ({"hours": ["09:00-17:00"], "days": ["sat"]}, {}, "it is wed 12:00, not in 09:00-17:00 on sat"),
        ({"fair_use_left_under": 0.5}, {"fair_use_left": 0.5}, "0.500 of fair-use is left, not under 0.5"),
        ({"fair_use_left_over": 0.5}, {"fair_use_left": 0.5}, "0.500 of fair-use is left, not over 0.5"),
        ({"fair_use_left_over": 0}, {}, "fair-use was not looked at, not over 0.0"),
        ({}, {}, None),
        ({"output_over": 10}, {"output_tokens": 11}, None),
        ({"images": False, "json_schema": True}, {"json_schema": True}, None),
        ({"account": ["acme"], "project": ["web", "ci"]}, {}, None),
        ({"workflow": ["nightly-*"]}, {"workflow": "nightly-"}, None),
        ({"workflow": ["x", "nightly-1"]}, {"workflow": "nightly-1"}, None),
        ({"workflow": True}, {"workflow": "run"}, None),
        ({"workflow": False}, {}, None),
        ({"hours": ["11:00-12:01"], "days": ["wed"]}, {}, None),
        ({"fair_use_left_under": 0.5}, {"fair_use_left": 0.49}, None),
        ({"fair_use_left_over": 0.5}, {"fair_use_left": 0.51}, None),
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


@given(policies, any_facts)
def test_explanation_and_decision_agree(policy: PolicySettings, facts: Facts) -> None:
    *missed, last = explain(policy, facts)
    assert last.matched
    assert last.rule == decide(policy, facts).reason
    assert all(not step.matched and step.because for step in missed)


def test_every_condition_is_checked_and_every_check_is_of_a_condition() -> None:
    times = {"hours", "days"}
    assert set(CHECKS) == (Condition.model_fields.keys() - times) | {"times"}
    assert (
        Condition(hours=("08:00-09:00",), days=("sat",)).given == Condition(days=("sat",), hours=("08:00-09:00",)).given
    )
    assert Condition().given == ()


def test_a_rule_is_called_by_its_name_or_else_by_its_reason(facts: Any) -> None:
    rules = [{"name": "long", "when": {"context_over": 10**6}, "tier": "economy", "reason": "context_size"}]
    policy = PolicySettings.model_validate({"rules": rules})
    assert [step.rule for step in explain(policy, facts())] == ["long", "default"]


def test_a_rule_that_matches_says_why_for_each_of_its_conditions(facts: Any) -> None:
    when = {"context_over": 100, "tools": True, "fair_use_left_under": 0.5, "days": ["wed"]}
    rules = [{"when": when, "tier": "economy", "reason": "context_size"}]
    policy = PolicySettings.model_validate({"rules": rules, "timezone": "Asia/Tokyo"})
    (step,) = explain(policy, facts(tools=True, fair_use_left=0.25))
    assert step.because == (
        "context is about 5000 tokens, over 100; tools are given; 0.250 of fair-use is left, under 0.5; "
        "it is wed 21:00, in wed"
    )
