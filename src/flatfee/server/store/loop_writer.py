"""Commits on the event loop: what is short is run there at once, and all that came together is committed together.

A thread of its own costs each piece of work more than the work itself: the two compete for the
interpreter at every statement. What a commit of SQLite does here is a write into the system's memory;
whatever waits for a disk or for others is done on the writer's thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from flatfee.server.store.base import StoreDown
from flatfee.server.store.log_sync import sync_log
from flatfee.server.store.turn import Turn
from flatfee.server.store.writer import Ends, Work, Writer, as_store_down, resolve

_ROUNDS: Final = 128
_PAUSES: Final = 50
_PAUSE: Final = 0.001
"""So often it is looked whether the turn is free before a thread waits for it: in each of so many rounds of the loop,
then after a pause (seconds) each time. Another process keeps it for some 0.3 ms, which is less than any timer."""

CHECKPOINT_PAGES: Final = 16_000
"""The log is written back at some 64 MB, once a second under full load: requests wait for it, and should seldom."""

_PAGES_OF_A_COMMIT: Final = 6
_CHANGES_ON_A_PAGE: Final = 3

_MOST_PIECES: Final = 64
"""A transaction is left open while each round of the loop adds to it, until it holds so many pieces of work."""


class Undoable(Protocol):
    """A book that remembers something of what it wrote."""

    def rolled_back(self) -> None:
        """Forget it."""
        ...


class Cached(Undoable, Protocol):
    """A book that remembers what it read, and keeps what it writes until it is flushed."""

    def begin(self) -> None:
        """Forget what somebody else may have changed meanwhile; the transaction is open."""
        ...

    def flush(self) -> None:
        """Write what was kept."""
        ...

    def committed(self) -> None:
        """What was written stands."""
        ...


_B = TypeVar("_B", bound=Undoable)
_C = TypeVar("_C", bound=Cached)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class AtOnce(Generic[_B, _T]):
    """A short piece of work, which must check whatever may fail before it writes, and raise ``StoreDown`` then.

    With ``early`` its result is told as soon as it is known. It may still be undone: whoever goes on with it must
    see a later piece committed.
    """

    work: Callable[[_B], _T]
    early: bool = False

    def __call__(self, book: _B) -> _T:
        """Do it."""
        return self.work(book)


class LoopWriter(Writer[_B], Generic[_B, _C]):
    """Runs what is short on the event loop, within a transaction that is committed once a round adds nothing to it.

    It runs against a book that remembers. Any error but ``StoreDown`` undoes the transaction. What was undone with it,
    or cannot be run at once because others have the file, is done as all other work: on the thread.
    With ``told``, those whose work was committed are told by it, instead of at once. With ``crowded`` other processes
    write as much: then work is gathered first, and the turn is held no longer than it takes to do it.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        book: _B,
        cached: _C,
        turn: Turn,
        told: Callable[[Ends], None] | None = None,
        *,
        crowded: bool = False,
    ) -> None:
        super().__init__(connection, book, turn.taken_for_anything, book.rolled_back, told)
        self._tell_committed = told if told is not None else resolve
        self._cached = cached
        self._free = turn
        self._crowded = crowded
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._pages = 0  # that were written about since the last checkpoint
        self._changes = 0
        self._patient = True  # whether the connection waits for who locks the file
        self._home: asyncio.AbstractEventLoop | None = None  # whose work is done at once
        self._moving = threading.Lock()
        self._open = False  # whether a transaction of the home loop is
        self._ends: list[tuple[Work, Any]] = []
        self._waiting: list[Work] = []
        self._tries = 0
        self._pieces = self._seen = 0

    def submit(self, work: Callable[[_B], _T]) -> asyncio.Future[_T]:
        """Do work, ``AtOnce`` if it is of that kind; the future ends when its commit is done.

        It is done even if nobody waits for the future any more.
        """
        if not isinstance(work, AtOnce):
            return super().submit(work)
        loop = asyncio.get_running_loop()
        if loop is not self._home and not self._moved_to(loop):
            return super().submit(work)
        future: asyncio.Future[_T] = loop.create_future()
        if self._closed:
            future.set_exception(StoreDown("the store is closed"))
        elif self._crowded or self._waiting or not self._begun(loop):
            self._wait((work, future, loop))
        else:
            self._do((work, future, loop), early=work.early)
        return future

    async def close(self) -> None:
        """Commit what is open, do all work that waits, then end the thread and the connection."""
        if self._home is asyncio.get_running_loop() or (self._home is not None and not self._home.is_running()):
            self._leave_home()
        await super().close()

    def _moved_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Do this loop's work at once from now on, unless that of another one is, which may still run elsewhere."""
        with self._moving:
            if self._home is not None:
                if not self._home.is_closed():
                    return False
                self._leave_home()
            self._home = loop
        return True

    def _leave_home(self) -> None:
        """Finish what was begun: the loop will not come back to it."""
        if self._home is not None and self._home.is_closed():
            self._ends.clear()  # nobody is left to tell
        self._commit_all()
        self._leave_to_the_thread()

    def _leave_to_the_thread(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.take_over(waiting)

    def _begun(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Open a transaction unless one is open; false if that cannot be done at once."""
        if self._open:
            return True
        try:
            if not self._free.try_take():
                return False
        except OSError:
            return False  # the thread tells why
        try:
            if self._patient:
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._patient = False
            self._connection.execute("BEGIN IMMEDIATE")
            self._cached.begin()
        except Exception:  # noqa: BLE001 - the thread waits for who has the file, or tells what is wrong with it
            self._undo()
            return False
        self._open = True
        if not self._crowded:
            loop.call_soon(self._commit_round)
        return True

    def _results(self, group: list[Work]) -> list[Any]:
        if not self._patient:
            self._connection.execute(f"PRAGMA busy_timeout = {int(self._free.patience * 1000)}")
            self._patient = True
        results = super()._results(group)
        self._note_pages()
        return results

    def _do(self, piece: Work, *, early: bool) -> None:
        work, future, _ = piece
        self._pieces += 1
        try:
            result = work(self._cached)
        except StoreDown as error:
            resolve([(future, error)])
        except Exception as error:  # noqa: BLE001 - whatever failed is told to the one who asked
            resolve([(future, as_store_down(error))])
            self._fail()
        except BaseException:
            self._fail()  # half of it must not be committed
            raise
        else:
            if early:
                future.set_result(result)
            else:
                self._ends.append((piece, result))

    def _commit_round(self) -> None:
        """Commit what is open, unless this round has added to it."""
        if self._home is not None and self._grown(self._pieces):
            self._home.call_soon(self._commit_round)
        else:
            self._commit_all()

    def _grown(self, pieces: int) -> bool:
        """Tell whether more may come: the last round has added some, and it is no full load yet."""
        before, self._seen = self._seen, pieces
        return before != pieces < _MOST_PIECES

    def _commit_all(self) -> None:
        if not self._open:
            return  # it was undone meanwhile
        self._pieces = self._seen = 0
        try:
            self._cached.flush()
            self._connection.execute("COMMIT")
        except Exception:  # noqa: BLE001 - the thread finds out whose it is, and tells
            self._fail()
            return
        self._cached.committed()
        self._note_pages()
        self._open = False
        self._free.give_back()
        ends, self._ends = self._ends, []
        self._tell_committed([(future, result) for (_, future, _), result in ends])

    def _note_pages(self) -> None:
        """Have the log written back by the thread after about so many pages: that waits for the disk."""
        changes = self._connection.total_changes
        # SQLite counts them in 32 bits, which begin anew some day.
        self._pages += _PAGES_OF_A_COMMIT + (changes - self._changes) % 2**32 // _CHANGES_ON_A_PAGE
        self._changes = changes
        if self._pages >= CHECKPOINT_PAGES:
            self._pages = 0
            self._queue.put(self._checkpoint)

    def _checkpoint(self) -> None:
        with suppress(OSError, sqlite3.Error):  # it is tried again the next time
            # A checkpoint begins with this, and waits for it longest: here nobody has to wait with it.
            sync_log(self._free.database)
            with self._free.taken():  # it changes nothing, so nobody need forget anything
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _fail(self) -> None:
        """Undo the open transaction, and leave its work to the thread, where a piece that fails takes no other along.

        What was told early is undone for good: its dispatch will find no ticket.
        """
        pieces = [piece for piece, _ in self._ends]
        self._ends = []
        self._open = False
        self._pieces = self._seen = 0
        self._undo()
        self.take_over(pieces)

    def _undo(self) -> None:
        try:
            with suppress(sqlite3.Error):  # what it could not end is ended before the next one
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        finally:
            self._cached.rolled_back()
            self._free.give_back()

    def _wait(self, work: Work) -> None:
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self._tries = self._seen = 0
            work[2].call_soon(self._again)

    def _again(self) -> None:
        """Do what waits, if the file is free now; in the end the writer's thread waits for it."""
        if not self._waiting:
            return
        loop = self._waiting[0][2]
        if self._crowded and self._grown(len(self._waiting)):
            loop.call_soon(self._again)
        elif self._begun(loop):
            self._do_what_waits(loop)
        elif self._tries < _ROUNDS:
            self._tries += 1
            loop.call_soon(self._again)
        elif self._tries < _ROUNDS + _PAUSES:
            self._tries += 1
            loop.call_later(_PAUSE, self._again)
        else:
            self._leave_to_the_thread()

    def _do_what_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, self._waiting = self._waiting, []
        for piece in waiting:
            if self._begun(loop):
                self._do(piece, early=False)
            else:
                self.take_over([piece])
        if self._crowded:
            self._commit_all()
