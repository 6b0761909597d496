"""Scales of a chart: from values to places, round ticks, and bins of time. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from flatfee.server.replaying.tally import HOUR, MINUTE

_DAY: Final = 24 * HOUR
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_BARS: Final = (MINUTE, 5 * MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, _DAY, 7 * _DAY)
"""Widths of a bar in seconds."""

_MARKS: Final = tuple(minutes * MINUTE for minutes in (1, 2, 5, 10, 15, 30))
_LONG: Final = 3 * _DAY

MOST_BARS: Final = 45
_TICKS: Final = 5
_UNITS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from ``low`` to ``high``, drawn from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the place of a value."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return self.start + share * (self.end - self.start)


def ticks(most: float) -> list[float]:
    """Return round values from 0 on, the last of them at ``most`` or above it."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / (_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in _STEPS if each * power >= rough * (1 - 1e-9))
    step = max(step, 1.0)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def short(value: float) -> str:
    """Return a figure for an axis: ``1.5 M``."""
    for size, letter in _UNITS:
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:g}"


def bar_width(seconds: int, step: int) -> int:
    """Return how many seconds one bar covers: a ``step`` or more, and at most ``MOST_BARS`` in a stretch of time."""
    width = next((each for each in _BARS if each >= step and seconds <= each * MOST_BARS), None)
    return width if width is not None else _BARS[-1] * math.ceil(seconds / (_BARS[-1] * MOST_BARS))


def is_long(first: int, last: int) -> bool:
    """Tell whether a stretch of time is so long that days are named, and no time of day."""
    return last - first >= _LONG


def dates(first: int, last: int, most: int) -> Sequence[int]:
    """Return seconds since the epoch to be named on an axis, at most ``most``, evenly spread."""
    for mark in _MARKS:
        begin = -(-first // mark) * mark
        if (last - begin) // mark < most:
            return range(begin, last + 1, mark)
    unit = _DAY if is_long(first, last) else HOUR
    begin = -(-first // unit)
    count = max(1, last // unit - begin + 1)
    step = math.ceil(count / most)
    return [number * unit for number in range(begin, last // unit + 1, step)]


def date_text(second: int, *, days: bool) -> str:
    """Return how a second since the epoch is named: by its day, or by day and time."""
    at = datetime.fromtimestamp(second, UTC)
    return f"{at.day} {at:%b}" if days else f"{at.day} {at:%b %H:%M}"
