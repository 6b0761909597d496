"""One thread that writes to SQLite, and commits once for all the work that waits (group commit)."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from flatfee.server.store.base import StoreDown

_B = TypeVar("_B")
_T = TypeVar("_T")
_MAX_GROUP = 256

Chore = Callable[[], object]
"""Something for the thread to do outside of any transaction; it raises nothing."""

Work = tuple[Callable[[Any], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]
Ends = Sequence[tuple["asyncio.Future[Any]", Any]]
"""Futures, and the result or the error of each."""


class Writer(Generic[_B]):
    """Runs work against ``book`` on its own thread, each piece all or nothing.

    A piece of work must depend on nothing but the book and its own arguments: after another
    piece of its group has failed, it is run again. Each transaction takes its ``turn`` among the
    processes that write to the same file; without it, all who wait are told ``StoreDown``. ``undone`` is
    called when a transaction was rolled back, ``told`` with what those who wait are to be told.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        book: _B,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
        undone: Callable[[], None] = lambda: None,
        told: Callable[[Ends], None] | None = None,
    ) -> None:
        self._connection = connection
        self._book = book
        self._turn = turn
        self._undone = undone
        self._told = told if told is not None else tell
        self._queue: SimpleQueue[Sequence[Work] | Chore | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="flatfee-ledger", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[_B], _T]) -> asyncio.Future[_T]:
        """Queue work at once; the future ends when its commit is done.

        The work is done even if nobody waits for the future any more.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        if self._closed:
            future.set_exception(StoreDown("the store is closed"))
        else:
            self._queue.put([(work, future, loop)])
        return future

    def take_over(self, group: Sequence[Work]) -> None:
        """Do work that was given to somebody else first, and could not be done there."""
        if not group:
            return
        if self._closed:
            resolve([(future, StoreDown("the store is closed")) for _, future, _ in group])
        else:
            self._queue.put(group)

    async def close(self) -> None:
        """Do all work that waits, then end the thread and the connection."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            with suppress(OSError), self._turn():  # the last connection to a file writes its log back
                self._connection.close()
            self._connection.close()

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if callable(item):
                item()
                continue
            group, last = self._gather(item)
            self._commit(group)
            if last:
                return

    def _gather(self, first: Sequence[Work]) -> tuple[list[Work], bool]:
        """Take everything that waits; tell whether the end mark was among it."""
        group = list(first)
        while len(group) < _MAX_GROUP:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if item is None:
                return group, True
            if callable(item):
                item()
            else:
                group += item
        return group, False

    def _commit(self, group: list[Work]) -> None:
        try:
            with self._turn():
                results = self._results(group)
        except OSError as error:  # TurnLost, or whatever keeps us from seeing if it is our turn
            results = [as_store_down(error) for _ in group]
        # Once the turn is given back: who is woken competes with this thread for the interpreter.
        self._told([(future, result) for (_, future, _), result in zip(group, results, strict=True)])

    def _results(self, group: list[Work]) -> list[Any]:
        """Run a group in one transaction; return a result or an error for each."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            # Locked or lost: that holds for all who wait, and trying for each would take as long each time.
            return [as_store_down(error) for _ in group]
        try:
            return self._transact(group)
        except Exception as error:  # noqa: BLE001 - whatever failed is told to the one who asked
            if len(group) > 1:
                return [result for work in group for result in self._results([work])]
            return [as_store_down(error)]

    def _transact(self, group: list[Work]) -> list[Any]:
        try:
            results = [work(self._book) for work, _, _ in group]
            self._connection.execute("COMMIT")
        except BaseException:
            try:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            finally:
                self._undone()
            raise
        return results


def as_store_down(error: Exception) -> Exception:
    """Return what is told of an error: that of a database or a disk means that the store is down."""
    if not isinstance(error, (sqlite3.Error, OSError)):
        return error
    down = StoreDown(f"the ledger cannot be written: {error}")
    down.__cause__ = error
    return down


def tell(ends: Ends) -> None:
    """End futures from another thread, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for future, result in ends:
        by_loop.setdefault(future.get_loop(), []).append((future, result))
    for loop, its in by_loop.items():
        try:
            loop.call_soon_threadsafe(resolve, its)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            continue


def resolve(ends: Ends) -> None:
    """End futures with their results or errors, but for those that nobody waits for any more."""
    for future, result in ends:
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
