"""What providers demand of a schema with ``"strict": true``: closed objects, every member required. Pure."""

from __future__ import annotations

from typing import Any

from flatfee.server.providers.simulation.schema import Budget, UnanswerableError


def check_strict(schema: Any, budget: Budget) -> None:
    """Refuse a schema that OpenAI refuses in strict mode.

    Raises:
        UnanswerableError: it names the object and the cure.
    """
    waiting = [("", schema)]
    while waiting:
        where, part = waiting.pop()
        budget.spend()
        if isinstance(part, list):
            waiting += [(f"{where}/{index}", inner) for index, inner in enumerate(part)]
        if not isinstance(part, dict):
            continue
        _check_object(part, where)
        for keyword in ("properties", "$defs", "definitions"):
            named = part.get(keyword)
            if isinstance(named, dict):
                waiting += [(f"{where}/{keyword}/{name}", inner) for name, inner in named.items()]
        waiting += [(f"{where}/{keyword}", part[keyword]) for keyword in ("items", "anyOf") if keyword in part]


def _check_object(part: dict[str, Any], where: str) -> None:
    properties = part.get("properties")
    if part.get("type") != "object" and not isinstance(properties, dict):
        return
    if part.get("additionalProperties") is not False:
        raise UnanswerableError(
            where, "'additionalProperties' is required to be supplied and to be false in strict mode"
        )
    required = part.get("required")
    left = [name for name in properties or () if not isinstance(required, list) or name not in required]
    if left:
        raise UnanswerableError(where, f"'required' has to list every property in strict mode, and lacks {left[0]!r}")
