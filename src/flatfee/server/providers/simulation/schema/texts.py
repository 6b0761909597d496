"""Texts of a length, a pattern, a format: found as the shortest of a regular language. Pure, within a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final

from flatfee.server.providers.simulation.schema.budget import Budget, UnanswerableError
from flatfee.server.providers.simulation.schema.formats import PATTERNS, SAMPLES
from flatfee.server.providers.simulation.schema.language import Languages, Node
from flatfee.server.providers.simulation.schema.pattern import UnreadableError, read_pattern

MOST_LENGTH: Final = 50_000
"""Characters of one text."""

PLAIN: Final = "text"
"""What a text is of which nothing is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRules:
    """What a text has to be. A pattern stands with the place in the schema where it is written."""

    least: int = 0
    most: int | None = None
    patterns: Sequence[tuple[str, str]] = ()
    banned: Sequence[tuple[str, str]] = ()
    formats: Sequence[str] = ()


class Texts:
    """Finds texts, and tells whether one fits a pattern. Each pattern is read once."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._read: dict[str, Node] = {}

    @cached_property
    def _languages(self) -> Languages:
        return Languages(self._budget)

    def _language(self, pattern: str, where: str) -> Node:
        found = self._read.get(pattern)
        if found is None:
            self._budget.spend(len(pattern))
            try:
                found = self._read[pattern] = read_pattern(pattern, self._languages)
            except UnreadableError as unreadable:
                raise UnanswerableError(
                    f"{where}/pattern",
                    f"the pattern {pattern[:60]!r} has {unreadable}; write it as a regular expression of ECMA 262 "
                    "without backreferences and lookbehind",
                ) from unreadable
        return found

    def finds(self, pattern: str, text: str, where: str) -> bool:
        """Tell whether a pattern is found in a text.

        Raises:
            UnanswerableError: the pattern cannot be read.
            SpentError: the budget is used up.
        """
        self._budget.spend(1 + len(text) // 16)
        return self._languages.matches(self._language(pattern, where), text)

    def fits(self, text: str, rules: TextRules) -> bool:
        """Tell whether a text has the length and the patterns asked for."""
        if len(text) < rules.least or (rules.most is not None and len(text) > rules.most):
            return False
        return all(self.finds(pattern, text, where) for pattern, where in rules.patterns) and not any(
            self.finds(pattern, text, where) for pattern, where in rules.banned
        )

    def values(self, rules: TextRules, want: int) -> Iterator[str]:
        """Yield different texts that obey, the most natural ones first, at least ``want`` if there are as many.

        Raises:
            UnanswerableError: a pattern cannot be read.
            SpentError: the budget is used up.
        """
        given: set[str] = set()
        for text in self._guesses(rules, want):
            self._budget.spend(len(text) // 64)
            if text not in given and self.fits(text, rules):
                given.add(text)
                yield text
        for variety in (1, want + 1):
            for text in islice(self._found(rules, variety), want + 1):
                if text not in given:
                    given.add(text)
                    yield text

    def _guesses(self, rules: TextRules, want: int) -> Iterator[str]:
        samples = [SAMPLES[name] for name in rules.formats if name in SAMPLES]
        for sample in samples:
            yield from (sample(index) for index in range(want + 4))
        if samples:
            return
        for index in range(want + 1):
            base = f"{PLAIN}{index + 1}" if index else PLAIN
            yield base.ljust(rules.least, ".")[: rules.most]
            if rules.patterns and rules.least > len(base):
                yield (base * (rules.least // len(base) + 1))[: rules.least]

    def _found(self, rules: TextRules, variety: int) -> Iterator[str]:
        make = self._languages
        wanted = [make.repeat(make.any, rules.least, rules.most)]
        wanted += [self._language(pattern, where) for pattern, where in rules.patterns]
        wanted += [make.negated(self._language(pattern, where)) for pattern, where in rules.banned]
        formats = [self._language(PATTERNS[name], "") for name in rules.formats if name in PATTERNS]
        if formats:
            yield from make.words(make.both([*wanted, *formats]), variety)
        # To a validator a format is a remark: a text without it beats none.
        yield from make.words(make.both(wanted), variety)
