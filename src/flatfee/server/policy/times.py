"""Hours and days of a rule, by the wall clock of one place. Pure: the moment comes in as an argument.

A span such as ``22:00-06:00`` runs over midnight; its end does not belong to it. A day is the one on which a span
*began*: with ``days = ["sat"]`` that night ends on Sunday at six. What counts is what a clock on the wall shows: an
hour that is skipped in spring is in no span, and one that comes twice in autumn is in it twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)
"""In the order of ``datetime.weekday``."""

_MINUTES_A_DAY: Final = 24 * 60
_MINUTES_A_WEEK: Final = 7 * _MINUTES_A_DAY
_SPAN: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the day in minutes since midnight, ``start`` below 1440; one that ends before it starts wraps."""

    start: int
    end: int

    @classmethod
    def of(cls, text: str) -> Span:
        """Read a span such as ``09:00-17:30``; ``24:00`` may be its end.

        Raises:
            ValueError: it is not a span, or one without length.
        """
        found = _SPAN.fullmatch(text)
        if found is None:
            message = f"{text[:40]!r} is not a span of hours; write one such as '22:00-06:00'"
            raise ValueError(message)
        hour, minute, end_hour, end_minute = found.groups()
        start = int(hour) * 60 + int(minute)
        end = int(end_hour) * 60 + int(end_minute) if end_hour is not None else _MINUTES_A_DAY
        if start == end:
            message = f"{text!r} has no length; '00:00-24:00' is the whole day"
            raise ValueError(message)
        return cls(start, end)


@dataclass(frozen=True, slots=True)
class Times:
    """When a rule holds: in any of ``spans`` that began on one of ``days`` (0 is Monday)."""

    spans: tuple[Span, ...]
    days: frozenset[int]
    text: str = field(compare=False)

    @classmethod
    def of(cls, hours: tuple[str, ...] | None, days: tuple[Day, ...] | None) -> Times:
        """Read ``hours`` and ``days``; what is absent is the whole day, or every day."""
        spans = tuple(map(Span.of, hours)) if hours is not None else (Span(0, _MINUTES_A_DAY),)
        text = " on ".join(" or ".join(part) for part in (hours, days) if part)
        return cls(spans, frozenset(map(DAYS.index, days if days is not None else DAYS)), text)

    def __str__(self) -> str:
        """Say them as the rule does."""
        return self.text

    def hold(self, local: datetime) -> bool:
        """Tell whether a moment, as the clock on the wall shows it, is one of these."""
        minute, today = local.hour * 60 + local.minute, local.weekday()
        return any(self._holds(span, minute, today) for span in self.spans)

    def _holds(self, span: Span, minute: int, today: int) -> bool:
        if span.start < span.end:
            return span.start <= minute < span.end and today in self.days
        return (minute >= span.start and today in self.days) or (minute < span.end and (today - 1) % 7 in self.days)

    def within(self, other: Times) -> bool:
        """Tell whether all of these are among the others."""
        return not self.week & ~other.week

    @property
    def week(self) -> int:
        """The minutes of a week in which a rule holds, one bit for each; the lowest is Monday 00:00."""
        bits = 0
        for span in self.spans:
            minutes = (1 << ((span.end - span.start) % _MINUTES_A_DAY or _MINUTES_A_DAY)) - 1
            for day in self.days:
                bits |= minutes << (day * _MINUTES_A_DAY + span.start)
        return (bits | bits >> _MINUTES_A_WEEK) & ((1 << _MINUTES_A_WEEK) - 1)


def check_span(text: str) -> str:
    """Return ``text`` if it is a span.

    Raises:
        ValueError: it is none.
    """
    Span.of(text)
    return text


def check_timezone(name: str) -> str:
    """Return ``name`` if it is a timezone's.

    Raises:
        ValueError: there is none of that name.
    """
    zone_of(name)
    return name


def zone_of(name: str) -> tzinfo:
    """Return the timezone of an IANA name; ``UTC`` needs no database of them on this machine.

    Raises:
        ValueError: there is none of that name.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        message = f"{name[:64]!r} is no timezone that this machine knows; use an IANA name such as 'Europe/Berlin'"
        raise ValueError(message) from error
