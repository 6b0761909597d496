"""Mistakes in rules and aliases that can be told from the configuration alone. Pure; nothing is evaluated here.

``mistakes`` are certain: such a rule can never do what it says, and the gateway does not start with it. ``doubts`` are
probable only (an account may be made while the gateway runs, a provider may know efforts that we do not), and warn.
The built-in table is not the operator's, and none is looked for in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flatfee.server.policy.conditions import CHECKS
from flatfee.server.policy.patterns import ANY
from flatfee.server.policy.plan import holds
from flatfee.server.policy.tables import Condition, RuleSettings
from flatfee.server.settings import LONGEST_MODEL_NAME, Settings
from flatfee.wire import Model, Tier

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Values of ``reasoning_effort`` that well-known providers take."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is probably not meant, and what to do if it is not."""

    found: str
    cure: str


def mistakes(settings: Settings) -> Iterator[str]:
    """Yield a line for every rule and alias that cannot do what it says: key, value, cure."""
    tiers = {route.tier for route in settings.routes}
    rules = _written(settings)
    for index, rule in enumerate(rules):
        where = f"policy.rules[{index}]"
        contradictions = list(_contradictions(rule.when))
        yield from (f"{where}.when.{line}" for line in contradictions)
        before = _that_takes_all(rules[:index], rule)
        if before is not None and not contradictions:
            taken = f"{_named(rules, before)} matches whatever it does"
            yield f"{where}: is never reached, for {taken}; move it up, or delete it"
        if rule.tier not in tiers:
            yield f"{where}.tier: {rule.tier.value!r}, and no route has this tier; add such a route, or change the rule"
    yield from _alias_mistakes(settings, tiers)


def doubts(settings: Settings) -> Iterator[Doubt]:
    """Yield what is probably not meant, in settings without mistakes."""
    for index, rule in enumerate(_written(settings)):
        where = f"policy.rules[{index}]"
        yield from _owner_doubts(f"{where}.when", rule.when, settings)
        yield from _effort_doubts(f"{where}.when", rule.when)
        yield from _route_doubts(where, rule, settings)


def _written(settings: Settings) -> tuple[RuleSettings, ...]:
    return settings.policy.rules if "rules" in settings.policy.model_fields_set else ()


def _contradictions(when: Condition) -> Iterator[str]:
    """Yield the end of a line, from its key on, for each pair of limits that leaves nothing between them."""
    over, under = when.context_over, when.context_under
    if over is not None and under is not None and under - over < 2:
        yield f"context_under: {under} leaves no number of tokens above context_over, {over}; change one of them"
    over, most = when.output_over, when.output_at_most
    if over is not None and most is not None and over >= most:
        yield f"output_at_most: {most} leaves no number of tokens above output_over, {over}; change one of them"
    least, less = when.fair_use_left_over, when.fair_use_left_under
    if least is not None and less is not None and least >= less:
        yield f"fair_use_left_under: {less} leaves no share above fair_use_left_over, {least}; change one of them"


def _that_takes_all(before: tuple[RuleSettings, ...], rule: RuleSettings) -> int | None:
    """Return the first of the rules before that matches whatever ``rule`` does, as far as each alone can show it."""
    return next((index for index, other in enumerate(before) if implies(rule.when, other.when)), None)


def implies(narrow: Condition, wide: Condition) -> bool:
    """Tell whether all that one condition matches is matched by another, as far as field by field can show it."""
    given = dict(narrow.given)
    return all(name in given and CHECKS[name].within(given[name], value) for name, value in wide.given)


def _named(rules: tuple[RuleSettings, ...], index: int) -> str:
    name = rules[index].name
    return f"policy.rules[{index}]" + (f" ({name!r})" if name else "")


def _alias_mistakes(settings: Settings, tiers: set[Tier]) -> Iterator[str]:
    for alias, model in settings.aliases.items():
        if not (0 < len(alias) <= LONGEST_MODEL_NAME and alias.isprintable()):
            usable = f"use one of 1 to {LONGEST_MODEL_NAME} characters that can be printed"
            yield f"aliases: {alias[:40]!r} is no name to ask for; {usable}"
        if ANY in alias[:-1]:
            yield f"aliases.{alias}: * may stand at the end only; end the name there"
        if model is not Model.AUTO and Tier(model) not in tiers:
            yield f"aliases.{alias}: {model.value!r}, and no route has this tier; add such a route, or change the alias"


def _owner_doubts(where: str, when: Condition, settings: Settings) -> Iterator[Doubt]:
    cure = "Correct the name; if an administrator makes it while the gateway runs, all is well."
    accounts = {account.name: account for account in settings.accounts}
    for name in when.account or ():
        if name not in accounts:
            yield Doubt(f"{where}.account: {name!r} is not in this file", cure)
    known = {
        project.name
        for account in settings.accounts
        if when.account is None or account.name in when.account
        for project in account.projects
    }
    for name in when.project or ():
        if name not in known:
            yield Doubt(f"{where}.project: {name!r} is not in this file", cure)


def _effort_doubts(where: str, when: Condition) -> Iterator[Doubt]:
    for effort in when.reasoning_effort or ():
        if effort not in EFFORTS:
            cure = f"The usual ones are {', '.join(EFFORTS)}; leave it if your provider has it."
            yield Doubt(f"{where}.reasoning_effort: {effort!r} is none that we know of", cure)


def _route_doubts(where: str, rule: RuleSettings, settings: Settings) -> Iterator[Doubt]:
    """Doubt a rule of which every request needs more than any route of its tier can do."""
    able = [name for name in ("images", "json_schema", "tools") if getattr(rule.when, name)]
    # What economy is asked may be trimmed, and be small enough then.
    trimmed = rule.tier is Tier.ECONOMY and settings.policy.compaction is not None
    over = rule.when.context_over if not trimmed else None
    needs = [*able, *([f"more than {over} tokens"] if over is not None else [])]
    routes = [route for route in settings.routes if route.tier is rule.tier and route.can.issuperset(able)]
    if needs and all(over is not None and not holds(route, over + 1) for route in routes):
        found = f"{where}: no {rule.tier} route can take {' and '.join(needs)}, as each of its requests needs"
        yield Doubt(found, "Add such a route, or change the rule: its requests go to the other tier, if at all.")
