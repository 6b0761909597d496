"""The ordered table that decides the tier of ``auto``: the first rule that matches wins. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from flatfee.server.policy.conditions import CHECKS
from flatfee.server.policy.facts import Facts
from flatfee.server.policy.tables import DEFAULT_RULES, Condition
from flatfee.server.settings import PolicySettings
from flatfee.wire import Reason, Tier


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What the table decided."""

    tier: Tier
    reason: Reason


@dataclass(frozen=True, slots=True)
class Step:
    """One rule as it was looked at; ``because`` says why it did or did not match, if it has a condition."""

    rule: str
    matched: bool
    because: str | None = None


def decide(policy: PolicySettings, facts: Facts) -> Verdict:
    """Return the verdict of the first rule that matches; the contract's last rule matches everything."""
    facts = _local(policy, facts)
    for rule in policy.rules:
        if matches(rule.when, facts):
            return Verdict(rule.tier, rule.reason)
    return Verdict(DEFAULT_RULES[-1].tier, DEFAULT_RULES[-1].reason)


def explain(policy: PolicySettings, facts: Facts) -> list[Step]:
    """Return every rule that was looked at, up to the one that matched."""
    facts = _local(policy, facts)
    steps: list[Step] = []
    for rule in (*policy.rules, DEFAULT_RULES[-1]):
        because = mismatch(rule.when, facts)
        steps.append(Step(rule.called, matched=because is None, because=because or _match(rule.when, facts)))
        if because is None:
            break
    return steps


def matches(when: Condition, facts: Facts) -> bool:
    """Tell whether every condition that is set holds. ``facts.at`` shows the policy's wall clock."""
    # A loop, and no generator in all(): every request for auto comes this way.
    for name, value in when.given:  # noqa: SIM110
        if not CHECKS[name].holds(value, facts):
            return False
    return True


def mismatch(when: Condition, facts: Facts) -> str | None:
    """Return the first part of a condition that does not hold, in words; ``None`` if all hold."""
    failed = next(((name, value) for name, value in when.given if not CHECKS[name].holds(value, facts)), None)
    return CHECKS[failed[0]].because(failed[1], facts) if failed is not None else None


def _match(when: Condition, facts: Facts) -> str | None:
    return "; ".join(CHECKS[name].because(value, facts) for name, value in when.given) or None


def _local(policy: PolicySettings, facts: Facts) -> Facts:
    """Have the facts show the time that rules speak of, if one does."""
    return replace(facts, at=facts.at.astimezone(policy.zone)) if policy.asks_for_time else facts
