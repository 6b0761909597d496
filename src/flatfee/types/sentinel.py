"""The one value that says "this argument was not given". ``None`` is a value, and travels as null."""

from __future__ import annotations

from typing import Final, Literal, TypeGuard

_NAMES: Final = frozenset({"NotGiven", "Omit"})


class NotGiven:
    """The type of ``NOT_GIVEN``."""

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "NOT_GIVEN"

    def __reduce__(self) -> str:
        """Stay one value through pickle and copy."""
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven()

Omit = NotGiven
omit: Final = NOT_GIVEN
"""openai-python's names of the same: it tells apart what was not given and what is to be left out."""


def absent(value: object) -> TypeGuard[NotGiven]:
    """Tell whether ``value`` stands for an argument that was not given.

    openai-python's own sentinels count too, known by the name of their type: frameworks that were
    written for it pass them on.
    """
    return type(value).__name__ in _NAMES
