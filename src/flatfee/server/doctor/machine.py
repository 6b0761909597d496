"""The machine that the gateway runs on: versions, the limit of open files, the clock. Pure but for ``Machine.this``."""

from __future__ import annotations

import resource
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from flatfee.server.clocks import system_clocks
from flatfee.server.doctor.finding import Finding, fail, ok, warn

MIN_PYTHON: Final = (3, 11)

_OPEN_BESIDES: Final = 64
"""Files that are open whoever asks: the ledger, the log, the sockets that listen, connections kept open."""
_FILES_A_REQUEST: Final = 2
"""The caller's connection and the provider's."""

_FIRST_YEAR: Final = 2026
_LAST_YEAR: Final = 2100
_CLOCK: Final = "clock"
_SET_THE_CLOCK: Final = "Set this machine's clock, and keep it right with NTP: windows and expiry go by it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the checks judge by. ``now`` is in seconds since the epoch; ``open_files`` is ``None`` without a limit.

    ``steady`` tells whether there is a clock that nobody sets and that all processes share.
    """

    python: tuple[int, ...]
    sqlite: tuple[int, ...]
    open_files: int | None
    now: float
    steady: bool

    @classmethod
    def this(cls) -> Machine:
        """Look at the machine that this runs on."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls(
            python=sys.version_info[:3],
            sqlite=sqlite3.sqlite_version_info,
            open_files=None if soft == resource.RLIM_INFINITY else soft,
            now=time.time(),
            steady=system_clocks().is_steady,
        )


def check_clock(machine: Machine, newest_receipt: float | None) -> Iterator[Finding]:
    """Look at the clocks. ``newest_receipt`` is when the ledger's last request came, in seconds since the epoch."""
    today = datetime.fromtimestamp(machine.now, UTC)
    behind = newest_receipt - machine.now if newest_receipt is not None else 0.0
    if not _FIRST_YEAR <= today.year <= _LAST_YEAR:
        yield fail(_CLOCK, f"it says that this is the year {today.year}", _SET_THE_CLOCK)
    elif behind > 60:
        yield fail(_CLOCK, f"it is {behind:,.0f} s behind the newest receipt of the ledger", _SET_THE_CLOCK)
    elif behind > 1:
        yield warn(_CLOCK, f"it is {behind:.0f} s behind the newest receipt of the ledger", _SET_THE_CLOCK)
    else:
        yield ok(_CLOCK, f"{today:%Y-%m-%d %H:%M:%S} UTC, not behind the newest receipt")
    if not machine.steady:
        found = "this system has no steady clock that outlives a process, so leases run by the time of day"
        yield warn(_CLOCK, found, "Never set the clock by a jump while the gateway runs, or run it on Linux.")


def check_sqlite(version: tuple[int, ...]) -> Finding:
    """Look for a version of SQLite with a known fault."""
    shown = _dotted(version)
    if not has_wal_reset_bug(version):
        return ok("sqlite", f"version {shown}")
    return warn(
        "sqlite",
        f"version {shown} can damage a file when a checkpoint and a commit of two programs meet "
        "(https://sqlite.org/wal.html#walresetbug). The gateway's own never do",
        "Let no other program write or checkpoint this file while the gateway runs, "
        "or run a Python that was built against SQLite 3.51.3 or newer.",
    )


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Tell whether this SQLite has the WAL-reset bug: 3.7.0 to 3.51.2, apart from 3.44.6 and 3.50.7 and their patches.

    Source: https://sqlite.org/wal.html#walresetbug
    """
    mended = (version[:2] == (3, 44) and version >= (3, 44, 6)) or (version[:2] == (3, 50) and version >= (3, 50, 7))
    return (3, 7, 0) <= version < (3, 51, 3) and not mended


def check_python(version: tuple[int, ...]) -> Finding:
    """Look at the version of Python."""
    if version[:2] < MIN_PYTHON:
        return fail("python", f"version {_dotted(version)}", f"Use Python {_dotted(MIN_PYTHON)} or newer.")
    return ok("python", f"version {_dotted(version)}")


def check_open_files(limit: int | None, max_requests: int) -> Finding:
    """Compare the limit of open files with what so many requests at once need."""
    need = max_requests * _FILES_A_REQUEST + _OPEN_BESIDES
    if limit is None or limit >= need:
        shown = "there is no limit" if limit is None else f"{limit:,} may be open"
        return ok("open files", f"{shown}; {max_requests:,} requests at once need {need:,}")
    return warn(
        "open files",
        f"{limit:,} may be open; {max_requests:,} requests at once (server.max_requests) need {need:,}",
        f"Raise it where the gateway is started (ulimit -n {need}), "
        f"or set max_requests = {max((limit - _OPEN_BESIDES) // _FILES_A_REQUEST, 1)}.",
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
