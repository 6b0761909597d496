"""The clock of a scripted gateway: it flows like any other, and it can be moved forward. No waiting here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

START: Final = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
"""What time it is when a gateway starts, unless it is told: the same for every run, and far from a window's end."""


def aware(moment: datetime | str, name: str) -> datetime:
    """Return a date and time that has a zone; a text is read as ISO 8601.

    Raises:
        ValueError: it has none, or is no date and time.
    """
    given: object = moment
    try:
        read = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        read = None
    if not isinstance(read, datetime):
        message = f"{name}={given!r} is no date and time; use a datetime, or a text such as '{START.isoformat()}'."
        raise ValueError(message)  # noqa: TRY004 - a value of the wrong type is a wrong value
    if read.tzinfo is None:
        message = f"{name}={read.isoformat()} has no time zone; write {read.isoformat()}+00:00."
        raise ValueError(message)
    return read


def stopped() -> float:
    """Tell the time of a clock that never moves."""
    return 0.0


class VirtualClock:
    """One time for all that a gateway reads: calendar, leases, limits and the timers of its event loop.

    ``start`` is a date and time with a zone. ``steady`` is the machine's clock that it flows with, in seconds:
    ``stopped`` for one that stands still but for what is skipped.
    """

    def __init__(self, start: datetime | str = START, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._began = steady()
        self._start = aware(start, "start").timestamp()
        self._skipped = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Return the seconds since the gateway was made, those that were skipped among them."""
        return self._steady() - self._began + self._skipped

    def wall(self) -> float:
        """Return the time of day, in seconds since the epoch."""
        return self._start + self.monotonic()

    @property
    def epoch(self) -> float:
        """When the clock's monotonic time began, in seconds since the epoch."""
        return self._start

    def skip(self, seconds: float) -> None:
        """Let the time be later by so many seconds, at once."""
        with self._lock:
            self._skipped += max(0.0, seconds)

    @property
    def skipped(self) -> float:
        """The seconds that went by without being waited for."""
        return self._skipped

    def __repr__(self) -> str:
        return f"<VirtualClock {datetime.fromtimestamp(self.wall(), UTC).isoformat(timespec='seconds')}>"
