"""How the core of a client is deep-copied: with connections of its own, and everything else as it is."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any, Self


class OwnConnections:
    """A core whose deep copy opens connections of its own.

    Settings are frozen. What is called (``on_receipt``, a key's callable, clocks) is the caller's: copied, a
    method would work on a copy of its object, which nobody looks at.
    """

    __slots__ = ()

    transport: Any

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied: Self = replace(self, transport=deepcopy(self.transport, memo))  # type: ignore[type-var]  # a dataclass is what mixes this in
        return copied
