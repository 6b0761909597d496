"""The two clocks of a store: what is promised by the calendar, and what is promised by waiting.

Wall time decides windows, receipts, and when a key or a remembered answer expires. Leases, slots
and request rates run on steady time, which nobody sets: a clock that is put right by an hour
neither frees what is held nor holds what is free. Steady time is the machine's own since it was
started, so that all processes on one file agree; ``boot`` tells one start from another, since
after it no lease of before can have a living holder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_WALL: Final = "wall"


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on both clocks, in seconds: ``wall`` since the epoch, ``steady`` since some start."""

    wall: float
    steady: float


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where a store reads the time. ``boot`` names the run of the machine that steady time belongs to."""

    wall: Callable[[], float]
    steady: Callable[[], float]
    boot: str

    def now(self) -> Moment:
        """Return this moment on both clocks."""
        return Moment(self.wall(), self.steady())

    @property
    def is_steady(self) -> bool:
        """Tell whether leases run on a clock of their own; otherwise they run on wall time."""
        return self.boot != _WALL


def system_clocks() -> Clocks:
    """Return the machine's clocks; where it does not tell its starts apart, leases run on wall time."""
    try:
        boot = _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return Clocks(time.time, time.time, _WALL)
    return Clocks(time.time, time.monotonic, boot)  # on Linux one clock for all processes since the machine's start


def clocks_of(wall: Callable[[], float] | None, steady: Callable[[], float] | None) -> Clocks:
    """Return clocks that are given; the steady one follows the wall clock if only that is."""
    if wall is None and steady is None:
        return system_clocks()
    wall = wall or time.time
    return Clocks(wall, steady or wall, "given")
