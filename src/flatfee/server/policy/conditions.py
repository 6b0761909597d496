"""What each condition of a rule asks of the facts, and how that is said: one row for each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import eq, ge, le
from typing import Any, Final

from flatfee.server.policy.facts import Facts
from flatfee.server.policy.patterns import covers, includes
from flatfee.server.policy.times import DAYS, Times


@dataclass(frozen=True, slots=True)
class Check:
    """One condition. ``holds`` gets what the rule says and the facts; ``fact`` words what the request has.

    ``within`` tells whether all that one rule's value allows is allowed by another's. ``demand`` words what the rule
    says of the fact, after "not" where it does not hold; none, where the fact says all.
    """

    holds: Callable[[Any, Facts], bool]
    within: Callable[[Any, Any], bool]
    fact: Callable[[Facts], str]
    demand: str | None = None

    def because(self, value: object, facts: Facts) -> str:
        """Say why the condition holds or does not."""
        fact = self.fact(facts)
        if self.demand is None:
            return fact
        return f"{fact}, {'' if self.holds(value, facts) else 'not '}{self.demand.format(value)}"


def _workflow_holds(patterns: Sequence[str], facts: Facts) -> bool:
    """No pattern at all asks for a request without a workflow."""
    name = facts.workflow
    if name is None or not patterns:
        return name is None and not patterns
    return any(covers(pattern, name) for pattern in patterns)


def _context(facts: Facts) -> str:
    return f"context is about {facts.prompt_tokens} tokens"


def _output(facts: Facts) -> str:
    return f"{facts.output_tokens} output tokens asked for" if facts.output_tokens else "no output limit asked for"


def _effort(facts: Facts) -> str:
    return f"reasoning_effort is {facts.reasoning_effort}" if facts.reasoning_effort else "no reasoning_effort"


def _left(facts: Facts) -> str:
    if facts.fair_use_left is None:
        return "fair-use was not looked at"
    return f"{facts.fair_use_left:.3f} of fair-use is left"


def _told(what: str, yes: str, no: str) -> Callable[[Facts], str]:
    return lambda facts: yes if getattr(facts, what) else no


def _subset(narrow: Sequence[object], wide: Sequence[object]) -> bool:
    return set(narrow) <= set(wide)


def _patterns_within(narrow: Sequence[str], wide: Sequence[str]) -> bool:
    if not narrow or not wide:
        return not narrow and not wide
    return all(any(includes(one, other) for one in wide) for other in narrow)


CHECKS: Final[Mapping[str, Check]] = {
    "task": Check(
        holds=lambda wanted, facts: facts.task in wanted,
        within=_subset,
        fact=lambda facts: f"task is {facts.task}" if facts.task else "no task hint",
    ),
    "reasoning_effort": Check(
        holds=lambda wanted, facts: facts.reasoning_effort in wanted,
        within=_subset,
        fact=_effort,
    ),
    "context_over": Check(
        holds=lambda least, facts: facts.prompt_tokens > least, within=ge, fact=_context, demand="over {}"
    ),
    "context_under": Check(
        holds=lambda most, facts: facts.prompt_tokens < most, within=le, fact=_context, demand="under {}"
    ),
    "output_over": Check(
        holds=lambda least, facts: facts.output_tokens is not None and facts.output_tokens > least,
        within=ge,
        fact=_output,
        demand="over {}",
    ),
    "output_at_most": Check(
        holds=lambda most, facts: facts.output_tokens is not None and facts.output_tokens <= most,
        within=le,
        fact=_output,
        demand="at most {}",
    ),
    "tools": Check(
        holds=lambda wanted, facts: facts.tools is wanted,
        within=eq,
        fact=_told("tools", "tools are given", "no tools are given"),
    ),
    "images": Check(
        holds=lambda wanted, facts: facts.images is wanted,
        within=eq,
        fact=_told("images", "images are given", "no images are given"),
    ),
    "json_schema": Check(
        holds=lambda wanted, facts: facts.json_schema is wanted,
        within=eq,
        fact=_told("json_schema", "a JSON schema is asked for", "no JSON schema is asked for"),
    ),
    "workflow": Check(
        holds=_workflow_holds,
        within=_patterns_within,
        fact=lambda facts: f"workflow is {facts.workflow}" if facts.workflow else "no workflow is named",
    ),
    "account": Check(
        holds=lambda wanted, facts: facts.account in wanted,
        within=_subset,
        fact=lambda facts: f"account is {facts.account}",
    ),
    "project": Check(
        holds=lambda wanted, facts: facts.project in wanted,
        within=_subset,
        fact=lambda facts: f"project is {facts.project}" if facts.project else "a team key, of no project",
    ),
    "times": Check(
        holds=lambda times, facts: times.hold(facts.at),
        within=Times.within,
        fact=lambda facts: f"it is {DAYS[facts.at.weekday()]} {facts.at:%H:%M}",
        demand="in {}",
    ),
    "fair_use_left_under": Check(
        holds=lambda most, facts: facts.fair_use_left is not None and facts.fair_use_left < most,
        within=le,
        fact=_left,
        demand="under {}",
    ),
    "fair_use_left_over": Check(
        holds=lambda least, facts: facts.fair_use_left is not None and facts.fair_use_left > least,
        within=ge,
        fact=_left,
        demand="over {}",
    ),
}
"""Name of a condition, as ``Condition.given`` has it → how it is checked."""
