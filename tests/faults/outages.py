"""A provider whose routes go down and come back by the clock, and what the asks of a route must look like.

``Outages`` obeys the gateway's protocol, under any clock. ``misplaced_asks`` reads the log of asks that it
kept, and knows the promise only: it shares no code with the gateway's own record of health.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

from tests.server.fakes import DONE, completion, delta, refusal, usage_event

from flatfee.server.providers.base import ProviderFailure
from flatfee.server.settings import RouteSettings
from flatfee.wire import AttemptOutcome

FAILURES_TO_OPEN: Final = 3
COOL_DOWNS: Final = (10.0, 20.0, 40.0, 60.0)
"""Seconds after which a route that is down is tried again, once each; the last one for ever."""

WORDS: Final = 6
SLACK: Final = 0.01
"""Two timers that are set at one moment may ring a hair apart."""


class Down(StrEnum):
    """How a route is down."""

    REFUSED = "connections refused"
    ERROR = "500"
    SILENT = "silent"
    CUT = "cut in mid-answer"
    BUSY = "429 with Retry-After: 30"


RETRY_AFTER: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """``route`` is down from ``start`` to ``end``, in seconds of the run."""

    route: str
    how: Down
    start: float
    end: float


@dataclass(slots=True, eq=False)
class Asked:
    """One ask of a route: when it began, said its first word and ended, and whether its answer was whole."""

    route: str
    began: float
    how: Down | None
    spoke: float | None = None
    ended: float | None = None
    whole: bool = False


def text_of(question: str) -> list[str]:
    """Return the words of the answer to a question: the same from every route."""
    return [f"{question}-{number} " for number in range(WORDS)]


@dataclass
class Outages:
    """A provider that follows a list of outages. ``now`` is the time of the run, ``chance`` its dice."""

    now: Callable[[], float]
    chance: Callable[[], float]
    outages: Sequence[Outage]
    asked: list[Asked] = field(default_factory=list)

    def down(self, route: str) -> Down | None:
        """Return how a route is down now; ``None`` if it is up."""
        here = (each for each in self.outages if each.route == route and each.start <= self.now() < each.end)
        return next((each.how for each in here), None)

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[Answer, None]:
        ask = Asked(route.name, self.now(), self.down(route.name))
        self.asked.append(ask)
        question = next(each["content"] for each in json.loads(body)["messages"] if each["role"] == "user")
        try:
            if ask.how is Down.REFUSED:
                raise ProviderFailure(AttemptOutcome.UNAVAILABLE, "cannot be reached")
            if ask.how is Down.SILENT:
                await asyncio.Event().wait()
            yield Answer(ask, text_of(question), self.now, stream=stream, words=int(self.chance() * WORDS))
        finally:
            ask.ended = self.now()

    async def close(self) -> None:
        return


class Answer:
    """An ``Upstream``: whole, refused, or cut after ``words`` words."""

    def __init__(self, ask: Asked, text: Sequence[str], now: Callable[[], float], *, stream: bool, words: int) -> None:
        self._ask = ask
        self._text = text
        self._now = now
        self._stream = stream
        self._words = words

    @property
    def status(self) -> int:
        return {Down.ERROR: 500, Down.BUSY: 429}.get(self._ask.how, 200) if self._ask.how else 200

    @property
    def headers(self) -> Mapping[str, str]:
        return {"retry-after": f"{RETRY_AFTER:.0f}"} if self._ask.how is Down.BUSY else {}

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        if self.status != 200:
            yield refusal(None)
            return
        for number, piece in enumerate(self._pieces()):
            await asyncio.sleep(0.02)
            if self._ask.how is Down.CUT and number == self._words:
                raise ProviderFailure(AttemptOutcome.ERROR, "broke off")
            if self._stream and self._ask.spoke is None:
                self._ask.spoke = self._now()
            yield piece
        self._ask.whole = True

    def _pieces(self) -> list[bytes]:
        if self._stream:
            return [*map(delta, self._text), delta(finish="stop"), usage_event(), DONE]
        whole = completion("".join(self._text))
        cuts = [len(whole) * part // WORDS for part in range(WORDS + 1)]
        return [whole[start:end] for start, end in pairwise(cuts)]


def most_asks(seconds: float, at_once: int = 1) -> int:
    """Return how often a route that is down for some seconds may be asked.

    Three failures open its circuit, and each cool-down ends with one ask more. ``at_once`` counts those
    that may be under way beside the one that opens it, itself included.
    """
    openings, rest, left = 1, 0, seconds
    while left > COOL_DOWNS[rest]:
        left -= COOL_DOWNS[rest]
        openings, rest = openings + 1, min(rest + 1, len(COOL_DOWNS) - 1)
    return FAILURES_TO_OPEN - 1 + openings * at_once


@dataclass(slots=True)
class Watch:
    """What must be true of one route's circuit, told by its asks alone.

    ``tried`` are the asks since the circuit opened: one, and more only once that one's answer has begun.
    """

    slack: float = SLACK
    failures: int = 0
    rest: int = 0
    open_until: float | None = None
    tried: list[Asked] = field(default_factory=list)

    def begins(self, ask: Asked) -> str | None:
        """Take the begin of an ask; return what is wrong with it."""
        if self.open_until is None:
            return None
        if ask.began < self.open_until - self.slack:
            return f"was asked at {ask.began:.2f}, and left alone until {self.open_until:.2f}"
        if self.tried and not any(probe.spoke is not None and probe.spoke <= ask.began for probe in self.tried):
            return f"was asked at {ask.began:.2f}, beside a probe of {self.tried[0].began:.2f}"
        self.tried.append(ask)
        return None

    def ends(self, ask: Asked, at: float) -> None:
        """Take the end of an ask."""
        pause = RETRY_AFTER if ask.how is Down.BUSY else 0.0
        if self.open_until is not None and ask not in self.tried:
            self.open_until = max(self.open_until, at + pause)  # under way when the circuit opened
        elif ask.whole:
            self.failures, self.rest, self.open_until, self.tried = 0, 0, None, []
        else:
            self.failures += 1
            if self.open_until is not None:
                self.rest = min(self.rest + 1, len(COOL_DOWNS) - 1)
            if self.open_until is not None or self.failures >= FAILURES_TO_OPEN or pause:
                due = COOL_DOWNS[self.rest] if self.open_until is not None or self.failures >= FAILURES_TO_OPEN else 0.0
                self.open_until, self.tried = max(self.open_until or 0.0, at + max(due, pause)), []


def watch(
    asked: Sequence[Asked], route: str, until: float = float("inf"), *, slack: float = SLACK
) -> tuple[Watch, list[str]]:
    """Follow a route's asks up to a moment; return how its circuit must stand, and which asks came too early."""
    kept, wrong = Watch(slack), []
    for at, ends, ask in _events([ask for ask in asked if ask.route == route]):
        if at > until:
            break
        if ends:
            kept.ends(ask, at)
        elif (what := kept.begins(ask)) is not None:
            wrong.append(f"{route} {what}")
    return kept, wrong


def _events(asked: Sequence[Asked]) -> Iterator[tuple[float, bool, Asked]]:
    """Yield begins and ends in their order; of one moment, in the order in which asks began."""
    order: list[tuple[float, int, bool, Any]] = []
    for number, ask in enumerate(asked):
        order.append((ask.began, 2 * number, False, ask))
        if ask.ended is not None:
            order.append((ask.ended, 2 * number + 1, True, ask))
    for at, _, ends, ask in sorted(order, key=lambda each: each[:3]):
        yield at, ends, ask
