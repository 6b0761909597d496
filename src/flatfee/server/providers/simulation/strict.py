"""What providers demand of a schema with ``"strict": true``: closed objects, every member required. Pure."""

from __future__ import annotations

from typing import Any

from flatfee.server.providers.simulation.schema import Budget, UnanswerableError
from flatfee.server.providers.simulation.schema.budget import Place, pointer


def check_strict(schema: Any, budget: Budget) -> None:
    """Refuse a schema that OpenAI refuses in strict mode.

    Raises:
        UnanswerableError: it names the object and the cure.
    """
    waiting: list[tuple[Place, Any]] = [(None, schema)]
    while waiting:
        where, part = waiting.pop()
        budget.spend()
        if isinstance(part, list):
            waiting += [((where, f"/{index}"), inner) for index, inner in enumerate(part)]
        if not isinstance(part, dict):
            continue
        _check_object(part, where)
        for keyword in ("properties", "$defs", "definitions"):
            named = part.get(keyword)
            if isinstance(named, dict):
                waiting += [((where, f"/{keyword}/{name}"), inner) for name, inner in named.items()]
        waiting += [((where, f"/{keyword}"), part[keyword]) for keyword in ("items", "anyOf") if keyword in part]


def _check_object(part: dict[str, Any], where: Place) -> None:
    properties = part.get("properties")
    if part.get("type") != "object" and not isinstance(properties, dict):
        return
    if part.get("additionalProperties") is not False:
        raise UnanswerableError(
            pointer(where), "'additionalProperties' is required to be supplied and to be false in strict mode"
        )
    required = part.get("required")
    listed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    left = [name for name in properties or () if name not in listed]
    if left:
        raise UnanswerableError(
            pointer(where), f"'required' has to list every property in strict mode, and lacks {left[0]!r}"
        )
