"""What each condition of a rule asks of the facts, and how that is said: one row for each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flatfee.server.policy.facts import Facts
from flatfee.server.policy.patterns import covers


@dataclass(frozen=True, slots=True)
class Check:
    """One condition. ``holds`` gets what the rule says and the facts; ``fact`` words what the request has.

    ``demand`` words what the rule says of it, after "not" where it does not hold; none, where the fact says all.
    """

    holds: Callable[[Any, Facts], bool]
    fact: Callable[[Facts], str]
    demand: str | None = None

    def because(self, value: object, facts: Facts) -> str:
        """Say why the condition holds or does not."""
        fact = self.fact(facts)
        if self.demand is None:
            return fact
        return f"{fact}, {'' if self.holds(value, facts) else 'not '}{self.demand.format(_shown(value))}"


def _shown(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, tuple) else str(value)


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


def _left(facts: Facts) -> str:
    if facts.fair_use_left is None:
        return "fair-use was not looked at"
    return f"{facts.fair_use_left:.3f} of fair-use is left"


CHECKS: Final[Mapping[str, Check]] = {
    "task": Check(
        lambda wanted, facts: facts.task in wanted,
        lambda facts: f"task is {facts.task}" if facts.task else "no task hint",
    ),
    "reasoning_effort": Check(
        lambda wanted, facts: facts.reasoning_effort in wanted,
        lambda facts: (
            f"reasoning_effort is {facts.reasoning_effort}" if facts.reasoning_effort else "no reasoning_effort"
        ),
    ),
    "tools": Check(
        lambda wanted, facts: facts.tools is wanted,
        lambda facts: "tools are given" if facts.tools else "no tools are given",
    ),
    "images": Check(
        lambda wanted, facts: facts.images is wanted,
        lambda facts: "images are given" if facts.images else "no images are given",
    ),
    "json_schema": Check(
        lambda wanted, facts: facts.json_schema is wanted,
        lambda facts: "a JSON schema is asked for" if facts.json_schema else "no JSON schema is asked for",
    ),
    "context_over": Check(lambda least, facts: facts.prompt_tokens > least, _context, "over {}"),
    "context_under": Check(lambda most, facts: facts.prompt_tokens < most, _context, "under {}"),
    "output_over": Check(
        lambda least, facts: facts.output_tokens is not None and facts.output_tokens > least, _output, "over {}"
    ),
    "output_at_most": Check(
        lambda most, facts: facts.output_tokens is not None and facts.output_tokens <= most, _output, "at most {}"
    ),
    "account": Check(lambda wanted, facts: facts.account in wanted, lambda facts: f"account is {facts.account}"),
    "project": Check(
        lambda wanted, facts: facts.project in wanted,
        lambda facts: f"project is {facts.project}" if facts.project else "a team key, of no project",
    ),
    "workflow": Check(
        _workflow_holds, lambda facts: f"workflow is {facts.workflow}" if facts.workflow else "no workflow is named"
    ),
    "times": Check(lambda times, facts: times.hold(facts.at), lambda facts: f"it is {facts.at:%a %H:%M}", "in {}"),
    "fair_use_left_under": Check(
        lambda most, facts: facts.fair_use_left is not None and facts.fair_use_left < most, _left, "under {}"
    ),
    "fair_use_left_over": Check(
        lambda least, facts: facts.fair_use_left is not None and facts.fair_use_left > least, _left, "over {}"
    ),
}
"""Name of a condition, as ``Condition.given`` has it → how it is checked."""
