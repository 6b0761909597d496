"""Objects that obey schemas: which members they need, and a value for each. Pure, within a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from flatfee.server.providers.simulation.schema.texts import TextRules

if TYPE_CHECKING:
    from flatfee.server.providers.simulation.schema.cases import Case
    from flatfee.server.providers.simulation.schema.search import Path, Search

MOST_MEMBERS: Final = 10_000
"""Members of one object."""

_PLAIN_NAME: Final = "key"
_MOST_OPTIONAL: Final = 16
"""How many members that are not required are tried one by one."""
_ALTERNATIVES: Final = 8
"""How many other values of one member are tried."""


def values(search: Search, case: Case, path: Path, want: int) -> Iterator[dict[str, Any]]:
    """Yield objects: with the required members only, then with other values of them, then with more members."""
    members = _Members(search, case, path)
    if members.least > MOST_MEMBERS:
        why = f"minProperties is {members.least}, and an object has at most {MOST_MEMBERS} members; lower it"
        search.note(case[0], why)
        return
    for names in members.choices(want):
        search.budget.spend(1 + len(names))
        more = members.asked_for_by(names)
        if more:
            wanted = search.keep({"type": "object", "required": list(names)})
            yield from search.values((*case, *more, wanted), path[:-1], want)
            continue
        yield from _filled(members, names, want)
        if members.hopeless:
            return


def _filled(members: _Members, names: Sequence[str], want: int) -> Iterator[dict[str, Any]]:
    streams = {name: members.values_for(name, want) for name in names}
    first: dict[str, Any] = {}
    for name, stream in streams.items():
        for value in islice(stream, 1):
            first[name] = value
        if name not in first:
            members.note_impossible(name)
            return
    yield first
    for name, stream in streams.items():
        yield from ({**first, name: value} for value in islice(stream, want + _ALTERNATIVES))


class _Members:
    """What the members of an object have to be."""

    def __init__(self, search: Search, case: Case, path: Path) -> None:
        self._search = search
        self._case = case
        self._path = path
        self.least = int(max((part.get("minProperties", 0) for part in case), default=0))
        self._most = min((part["maxProperties"] for part in case if "maxProperties" in part), default=None)
        self._declared = list(dict.fromkeys(name for part in case for name in part.get("properties", ())))
        search.budget.spend(1 + len(self._declared) // 16)
        self.hopeless = False
        """Whether there is no value for a member that is required."""

    def values_for(self, name: str, want: int) -> Iterator[Any]:
        return self._search.values(self._schemas_for(name), self._path, want)

    def note_impossible(self, name: str) -> None:
        """Remember that there is no value for a member."""
        self.hopeless = self.hopeless or name in self._needed()

    def _schemas_for(self, name: str) -> list[Any]:
        found: list[Any] = []
        for part in self._case:
            found += self._schemas_in(part, name)
        if not found:
            found += [part["unevaluatedProperties"] for part in self._case if "unevaluatedProperties" in part]
        return found

    def _schemas_in(self, part: dict[str, Any], name: str) -> list[Any]:
        self._search.budget.spend()
        properties, patterns = part.get("properties", {}), part.get("patternProperties")
        found = [properties[name]] if name in properties else []
        if patterns:
            where = self._search.document.where(part)
            found += [rule for pattern, rule in patterns.items() if self._search.texts.finds(pattern, name, where)]
        if not found and "additionalProperties" in part:
            found = [part["additionalProperties"]]
        return found

    def choices(self, want: int) -> Iterator[list[str]]:
        """Yield the names an object may have: as few as possible first."""
        needed = self._needed()
        if self._most is not None and len(needed) > self._most:
            self._search.note(self._case[0], f"{len(needed)} members are required, and maxProperties is {self._most}")
            return
        if not all(map(self._may_be_named, needed)):
            return
        chosen = dict.fromkeys(needed)
        spare = self._spare(chosen)
        possible = (name for name in spare if any(True for _ in self.values_for(name, 1)))
        for name in islice(possible, max(0, self.least - len(chosen))):
            chosen[name] = None
        if len(chosen) < self.least:
            self._search.note(self._case[0], f"minProperties is {self.least}, and no names were found for them")
            return
        yield list(chosen)
        if self._most is not None and len(chosen) >= self._most:
            return
        others = list(islice(spare, want + _MOST_OPTIONAL))
        yield from ([*chosen, name] for name in others)
        optional = [name for name in others if name in self._declared]
        if optional and (self._most is None or len(chosen) + len(optional) <= self._most):
            yield [*chosen, *optional]

    def _needed(self) -> list[str]:
        """Return the required names in the order in which the properties are declared."""
        required = [name for part in self._case for name in _listed(part.get("required"))]
        rules = [rule for part in self._case for rule in _companions(part)]
        known, waiting = dict.fromkeys(required), required
        while waiting:
            self._search.budget.spend(1 + len(rules))
            name = waiting.pop()
            new = [other for owner, others in rules if owner == name for other in others if other not in known]
            known.update(dict.fromkeys(new))
            waiting += new
        rank = {name: index for index, name in enumerate(self._declared)}
        return sorted(known, key=lambda name: rank.get(name, len(rank)))

    def asked_for_by(self, names: Sequence[str]) -> list[Any]:
        """Return the schemas that hold because of these members, and are not among the case's own yet."""
        known = set(map(id, self._case))
        rules = [
            (name, rule)
            for part in self._case
            for keyword in ("dependentSchemas", "dependencies")
            for name, rule in part.get(keyword, {}).items()
        ]
        present = set(names) if rules else ()
        return [
            rule
            for name, rule in rules
            if name in present and rule is not True and not isinstance(rule, list) and id(rule) not in known
        ]

    def _may_be_named(self, name: str) -> bool:
        rules = [part["propertyNames"] for part in self._case if "propertyNames" in part]
        return all(self._search.checker.fits(name, rule) for rule in rules) and False not in self._schemas_for(name)

    def _spare(self, chosen: dict[str, None]) -> Iterator[str]:
        """Yield names that an object may have beside its required ones, declared ones first."""
        seen = set(chosen)
        for name in chain(self._declared, self._invented()):
            self._search.budget.spend()
            if name not in seen and self._may_be_named(name):
                yield name
            seen.add(name)

    def _invented(self) -> Iterator[str]:
        want = self.least + _MOST_OPTIONAL
        rules = [part["propertyNames"] for part in self._case if "propertyNames" in part]
        if rules:
            text = self._search.keep({"type": "string"})
            yield from self._search.values((*rules, text), self._path, want)
        for part in self._case:
            where = self._search.document.where(part)
            for pattern in part.get("patternProperties", ()):
                found = self._search.texts.values(TextRules(patterns=[(pattern, where)]), want)
                yield from islice(found, want)
        yield from (f"{_PLAIN_NAME}{index + 1}" if index else _PLAIN_NAME for index in range(want))


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else []


def _companions(part: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for keyword in ("dependentRequired", "dependencies"):
        yield from ((name, rule) for name, rule in part.get(keyword, {}).items() if isinstance(rule, list))
