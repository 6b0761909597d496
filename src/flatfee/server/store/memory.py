"""A store in this process's memory: for tests, demos and CI. Everything is gone with the process.

Transactions run on the event loop without an ``await`` inside, so each is atomic by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flatfee.server.clocks import clocks_of
from flatfee.server.store.book import SlotKey
from flatfee.server.store.memory_book import MemoryBook
from flatfee.server.store.records import Caller
from flatfee.server.store.shared import SharedStore

_T = TypeVar("_T")


class MemoryStore(SharedStore):
    """The whole ``Store`` protocol over a ``MemoryBook``."""

    def __init__(
        self,
        clock: Callable[[], float] | None = None,
        *,
        steady: Callable[[], float] | None = None,
        max_receipts: int = 100_000,
    ) -> None:
        self._clocks = clocks_of(clock, steady)
        self._book = MemoryBook(max_receipts)

    async def ready(self) -> None:
        return

    async def close(self) -> None:
        return

    async def find_key(self, digest: bytes) -> Caller | None:
        return self._book.caller_of(digest, self.now())

    async def last_route(self, caller: Caller, workflow: str) -> str | None:
        return self._book.last_route(SlotKey(caller.account, caller.project, workflow), self._clocks.steady())

    async def _write(self, work: Callable[[MemoryBook], _T]) -> _T:
        return work(self._book)

    async def _read(self, work: Callable[[MemoryBook], _T]) -> _T:
        return work(self._book)
