"""One request's way over its routes, in virtual time. Pure: it tells how long to wait, and is resumed at that time.

What a route did to the request in the past it does again, in the same manner and as slowly; a route that was not
asked then is taken to answer as the one did that answered. Where none answered, the answer is guessed. It follows
``stages.relay`` step by step: which routes are passed over, what is tried again, and what each try tells a circuit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final

from flatfee.server.estimating import BYTES_PER_TOKEN
from flatfee.server.health import FAILURES, Health
from flatfee.server.meter import Meter
from flatfee.server.replaying.guessing import Guess
from flatfee.server.replaying.past import ENDS_WITH_A_TRY, Ending, Past, Try, is_tried_again
from flatfee.server.settings import RouteSettings
from flatfee.server.stages.failures import SAME_ROUTE_PAUSE
from flatfee.server.stages.tries import first_token_limit
from flatfee.server.statement import UsedTokens
from flatfee.wire import AttemptOutcome

_HALF_A_MILLISECOND: Final = 0.0005
"""A receipt's milliseconds are rounded down; so that they stay the same when they are written again."""

_PAUSE: Final = SAME_ROUTE_PAUSE * 1.5
"""Seconds between two tries of one route, on the average."""


@dataclass(slots=True, kw_only=True)
class Walk:
    """A request on its way. ``time`` tells virtual time in seconds; ``guess`` is asked where no route answered it."""

    past: Past
    routes: Sequence[RouteSettings]
    meter: Meter
    health: Health
    time: Callable[[], float]
    guess: Callable[[Past], Guess]
    guessed: bool = False

    def steps(self) -> Generator[float, None, None]:
        """Try the routes in their order until one answers; each step is a wait in seconds."""
        too_small = 0.0
        for route in self.routes:
            if route.room is not None and route.room <= too_small:
                continue
            known = self.past.failures.get(route.name, ())
            if not known and self._is_over():
                break
            opening = self.health.admits(route.name, self.time())
            if opening is None:
                self.meter.tried(route, AttemptOutcome.UNAVAILABLE, None, 0.0)
                continue
            fails = self._fail(route, known, opening) if known else self._answer(route, opening)
            if (yield from fails):
                return
            if known and known[-1].outcome == AttemptOutcome.CONTEXT_OVERFLOW:
                too_small = max(too_small, route.room or 0.0)
        self._end_without_an_answer()
        yield 0.0 if self.meter.attempts else self.past.rest

    def _is_over(self) -> bool:
        """Whether the request ended in the past where it is now: no other route was asked any more."""
        if self.past.ending is Ending.GONE:
            return len(self.meter.attempts) >= len(self.past.line.attempts)
        return self._broke_off()

    def _broke_off(self) -> bool:
        past = self.past
        return past.ending is Ending.BROKEN and any(each.route == past.line.route for each in self.meter.attempts)

    def _fail(self, route: RouteSettings, known: Sequence[Try], opening: int) -> Generator[float, None, bool]:
        """Let a route fail as it did; true if it answered after all, at its second try."""
        for number, each in enumerate(self._tries(route, known)):
            if number:
                again = yield from self._try_again(route)
                if again is None:
                    return False
                opening = again
            self.meter.begin(route)
            silent = each.outcome is AttemptOutcome.TIMEOUT and self.past.asked.stream
            yield min(each.seconds, self._patience(route)) if silent else each.seconds + self.past.untold
            self._judge(route, each, opening)
        if self.past.ending not in ENDS_WITH_A_TRY or self.past.last.route != route.name:
            return False
        again = yield from self._try_again(route)
        if again is None:
            return False
        return (yield from self._answer(route, again))

    def _tries(self, route: RouteSettings, known: Sequence[Try]) -> Sequence[Try]:
        """Return the tries that a route fails; what the gateway would try again fails in the same manner again."""
        [*_, last] = known
        ended = self.past.last.route == route.name and self.past.ending in {*ENDS_WITH_A_TRY, Ending.GONE}
        return (last, last) if len(known) == 1 and is_tried_again(last) and not ended else known

    def _try_again(self, route: RouteSettings) -> Generator[float, None, int | None]:
        pause = self.past.rest / self.past.pauses if self.past.pauses else _PAUSE
        yield pause
        return self.health.admits(route.name, self.time())

    def _judge(self, route: RouteSettings, each: Try, opening: int) -> None:
        """Note a failure, and what it tells of the route."""
        self._note(route, each)
        self.meter.trying = None
        if each.outcome in FAILURES and not (self.past.flowed and self._broke_off()):
            self.health.failed(route.name, self.time(), opening)
        elif each.outcome == AttemptOutcome.CONTEXT_OVERFLOW:
            self.health.succeeded(route.name, opening)
        else:
            self.health.let_go(route.name, opening)

    def _note(self, route: RouteSettings, each: Try) -> None:
        first = each.first_token_ms / 1000 + _HALF_A_MILLISECOND if each.first_token_ms is not None else None
        self.meter.tried(route, each.outcome, each.status, each.seconds + _HALF_A_MILLISECOND, first)

    def _answer(self, route: RouteSettings, opening: int) -> Generator[float, None, bool]:
        """Let a route do what the one did that ended the request; false if it is too slow for this route's limits."""
        self.meter.begin(route)
        guess = self.guess(self.past) if self.past.ending not in ENDS_WITH_A_TRY else None
        last = self._guessed(route, guess) if guess is not None else self._last(route)
        limit = self._limit(route, last)
        if limit is not None:
            yield limit
            self._judge(route, Try(route.name, AttemptOutcome.TIMEOUT, None, int(limit * 1000)), opening)
            return False
        yield from self._hear(route, last, opening, 0.0 if guess is not None else self.past.untold)
        self._note(route, last)
        if guess is None:
            self._end(route, opening)
        else:
            self.guessed = True
            self._says(route, None, guess.output_tokens)
            self._whole(route, opening)
        return True

    def _guessed(self, route: RouteSettings, guess: Guess) -> Try:
        took = int(guess.seconds * 1000)
        return Try(route.name, AttemptOutcome.OK, 200, took, took // 2 if self.past.asked.stream else None)

    def _last(self, route: RouteSettings) -> Try:
        return self.past.last if self.past.line.attempts else Try(route.name, AttemptOutcome.OK)

    def _limit(self, route: RouteSettings, last: Try) -> float | None:
        """Return after how many seconds the route would be left for its silence, if it would."""
        if last.outcome is not AttemptOutcome.OK:
            return None
        if last.first_token_ms is None:
            return route.total_timeout if last.seconds > route.total_timeout else None
        limit = self._patience(route)
        return limit if last.first_token_ms / 1000 > limit else None

    def _patience(self, route: RouteSettings) -> float:
        """Return how many seconds a stream's first token is waited for: longer where nobody else could answer."""
        behind = self.routes[self.routes.index(route) + 1 :]
        alone = all(self.health.opens_in(other.name, self.time()) for other in behind)
        return min(route.total_timeout, first_token_limit(route, alone=alone))

    def _end(self, route: RouteSettings, opening: int) -> None:
        """Note how the request ends, and what that tells of the route."""
        past, health = self.past, self.health
        if past.ending is Ending.DECLINED:
            health.succeeded(route.name, opening)
            return
        usage = past.usage
        self._says(route, usage if past.told else None, (usage.completion_tokens or 0) if usage is not None else 0)
        if past.ending is Ending.LEFT:
            health.let_go(route.name, opening)
        else:
            self._whole(route, opening)

    def _says(self, route: RouteSettings, usage: UsedTokens | None, written: int) -> None:
        """Note what a route says: the tokens that were told; else as many are estimated as were written."""
        self.meter.answering(route)
        self.meter.usage = usage
        # As many bytes as the route is charged so many tokens for.
        self.meter.delivered = round(written / route.token_factor) * BYTES_PER_TOKEN

    def _whole(self, route: RouteSettings, opening: int) -> None:
        self.meter.whole = True
        self.health.succeeded(route.name, opening)

    def _hear(self, route: RouteSettings, last: Try, opening: int, rest: float) -> Generator[float, None, None]:
        """Wait for an answer; where it is a probe's, its first token lets others through."""
        first = min((last.first_token_ms or 0) / 1000, last.seconds)
        if opening and first:
            yield first
            self.health.answering(route.name, opening)
            yield last.seconds - first + rest
        else:
            yield last.seconds + rest

    def _end_without_an_answer(self) -> None:
        """Note an answer that broke off on a route which was asked again, and broke off again."""
        past = self.past
        if self._broke_off():
            route = next(route for route in self.routes if route.name == past.line.route)
            self.meter.broke_off(route, past.usage, 0, charged=past.flowed)
