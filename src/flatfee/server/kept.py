"""Answers kept for a while, so that a repeated idempotency key gets the same one again. In memory only.

What is kept is what the caller was sent: a prompt's answer never touches the disk. Bounded in
time, in bytes altogether and, for a stream, in bytes each; what no longer fits is gone, and then the
ledger still knows that the key was used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

KEEP_SECONDS: Final = 600.0
KEEP_BYTES: Final = 64 << 20
MOST_STREAMED: Final = 1 << 20
_OF_A_HEADER: Final = 130
_OF_AN_ANSWER: Final = 500


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A whole response as it was sent, headers and body; ``streamed`` as events."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    streamed: bool

    @property
    def size(self) -> int:
        """The bytes that it takes, roughly: the objects of small answers weigh more than what they hold."""
        headers = sum(len(name) + len(value) + _OF_A_HEADER for name, value in self.headers)
        return len(self.body) + headers + _OF_AN_ANSWER


class KeptAnswers:
    """The answers of one process, by request id. ``clock`` is in seconds of steady time."""

    def __init__(self, clock: Callable[[], float], most: int = KEEP_BYTES) -> None:
        self._clock = clock
        self._most = most
        self._size = 0
        self._answers: OrderedDict[str, tuple[float, KeptAnswer]] = OrderedDict()

    def put(self, request_id: str, answer: KeptAnswer) -> None:
        """Keep an answer, and let go of the oldest ones that no longer fit."""
        if answer.size > self._most or (answer.streamed and len(answer.body) > MOST_STREAMED):
            return
        self._answers[request_id] = self._clock() + KEEP_SECONDS, answer
        self._size += answer.size
        while self._size > self._most:
            self._drop_oldest()
        self._drop_old()

    def get(self, request_id: str) -> KeptAnswer | None:
        """Return an answer, unless it is gone."""
        self._drop_old()
        found = self._answers.get(request_id)
        return found[1] if found is not None else None

    def _drop_old(self) -> None:
        now = self._clock()
        while self._answers and next(iter(self._answers.values()))[0] <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, (_, answer) = self._answers.popitem(last=False)
        self._size -= answer.size
