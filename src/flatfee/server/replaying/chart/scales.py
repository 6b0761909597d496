"""Scales of a chart: from values to places, round ticks, and bins of time. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_BINS: Final = (1, 6, 24, 168)
"""Widths of a bar in hours."""

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


def bar_hours(hours: int) -> int:
    """Return how many hours one bar covers, so that a stretch of time has at most ``MOST_BARS``."""
    width = next((each for each in _BINS if hours <= each * MOST_BARS), None)
    return width if width is not None else 168 * math.ceil(hours / (168 * MOST_BARS))


def dates(first: int, last: int, most: int) -> Sequence[int]:
    """Return hours since the epoch to be named on an axis, at most ``most``, evenly spread; days where it is long."""
    days = last - first >= 72
    unit = 24 if days else 1
    begin = -(-first // unit)
    count = max(1, last // unit - begin + 1)
    step = math.ceil(count / most)
    return [hour * unit for hour in range(begin, last // unit + 1, step)]


def date_text(hour: int, *, days: bool) -> str:
    """Return how an hour is named: by its day, or by day and time."""
    at = datetime.fromtimestamp(hour * 3600, UTC)
    return f"{at.day} {at:%b}" if days else f"{at.day} {at:%b %H:%M}"
