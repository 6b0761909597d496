"""Between the gateway's event loop and whoever waits elsewhere: a thread, asyncio, trio. Values pass, no HTTP here."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")

WRITE_AHEAD: Final = 16 * 1024
"""Bytes that may wait for a reader before the gateway stops: as many as on a socket."""


class Wake:
    """An event of the event loop that runs here, which any thread may set."""

    def __init__(self) -> None:
        from anyio import Event

        self._event = Event()
        try:
            self._call: Callable[[Callable[[], object]], object] = asyncio.get_running_loop().call_soon_threadsafe
        except RuntimeError:
            self._call = sys.modules["trio"].lowlevel.current_trio_token().run_sync_soon
        self.wait = self._event.wait

    def set(self) -> None:
        """Wake who waits, unless its event loop has ended."""
        with suppress(RuntimeError):  # trio's RunFinishedError is one
            self._call(self._event.set)


async def outcome_of(begun: Future[_T]) -> _T:
    """Wait for what was begun in another thread; it is cancelled with who waits for it."""
    wake = Wake()
    begun.add_done_callback(lambda _: wake.set())
    try:
        await wake.wait()
    except BaseException:
        begun.cancel()
        raise
    return begun.result()


class Pipe(Generic[_T]):
    """Values from the gateway's event loop to one reader elsewhere, bounded by their sizes in bytes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._values: deque[tuple[_T, int]] = deque()
        self._waiting = 0
        self._wake: Callable[[], object] | None = None
        self._room = asyncio.Event()
        self._closed = False

    async def put(self, value: _T, size: int) -> None:
        """Pass a value on, and wait while the reader is behind. On the gateway's event loop."""
        if self.pass_on(value, size):
            await self._room.wait()

    def pass_on(self, value: _T, size: int = 0) -> bool:
        """Pass a value on at once; return whether the reader is behind. On the gateway's event loop."""
        with self._lock:
            if self._closed:
                return False
            self._values.append((value, size))
            self._waiting += size
            behind = self._waiting > WRITE_AHEAD
            if behind:
                self._room.clear()
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()
        return behind

    def take(self, wake: Callable[[], object]) -> _T | None:
        """Return the next value; if there is none, ``wake`` is called once there is."""
        with self._lock:
            if not self._values:
                self._wake = wake
                return None
            value, size = self._values.popleft()
            was_behind, self._waiting = self._waiting > WRITE_AHEAD, self._waiting - size
            caught_up = was_behind and self._waiting <= WRITE_AHEAD
        if caught_up:
            self._call(self._room.set)
        return value

    def close(self, then: Callable[[], object]) -> None:
        """Read no more: what comes is dropped, and ``then`` is called on the gateway's event loop."""
        with self._lock:
            self._closed = True
            self._values.clear()
        self._call(partial(_both, self._room.set, then))

    def _call(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the gateway has ended
            self._loop.call_soon_threadsafe(call)


def _both(first: Callable[[], object], then: Callable[[], object]) -> None:
    first()
    then()
