"""Which rules could never be reached, because one before them answers all that they match. Pure."""

from __future__ import annotations

from typing import Protocol

from flatfee.testing.scripting.matching import Match


class Reaching(Protocol):
    """A rule, as far as it stands in the way of others."""

    name: str
    match: Match
    early: bool

    @property
    def takes_all(self) -> bool:
        """Whether it leaves nothing that it matches to the rules behind it."""
        ...


class Reach:
    """The rules that take all that they match, each found by one of its conditions: scripts may be long."""

    def __init__(self) -> None:
        self._by_mark: dict[str, list[Reaching]] = {}

    def add(self, rule: Reaching) -> None:
        """Note a rule."""
        if rule.takes_all:
            self._by_mark.setdefault(_mark(rule), []).append(rule)

    def remove(self, rule: Reaching) -> None:
        """Forget a rule; nothing happens if it was not noted."""
        noted = self._by_mark.get(_mark(rule), [])
        noted[:] = [each for each in noted if each is not rule]

    def check(self, wanted: Match, *, early: bool) -> None:
        """Refuse a rule for what another takes already.

        Raises:
            ValueError: it could never be reached; the message names the other, and the cure.
        """
        for mark in ("", *wanted.marks):
            for rule in self._by_mark.get(mark, ()):
                if rule.early is early and rule.match.covers(wanted):
                    message = (
                        f"A rule for {wanted} would never be reached: {rule.name} before it answers all of that for"
                        " ever. Put the narrower rule before it, give first=True, or give the other one times=."
                    )
                    raise ValueError(message)


def _mark(rule: Reaching) -> str:
    """Return the condition by which a rule is found: whoever is covered by it has the same."""
    return rule.match.marks[-1] if rule.match.conditions else ""
