"""What a strict script says of a request that no rule matches: how it differs from the nearest one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from flatfee.testing.asked import Asked
from flatfee.testing.matchers import shown
from flatfee.testing.matching import Checked, Match

MAX_TOLD: Final = 8000
"""Characters of a difference that are told."""

_OTHERS_SHOWN: Final = 5


class UnmatchedRequest(AssertionError):
    """A strict script had no rule for a request. The message shows how the nearest rule differs from it."""


class ScriptFailed(AssertionError):
    """A function that a script's author wrote raised an error, which is the cause of this one."""


class Described(Protocol):
    """A rule, as far as it is told of."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def match(self) -> Match:
        """What it asks for."""
        ...

    def silent(self, asked: Asked) -> str | None:
        """Return why it does not answer, even if all that it asks for holds."""
        ...


def explained(asked: Asked, rules: Sequence[Described]) -> str:
    """Return why no rule matches a try, as lines of text."""
    return "\n".join(_lines(asked, rules))[:MAX_TOLD]


def _lines(asked: Asked, rules: Sequence[Described]) -> Iterator[str]:
    yield f"No rule of the script matches completion {asked.number}, attempt {asked.attempt} (route {asked.route!r})."
    yield f"  It says: {_asked_for(asked)}"
    if not rules:
        yield "There are no rules."
    else:
        outcomes = [(rule, rule.match.check(asked), rule.silent(asked)) for rule in rules]
        outcomes.sort(key=lambda outcome: _distance(*outcome[1:]))
        nearest, checked, silent = outcomes[0]
        yield f"The nearest of {len(rules)} {'rule' if len(rules) == 1 else 'rules'} is {nearest.name}:"
        yield from _differences(checked, silent)
        others = [rule.name for rule, *_ in outcomes[1 : 1 + _OTHERS_SHOWN]]
        if others:
            more = len(outcomes) - 1 - len(others)
            yield f"Then: {'; '.join(others)}{f'; and {more} more' if more > 0 else ''}."
    yield "Add a rule for it, script OBEY to let the default model answer, or run the gateway without strict."


def _asked_for(asked: Asked) -> str:
    told = asked.conversation
    facts: dict[str, object] = {"turn": told.turn, "user": told.user}
    if told.tool_results:
        facts["tool_result"] = {result.name: result.text for result in told.tool_results}
    return ", ".join(f"{name}={shown(fact)}" for name, fact in facts.items())


def _distance(checked: Sequence[Checked], silent: str | None) -> tuple[int, int, bool]:
    """Order rules by how few conditions fail, then by how many hold."""
    failed = sum(each.difference is not None for each in checked)
    return failed, failed - len(checked), silent is not None


def _differences(checked: Sequence[Checked], silent: str | None) -> Iterator[str]:
    if silent is not None:
        yield f"  - {silent}"
    for each in checked:
        if each.difference is None:
            yield f"    {each.keyword}: holds"
            continue
        path = each.difference.path
        where = f"{each.keyword}{path if path.startswith('[') else f'.{path}' if path else ''}"
        yield f"  - {where}: {each.difference}"
