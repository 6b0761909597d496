"""An event loop in a thread of its own, whose time is a ``VirtualClock``.

While the gateway only waits for time, the loop skips to its next timer instead of waiting: a silent provider,
the pause before another try, a deadline cost no real seconds. It waits like any other loop while a caller
is still sending or reading, while work runs in another thread, and while a test holds an answer back.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack, cast

from flatfee.testing.running.clock import VirtualClock

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

CALL_SECONDS: Final = 60.0
"""Real seconds after which a test that asks the gateway's thread for something is told that it hangs."""

_ENDED: Final = "This gateway has ended; use it within its running_gateway() block."

_PATIENCE: Final = 1.0
"""Real seconds that an advance waits for who is sending: its body is not to be late because a test moved the clock."""


@dataclass(slots=True)
class Traffic:
    """What is going on around the gateway, as far as it decides whether time may be skipped.

    ``serving`` counts the requests whose body has come and that are not done; ``talking`` those that a caller
    is sending or reading, ``sending`` the former of them; ``held`` the answers that a test holds back.
    """

    clock: VirtualClock
    autojump: bool = True
    serving: int = 0
    talking: int = 0
    sending: int = 0
    held: int = 0

    @contextmanager
    def hearing(self) -> Generator[None, None, None]:
        """Wait for what a caller sends."""
        self.talking += 1
        self.sending += 1
        try:
            yield
        finally:
            self.talking -= 1
            self.sending -= 1

    @contextmanager
    def saying(self) -> Generator[None, None, None]:
        """Wait for a caller to take what it is sent."""
        self.talking += 1
        try:
            yield
        finally:
            self.talking -= 1

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


@dataclass(slots=True, eq=False)
class _Aim:
    """Where somebody wants the clock to be. ``patient_until`` is real time."""

    moment: float
    patient_until: float = field(default_factory=lambda: time.monotonic() + _PATIENCE)
    reached: asyncio.Event = field(default_factory=asyncio.Event)


class RealTimer:
    """Rings after so many real seconds, however many are skipped meanwhile, and if the gateway's clock stands still.

    It is for what a caller owes, who is not late because the time of another one's silent provider was skipped.
    """

    def __init__(self, loop: VirtualLoop, seconds: float, call: Callable[[], object]) -> None:
        self.due = time.monotonic() + seconds
        self.call = call
        self._timers = loop.real_timers
        self._timers.add(self)

    def cancel(self) -> None:
        """Ring no more."""
        self._timers.discard(self)


async def sleep_really(seconds: float) -> None:
    """Sleep by the machine's clock. On a gateway's event loop."""
    rang = asyncio.Event()
    timer = RealTimer(cast("VirtualLoop", asyncio.get_running_loop()), seconds, rang.set)
    try:
        await rang.wait()
    finally:
        timer.cancel()


class _Selector(selectors.DefaultSelector):
    """Waits for sockets, or lets time go by instead. ``ring`` returns for how long to wait at most."""

    def __init__(self, ring: Callable[[], float | None], skip: Callable[[float | None], float | None]) -> None:
        super().__init__()
        self._ring = ring
        self._skip = skip

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        most = self._ring()
        ready = super().select(0)
        if ready or most == 0 or (timeout is not None and timeout <= 0):
            return ready
        return super().select(_sooner(self._skip(timeout), most))


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop. What is asked of it from other threads goes through ``LoopThread``."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self._elsewhere = 0
        self._aims: list[_Aim] = []
        self.real_timers: set[RealTimer] = set()
        super().__init__(_Selector(self._ring, self._skip))

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
        aim = _Aim(moment)
        self._aims.append(aim)
        try:
            await aim.reached.wait()
        finally:
            self._aims.remove(aim)

    def _ring(self) -> float | None:
        """Let real timers ring that are due; return the seconds until the next, 0 if one rang."""
        if not self.real_timers:
            return None
        now = time.monotonic()
        due = sorted((timer for timer in self.real_timers if timer.due <= now), key=lambda timer: timer.due)
        for timer in due:
            timer.cancel()
            self.call_soon(timer.call)
        return 0.0 if due else min(timer.due for timer in self.real_timers) - now

    def _skip(self, until_next: float | None) -> float | None:
        """Skip to the next timer, or to where somebody wants the clock to be; return for how long to wait really."""
        aims = [aim for aim in self._aims if not aim.reached.is_set()]
        if self._elsewhere:
            return until_next
        if aims:
            return self._skip_to(min(aims, key=lambda aim: aim.moment), until_next)
        if until_next is None or not self.traffic.waits_for_time:
            return until_next
        self.traffic.clock.skip(until_next)
        return 0.0

    def _skip_to(self, aim: _Aim, until_next: float | None) -> float | None:
        patience = aim.patient_until - time.monotonic() if self.traffic.sending else 0.0
        if patience > 0:
            return _sooner(patience, until_next)
        left = aim.moment - self.time()
        if left <= 0:
            aim.reached.set()
            return 0.0
        # Where no request is served, nothing could happen in between that matters.
        steps = [left] if until_next is None or not self.traffic.serving else [left, until_next]
        self.traffic.clock.skip(min(steps))
        return 0.0


class LoopThread:
    """A thread with an event loop, for as long as it is asked to live."""

    def __init__(self, traffic: Traffic, name: str) -> None:
        self._traffic = traffic
        self._started: Future[VirtualLoop] = Future()
        self._end: asyncio.Event | None = None
        self._lock = threading.Lock()
        self._is_ending = False
        self._process = os.getpid()
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
        """Run a coroutine on the loop, and wait for what it returns. Raises as ``begin`` and ``result`` do."""
        return self.result(self.begin(work))

    def begin(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Begin a coroutine on the loop.

        Raises:
            RuntimeError: the loop has ended, or is another process's, or this is its own thread, which would wait
                for itself.
        """
        hindrance = self._hindrance()
        if hindrance is None:
            with self._lock:
                if not self._is_ending:  # what is begun before the loop is told to end runs before it ends
                    return asyncio.run_coroutine_threadsafe(work, self.loop)
        work.close()
        raise RuntimeError(hindrance or _ENDED)

    def _hindrance(self) -> str | None:
        """Return why nothing can be begun from here."""
        if threading.current_thread() is self._thread:
            return "A function that answers for the script cannot ask its own gateway; let the test ask it."
        if os.getpid() != self._process:  # a fork takes no threads along
            return f"This gateway runs in process {self._process}; send it requests, to its base_url."
        return None

    @staticmethod
    def result(begun: Future[_T]) -> _T:
        """Wait for what was begun.

        Raises:
            TimeoutError: the gateway's thread has not done it within ``CALL_SECONDS`` real seconds.
            RuntimeError: the loop ended meanwhile.
        """
        try:
            return begun.result(CALL_SECONDS)
        except CancelledError as error:
            raise RuntimeError(_ENDED) from error
        except TimeoutError as error:
            if begun.done():  # it is the work's own
                raise
            begun.cancel()
            message = f"The gateway has not done this within {CALL_SECONDS:g} seconds: something blocks its thread."
            raise TimeoutError(message) from error

    @property
    def is_running(self) -> bool:
        """Whether the loop can be asked for anything."""
        return self._thread.is_alive() and os.getpid() == self._process

    def turn(self) -> None:
        """Wait until what the loop does at this moment is done; at once where it has ended, or asks itself."""
        if threading.current_thread() is self._thread or not self.is_running:
            return
        with suppress(RuntimeError):  # it ends at this moment
            self.call(asyncio.sleep(0))

    def stop(self) -> None:
        """End the loop and its thread; nothing where they have ended."""
        if self._end is None or not self.is_running:
            return
        with self._lock:
            if not self._is_ending:
                self._is_ending = True
                self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(CALL_SECONDS)
