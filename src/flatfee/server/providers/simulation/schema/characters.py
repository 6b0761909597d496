r"""Sets of characters as ranges of code points: what a class such as ``[a-z]`` or ``\d`` stands for. Pure."""

from __future__ import annotations

import string
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Final, TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Sorted, apart from each other, both ends included."""

_LAST: Final = 0x10FFFF
_CATEGORIES_UP_TO: Final = 0x3000
_IDEOGRAPHS: Final = ((0x3041, 0x9FFF), (0xAC00, 0xD7A3))
"""What lies beyond is asked for as letters or not at all; to look up each would take too long."""
_SURROGATES: Final = (0xD800, 0xDFFF)
_PREFERRED: Final = string.ascii_lowercase + string.digits + string.ascii_uppercase + "-_. " + string.punctuation
_RANK: Final = {ord(char): rank for rank, char in enumerate(dict.fromkeys(_PREFERRED))}
_PLAIN: Final = sorted(_RANK)
_FIRST_LETTER: Final = 0xA1
"""The first character beyond ASCII that can be seen."""


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return the set of all the characters in ranges of any order."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def negated(ranges: Ranges) -> Ranges:
    """Return every character that is not in a set. Halves of surrogate pairs are no characters."""
    gaps, start = [], 0
    for first, last in union((*ranges, _SURROGATES)):
        if first > start:
            gaps.append((start, first - 1))
        start = last + 1
    return (*gaps, (start, _LAST)) if start <= _LAST else tuple(gaps)


ANY: Final = negated(())
DIGITS: Final[Ranges] = ((48, 57),)
WORD: Final[Ranges] = union([(48, 57), (65, 90), (95, 95), (97, 122)])
SPACE: Final = union(
    [(0x2000, 0x200A), *((ord(c), ord(c)) for c in "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff")]
)
DOT: Final = negated(union((ord(c), ord(c)) for c in "\n\r\u2028\u2029"))


def contains(ranges: Ranges, code: int) -> bool:
    """Tell whether a set has a character."""
    index = bisect_right(ranges, (code, _LAST)) - 1
    return index >= 0 and code <= ranges[index][1]


@lru_cache(maxsize=64)  # more than there are
def category(name: str) -> Ranges:
    """Return the characters of a Unicode category such as ``L`` or ``Nd``: empty if there is none of that name."""
    if len(name) > 2:
        return ()
    codes = [code for code in range(_CATEGORIES_UP_TO) if unicodedata.category(chr(code)).startswith(name)]
    found = [(code, code) for code in codes]
    return union([*found, *_IDEOGRAPHS] if name in {"L", "Lo"} else found)


def _rank(code: int) -> int:
    return _RANK.get(code, 1000 + code if code >= _FIRST_LETTER else 1_000_000 + code)


def samples(sets: Iterable[Ranges], variety: int) -> list[str]:
    """Return characters such that whatever the sets tell apart is met: the plainest first, ``variety`` of each kind.

    Two characters are of one kind when they are in the same sets; each text of the list is a kind.
    """
    turns = {0: 0, _LAST + 1: 0, _SURROGATES[0]: 0, _SURROGATES[1] + 1: 0}
    for index, ranges in enumerate(sets):
        for edge in (edge for first, last in ranges for edge in (first, last + 1)):
            turns[edge] = turns.get(edge, 0) ^ 1 << index
    kinds: dict[int, list[int]] = {}
    kind = 0  # one bit for each set
    for start, end in pairwise(sorted(turns)):
        kind ^= turns[start]
        if start == _SURROGATES[0]:
            continue
        codes = kinds.setdefault(kind, [])
        codes += _PLAIN[bisect_left(_PLAIN, start) : bisect_left(_PLAIN, end)]
        if len(codes) < variety + _FIRST_LETTER:  # else there are enough, and the later ones are less plain
            codes += range(start, min(end, start + variety))
    chosen = [sorted(set(codes), key=_rank)[:variety] for codes in kinds.values()]
    return ["".join(map(chr, codes)) for codes in sorted(chosen, key=lambda codes: _rank(codes[0]))]
