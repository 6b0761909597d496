"""Waits until a call may be sent: the two shells of ``pacing``, for threads and for coroutines.

What is decided is decided in ``pacing.Line``, under one lock that is never held while anybody waits. There is
no thread and no task beside the callers' own: who is first in line looks at the clock, the others sleep.
"""

from __future__ import annotations

import math
import os
import queue
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

from flatfee.client.pacing import Limit, Line, Ticket
from flatfee.errors import APIError, APIStatusError, ConcurrencyLimitError, ConfigurationError, RateLimitError
from flatfee.wire import Header

DEFAULT_WAIT: Final = 1.0
"""Seconds to wait after a refusal that does not tell how long, or tells 0."""


class Pacing:
    """Has the calls of one client, or of several, slow down together instead of failing.

    Pass it as ``Client(pacing=Pacing(...))``; ``pacing=True`` makes one. Copies of the client and its workflows
    share it. While the gateway says ``workflow_limit`` or ``rate_limited``, calls wait in the order in which they
    were made; such a refusal does not count against ``max_retries``.

    Args:
        longest_wait: seconds that a call may wait for its turn in all; then the refusal itself is raised.
        clock: tells the seconds.
        chance: a number from 0 to 1, so that clients which were refused together do not return together.

    Raises:
        ConfigurationError: ``longest_wait`` is not a number of seconds.
    """

    def __init__(
        self,
        *,
        longest_wait: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        given: Any = longest_wait
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if not (number and 0 < given < math.inf):
            raise ConfigurationError(f"longest_wait is {given!r}; use seconds above 0.")
        self.longest_wait = float(given)
        self._clock = clock
        self._chance = chance
        self._begin()

    @classmethod
    def of(cls, value: object) -> Pacing | None:
        """Read the argument ``pacing`` of a client.

        Raises:
            ConfigurationError: it is neither true, false nor a ``Pacing``.
        """
        if value is None or value is False:
            return None
        if value is True:
            return cls()
        if isinstance(value, cls):
            return value
        raise ConfigurationError(f"pacing is {value!r}; use True, False or flatfee.Pacing(...).")

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn now."""
        self._sweep()
        return len(self._line.waiting)

    def turn(self, workflow: str | None) -> Turn:
        """Return the place of a call that begins now."""
        return Turn(self, self._line.ticket(workflow, _nobody))

    def released(self, workflow: str) -> None:
        """Take note that a workflow's slot was given back."""
        with self._alone():
            self._line.released(workflow, self._now())
        self._sweep()

    def _begin(self) -> None:
        self._line = Line(self._chance)
        self._lock = threading.Lock()
        self._gone: deque[tuple[Ticket, float]] = deque()
        self._last: tuple[type[APIStatusError], Mapping[str, Any]] = RateLimitError, {}
        self._pid = os.getpid()

    def _alone(self) -> threading.Lock:
        """Return the lock; ``_now`` comes first under it, and ``_sweep`` after it: what was woken may be gone."""
        if self._pid != os.getpid():
            self._begin()  # after a fork: those in line, and who held the lock, are in the other process
        return self._lock

    def _now(self) -> float:
        self._let_gone_go()
        return self._clock()

    def _leave(self, ticket: Ticket) -> None:
        """Take a call out: whoever looks next does it, so somebody who waits is woken.

        It may come from the garbage collector, in whoever holds this lock or another one. So it takes none.
        """
        self._gone.append((ticket, self._clock()))
        if self._pid == os.getpid():
            any(waiting.wake() for waiting in self._line.waiting)

    def _sweep(self) -> None:
        while self._gone:
            with self._alone():
                self._let_gone_go()

    def _let_gone_go(self) -> None:
        while self._gone:
            self._line.left(*self._gone.popleft())

    def __copy__(self) -> Pacing:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Pacing:
        """Stay one line: a copied client has the same key, and so the same limits."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Pacing, longest_wait=self.longest_wait), ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(longest_wait={self.longest_wait!r})"


class Turn:
    """One call's place in line, from its first try to its end."""

    __slots__ = ("_pacing", "_refusal", "_ticket", "_until", "spent")

    def __init__(self, pacing: Pacing, ticket: Ticket) -> None:
        self._pacing = pacing
        self._ticket = ticket
        self._until: float | None = None
        self._refusal: APIStatusError | None = None
        self.spent = False
        """Whether the call has waited for as long as it may."""

    def wait(self, left: float | None) -> bool:
        """Block until the next try may be sent, for ``left`` seconds at most; tell whether that was not at once.

        Raises:
            RateLimitError: the refusal that it waited for, when it has waited for long enough.
        """
        if self._enter():
            return False
        # Not an event: its lock may be held by this very thread when the garbage collector has somebody woken.
        calls, end = queue.SimpleQueue[bool](), self._end(left)
        self._ticket.wake = partial(_call, calls)
        with self._leaving_on_failure():
            while (seconds := self._look(end)) is not None:
                with suppress(queue.Empty):
                    calls.get(timeout=min(seconds, threading.TIMEOUT_MAX))
        return True

    async def awaited(self, left: float | None) -> bool:
        """Do what ``wait`` does, for coroutines of asyncio and trio."""
        if self._enter():
            return False
        import anyio

        end = self._end(left)
        with self._leaving_on_failure():
            while True:
                event = anyio.Event()
                self._ticket.wake = _waker(event, self._lost)
                seconds = self._look(end)
                if seconds is None:
                    return True
                with anyio.move_on_after(seconds):
                    await event.wait()

    def refused(self, error: APIError) -> bool:
        """Take note of a failed try; tell whether the call keeps its turn, to be sent again."""
        pacing, limit = self._pacing, limit_of(error)
        if limit is None or not isinstance(error, APIStatusError):
            self.over()
            return False
        wait = error.retry_after or DEFAULT_WAIT  # to come back after nothing would be to come back for ever
        if limit is Limit.RATE and wait > pacing.longest_wait:
            self.over()
            return False
        self._refusal = error
        told = _count(error.headers, Header.WORKFLOWS_LIMIT)
        with pacing._alone():
            pacing._last = type(error), error.body or {}  # not the error, whose traceback holds a request
            pacing._line.refused(self._ticket, limit, wait, told, pacing._now())
        pacing._sweep()
        return True

    def admitted(self, headers: Mapping[str, str]) -> None:
        """Take note of an answer's headers: the gateway has let the call in."""
        self._refusal = None  # its traceback holds this turn
        if self._ticket.workflow is None and not self._pacing._line.limits:
            return  # nobody could learn from it
        active, told = _count(headers, Header.WORKFLOWS_ACTIVE), _count(headers, Header.WORKFLOWS_LIMIT)
        with self._pacing._alone():
            self._pacing._line.admitted(self._ticket, active, told, self._pacing._now())
        self._pacing._sweep()

    def over(self) -> None:
        """Take note that nothing of the call is under way any more. Does no harm when it is said twice."""
        self._pacing._leave(self._ticket)

    def _lost(self) -> None:
        """Take note that whoever waits is gone; others are being woken already."""
        self._pacing._gone.append((self._ticket, self._pacing._clock()))

    def _enter(self) -> bool:
        pacing = self._pacing
        with pacing._alone():
            now = pacing._now()
            if not self._ticket.inside and not pacing._line.holds(self._ticket):
                pacing._line.enter(self._ticket, now)
        pacing._sweep()
        return self._ticket.inside

    def _end(self, left: float | None) -> float:
        now = self._pacing._clock()
        if self._until is None:
            self._until = now + self._pacing.longest_wait
        return self._until if left is None else min(self._until, now + left)

    def _look(self, end: float) -> float | None:
        pacing = self._pacing
        with pacing._alone():
            now = pacing._now()
            seconds = pacing._line.look(self._ticket, now)
        pacing._sweep()
        if seconds is None:
            return None
        if now < end:
            return min(seconds, end - now)
        self.spent = True
        raise self._refusal or _stands_for(*pacing._last)

    @contextmanager
    def _leaving_on_failure(self) -> Generator[None]:
        try:
            yield
        except BaseException as error:  # a cancelled waiter must leave no hole in the line
            self.over()
            if not isinstance(error, GeneratorExit):  # which may come from the garbage collector
                self._pacing._sweep()
            raise
        finally:
            self._ticket.wake = _nobody

    def __del__(self) -> None:
        with suppress(AttributeError):  # a stream that nobody closed
            if self._ticket.inside:
                self.over()


def limit_of(error: APIError) -> Limit | None:
    """Return the limit that a refusal is for, if waiting for one's turn can cure it."""
    if not isinstance(error, RateLimitError) or not error.retryable:
        return None
    return Limit.SLOTS if isinstance(error, ConcurrencyLimitError) else Limit.RATE


def _stands_for(kind: type[APIStatusError], body: Mapping[str, Any]) -> APIStatusError:
    """Return the failure of a call that was never sent: it waited behind others who had been refused."""
    code = body.get("code")
    return kind(
        f"The call waited in line behind others that the gateway had refused ({code}), and was not sent.",
        status_code=429,
        body=body,
    )


def _count(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name)
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else None


def _nobody() -> bool:
    """Wake nobody: the call does not wait, or is about to look by itself."""
    return False


def _call(calls: queue.SimpleQueue[bool]) -> bool:
    calls.put(True)
    return True


def _waker(event: Any, gone: Callable[[], None]) -> Callable[[], bool]:
    """Return what sets an event of this event loop from any thread; of a loop that is closed, the waiter is gone."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        soon: Callable[[Callable[[], Any]], Any] = trio.lowlevel.current_trio_token().run_sync_soon
    else:
        import asyncio

        soon = asyncio.get_running_loop().call_soon_threadsafe

    def wake() -> bool:
        try:
            soon(event.set)
        except RuntimeError:  # trio's RunFinishedError is one, too
            gone()
            return False
        return True

    return wake
