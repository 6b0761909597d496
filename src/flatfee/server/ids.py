"""Request ids: ``req_`` and 26 characters of Crockford's base32, ordered by time (a ULID)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import lru_cache
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
PREFIX: Final = "req_"


def earliest_id(now: float) -> str:
    """Return the least id of the moment ``now``: what is less was made before it."""
    return request_id(max(0.0, now), lambda bits: 0)  # noqa: ARG005 - the shape of ``random_bits``


def request_id(now: float, random_bits: Callable[[int], int] = secrets.randbits) -> str:
    """Make an id for the moment ``now`` (seconds since the epoch): 48 bits of time, 80 of chance."""
    return _of_millisecond(int(now * 1000)) + _of_chance(random_bits(80))


@lru_cache(maxsize=1)
def _of_millisecond(milliseconds: int) -> str:
    """Return what the ids of a moment begin with; the requests of one moment come one after another."""
    # 48 bits are 9.6 characters, so the first pair holds only eight bits.
    return PREFIX + "".join([_PAIRS[milliseconds >> shift & 1023] for shift in range(40, -1, -10)])


def _of_chance(bits: int) -> str:
    p = _PAIRS  # written out, this takes a third of the time of a loop
    return (
        f"{p[bits >> 70]}{p[bits >> 60 & 1023]}{p[bits >> 50 & 1023]}{p[bits >> 40 & 1023]}"
        f"{p[bits >> 30 & 1023]}{p[bits >> 20 & 1023]}{p[bits >> 10 & 1023]}{p[bits & 1023]}"
    )


def moment_of(request_id: str) -> float | None:
    """Return the moment that an id was made for, to the millisecond; ``None`` if it is no id of ours."""
    text = request_id.removeprefix(PREFIX)
    if len(text) != 26 or text == request_id or not set(text) <= set(_ALPHABET):
        return None
    number = 0
    for sign in text:
        number = number << 5 | _ALPHABET.index(sign)
    return (number >> 80) / 1000
