"""Billing windows. Pure: no I/O, no clock; the moment comes in as an argument.

``month`` runs from the account's billing day, 00:00 UTC, to the next; days 29–31 clamp to the
month's last day. A length such as ``5h`` or ``7d`` is cut from the Unix epoch, so that every
process finds the same window without asking another.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_LENGTH: Final = re.compile(r"([1-9][0-9]{0,3})([hd])")
_SECONDS: Final = {"h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Window:
    """One billing window, in seconds since the epoch; ``end`` belongs to the next one."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """How an account's time is cut into windows: the plan's kind, and the account's billing day."""

    kind: str
    billing_day: int

    def at(self, now: float) -> Window:
        """Return the window that holds the moment ``now`` (seconds since the epoch, UTC)."""
        return window_at(self.kind, self.billing_day, now)


@lru_cache(maxsize=1024)
def calendar(kind: str, billing_day: int) -> Calendar:
    """Return the calendar of a kind of window and a billing day, which many accounts share."""
    return Calendar(kind, billing_day)


def check_window(text: str) -> str:
    """Return ``text`` if it names a kind of window.

    Raises:
        ValueError: it is neither ``month`` nor a length in hours or days.
    """
    if text != "month" and not _LENGTH.fullmatch(text):
        message = f"unknown window {text!r}; use 'month' or a length such as '5h' or '7d'"
        raise ValueError(message)
    return text


def longest(kind: str) -> int:
    """Return the seconds that a window of a kind may last."""
    length = _LENGTH.fullmatch(kind)
    return int(length[1]) * _SECONDS[length[2]] if length else 31 * _SECONDS["d"]


def window_at(kind: str, billing_day: int, now: float) -> Window:
    """Return the window that holds the moment ``now`` (seconds since the epoch, UTC)."""
    return _window_of_hour(kind, billing_day, int(now // 3600))  # every window begins at a full hour


@lru_cache(maxsize=1024)
def _window_of_hour(kind: str, billing_day: int, hour: int) -> Window:
    now = hour * 3600
    length = _LENGTH.fullmatch(kind)
    if length:
        seconds = int(length[1]) * _SECONDS[length[2]]
        start = now // seconds * seconds
        return Window(start, start + seconds)
    day = datetime.fromtimestamp(now, UTC)
    start = _anchor(day.year, day.month, billing_day)
    if now < start:
        return Window(_anchor(*_shift(day.year, day.month, -1), billing_day), start)
    return Window(start, _anchor(*_shift(day.year, day.month, 1), billing_day))


def _anchor(year: int, month: int, billing_day: int) -> int:
    last = monthrange(year, month)[1]
    return int(datetime(year, month, min(billing_day, last), tzinfo=UTC).timestamp())


def _shift(year: int, month: int, months: int) -> tuple[int, int]:
    index = year * 12 + month - 1 + months
    return index // 12, index % 12 + 1
