"""A value that obeys schemas: guesses in order of plainness, built from the parts up. Pure, within a budget.

What is certain by the way it was built is not checked; the rest is, where it was made. So a wrong
guess costs another guess, never a wrong answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

from flatfee.server.providers.simulation.schema import arrays, objects
from flatfee.server.providers.simulation.schema.budget import MOST_LEVELS, Budget
from flatfee.server.providers.simulation.schema.cases import Case, Cases, types_of
from flatfee.server.providers.simulation.schema.check import Checker, bounds_of, key_of
from flatfee.server.providers.simulation.schema.document import Document
from flatfee.server.providers.simulation.schema.numbers import NumberRules, number_values
from flatfee.server.providers.simulation.schema.shapes import TYPES
from flatfee.server.providers.simulation.schema.texts import MOST_LENGTH, TextRules, Texts

_MOST_NAMED: Final = 8
"""Keywords that a complaint names."""

GUESSES: Final = 24
"""How many values of one kind are tried beyond those asked for."""

Path: TypeAlias = tuple[frozenset[int], ...]
"""The schemas of each object and array around a place, by identity."""

_TELLING: Final = (
    ("object", frozenset(("properties", "required", "patternProperties", "additionalProperties", "minProperties"))),
    ("array", frozenset(("items", "prefixItems", "minItems", "contains", "uniqueItems"))),
    ("string", frozenset(("pattern", "format", "minLength", "maxLength", "contentSchema"))),
    ("integer", frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))),
)
_UNSURE: Final = frozenset(
    {
        *("not", "oneOf", "if", "contains", "uniqueItems", "unevaluatedProperties", "unevaluatedItems"),
        *("propertyNames", "dependentSchemas", "dependentRequired", "dependencies", "$dynamicRef", "maxProperties"),
    }
)
"""Keywords of objects and arrays that building does not satisfy by itself."""


class Search:
    """Finds values for the parts of one schema. A schema may be within itself ``repeats`` times."""

    def __init__(self, document: Document, budget: Budget, repeats: int) -> None:
        self.document = document
        self.budget = budget
        self.texts = Texts(budget)
        self.checker = Checker(document, self.texts, budget)
        self.cut = False
        """Whether a way was left because it went around in a circle."""
        self.dead_end: tuple[str, str] | None = None
        """The first place where nothing was found, and why."""
        self._cases = Cases(document, budget)
        self._repeats = repeats
        self._made: list[dict[str, Any]] = []

    def keep(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Hold on to a schema that is not in the document, so that its identity stays its own."""
        self._made.append(schema)
        return schema

    def note(self, schema: Any, why: str) -> None:
        """Remember why nothing was found, if it is the first time."""
        self.dead_end = self.dead_end or (self.document.where(schema), why)

    def values(self, goal: Sequence[Any], path: Path = (), want: int = 1) -> Iterator[Any]:
        """Yield values that obey all of the schemas, different ones, the plainest first.

        ``want`` is how many the caller may need; there can be more, or fewer.
        """
        given: set[str] = set()
        for case in self._cases.of(goal):
            for value, sure in self._of(case, path, want):
                self.budget.spend()
                key = key_of(value) if want > 1 or given else ""
                if key and key in given:
                    continue
                if sure or all(self.checker.fits(value, schema) for schema in goal):
                    given.add(key or key_of(value))
                    yield value
        if not given and self.dead_end is None:
            self.note(next(iter(goal), True), _together(goal))

    def _of(self, case: Case, path: Path, want: int) -> Iterator[tuple[Any, bool]]:
        """Yield guesses for a case, each with whether it fits for certain."""
        fixed = [[part["const"]] if "const" in part else part["enum"] for part in case if part.keys() & _FIXED]
        if fixed:
            yield from ((value, False) for value in min(fixed, key=len))
            return
        yield from ((part["default"], False) for part in case if "default" in part)
        for kind in _in_order(types_of(case), case):
            guesses = self._guesses(kind, case, path, want)
            yield from islice(guesses, want + GUESSES)

    def _guesses(self, kind: str, case: Case, path: Path, want: int) -> Iterator[tuple[Any, bool]]:
        match kind:
            case "object" | "array":
                yield from self._nested(kind, case, path, want)
            case "string":
                yield from ((text, False) for text in self._texts(case, path, want))
            case "integer" | "number":
                yield from ((number, False) for number in number_values(_number_rules(case, kind)))
            case "boolean":
                yield from ((True, False), (False, False))
            case _:
                yield None, False

    def _nested(self, kind: str, case: Case, path: Path, want: int) -> Iterator[tuple[Any, bool]]:
        here = frozenset(map(id, case))
        self.budget.spend(len(path) + len(here))
        if any(sum(part in around for around in path) >= self._repeats for part in here):
            self.cut = True
            self.note(case[0], "the schema holds itself without an end; let the inner one be optional or null")
            return
        if len(path) >= MOST_LEVELS:
            self.note(case[0], f"it is more than {MOST_LEVELS} objects and arrays deep; make it flatter")
            return
        sure = not any(part.keys() & _UNSURE for part in case)
        build: Callable[..., Iterator[Any]] = objects.values if kind == "object" else arrays.values
        yield from ((value, sure) for value in build(self, case, (*path, here), want))

    def _texts(self, case: Case, path: Path, want: int) -> Iterator[str]:
        rules = self._text_rules(case)
        if rules.least > MOST_LENGTH:
            self.note(case[0], f"minLength is {rules.least}, and a text has at most {MOST_LENGTH} characters; lower it")
            return
        for part in case:
            if "contentSchema" in part and part.get("contentMediaType") == "application/json":
                yield from map(json.dumps, self.values((part["contentSchema"],), path, want))
        yield from self.texts.values(rules, want)

    def _text_rules(self, case: Case) -> TextRules:
        banned = [part["not"] for part in case if isinstance(part.get("not"), dict)]
        return TextRules(
            least=int(max((part.get("minLength", 0) for part in case), default=0)),
            most=min((int(part["maxLength"]) for part in case if "maxLength" in part), default=None),
            patterns=[(part["pattern"], self.document.where(part)) for part in case if "pattern" in part],
            banned=[
                (part["pattern"], self.document.where(part))
                for part in banned
                if "pattern" in part and part.keys() <= {"pattern", "type"}
            ],
            formats=[part["format"] for part in case if "format" in part],
        )


_FIXED: Final = frozenset(("const", "enum"))
_REMARKS: Final = frozenset(("title", "description", "$schema", "$id", "$defs", "definitions", "default", "examples"))


def _together(goal: Sequence[Any]) -> str:
    """Say that what is asked for contradicts itself, and what that is."""
    asked = [key for part in goal if isinstance(part, dict) for key in part if key not in _REMARKS]
    named = ", ".join(dict.fromkeys(asked[:_MOST_NAMED])) or "false"
    return f"no value was found that fits {named} at once; loosen one of them"


def _in_order(kinds: Sequence[str], case: Case) -> Sequence[str]:
    """Return the types to try: as written, or what the other keywords speak of first."""
    if any("type" in part for part in case):
        return kinds
    told = [kind for kind, names in _TELLING if not all(names.isdisjoint(part) for part in case)]
    return list(dict.fromkeys((*told, *TYPES)))


def _number_rules(case: Case, kind: str) -> NumberRules:
    bounds = [bounds_of(part) for part in case]
    return NumberRules(
        lower=[bound for lower, _ in bounds for bound, _ in lower],
        upper=[bound for _, upper in bounds for bound, _ in upper],
        steps=[part["multipleOf"] for part in case if "multipleOf" in part],
        whole=kind == "integer",
    )
