"""Which keywords of JSON Schema hold what: the schemas below a schema, and what is no schema at all. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from flatfee.server.providers.simulation.schema.budget import UnanswerableError

TYPES: Final = ("string", "integer", "number", "boolean", "null", "array", "object")
"""The plainest first."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a keyword's value has to be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def is_number(value: Any) -> TypeGuard[int | float]:
    """Tell whether a JSON value is a number, and finite."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Tell whether a JSON value is an integer: ``1.0`` is one."""
    return is_number(value) and (isinstance(value, int) or value.is_integer())


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and _are_different(value)


def _are_different(names: list[str]) -> bool:
    return len(set(names)) == len(names)


def _is_schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_schema, value))


def _is_type(value: Any) -> bool:
    if not isinstance(value, list):
        return value in TYPES
    return bool(value) and all(name in TYPES for name in value) and _are_different(value)


_SCHEMA: Final = _Shape("a schema: an object, true or false", _is_schema)
_SCHEMAS: Final = _Shape("a list of one schema or more", _is_schemas)
_SCHEMA_MAP: Final = _Shape(
    "an object of schemas", lambda value: isinstance(value, dict) and all(map(_is_schema, value.values()))
)
_COUNT: Final = _Shape("a whole number, 0 or more", lambda value: is_whole(value) and value >= 0)
_NUMBER: Final = _Shape("a finite number", is_number)
_BOUND: Final = _Shape("a finite number", lambda value: is_number(value) or isinstance(value, bool))
_TEXT: Final = _Shape("a text", lambda value: isinstance(value, str))
_NAMES: Final = _Shape("a list of names, each once", _is_names)

_SHAPES: Final[Mapping[str, _Shape]] = {
    "type": _Shape(f"one or more of {', '.join(TYPES)}, each once", _is_type),
    "enum": _Shape("a list of values", lambda value: isinstance(value, list)),
    **dict.fromkeys(("$ref", "$dynamicRef", "$id", "$anchor", "$dynamicAnchor", "pattern", "format"), _TEXT),
    **dict.fromkeys(("$defs", "definitions", "properties", "patternProperties", "dependentSchemas"), _SCHEMA_MAP),
    **dict.fromkeys(("not", "if", "then", "else", "contains", "additionalProperties", "propertyNames"), _SCHEMA),
    **dict.fromkeys(("unevaluatedProperties", "unevaluatedItems", "additionalItems", "contentSchema"), _SCHEMA),
    **dict.fromkeys(("allOf", "anyOf", "oneOf"), _SCHEMAS),
    "prefixItems": _Shape("a list of schemas", lambda value: isinstance(value, list) and all(map(_is_schema, value))),
    "items": _Shape(
        "a schema, or a list of schemas",
        lambda value: _is_schema(value) or (isinstance(value, list) and all(map(_is_schema, value))),
    ),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _COUNT),
    **dict.fromkeys(("minProperties", "maxProperties", "minContains", "maxContains"), _COUNT),
    **dict.fromkeys(("minimum", "maximum"), _NUMBER),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), _BOUND),
    "multipleOf": _Shape("a number above 0", lambda value: is_number(value) and value > 0),
    "uniqueItems": _Shape("true or false", lambda value: isinstance(value, bool)),
    "required": _Shape("a list of names, each once", lambda value: _is_names(value) or isinstance(value, bool)),
    "dependentRequired": _Shape(
        "an object of lists of names, each once",
        lambda value: isinstance(value, dict) and all(map(_is_names, value.values())),
    ),
    "dependencies": _Shape(
        "an object of schemas or lists of names, each once",
        lambda value: isinstance(value, dict) and all(_is_names(part) or _is_schema(part) for part in value.values()),
    ),
}


def check_shape(schema: Mapping[str, Any], where: Callable[[], str]) -> None:
    """Refuse a schema whose keywords do not hold what they have to. ``where`` tells its place.

    Raises:
        UnanswerableError: it names the keyword and what it should hold.
    """
    for keyword, value in schema.items():
        shape = _SHAPES.get(keyword)
        if shape is not None and not shape.holds(value):
            raise UnanswerableError(f"{where()}/{keyword}", f"it has to be {shape.words}, and is {_shown(value)}")


def _shown(value: Any) -> str:
    match value:
        case dict() | list():
            return "an object" if isinstance(value, dict) else "a list that is none"
        case _:
            return repr(value)[:60]


def below(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the schemas directly below a schema, each with its pointer from there."""
    for keyword, value in schema.items():
        shape = _SHAPES.get(keyword)
        if shape not in _HOLDERS and keyword not in {"items", "prefixItems", "dependencies"}:
            continue
        if isinstance(value, list):
            yield from ((f"/{keyword}/{index}", part) for index, part in enumerate(value))
        elif isinstance(value, dict) and (shape is _SCHEMA_MAP or keyword == "dependencies"):
            yield from ((f"/{keyword}/{escape(name)}", part) for name, part in value.items() if _is_schema(part))
        else:
            yield f"/{keyword}", value


_HOLDERS: Final = (_SCHEMA, _SCHEMAS, _SCHEMA_MAP)


def escape(name: str) -> str:
    """Return a name as a JSON pointer spells it."""
    return name.replace("~", "~0").replace("/", "~1")
