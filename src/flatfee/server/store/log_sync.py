"""One sync of SQLite's log for all who wait: commits go on meanwhile, and none is told of before it is on the disk.

SQLite itself syncs its log within each commit (``synchronous`` = FULL), and everybody waits for that in
turn. Here commits are made with NORMAL, which only writes them, and a thread syncs the log afterwards: once
for all that was committed until it begins. Whoever was committed is told then. This keeps what FULL keeps:

- A log is read from its begin, and ends before the first frame whose checksum, which goes on from the one before,
  is wrong. So a sync that begins after a commit keeps that commit and all before it, by whichever process.
- With NORMAL as with FULL the log's header is synced before the first frame that follows it. A checkpoint syncs the
  log before it copies from it and the database after that, and only then may the log begin anew. So a commit that is
  not in the log any more when we sync is in the database, and on the disk.
- The log is not removed while a connection to the database is open, so its file stays the one that was opened here.
  Its name must last as well: the directory is synced once. (To close a file ends all locks that a process has on it;
  those of SQLite are on other files.)
- FULL also pads the log to whole sectors, but only where a write that is cut short may damage what lies beside it in
  a sector. SQLite is built not to expect that, unless it is told to.

What differs: others may read a commit some moments before it is on the disk. Nobody is told of it as done before.

After a sync that failed, nobody knows what the disk holds, and the next one may wrongly succeed. So from then
on everything is told to be down until the gateway is started again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from flatfee.server.store.writer import Ends, as_store_down, tell

_SYNC: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter


class LogSync:
    """Syncs the log of a database that is open, on a thread of its own. Closed with ``close``.

    Raises:
        OSError: there is no log, or its directory cannot be synced.
    """

    def __init__(self, database: Path, sync: Callable[[int], None] = _SYNC) -> None:
        real = database.resolve()
        self._file = _open_log(real)
        self._sync = sync
        self._failed: OSError | None = None
        self._queue: SimpleQueue[Ends | None] = SimpleQueue()
        _sync_directory(real.parent)
        self._thread = threading.Thread(target=self._run, name="flatfee-sync", daemon=True)
        self._thread.start()

    def tell(self, ends: Ends) -> None:
        """End futures with their results once all is on the disk that was committed before this call."""
        if ends:
            self._queue.put(ends)

    def close(self) -> None:
        """Tell all who wait, then end the thread. It waits for the disk."""
        self._queue.put(None)
        self._thread.join()
        os.close(self._file)

    def _run(self) -> None:
        item = self._queue.get()
        while item is not None:
            ends, item = self._gather(item)
            try:
                self._sync(self._file)
            except OSError as error:
                self._failed = self._failed or error
            tell(ends if self._failed is None else [(future, self._down(result)) for future, result in ends])
            if item is not None:
                item = self._queue.get()

    def _gather(self, first: Ends) -> tuple[Ends, Ends | None]:
        """Take everything that waits, and with it ``None`` if the end mark was among it."""
        ends = list(first)
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return ends, first
            if item is None:
                return ends, None
            ends += item

    def _down(self, result: object) -> Exception:
        assert self._failed is not None  # noqa: S101 - only asked then
        return result if isinstance(result, Exception) else as_store_down(self._failed)


def sync_log(database: Path, sync: Callable[[int], None] = _SYNC) -> None:
    """Write to the disk what is in the log of a database that is open.

    Raises:
        OSError: there is none, or it cannot be synced.
    """
    file = _open_log(database.resolve())
    try:
        sync(file)
    finally:
        os.close(file)


def _open_log(real: Path) -> int:
    """Open the log of a database, whose path must be resolved as SQLite does it."""
    return os.open(real.with_name(real.name + "-wal"), os.O_RDWR | os.O_CLOEXEC)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
