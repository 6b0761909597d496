"""How a test moves the clock of its gateway, and how clients sleep by it. The clock itself is ``clock``."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from flatfee.server.store.base import StoreDown
from flatfee.testing.inside import Inside
from flatfee.testing.running.bridge import outcome_of
from flatfee.testing.running.clock import aware
from flatfee.testing.state.accounts import AccountState

_LAST_YEAR: Final = 9000
_LATEST: Final = datetime(_LAST_YEAR, 1, 1, tzinfo=UTC).timestamp()
"""Far from where dates end: windows and leases end later than now."""

_slept: ContextVar[float] = ContextVar("slept", default=0.0)


def client_clock() -> float:
    """Tell a client under test the seconds: real ones, and those that this thread or task slept virtually.

    What others skip is not counted: a deadline must not pass because of somebody else's silent provider.
    """
    return time.monotonic() + _slept.get()


@dataclass(frozen=True, slots=True)
class Time:
    """The time of one gateway. Timers that ring on the way ring in their order, each at its time."""

    _inside: Inside
    _one_by_one: asyncio.Lock = field(default_factory=asyncio.Lock)

    def advance(self, by: float | timedelta) -> None:
        """Let time go by; who advances at the same time waits, and goes on from there.

        Raises:
            ValueError: time does not go backwards.
        """
        seconds = _seconds("advance", by)

        async def work() -> None:
            async with self._one_by_one:
                await self._go_on(seconds)

        self._inside.run(work())

    def advance_to(self, moment: datetime | str) -> None:
        """Let it be ``moment``.

        Raises:
            ValueError: it has passed already, or has no time zone.
        """
        wall = aware(moment, "moment").timestamp()

        async def work() -> None:
            async with self._one_by_one:
                seconds = wall - self._inside.clock.wall()
                if seconds < 0:
                    now = datetime.fromtimestamp(self._inside.clock.wall(), UTC).isoformat()
                    message = f"advance_to({moment}): it is {now} already, and time only goes forward."
                    raise ValueError(message)
                await self._go_on(seconds)

        self._inside.run(work())

    def advance_to_window_end(self, account: str | None = None) -> None:
        """Let the billing window of an account end, of the first one unless told: the next has just begun."""

        async def work() -> datetime:
            usage = await AccountState(account or self._inside.account, self._inside).told()
            assert usage.window is not None  # noqa: S101 - the gateway tells it
            return usage.window.end

        self.advance_to(self._inside.run(work()))

    def sleep(self, seconds: float) -> None:
        """Sleep by the gateway's clock: it goes on, and nobody waits. Who sleeps at the same moment sleeps beside."""
        self._inside.run(self._go_on(_seconds("sleep", seconds)))
        _slept.set(_slept.get() + seconds)

    async def asleep(self, seconds: float) -> None:
        """Sleep so in a coroutine, on asyncio or trio."""
        begun = self._inside.thread.begin(self._go_on(_seconds("asleep", seconds)))
        await outcome_of(begun)
        _slept.set(_slept.get() + seconds)

    async def _go_on(self, seconds: float) -> None:
        if self._inside.clock.wall() + seconds > _LATEST:
            message = f"It would be {seconds:g} seconds later: time goes to the year {_LAST_YEAR} and no further."
            raise ValueError(message)
        await self._inside.thread.loop.advance_to(self._inside.clock.monotonic() + seconds)
        with suppress(StoreDown):  # which is for requests to see
            await self._inside.store.sweep()


def _seconds(name: str, by: float | timedelta) -> float:
    seconds: object = by.total_seconds() if isinstance(by, timedelta) else by
    if not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        message = f"{name}({by!r}): time only goes forward; give seconds, 0 or more."
        raise ValueError(message)
    return seconds
