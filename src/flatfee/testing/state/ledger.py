"""The ledger of a scripted gateway: the memory store, which can be taken down and set back. No rules of money here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final, TypeVar

from flatfee.server.store.base import StoreDown
from flatfee.server.store.book import SlotKey
from flatfee.server.store.entries import net
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.memory_book import MemoryBook
from flatfee.server.store.records import Caller, Purse
from flatfee.server.windows import Window
from flatfee.testing.running.clock import VirtualClock

_T = TypeVar("_T")

_DOWN: Final = "the test took the ledger down"


class DoubleStore(MemoryStore):
    """A memory store by a virtual clock. While it is ``down`` everything asked of it raises ``StoreDown``."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock.wall, steady=clock.monotonic)
        self.down = False
        self._first = copy.deepcopy(self._book)

    def keep(self) -> None:
        """Remember what there is now, for ``restore``."""
        self._first = copy.deepcopy(self._book)

    def restore(self) -> None:
        """Be as at the last ``keep``, and up."""
        self._book = copy.deepcopy(self._first)
        self.down = False

    async def hold(self, key: SlotKey, idle: float) -> None:
        """Hold a workflow's slot for ``idle`` seconds from now, as a request of it that ends now would."""

        def work(book: MemoryBook) -> None:
            now = self._clocks.now()
            book.hold_slot(key, now, now.steady + idle)

        await self._write(work)

    async def charges(self, account: str, unit: str, purse: Purse, window: Window) -> list[tuple[str, int]]:
        """Return which requests of a window are charged, and how many units each, newest first."""

        def work(book: MemoryBook) -> list[tuple[str, int]]:
            found = [
                (kept.request_id, net(kept, book.adjustments(kept.request_id)))
                for kept in reversed(book.receipts.values())
                if (kept.account, kept.unit, kept.purse) == (account, unit, purse)
                and window.start <= kept.at < window.end
            ]
            return [(request_id, units) for request_id, units in found if units > 0]

        return await self._read(work)

    async def ready(self) -> None:
        """Return when the ledger can be written."""
        self._check()

    async def find_key(self, digest: bytes) -> Caller | None:
        """Return what a key stands for."""
        self._check()
        return await super().find_key(digest)

    async def last_route(self, caller: Caller, workflow: str) -> str | None:
        """Return the route that last answered a live workflow."""
        self._check()
        return await super().last_route(caller, workflow)

    async def _write(self, work: Callable[[MemoryBook], _T]) -> _T:
        self._check()
        return await super()._write(work)

    async def _read(self, work: Callable[[MemoryBook], _T]) -> _T:
        self._check()
        return await super()._read(work)

    def _check(self) -> None:
        if self.down:
            raise StoreDown(_DOWN)
