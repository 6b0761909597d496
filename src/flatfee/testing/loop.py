"""An event loop in a thread of its own, whose time is a ``VirtualClock``.

While the gateway only waits for time, the loop skips to its next timer instead of waiting: a silent provider,
the pause before another try, a deadline cost no real seconds. It waits like any other loop while a caller
is still sending or reading, while work runs in another thread, and while a test holds an answer back.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

from flatfee.testing.clock import VirtualClock

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

CALL_SECONDS: Final = 60.0
"""Real seconds after which a test that asks the gateway's thread for something is told that it hangs."""

_AT_ONCE: Final = 60.0
"""Seconds that are skipped in one step where no request is served: nothing could happen in between that matters."""


@dataclass(slots=True)
class Traffic:
    """What is going on around the gateway, as far as it decides whether time may be skipped.

    ``serving`` counts the requests whose body has come and that are not done; ``talking`` those that a caller
    is sending or reading; ``held`` the answers that a test holds back.
    """

    clock: VirtualClock
    autojump: bool = True
    serving: int = 0
    talking: int = 0
    held: int = 0

    @contextmanager
    def holding(self) -> Generator[None, None, None]:
        """Hold an answer back."""
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    @property
    def waits_for_time(self) -> bool:
        """Whether an idle gateway waits for nothing but its own timers."""
        return self.autojump and self.serving > 0 and not self.talking and not self.held


@dataclass(slots=True)
class _Aim:
    """Where somebody wants the clock to be."""

    moment: float
    reached: asyncio.Event = field(default_factory=asyncio.Event)


class _Selector(selectors.DefaultSelector):
    """Waits for sockets, or lets time go by instead."""

    def __init__(self, skip: Callable[[float | None], bool]) -> None:
        super().__init__()
        self._skip = skip

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        return [] if self._skip(timeout) else super().select(timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop. What is asked of it from other threads goes through ``LoopThread``."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self._elsewhere = 0
        self._aim: _Aim | None = None
        super().__init__(_Selector(self._skip))

    def time(self) -> float:
        """Return the time of the gateway's clock."""
        return self.traffic.clock.monotonic()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Run a function in another thread; time is not skipped while it runs."""
        running = super().run_in_executor(executor, func, *args)
        self._elsewhere += 1
        running.add_done_callback(self._back)
        return running

    def _back(self, future: object) -> None:
        del future
        self._elsewhere -= 1

    async def advance_to(self, moment: float) -> None:
        """Let the clock go to a moment, and every timer on the way ring at its time."""
        self._aim = aim = _Aim(moment)
        try:
            await aim.reached.wait()
        finally:
            self._aim = None

    def _skip(self, until_next: float | None) -> bool:
        """Skip to the next timer, or to where somebody wants the clock to be; ``False``: wait for it."""
        if self._elsewhere:
            return False
        if self._aim is not None:
            return self._skip_to(self._aim, until_next)
        if until_next is None or not self.traffic.waits_for_time:
            return False
        self.traffic.clock.skip(until_next)
        return True

    def _skip_to(self, aim: _Aim, until_next: float | None) -> bool:
        if self.traffic.talking:
            return False
        left = aim.moment - self.time()
        if left <= 0:
            aim.reached.set()
            return True
        steps = [left] if until_next is None or not self.traffic.serving else [left, until_next]
        self.traffic.clock.skip(min(steps))
        return True


class LoopThread:
    """A thread with an event loop, for as long as it is asked to live."""

    def __init__(self, traffic: Traffic, name: str) -> None:
        self._traffic = traffic
        self._started: Future[VirtualLoop] = Future()
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self.loop = self._started.result(CALL_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(self._traffic)) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        self._end = asyncio.Event()
        self._started.set_result(asyncio.get_running_loop())  # type: ignore[arg-type]  # it is made by loop_factory
        await self._end.wait()

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the loop, and wait for what it returns.

        Raises:
            RuntimeError: asked from the loop's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError(
                "A function that answers for the script cannot ask its own gateway; let the test ask it."
            )
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_SECONDS)

    @property
    def is_running(self) -> bool:
        """Whether the loop can be asked for anything."""
        return self._thread.is_alive()

    def turn(self) -> None:
        """Wait until what the loop does at this moment is done; at once where it has ended, or asks itself."""
        if threading.current_thread() is self._thread or not self.is_running:
            return
        done = threading.Event()
        self.loop.call_soon_threadsafe(done.set)
        done.wait(CALL_SECONDS)

    def stop(self) -> None:
        """End the loop and its thread."""
        if self._end is not None and self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._end.set)
            self._thread.join(CALL_SECONDS)
