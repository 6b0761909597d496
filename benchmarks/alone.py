"""What a client's own installation brings, and what it does not: the rest is hidden from the process that measures it.

A developer's environment has packages that clients import where they find them (``trio``, ``rich``,
``aiohttp``). Start-up and memory are told as after ``pip install NAME`` into an empty environment.
"""

from __future__ import annotations

import re
from importlib import metadata

from packaging.requirements import Requirement


def required(distribution: str) -> frozenset[str]:
    """Return the normal names of a distribution and of all that it requires here, extras left out."""
    seen: set[str] = set()
    todo = [distribution]
    while todo:
        name = _normal(todo.pop())
        if name in seen:
            continue
        seen.add(name)
        for line in metadata.requires(name) or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                todo.append(need.name)
    return frozenset(seen)


def hidden(distribution: str) -> list[str]:
    """Return the top-level modules that are installed here, and that ``distribution`` does not require."""
    kept = required(distribution)
    owners = metadata.packages_distributions()
    return sorted(module for module, names in owners.items() if not any(_normal(name) in kept for name in names))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
