"""What tests of the double's state and time need: answers by route, without the rules of a script."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from flatfee.testing import ScriptedGateway
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.played import Answering, Failure, Held, Pause, Piece, Played
from flatfee.wire import AttemptOutcome

PATIENCE = 60.0
"""Real seconds after which a test that waits for a condition fails."""

HELLO = [{"role": "user", "content": "Hello"}]


@dataclass(frozen=True, slots=True)
class Plays:
    """An answer that plays the same every time."""

    played: Played

    def play(self, asked: Asked) -> Played:
        """Return it."""
        return self.played


@dataclass(slots=True)
class Table:
    """A script of one answer for each route; the default model answers for the others."""

    answers: Mapping[str, Answering]
    asked: list[Asked] = field(default_factory=list)

    def choose(self, asked: Asked) -> tuple[str, Played] | None:
        """Return the route's answer."""
        self.asked.append(asked)
        answer = self.answers.get(asked.route)
        return (asked.route, answer.play(asked)) if answer is not None else None


class Gate:
    """Holds answers back, until it is opened from any thread, or its block ends."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._reached = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def passed(self) -> None:
        """Return once it is open."""
        self._loop = asyncio.get_running_loop()
        self._reached.set()
        await self._open.wait()

    @property
    def waited_at(self) -> bool:
        """Whether an answer is held back."""
        return self._reached.is_set()

    async def is_waited_at(self) -> None:
        """Wait, on another event loop, until an answer is held back."""
        assert await asyncio.to_thread(self._reached.wait, 60)

    def open(self) -> None:
        """Let go of what is held back."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._open.set)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.waited_at:
            self.open()


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


SILENT = Plays(Played(before=(Pause(),)))
BROKEN = Plays(Played(before=(Failure(AttemptOutcome.ERROR),)))


def held(gate: Gate, *, text: str = "late") -> Plays:
    """Return an answer behind a gate."""
    return Plays(Played(before=(Held(gate),), pieces=(completion(text),)))


def stream(*pieces: Piece) -> Plays:
    """Return a stream of what is given, and a proper end."""
    return Plays(Played(headers={"content-type": "text/event-stream"}, pieces=(*pieces, END)))


def answer(text: str = "Hi") -> Plays:
    """Return a plain answer."""
    return Plays(Played(pieces=(completion(text),)))


def refusal(status: int, **headers: str) -> Plays:
    """Return an error of the provider's."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Plays(Played(status=status, headers=named, pieces=(b'{"error": {"message": "no"}}',)))


def said(text: str) -> bytes:
    """Return an event with a piece of text."""
    return _event({"choices": [{"index": 0, "delta": {"content": text}}]})


def completion(text: str) -> bytes:
    """Return a plain completion's body."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({**_BASE, "object": "chat.completion", "choices": [choice], "usage": _USAGE}).encode()


def play(gateway: ScriptedGateway, **answers: Answering) -> Table:
    """Let routes answer so: ``premium_a=SILENT``."""
    table = Table({name.replace("_", "-"): answer for name, answer in answers.items()})
    gateway._inside.provider._script = table  # type: ignore[assignment]  # as much of a script as a provider needs
    return table


_BASE: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
_USAGE = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({**_BASE, **content}).encode() + b"\n\n"


END = (
    _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    + _event({"choices": [], "usage": _USAGE})
    + b"data: [DONE]\n\n"
)
