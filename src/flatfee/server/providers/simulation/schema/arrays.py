"""Arrays that obey schemas: how long they are, and a value for each place. Pure, within a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from flatfee.server.providers.simulation.schema.check import items_of, key_of, weight

if TYPE_CHECKING:
    from flatfee.server.providers.simulation.schema.cases import Case
    from flatfee.server.providers.simulation.schema.search import Path, Search

MOST_ITEMS: Final = 10_000
"""Elements of one array."""

_ALTERNATIVES: Final = 8


def values(search: Search, case: Case, path: Path, want: int) -> Iterator[list[Any]]:
    """Yield arrays, as short as possible first."""
    elements = _Elements(search, case, path)
    if elements.least > MOST_ITEMS:
        search.note(case[0], f"minItems is {elements.least}, and an array has at most {MOST_ITEMS} elements; lower it")
        return
    for length in range(elements.least, min(elements.most, elements.enough + want, MOST_ITEMS) + 1):
        for placed in elements.placements(length):
            yield from elements.filled(length, placed, want)
            if elements.hopeless:
                return


class _Elements:
    """What the elements of an array have to be."""

    def __init__(self, search: Search, case: Case, path: Path) -> None:
        self._search = search
        self._path = path
        self._case = case
        self._rules = [items_of(part) for part in case]
        self._contains = [
            (part["contains"], int(part.get("minContains", 1)), part.get("maxContains"))
            for part in case
            if "contains" in part
        ]
        self._unique = any(part.get("uniqueItems") for part in case)
        self._different: dict[int, dict[str, Any]] = {}
        self.least = int(max((part.get("minItems", 0) for part in case), default=0))
        self.least = max([self.least, *(least for _, least, _ in self._contains)])
        self.most = int(min((part["maxItems"] for part in case if "maxItems" in part), default=MOST_ITEMS))
        needed = sum(least for _, least, _ in self._contains)
        self.enough = max([self.least, needed + max((len(first) for first, _ in self._rules), default=0)])
        """A length at which each element that is asked for has a place of its own."""

        self.hopeless = False
        """Whether there is no value for an element, so that longer arrays fail as well."""

    def _schemas_at(self, index: int) -> list[Any]:
        found = [first[index] if index < len(first) else rest for first, rest in self._rules]
        found = [schema for schema in found if schema is not None]
        return found or [part["unevaluatedItems"] for part in self._case if "unevaluatedItems" in part]

    def placements(self, length: int) -> Iterator[dict[int, list[Any]]]:
        """Yield where the elements go that ``contains`` asks for: together, one after the other, at the end."""
        wanted = [(schema, least) for schema, least, _ in self._contains if least]
        self._search.budget.spend(sum(least for _, least in wanted))
        together: dict[int, list[Any]] = {}
        for schema, least in wanted:
            for index in range(least):
                together.setdefault(index, []).append(schema)
        yield together
        each = [schema for schema, least in wanted for _ in range(least)]
        if each and len(each) <= length:
            yield {index: [schema] for index, schema in enumerate(each)}
            yield {length - 1 - index: [schema] for index, schema in enumerate(each)}

    def _goal(self, index: int, placed: dict[int, list[Any]]) -> list[Any]:
        extra = placed.get(index, [])
        limited = [schema for schema, _, most in self._contains if most is not None and schema not in extra]
        return [*self._schemas_at(index), *extra, *map(self._unlike, limited)]

    def _unlike(self, schema: Any) -> Any:
        if isinstance(schema, bool):
            return not schema
        return self._different.setdefault(id(schema), {"not": schema})

    def filled(self, length: int, placed: dict[int, list[Any]], want: int) -> Iterator[list[Any]]:
        """Yield arrays of a length, and the same with another element here or there."""
        streams: dict[tuple[int, ...], Iterator[Any]] = {}
        repeated: dict[tuple[int, ...], Any] = {}
        goals: list[tuple[int, ...]] = []
        first: list[Any] = []
        used: set[str] = set()
        for index in range(length):
            goal = self._goal(index, placed)
            key = tuple(map(id, goal))
            self._search.budget.spend(1 + len(goal))
            if key not in streams:
                streams[key] = self._search.values(goal, self._path, length + want if self._unique else want)
            if self._unique or key not in repeated:
                found = _next_unused(streams[key], used if self._unique else set())
                if not found:
                    self.hopeless = not self._contains
                    return
                repeated[key] = found[0]
            self._search.budget.spend(weight(repeated[key]))
            first.append(repeated[key])
            goals.append(key)
        yield first
        for index, key in enumerate(goals[:4]):
            for value in islice(streams[key], want + _ALTERNATIVES):
                self._search.budget.spend(length)
                yield [*first[:index], value, *first[index + 1 :]]


def _next_unused(stream: Iterator[Any], used: set[str]) -> Sequence[Any]:
    """Return the stream's next value that was not used yet, as a list of one; of none at its end."""
    for value in stream:
        key = key_of(value)
        if key not in used:
            used.add(key)
            return [value]
    return []
