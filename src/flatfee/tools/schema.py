"""From a Python type to a JSON Schema, and from JSON text to a value of the type. Pure.

A strict schema is the part of JSON Schema that providers can hold a model to: each object lists all
its members and has no others. What has no strict form, such as a mapping with free keys, is described
as pydantic does; its values are checked here either way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from pydantic import TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import CoreConfig, SchemaValidator

from flatfee.errors import ConfigurationError

T = TypeVar("T")
Node = Mapping[str, Any]

_MOST_TYPES: Final = 256
_OF_NAMES: Final = ("$defs", "definitions", "properties")
_OF_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_TELLING: Final = frozenset({"type", "enum", "const", "$ref", *_OF_LISTS})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure(Generic[T]):
    """A type that JSON text is read into. ``schema`` describes it to a model; ``strict`` tells of which kind it is."""

    name: str
    schema: Mapping[str, Any]
    strict: bool
    validator: SchemaValidator = field(repr=False)

    def read(self, text: str) -> T:
        """Return the value in ``text``.

        Raises:
            ValueError: it does not fit: pydantic's ``ValidationError``, unless a validator of the type failed
                otherwise. Its text does not show what was read: that may be a completion.
        """
        try:
            value: T = self.validator.validate_json(text)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"a validator of {self.name} raised {type(error).__name__}") from error
        return value


def structure_of(kind: Any) -> Structure[Any]:
    """Describe a type: a pydantic model, a dataclass, a ``TypedDict``, or a ``TypeAdapter`` of one.

    Raises:
        ConfigurationError: pydantic does not know the type, or it has no JSON Schema.
    """
    return _of_class(kind) if isinstance(kind, type) else described(kind)


@lru_cache(_MOST_TYPES)
def _of_class(kind: type) -> Structure[Any]:
    return described(kind)


def described(kind: Any, *, name: str | None = None, strict: bool = True) -> Structure[Any]:
    """Describe a type afresh, under a name; strictly if that is wanted and can be."""
    name = name or str(getattr(kind, "__name__", "answer"))
    try:
        adapter: TypeAdapter[Any] = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
        schema = adapter.json_schema()
        validator = SchemaValidator(adapter.core_schema, CoreConfig(hide_input_in_errors=True))
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise ConfigurationError(
            f"{name} cannot be described to a model: {error.message.splitlines()[0]} "
            "Use a pydantic model, a dataclass or a TypedDict of plain types."
        ) from error
    strict = strict and loose_place(schema) is None
    return Structure(
        name=re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64],
        schema=strict_schema(schema) if strict else schema,
        strict=strict,
        validator=validator,
    )


def loose_place(schema: Node) -> str | None:
    """Return the first place that has no strict form, as a path; ``None`` if there is none.

    Those are objects with members of any name, and values of any type.
    """
    for path, node in _walk(schema, "$"):
        free = node.get("additionalProperties", False) is not False or "patternProperties" in node
        if free or not _TELLING & node.keys():
            return path
    return None


def _walk(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    yield path, node
    for key in _OF_NAMES:
        for name, child in node.get(key, {}).items():
            yield from _walk(child, f"{path}.{name}")
    if isinstance(node.get("items"), Mapping):
        yield from _walk(node["items"], f"{path}[]")
    for key in _OF_LISTS:
        for child in node.get(key, ()):
            yield from _walk(child, path)


def members(schema: Node) -> frozenset[str]:
    """Return the names of all members that a schema knows, at any depth."""
    return frozenset(name for _, node in _walk(schema, "$") for name in node.get("properties", ()))


def strict_schema(schema: Node) -> dict[str, Any]:
    """Return the strict form of a schema.

    Every object lists all its members as required and takes no others; a ``$ref`` stands alone; a
    default of ``null`` goes, as the type tells it already; ``oneOf`` becomes ``anyOf``.
    """
    return _strict(schema, schema, frozenset())


def _strict(node: Node, root: Node, within: frozenset[str]) -> dict[str, Any]:
    done = {key: value for key, value in node.items() if not (key == "default" and value is None)}
    reference = done.get("$ref")
    if reference is not None and len(done) > 1:
        if reference in within:  # a recursive type: unfolded once more, it would never end
            return {"$ref": reference}
        del done["$ref"]
        return _strict({**_resolve(root, reference), **done}, root, within | {reference})
    if len(done.get("allOf", ())) == 1:
        done |= done.pop("allOf")[0]
        return _strict(done, root, within)
    if "oneOf" in done:
        done["anyOf"] = [*done.get("anyOf", ()), *done.pop("oneOf")]
        done.pop("discriminator", None)
    for key in _OF_NAMES:
        if key in done:
            done[key] = {name: _strict(child, root, within) for name, child in done[key].items()}
    if isinstance(done.get("items"), Mapping):
        done["items"] = _strict(done["items"], root, within)
    for key in _OF_LISTS:
        if key in done:
            done[key] = [_strict(child, root, within) for child in done[key]]
    return _closed(done)


def _closed(node: dict[str, Any]) -> dict[str, Any]:
    if "properties" in node:
        node["required"] = list(node["properties"])
    if node.get("type") == "object":
        node.setdefault("additionalProperties", False)
    return node


def _resolve(root: Node, reference: str) -> Node:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    target: Node = found
    return target
