"""What a request would have been answered that nobody answered in the past. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from flatfee.server.replaying.past import Ending, Past

_AT_FIRST: Final = 500, 5.0
"""Output tokens and seconds, until a first answer of the past was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """An answer that the past does not tell: its output in tokens, and how many seconds it takes.

    A stream is taken to say its first token half-way.
    """

    output_tokens: int
    seconds: float


class Guesser(Protocol):
    """Guesses answers, from those that it has seen."""

    def learn(self, past: Past) -> None:
        """See a request of the past; each is seen once, when it arrives."""
        ...

    def __call__(self, past: Past) -> Guess:
        """Return what the request would have been answered."""
        ...


class MeanAnswer:
    """Guesses the mean of all answers so far, no longer than what was asked for."""

    def __init__(self) -> None:
        self._answers = 0
        self._tokens = 0
        self._seconds = 0.0

    def learn(self, past: Past) -> None:
        """Count an answer whose tokens were told."""
        if past.ending is Ending.ANSWERED and past.told and past.line.usage is not None:
            self._answers += 1
            self._tokens += past.line.usage.completion_tokens or 0
            self._seconds += past.ended - past.arrived

    def __call__(self, past: Past) -> Guess:
        """Return the mean."""
        tokens, seconds = _AT_FIRST
        if self._answers:
            tokens, seconds = self._tokens // self._answers, self._seconds / self._answers
        asked = past.asked.output_tokens
        return Guess(output_tokens=min(tokens, asked) if asked is not None else tokens, seconds=seconds)
