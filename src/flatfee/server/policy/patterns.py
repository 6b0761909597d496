"""Names that may end in ``*``: a name stands for itself, ``nightly-*`` for all that begin so. Pure.

Rules use them for workflows, aliases for the model names that tools insist on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

ANY: Final = "*"


def is_prefix(pattern: str) -> bool:
    """Tell whether a pattern stands for every name that begins like it."""
    return pattern.endswith(ANY)


def covers(pattern: str, name: str) -> bool:
    """Tell whether ``name`` is one of those that a pattern stands for."""
    return name.startswith(pattern[:-1]) if is_prefix(pattern) else name == pattern


def includes(wide: str, narrow: str) -> bool:
    """Tell whether a pattern stands for every name that another one stands for."""
    return narrow == wide if not is_prefix(wide) else narrow.removesuffix(ANY).startswith(wide[:-1])


def longest_first(patterns: Iterable[str]) -> list[str]:
    """Return the patterns that end in ``*``, so that the first which covers a name says most of it."""
    return sorted(filter(is_prefix, patterns), key=len, reverse=True)
