"""Answers that a test holds back, until it lets them go. No rules here."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, replace
from typing import Final

from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.played import Answer, Answering, Beside, Held, Played, calling
from flatfee.testing.scripting.replies import made_for, reusable

PATIENCE: Final = 30.0
"""Real seconds that ``wait_until_waiting`` waits, unless it is told otherwise."""


class Gate:
    """Holds answers back until it is opened. Make one with ``gateway.gate()``; any thread may use it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._is_open = False

    @property
    def waiting(self) -> int:
        """How many answers are held back now."""
        return len(self._held)

    @property
    def is_open(self) -> bool:
        """Whether answers pass."""
        return self._is_open

    def open(self) -> None:
        """Let go of what is held back, and of all that comes."""
        with self._changed:
            self._is_open = True
            for loop, opened in self._held:
                loop.call_soon_threadsafe(opened.set)

    def then(self, answer: Answer) -> Answering:
        """Return an answer that is held back until the gate is open.

        Raises:
            TypeError: it is no answer of a provider.
        """
        if isinstance(answer, Beside):
            raise TypeError(_cannot_be_held(answer))
        return _Behind(self, reusable(answer))

    def wait_until_waiting(self, count: int = 1, timeout: float = PATIENCE) -> None:
        """Wait until so many answers are held back at once, at most ``timeout`` real seconds.

        Raises:
            TimeoutError: there are fewer.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._held) >= count, timeout):
                message = f"{self.waiting} of {count} answers wait at the gate after {timeout:g} s."
                raise TimeoutError(message)

    async def passed(self) -> None:
        """Return once the gate is open."""
        held = (asyncio.get_running_loop(), asyncio.Event())
        with self._changed:
            if self._is_open:
                return
            self._held.add(held)
            self._changed.notify_all()
        try:
            await held[1].wait()
        finally:
            with self._changed:
                self._held.discard(held)
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _Behind:
    """An answer behind a gate."""

    gate: Gate
    answer: Answer

    @property
    def calls_tools(self) -> bool:
        return calling(self.answer) is not None

    def loops(self, asked: Asked) -> bool:
        calls = calling(self.answer)
        return calls is not None and calls.loops(asked)

    def play(self, asked: Asked) -> Played:
        made = made_for(asked, self.answer)
        if isinstance(made, Beside):
            raise TypeError(_cannot_be_held(made))
        played = made.play(asked)
        return replace(played, before=(Held(self.gate), *played.before))


def _cannot_be_held(given: object) -> str:
    return f"then({given!r}): only what a provider answers can be held back."
