"""Does a value fit a schema? JSON Schema 2020-12, and the spellings of earlier drafts. Pure, within a budget.

Formats are not looked at here: to a validator they are remarks. What makes values keeps to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any, Final, TypeAlias

from flatfee.server.providers.simulation.schema.budget import Budget, SpentError
from flatfee.server.providers.simulation.schema.document import Document
from flatfee.server.providers.simulation.schema.shapes import is_number, is_whole
from flatfee.server.providers.simulation.schema.texts import Texts

_MOST_DEPTH: Final = 80
"""Schemas within each other."""

Seen: TypeAlias = "set[str | int]"
"""The members and elements that keywords have looked at."""


def key_of(value: Any) -> str:
    """Return a text that is the same for the same JSON: ``1`` is ``1.0``, and ``true`` is not ``1``."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def is_of(value: Any, kind: str) -> bool:
    """Tell whether a value is of a JSON type."""
    match kind:
        case "integer":
            return is_whole(value)
        case "number":
            return is_number(value)
        case _:
            return isinstance(value, _CLASSES[kind]) if value is not None else kind == "null"


_CLASSES: Final[Mapping[str, type]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}


def exact(number: float) -> Fraction:
    """Return a number as it is written: ``0.1`` is a tenth."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def is_multiple(number: float, step: float) -> bool:
    """Tell whether a number is a multiple, as written and for those who divide floats."""
    if exact(number) % exact(step):
        return False
    try:
        return isinstance(step, int) or (number / step).is_integer()
    except OverflowError:
        return isinstance(number, int)


class Checker:
    """Tells whether values fit the parts of one schema."""

    def __init__(self, document: Document, texts: Texts, budget: Budget) -> None:
        self._document = document
        self._texts = texts
        self._budget = budget
        self._depth = 0

    def fits(self, value: Any, schema: Any) -> bool:
        """Tell whether a value fits a part of the schema.

        Raises:
            SpentError: the budget is used up, or schemas are too deep in each other to tell.
        """
        return self._look(value, schema, (self._document.base(self._document.root),)) is not None

    def _look(self, value: Any, schema: Any, scope: tuple[str, ...]) -> Seen | None:
        """Return what was looked at of a value that fits; ``None`` if it does not."""
        self._budget.spend()
        if not isinstance(schema, dict):
            return set() if schema else None
        if self._depth > _MOST_DEPTH:
            raise SpentError
        base = self._document.base(schema)
        if base != scope[-1]:
            scope = (*scope, base)
        self._depth += 1
        try:
            return self._look_into(value, schema, scope)
        finally:
            self._depth -= 1

    def _look_into(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...]) -> Seen | None:
        self._budget.spend(len(schema))
        seen: Seen = set()
        if self._document.old and "$ref" in schema:
            return self._look(value, self._document.target(schema, schema["$ref"]), scope)
        if not self._plainly_fits(value, schema):
            return None
        for keyword, look in _APPLYING.items():
            if keyword in schema:
                found = look(self, value, schema, scope, seen)
                if found is None:
                    return None
                seen |= found
        return seen

    def _plainly_fits(self, value: Any, schema: dict[str, Any]) -> bool:
        """Tell whether a value fits the keywords that concern itself, not parts of it."""
        kinds = schema.get("type")
        if kinds is not None and not any(is_of(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
            return False
        if "const" in schema and not self._is_among(value, [schema["const"]]):
            return False
        if "enum" in schema and not self._is_among(value, schema["enum"]):
            return False
        if isinstance(value, str):
            return self._text_fits(value, schema)
        if is_number(value):
            return _number_fits(value, schema)
        if isinstance(value, dict):
            return _object_fits(value, schema)
        return not isinstance(value, list) or self._list_fits(value, schema)

    def _is_among(self, value: Any, options: list[Any]) -> bool:
        if isinstance(value, str):
            self._budget.spend(1 + len(options) // 64)
            return value in options
        self._budget.spend(weight(value))
        key = key_of(value)
        for option in options:
            self._budget.spend(weight(option))
            if key_of(option) == key:
                return True
        return False

    def _text_fits(self, value: str, schema: dict[str, Any]) -> bool:
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            return False
        return "pattern" not in schema or self._texts.finds(schema["pattern"], value, self._document.where(schema))

    def _list_fits(self, value: list[Any], schema: dict[str, Any]) -> bool:
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return False
        if not schema.get("uniqueItems"):
            return True
        self._budget.spend(sum(weight(part) for part in value))
        return len({key_of(part) for part in value}) == len(value)

    # What follows looks into the parts of a value, or at the same value again.

    def _ref(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        return self._look(value, self._document.target(schema, schema["$ref"]), scope)

    def _dynamic_ref(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        return self._look(value, self._document.dynamic_target(schema, schema["$dynamicRef"], scope), scope)

    def _all_of(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        return self._every((value, part) for part in schema["allOf"])(scope)

    def _every(self, pairs: Iterable[tuple[Any, Any]]) -> Callable[[tuple[str, ...]], Seen | None]:
        def look(scope: tuple[str, ...]) -> Seen | None:
            seen: Seen = set()
            for value, part in pairs:
                found = self._look(value, part, scope)
                if found is None:
                    return None
                seen |= found
            return seen

        return look

    def _any_of(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        fitting: list[Seen] = []
        for part in schema["anyOf"]:
            found = self._look(value, part, scope)
            if found is not None:
                fitting.append(found)
                if not self._document.unevaluated:
                    break
        return set().union(*fitting) if fitting else None

    def _one_of(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        only: Seen | None = None
        for part in schema["oneOf"]:
            found = self._look(value, part, scope)
            if found is not None and only is not None:
                return None
            only = found if found is not None else only
        return only

    def _not(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        return set() if self._look(value, schema["not"], scope) is None else None

    def _if(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        seen = self._look(value, schema["if"], scope)
        then = self._look(value, schema.get("else" if seen is None else "then", True), scope)
        return None if then is None else then | (seen or set())

    def _dependent(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        if not isinstance(value, dict):
            return set()
        rules = {**schema.get("dependencies", {}), **schema.get("dependentSchemas", {})}
        self._budget.spend(len(rules))
        wanted = [rule for name, rule in rules.items() if name in value]
        if not all(other in value for rule in wanted if isinstance(rule, list) for other in rule):
            return None
        return self._every((value, rule) for rule in wanted if not isinstance(rule, list))(scope)

    def _properties(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        if not isinstance(value, dict):
            return set()
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        rest, where = schema.get("additionalProperties"), self._document.where(schema)
        seen: Seen = set()
        for name, part in value.items():
            rules = [known[name]] if name in known else []
            rules += [rule for pattern, rule in patterns.items() if self._texts.finds(pattern, name, where)]
            rules += [rest] if rest is not None and not rules else []
            if self._every((part, rule) for rule in rules)(scope) is None:
                return None
            if rules:
                seen.add(name)
        return seen

    def _names(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        names = value if isinstance(value, dict) else ()
        found = self._every((name, schema["propertyNames"]) for name in names)(scope)
        return None if found is None else set()

    def _items(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        if not isinstance(value, list):
            return set()
        first, rest = items_of(schema)
        rules = [*first[: len(value)], *([rest] * (len(value) - len(first)) if rest is not None else ())]
        found = self._every(zip(value, rules, strict=False))(scope)
        return None if found is None else set(range(len(rules)))

    def _contains(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], _: Seen) -> Seen | None:
        if not isinstance(value, list):
            return set()
        fitting: Seen = {
            index for index, part in enumerate(value) if self._look(part, schema["contains"], scope) is not None
        }
        least, most = schema.get("minContains", 1), schema.get("maxContains", len(value))
        return fitting if least <= len(fitting) <= most else None

    def _other_properties(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], seen: Seen) -> Seen | None:
        names = [name for name in value if name not in seen] if isinstance(value, dict) else []
        found = self._every((value[name], schema["unevaluatedProperties"]) for name in names)(scope)
        return None if found is None else set(names)

    def _other_items(self, value: Any, schema: dict[str, Any], scope: tuple[str, ...], seen: Seen) -> Seen | None:
        indices = [index for index in range(len(value)) if index not in seen] if isinstance(value, list) else []
        found = self._every((value[index], schema["unevaluatedItems"]) for index in indices)(scope)
        return None if found is None else set(indices)


_Look: TypeAlias = "Callable[[Checker, Any, dict[str, Any], tuple[str, ...], Seen], Seen | None]"

_APPLYING: Final[Mapping[str, _Look]] = {
    "$ref": Checker._ref,
    "$dynamicRef": Checker._dynamic_ref,
    "allOf": Checker._all_of,
    "anyOf": Checker._any_of,
    "oneOf": Checker._one_of,
    "not": Checker._not,
    "if": Checker._if,
    "dependencies": Checker._dependent,
    "dependentSchemas": Checker._dependent,
    "properties": Checker._properties,
    "patternProperties": Checker._properties,
    "additionalProperties": Checker._properties,
    "propertyNames": Checker._names,
    "prefixItems": Checker._items,
    "items": Checker._items,
    "contains": Checker._contains,
    # These two come last: they ask what the others have looked at.
    "unevaluatedProperties": Checker._other_properties,
    "unevaluatedItems": Checker._other_items,
}


def items_of(schema: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """Return the schemas of the first elements, and that of the others (``None`` if there is none)."""
    items = schema.get("items")
    if isinstance(items, list):
        return items, schema.get("additionalItems")
    return schema.get("prefixItems", []), items


def weight(value: Any) -> int:
    """Return about how much text a value is, in units of sixteen characters."""
    if isinstance(value, dict):
        return 1 + sum(1 + len(name) // 16 + weight(part) for name, part in value.items())
    if isinstance(value, list):
        return 1 + sum(map(weight, value))
    return 1 + len(value) // 16 if isinstance(value, str) else 1


def bounds_of(schema: Mapping[str, Any]) -> tuple[list[tuple[float, bool]], list[tuple[float, bool]]]:
    """Return a schema's lower and upper bounds, each with whether the bound itself is left out."""
    found: tuple[list[tuple[float, bool]], list[tuple[float, bool]]] = ([], [])
    for bounds, inclusive, exclusive in zip(
        found, ("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum"), strict=True
    ):
        left_out = schema.get(exclusive)
        if inclusive in schema:
            bounds.append((schema[inclusive], left_out is True))
        if left_out is not None and not isinstance(left_out, bool):
            bounds.append((left_out, True))
    return found


def _number_fits(value: float, schema: Mapping[str, Any]) -> bool:
    lower, upper = bounds_of(schema)
    if any(value < bound or (left_out and value == bound) for bound, left_out in lower):
        return False
    if any(value > bound or (left_out and value == bound) for bound, left_out in upper):
        return False
    return "multipleOf" not in schema or is_multiple(value, schema["multipleOf"])


def _object_fits(value: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    required = schema.get("required", ())
    if isinstance(required, list) and not all(name in value for name in required):
        return False
    if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value)):
        return False
    rules = schema.get("dependentRequired", {})
    return all(other in value for name, rule in rules.items() if name in value for other in rule)
