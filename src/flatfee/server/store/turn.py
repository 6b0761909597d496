"""Whose turn it is to write, among the processes that share one SQLite file. A lock on a file beside it.

SQLite has a lock of its own, which holds even without this one; a waiting writer asks for it again
and again, ever more seldom. And its automatic checkpoint runs after the lock is free, when another
process may commit already: up to version 3.51.2 that could damage the file ("WAL-reset bug",
sqlite.org/wal.html). The turn covers the commit with its checkpoint, so neither happens.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_FIRST_PAUSE: Final = 0.0001
_LONGEST_PAUSE: Final = 0.002


class TurnLost(OSError):
    """Another process kept its turn for too long, or there is no file any more to write to."""


class Turn:
    """One process's way to the turn. Closed with ``close``; a process that ends gives its turn back.

    Once ``remember_file`` was called, nobody has a turn while the database is not the file that it was
    then. SQLite goes on writing into a file that was removed, and all of that would be lost.
    """

    def __init__(self, database: Path, patience: float) -> None:
        self._database = database
        self._identity: tuple[int, int] | None = None
        self._patience = patience
        self._file = os.open(path_beside(database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def taken(self) -> Generator[None]:
        """Hold the turn while the block lasts.

        Raises:
            TurnLost: it did not become free within ``patience`` seconds, or the database is gone.
        """
        self._wait()
        try:
            if self._identity is not None and _identity(self._database) != self._identity:
                raise TurnLost("its file was removed or replaced; put it back, or restart the gateway")
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def remember_file(self) -> None:
        """Take the database as it is now for the one that every later turn must find."""
        self._identity = _identity(self._database)

    def _wait(self) -> None:
        end, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise TurnLost("another process has been writing for too long") from error
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return

    def close(self) -> None:
        """Let go of the lock's file."""
        os.close(self._file)


def _identity(database: Path) -> tuple[int, int] | None:
    try:
        found = database.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def path_beside(database: Path) -> Path:
    """Return where the lock of a database is."""
    return database.with_name(database.name + "-turn")
