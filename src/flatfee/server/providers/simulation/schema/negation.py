"""The opposite of a schema, as schemas: the ways in which a value may fail to fit. Pure.

They are where to look, not the whole truth: each value that is found is still checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from flatfee.server.providers.simulation.schema.document import Document
from flatfee.server.providers.simulation.schema.shapes import TYPES

_MOST_NAMES: Final = 32


class Negations:
    """Negates the parts of one document. The same part has the same opposite, by identity."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._wrapped: dict[int, dict[str, Any]] = {}
        self._found: dict[int, list[Any]] = {}

    def wrapped(self, schema: Any) -> Any:
        """Return ``{"not": schema}``."""
        if isinstance(schema, bool):
            return not schema
        return self._wrapped.setdefault(id(schema), {"not": schema})

    def of(self, schema: Any) -> list[Any]:
        """Return schemas of which any may be obeyed in place of ``{"not": schema}``."""
        if isinstance(schema, bool):
            return [] if schema else [True]
        found = self._found.get(id(schema))
        if found is None:
            found = self._found[id(schema)] = list(self._ways(schema))
        return found

    def _ways(self, schema: dict[str, Any]) -> Iterator[Any]:
        if "$ref" in schema:
            yield self.wrapped(self._document.target(schema, schema["$ref"]))
            if self._document.old:
                return
        for keyword, value in schema.items():
            if keyword in _OPPOSITES:
                yield from _OPPOSITES[keyword](value)
        yield from self._ways_of_parts(schema)
        if schema.keys() - _OPPOSITES.keys():
            yield True

    def _ways_of_parts(self, schema: dict[str, Any]) -> Iterator[Any]:
        if "not" in schema:
            yield schema["not"]
        yield from (self.wrapped(part) for part in schema.get("allOf", ()))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                yield {"allOf": [self.wrapped(part) for part in schema[keyword]]}
        if "oneOf" in schema:
            yield {"allOf": schema["oneOf"][:2]}
        yield from self._ways_within(schema)

    def _ways_within(self, schema: dict[str, Any]) -> Iterator[Any]:
        """Yield schemas of which a member or an element breaks a rule for it."""
        for name, part in list(schema.get("properties", {}).items())[:_MOST_NAMES]:
            yield {"type": "object", "required": [name], "properties": {name: self.wrapped(part)}}
        for pattern, part in list(schema.get("patternProperties", {}).items())[:_MOST_NAMES]:
            named = {"type": "object", "minProperties": 1, "propertyNames": {"pattern": pattern}}
            yield {**named, "patternProperties": {pattern: self.wrapped(part)}}
        for index, part in enumerate(schema.get("prefixItems", ())[:_MOST_NAMES]):
            yield {"type": "array", "minItems": index + 1, "prefixItems": [*[True] * index, self.wrapped(part)]}
        if isinstance(schema.get("items"), dict | bool):
            yield {"type": "array", "contains": self.wrapped(schema["items"])}
        if "contains" in schema:
            yield {"type": "array", "items": self.wrapped(schema["contains"])}
        if "propertyNames" in schema:
            yield {"type": "object", "minProperties": 1, "propertyNames": self.wrapped(schema["propertyNames"])}


def _not_of_type(kinds: Any) -> Iterator[Any]:
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if "integer" in kinds and "number" not in kinds:
        yield {"type": [kind for kind in TYPES if kind not in {*kinds, "number"}]}
        yield {"type": "number"}
    elif others := [kind for kind in TYPES if kind not in kinds and not (kind == "integer" and "number" in kinds)]:
        yield {"type": others}


def _lacking(names: Any) -> Iterator[Any]:
    for name in names[:_MOST_NAMES] if isinstance(names, list) else ():
        yield {"type": "object", "properties": {name: False}}


def _lacking_company(rules: Any) -> Iterator[Any]:
    for name, others in list(rules.items())[:_MOST_NAMES]:
        for other in [other for other in others if other != name][:_MOST_NAMES]:
            yield {"type": "object", "required": [name], "properties": {other: False}}


def _one_less(kind: str, keyword: str) -> Callable[[Any], Iterator[Any]]:
    def ways(count: Any) -> Iterator[Any]:
        if count >= 1:
            yield {"type": kind, keyword: count - 1}

    return ways


def _one_more(kind: str, keyword: str) -> Callable[[Any], Iterator[Any]]:
    return lambda count: iter([{"type": kind, keyword: count + 1}])


def _beyond(keyword: str) -> Callable[[Any], Iterator[Any]]:
    return lambda bound: iter([{"type": "number"} if isinstance(bound, bool) else {"type": "number", keyword: bound}])


def _some(**schema: Any) -> Callable[[Any], Iterator[Any]]:
    return lambda _: iter([schema])


_OPPOSITES: Final[Mapping[str, Callable[[Any], Iterator[Any]]]] = {
    "type": _not_of_type,
    "required": _lacking,
    "dependentRequired": _lacking_company,
    "minLength": _one_less("string", "maxLength"),
    "maxLength": _one_more("string", "minLength"),
    "minItems": _one_less("array", "maxItems"),
    "maxItems": _one_more("array", "minItems"),
    "minProperties": _one_less("object", "maxProperties"),
    "maxProperties": _one_more("object", "minProperties"),
    "minimum": _beyond("exclusiveMaximum"),
    "maximum": _beyond("exclusiveMinimum"),
    "exclusiveMinimum": _beyond("maximum"),
    "exclusiveMaximum": _beyond("minimum"),
    "multipleOf": _some(type="number"),
    "pattern": _some(type="string"),
    "uniqueItems": _some(type="array", minItems=2),
    "additionalProperties": _some(type="object", minProperties=1),
}
