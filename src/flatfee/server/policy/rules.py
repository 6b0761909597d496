"""The ordered table that decides the tier of ``auto``: the first rule that matches wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flatfee.server.policy.facts import Facts
from flatfee.server.settings import DEFAULT_RULES, Condition, RuleSettings
from flatfee.wire import Reason, Tier


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the table decided."""

    tier: Tier
    reason: Reason


@dataclass(frozen=True, slots=True)
class Step:
    """One rule as it was looked at; ``because`` tells why it did not match."""

    rule: str
    matched: bool
    because: str | None = None


def decide(rules: Sequence[RuleSettings], facts: Facts) -> Verdict:
    """Return the verdict of the first rule that matches; the contract's last rule matches everything."""
    rule = next((rule for rule in rules if mismatch(rule.when, facts) is None), DEFAULT_RULES[-1])
    return Verdict(rule.tier, rule.reason)


def explain(rules: Sequence[RuleSettings], facts: Facts) -> list[Step]:
    """Return every rule that was looked at, up to the one that matched."""
    steps: list[Step] = []
    for rule in (*rules, DEFAULT_RULES[-1]):
        because = mismatch(rule.when, facts)
        steps.append(Step(rule.reason, matched=because is None, because=because))
        if because is None:
            break
    return steps


def mismatch(when: Condition, facts: Facts) -> str | None:
    """Return the first part of a condition that does not hold, in words; ``None`` if all hold."""
    if when.task is not None and facts.task not in when.task:
        return f"task is {facts.task}" if facts.task else "no task hint"
    if when.reasoning_effort is not None and facts.reasoning_effort not in when.reasoning_effort:
        return f"reasoning_effort is {facts.reasoning_effort}" if facts.reasoning_effort else "no reasoning_effort"
    if when.context_over is not None and facts.prompt_tokens <= when.context_over:
        return f"context is about {facts.prompt_tokens} tokens, not over {when.context_over}"
    if when.context_under is not None and facts.prompt_tokens >= when.context_under:
        return f"context is about {facts.prompt_tokens} tokens, not under {when.context_under}"
    if when.output_at_most is not None and (facts.output_tokens is None or facts.output_tokens > when.output_at_most):
        asked = f"{facts.output_tokens} output tokens asked for" if facts.output_tokens else "no output limit asked for"
        return f"{asked}, not at most {when.output_at_most}"
    if when.tools is not None and facts.tools is not when.tools:
        return "tools are given" if facts.tools else "no tools are given"
    return None
