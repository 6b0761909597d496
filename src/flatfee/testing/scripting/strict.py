"""What a strict script says of a request that no rule matches: how it differs from the nearest one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Final, Protocol

from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.matchers import shown
from flatfee.testing.scripting.matching import Checked, Match

MAX_TOLD: Final = 8000
"""Characters of a difference that are told."""

_OTHERS_SHOWN: Final = 5
_COMPARED: Final = 100
"""Rules whose texts are compared with the request's."""

_TELLING: Final = frozenset({"user", "tool_result", "messages", "system", "schema"})
"""Keywords that say more of which request a rule is for than where it stands."""


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


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How one rule came out. ``silent``: why it does not answer, even if all that it asks for holds."""

    rule: Described
    checked: Sequence[Checked]
    silent: str | None

    @classmethod
    def of(cls, rule: Described, asked: Asked) -> _Outcome:
        return cls(rule, rule.match.check(asked), rule.silent(asked))

    @property
    def distance(self) -> tuple[int, int, bool]:
        """Order rules by how little of them fails, then by how much holds."""
        failed = sum(_weight(each) for each in self.checked if each.difference is not None)
        held = sum(_weight(each) for each in self.checked if each.difference is None)
        return failed, -held, self.silent is not None

    @property
    def likeness(self) -> float:
        """How like the texts are that should be equal, from 0 to 1: what tells rules of one kind apart."""
        pairs = (each.difference.texts for each in self.checked if each.difference is not None)
        return max((SequenceMatcher(None, *pair).quick_ratio() for pair in pairs if pair is not None), default=0.0)

    def lines(self) -> Iterator[str]:
        if self.silent is not None:
            yield f"  - {self.silent}"
        for each in self.checked:
            yield f"    {each.keyword}: holds" if each.difference is None else f"  - {each.where}: {each.difference}"


def _weight(checked: Checked) -> int:
    return 2 if checked.keyword in _TELLING else 1


def explained(asked: Asked, rules: Sequence[Described]) -> str:
    """Return why no rule matches a try, as lines of text."""
    return "\n".join(_lines(asked, rules))[:MAX_TOLD]


def _lines(asked: Asked, rules: Sequence[Described]) -> Iterator[str]:
    yield f"No rule of the script matches completion {asked.number}, attempt {asked.attempt} (route {asked.route!r})."
    yield f"  It says: {_asked_for(asked)}"
    if not rules:
        yield "There are no rules."
    else:
        nearest, *others = _by_distance([_Outcome.of(rule, asked) for rule in rules])
        yield f"The nearest of {len(rules)} {'rule' if len(rules) == 1 else 'rules'} is {nearest.rule.name}:"
        yield from nearest.lines()
        if others:
            more = len(others) - _OTHERS_SHOWN
            named = "; ".join(other.rule.name for other in others[:_OTHERS_SHOWN])
            yield f"Then: {named}{f'; and {more} more' if more > 0 else ''}."
    yield "Add a rule for it, script OBEY to let the default model answer, or run the gateway without strict."


def _by_distance(outcomes: Sequence[_Outcome]) -> list[_Outcome]:
    """Return the nearest first; texts are compared only where nothing else tells rules apart."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.distance)
    alike = list(takewhile(lambda each: each.distance == ordered[0].distance, ordered[:_COMPARED]))
    return sorted(alike, key=lambda outcome: -outcome.likeness) + ordered[len(alike) :]


def _asked_for(asked: Asked) -> str:
    told = asked.conversation
    facts: dict[str, object] = {"turn": told.turn, "user": told.user}
    if told.tool_results:
        facts["tool_result"] = {result.name: result.text for result in told.tool_results}
    return ", ".join(f"{name}={shown(fact)}" for name, fact in facts.items())
