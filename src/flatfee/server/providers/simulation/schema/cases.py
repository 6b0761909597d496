"""The ways to satisfy schemas at once: every "or" of them decided. Pure, within a budget.

A case is the list of schemas that are left to obey together when of each ``anyOf``, ``oneOf``, ``if`` and
``not`` one way is taken. What a case does not say (that the other options of ``oneOf`` must fail) is checked later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from flatfee.server.providers.simulation.schema.budget import Budget
from flatfee.server.providers.simulation.schema.document import Document
from flatfee.server.providers.simulation.schema.negation import Negations
from flatfee.server.providers.simulation.schema.shapes import TYPES

Case: TypeAlias = tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    """Ways to go on; each is a list of more schemas to obey."""

    ways: Sequence[Sequence[Any]]


class Cases:
    """Finds the cases of one document's schemas."""

    def __init__(self, document: Document, budget: Budget) -> None:
        self._document = document
        self._budget = budget
        self._negations = Negations(document)

    def of(self, goal: Sequence[Any]) -> Iterator[Case]:
        """Yield the cases of schemas that have to be obeyed at once, in the order in which they are written."""
        stack: list[tuple[Sequence[Any], Case]] = [(goal, ())]
        while stack:
            waiting, case = stack.pop()
            self._budget.spend(1 + len(waiting) + len(case))
            taken = self._take(waiting, case)
            if taken is None:
                continue
            case, choices = taken
            if not choices:
                yield case
                continue
            self._budget.spend(len(choices[0].ways) * (1 + len(choices) // 64))
            stack += [((*way, *choices[1:]), case) for way in reversed(choices[0].ways)]

    def _take(self, waiting: Sequence[Any], case: Case) -> tuple[Case, list[_Choice]] | None:
        """Add schemas to a case, and what they refer to; ``None`` if they cannot be obeyed together."""
        taken, known, choices = list(case), {id(part) for part in case}, list[_Choice]()
        queue = deque(waiting)
        while queue:
            self._budget.spend()
            schema = queue.popleft()
            if isinstance(schema, _Choice):
                choices.append(schema)
            elif schema is False:
                return None
            elif isinstance(schema, dict) and id(schema) not in known:
                known.add(id(schema))
                queue += self._referred(schema)
                if not (self._document.old and "$ref" in schema):
                    taken.append(schema)
                    queue += schema.get("allOf", ())
                    choices += self._choices(schema)
        return (tuple(taken), choices) if types_of(taken) else None

    def _referred(self, schema: dict[str, Any]) -> Iterator[Any]:
        if "$ref" in schema:
            yield self._document.target(schema, schema["$ref"])
        if "$dynamicRef" in schema:
            scope = (self._document.base(self._document.root),)
            yield self._document.dynamic_target(schema, schema["$dynamicRef"], scope)

    def _choices(self, schema: dict[str, Any]) -> Iterator[_Choice]:
        if "anyOf" in schema:
            yield _Choice([(option,) for option in schema["anyOf"]])
        if "oneOf" in schema:
            options = schema["oneOf"]
            self._budget.spend(len(options))
            yield _Choice([(option,) for option in options] + list(self._exclusive(options)))
        if "if" in schema and ("then" in schema or "else" in schema):
            condition = schema["if"]
            otherwise = (self._negations.wrapped(condition), schema.get("else", True))
            yield _Choice([(condition, schema.get("then", True)), otherwise])
        if "not" in schema:
            yield _Choice([(way,) for way in self._negations.of(schema["not"])])

    def _exclusive(self, options: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """Yield each option with the others denied, as a last resort."""
        if len(options) <= 16:
            for chosen in options:
                others = [self._negations.wrapped(option) for option in options if option is not chosen]
                yield (chosen, *others)


def types_of(case: Sequence[dict[str, Any]]) -> list[str]:
    """Return the types that a case allows, in the order in which they are written; all if none is written."""
    found: list[str] | None = None
    for schema in case:
        kinds = schema.get("type")
        if kinds is None:
            continue
        kinds = [kinds] if isinstance(kinds, str) else kinds
        found = list(kinds) if found is None else [kind for one in found for kind in _narrowed(one, kinds)]
    return list(TYPES) if found is None else list(dict.fromkeys(found))


def _narrowed(kind: str, kinds: Sequence[str]) -> list[str]:
    if kind in kinds:
        return [kind]
    if kind == "number" and "integer" in kinds:
        return ["integer"]
    return ["integer"] if kind == "integer" and "number" in kinds else []
