"""What the actors of one simulated run share: chance, time, the processes, and what went wrong.

Every choice comes from one ``random.Random(seed)``, so a run is its seed. Processes of the gateway
crash and come back here; what they do is the real code's business.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Generator
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tests.torture.virtual import Clocks

_T = TypeVar("_T")

CALL: ContextVar[int] = ContextVar("CALL", default=0)
"""The number of the caller's request that a task works on."""

_PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)
_DELAYS: Final = (0.0, 0.0, 0.001, 0.03, 0.2, 1.0, 4.0, 12.0)
_LONG_DELAYS: Final = (25.0, 61.0, 95.0)


class Crashed(BaseException):
    """The process that did this is gone; nothing catches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mood:
    """How likely each kind of fault is at each place where it may strike."""

    crash: float
    down: float
    delay: float
    long_delay: float
    provider: float
    hang_up: float
    cancel: float
    slow: float
    again: float
    clerk: float
    jumps: float
    queued: bool

    @classmethod
    def drawn(cls, rng: random.Random) -> Mood:
        """Draw one: some runs are calm but for one kind of fault, some are not."""
        return cls(
            crash=rng.choice((0, 0, 0.004, 0.02)),
            down=rng.choice((0, 0, 0.01, 0.05, 0.2)),
            delay=rng.choice((0.02, 0.2, 0.4)),
            long_delay=rng.choice((0, 0, 0.02, 0.2)),
            provider=rng.choice((0, 0.1, 0.3, 0.6)),
            hang_up=rng.choice((0, 0.1, 0.4)),
            cancel=rng.choice((0, 0, 0.1)),
            slow=rng.choice((0, 0.1)),
            again=rng.choice((0, 0.1)),
            clerk=rng.choice((0, 0.3, 1)),
            jumps=rng.choice((0, 0.2)),
            queued=rng.random() < 0.5,
        )

    @property
    def loses_nothing(self) -> bool:
        """Tell whether no process dies and the ledger answers in time, so that every way out must settle."""
        return not (self.crash or self.down or self.long_delay)


class Process:
    """One process of the gateway: its tasks end when it crashes, and its hold on the store with them."""

    def __init__(self) -> None:
        self.alive = True
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in the order they began: a run is its seed

    def spawn(self, work: Coroutine[Any, Any, _T], call: int = 0) -> asyncio.Task[_T]:
        """Run work as a part of this process, whatever it starts in its turn included."""
        context = copy_context()
        context.run(_PROCESS.set, self)
        context.run(CALL.set, call)
        return context.run(asyncio.get_running_loop().create_task, work)

    def crash(self) -> None:
        """End now: whatever runs is cancelled, and can write nothing more."""
        self.alive = False
        for task in list(self.tasks):
            task.cancel()


def make_task(
    loop: asyncio.AbstractEventLoop, work: Generator[Any, None, _T] | Coroutine[Any, Any, _T], **options: Any
) -> asyncio.Task[_T]:
    """Make a task that its process knows of (a task factory)."""
    task: asyncio.Task[_T] = asyncio.Task(work, loop=loop, **options)
    process = _PROCESS.get()
    if process is not None:
        process.tasks[task] = None
        task.add_done_callback(lambda done: process.tasks.pop(done, None))
        if not process.alive:
            task.cancel()
    return task


class World:
    """Chance, clocks, notes and violations of one run."""

    def __init__(self, seed: int, clocks: Clocks, *, trace: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clocks = clocks
        self.mood = Mood.drawn(self.rng)
        self.calm = False
        self.notes: list[tuple[float, tuple[object, ...]]] = []
        self.violations: list[str] = []
        self._requests: dict[int, str] = {}
        self._trace = trace

    def wants(self, request_id: str) -> None:
        """Note the gateway's id of the caller's request that this task, or one it started, works on."""
        self._requests[CALL.get()] = request_id

    def request(self) -> str:
        """Return the gateway's id of the caller's request that this task works on."""
        return self._requests.get(CALL.get(), "")

    def note(self, *what: object) -> None:
        """Keep a line of the trace."""
        if self._trace:
            self.notes.append((self.clocks.steady(), what))

    def violate(self, text: str) -> None:
        """Note that a promise did not hold."""
        self.note("VIOLATION", text)
        self.violations.append(text)

    def strikes(self, chance: float) -> bool:
        """Tell whether a fault strikes."""
        return not self.calm and chance > 0 and self.rng.random() < chance

    async def pause(self, process: Process, where: str) -> None:
        """Stand at a place where the process may wait, or crash.

        Raises:
            Crashed: the process is gone.
        """
        if not process.alive:
            raise Crashed
        if self.strikes(self.mood.crash):
            self.note("crash", where)
            process.crash()
            raise Crashed
        if self.strikes(self.mood.delay):
            delays = _LONG_DELAYS if self.strikes(self.mood.long_delay) else _DELAYS
            await asyncio.sleep(self.rng.choice(delays))
            if not process.alive:
                raise Crashed
