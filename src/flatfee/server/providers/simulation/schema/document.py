"""A schema as a document: where each part stands, and what ``$ref`` means. Pure; nothing is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin

from flatfee.server.providers.simulation.schema.budget import Budget, Place, UnanswerableError, pointer
from flatfee.server.providers.simulation.schema.shapes import below, check_shape

_META: Final = ("https://json-schema.org/draft/", "http://json-schema.org/draft-")
_ANY_SCHEMA: Final[dict[str, Any]] = {"type": ["object", "boolean"]}
_NAMING: Final = frozenset(("$id", "$anchor", "$dynamicAnchor"))
_OLD_DRAFTS: Final = ("draft-03", "draft-04", "draft-05", "draft-06", "draft-07")


class Document:
    """The parts of a schema by address. ``old`` is a draft up to 7, where nothing counts beside a ``$ref``."""

    def __init__(self, root: Any, budget: Budget) -> None:
        self.root = root
        self._budget = budget
        self._bases: dict[int, str] = {}
        self._places: dict[int, Place] = {}
        self._targets: dict[tuple[str, str], Any] = {}
        self._by_address: dict[str, Any] = {}
        self._dynamic: dict[tuple[str, str], Any] = {}
        self.unevaluated = False
        """Whether any part asks what other keywords have looked at."""
        dialect = root.get("$schema") if isinstance(root, dict) else None
        self.old = isinstance(dialect, str) and any(draft in dialect for draft in _OLD_DRAFTS)
        self._by_address[""] = root
        self._index(root, None, "")

    def where(self, schema: Any) -> str:
        """Return where a part stands, as a JSON pointer."""
        return pointer(self._places.get(id(schema)))

    def base(self, schema: Any) -> str:
        """Return the address of the resource that a part belongs to."""
        return self._bases.get(id(schema), "")

    def _index(self, schema: Any, place: Place, base: str) -> None:
        waiting = [(schema, place, base)]
        while waiting:
            schema, place, base = waiting.pop()
            self._budget.spend()
            if not isinstance(schema, dict) or id(schema) in self._bases:
                continue
            self._budget.spend(len(schema))
            self._places[id(schema)] = place
            check_shape(schema, partial(self.where, schema))
            base = self._bases[id(schema)] = self._name(schema, base)
            self.unevaluated |= "unevaluatedProperties" in schema or "unevaluatedItems" in schema
            waiting += [(part, (place, step), base) for step, part in below(schema)]

    def _name(self, schema: dict[str, Any], base: str) -> str:
        """Note the addresses that a part gives itself; return its base."""
        identity = schema.get("$id")
        if not _NAMING.isdisjoint(schema):
            self._budget.spend(len(base) // 16)
        if identity is not None and not (self.old and "$ref" in schema):
            address, fragment = urldefrag(_join(base, identity))
            base = address if address != base else base
            self._by_address.setdefault(base, schema)
            if fragment:
                self._by_address.setdefault(f"{base}#{fragment}", schema)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if keyword in schema:
                self._by_address.setdefault(f"{base}#{schema[keyword]}", schema)
        if "$dynamicAnchor" in schema:
            self._dynamic.setdefault((base, schema["$dynamicAnchor"]), schema)
        return base

    def target(self, schema: dict[str, Any], reference: str) -> Any:
        """Return what a ``$ref`` in a part means.

        Raises:
            UnanswerableError: there is nothing at that address within the document.
        """
        self._budget.spend()
        base = self.base(schema)
        found = self._targets.get((base, reference))
        if found is None:
            self._budget.spend((len(base) + len(reference)) // 16)
            found = self._targets[base, reference] = self._resolved(schema, base, reference)
        return found

    def _resolved(self, schema: dict[str, Any], base: str, reference: str) -> Any:
        address, fragment = urldefrag(_join(base, reference))
        found = self._by_address.get(f"{address}#{fragment}" if fragment else address)
        if found is None and address.startswith(_META):
            return _ANY_SCHEMA
        if found is None:
            found = self._along(self._by_address.get(address), unquote(fragment))
        if not isinstance(found, dict | bool):
            raise UnanswerableError(
                f"{self.where(schema)}/$ref",
                f"there is no schema at {reference[:100]!r}; refer to a part of this schema, such as '#/$defs/name'",
            )
        if id(found) not in self._bases:
            self._index(found, (None, fragment), address)
        return found

    def dynamic_target(self, schema: dict[str, Any], reference: str, scope: Sequence[str]) -> Any:
        """Return what a ``$dynamicRef`` means to those who came through the resources of ``scope``, outermost first."""
        found = self.target(schema, reference)
        name = urldefrag(reference)[1]
        if isinstance(found, dict) and found.get("$dynamicAnchor") == name:
            outer = (self._dynamic.get((base, name)) for base in scope)
            return next((part for part in outer if part is not None), found)
        return found

    def _along(self, found: Any, pointer: str) -> Any:
        """Follow a JSON pointer; ``None`` if it leads nowhere."""
        if pointer and not pointer.startswith("/"):
            return None
        for step in pointer.split("/")[1:]:
            self._budget.spend()
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and int(name[:9]) < len(found):
                found = found[int(name[:9])]
            elif isinstance(found, dict):
                found = found.get(name)
            else:
                return None
        return found


def _join(base: str, reference: str) -> str:
    """Resolve a reference; ``urljoin`` does not know opaque bases such as ``urn:``."""
    if reference.startswith("#"):
        return urldefrag(base)[0] + reference
    try:
        return urljoin(base, reference)
    except ValueError:
        return reference
