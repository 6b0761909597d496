"""Whose turn it is to write, among the processes that share one SQLite file. A lock on a file beside it.

SQLite has a lock of its own, which holds even without this one; a waiting writer asks for it again
and again, ever more seldom. And a checkpoint outside of a turn could run while another process
commits: up to version 3.51.2 that could damage the file ("WAL-reset bug", sqlite.org/wal.html).
A turn covers either a commit or a checkpoint, so neither happens.

The lock's file holds figures besides, which every process sees at once: how often the directory may
have changed, and when somebody last found the turn taken.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_FIRST_PAUSE: Final = 0.0001
_LONGEST_PAUSE: Final = 0.002

COURTESY: Final = 0.002
"""Seconds for which one who had the turn leaves it to another who found it taken."""

_FIGURES: Final = 3
_VERSION, _WISH, _WISHER = range(_FIGURES)


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
        self._me = secrets.randbits(64)  # not a process's id: two stores of one process must not starve each other
        self._mine = threading.Lock()  # among the threads of this process, which share the file's lock
        self._waiting_threads = 0
        self._file = os.open(path_beside(database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._file).st_size < 8 * _FIGURES:
            os.ftruncate(self._file, 8 * _FIGURES)  # who does it at the same time does the same
        self._map = mmap.mmap(self._file, 8 * _FIGURES)
        self._figures = memoryview(self._map).cast("Q")

    @property
    def database(self) -> Path:
        """The file that the turn is at."""
        return self._database

    @property
    def patience(self) -> float:
        """The seconds that it is waited for others."""
        return self._patience

    @property
    def directory_version(self) -> int | None:
        """A number that is another one after the directory has changed; ``None`` while somebody may change it.

        Who ends in the midst of a change leaves it at ``None`` until the next one is done.
        """
        version = self._figures[_VERSION]
        return None if version % 2 else version

    @contextmanager
    def taken_for_anything(self) -> Generator[None]:
        """Hold the turn while the block lasts, in which the directory may be changed.

        Raises:
            TurnLost: as ``taken``.
        """
        with self.taken():
            odd = self._figures[_VERSION] | 1
            self._figures[_VERSION] = odd
            try:
                yield
            finally:
                self._figures[_VERSION] = odd + 1

    def try_take(self) -> bool:
        """Take the turn if it is free and nobody waits for it; never waits. ``give_back`` ends it.

        Raises:
            TurnLost: the database is gone.
        """
        if self._waiting_threads or self._another_wishes() or not self._mine.acquire(blocking=False):
            return False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._mine.release()
            self._wish()
            return False
        except BaseException:
            self._mine.release()
            raise
        self._taken()
        return True

    def give_back(self) -> None:
        """End the turn."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._mine.release()

    @contextmanager
    def taken(self) -> Generator[None]:
        """Hold the turn while the block lasts.

        Raises:
            TurnLost: it did not become free within ``patience`` seconds, or the database is gone.
        """
        self._wait()
        self._taken()
        try:
            yield
        finally:
            self.give_back()

    def _taken(self) -> None:
        """See that there is a file to write to; give the turn back if there is none."""
        if self._figures[_WISHER] == self._me:
            self._figures[_WISH] = 0
        try:
            if self._identity is not None and _identity(self._database) != self._identity:
                raise TurnLost("its file was removed or replaced; put it back, or restart the gateway")
        except BaseException:
            self.give_back()
            raise

    def remember_file(self) -> None:
        """Take the database as it is now for the one that every later turn must find."""
        self._identity = _identity(self._database)

    def _wish(self) -> None:
        self._figures[_WISHER] = self._me
        self._figures[_WISH] = time.monotonic_ns()

    def _another_wishes(self) -> bool:
        wished = self._figures[_WISH]
        if not wished or self._figures[_WISHER] == self._me:
            return False
        return 0 <= time.monotonic_ns() - wished < COURTESY * 1e9

    def _wait(self) -> None:
        end, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        self._waiting_threads += 1
        try:
            if not self._mine.acquire(timeout=self._patience):
                raise TurnLost("another thread has been writing for too long")
        finally:
            self._waiting_threads -= 1
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > end:
                    self._mine.release()
                    raise TurnLost("another process has been writing for too long") from error
                self._wish()
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except BaseException:
                self._mine.release()
                raise
            else:
                return

    def close(self) -> None:
        """Let go of the lock's file."""
        self._figures.release()
        self._map.close()
        os.close(self._file)


def _identity(database: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(database)  # noqa: PTH116 - once for each commit, and twice as fast
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def path_beside(database: Path) -> Path:
    """Return where the lock of a database is."""
    return database.with_name(database.name + "-turn")
