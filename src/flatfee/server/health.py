"""Health of the routes: a circuit for each, and what its newest tries came to. Pure; moments come in as arguments.

closed: every request may use the route. After ``FAILURES_TO_OPEN`` failures in a row it opens, or at
once where the provider says how long to leave it alone: the route is skipped until its cool-down has
passed. Then (half open) one probe may pass. Its success closes the circuit, its failure opens it for
twice as long, up to ``LONGEST_COOL_DOWN``. From a probe's first token on everybody may pass again,
on probation: the next try that ends well closes the circuit, and one that fails opens it.

Each opening has a number of its own, and whoever is let through is given it, and says it with what became
of the try. Until the circuit closes, only tries of its own opening count. One from before it opened may
end well or badly, or be left: it neither closes the circuit, nor doubles its cool-down, nor frees its probe.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Final

from flatfee.receipt import Attempt
from flatfee.server.statement import NotedAttempt
from flatfee.wire import AttemptOutcome

FAILURES_TO_OPEN: Final = 3
COOL_DOWN: Final = 10.0
LONGEST_COOL_DOWN: Final = 60.0
PROBE_LEASE: Final = 60.0

REMEMBERED: Final = 100
"""Tries of a route that are remembered."""

RECENT: Final = 20
"""Tries of a route that a report lists."""

FAILURES: Final = frozenset(
    {AttemptOutcome.TIMEOUT, AttemptOutcome.ERROR, AttemptOutcome.RATE_LIMITED, AttemptOutcome.UNAVAILABLE}
)
"""Outcomes that speak against a route. It may refuse a request, or be left by a caller, and be well."""


class CircuitState(StrEnum):
    """Whom a circuit lets through: everybody, nobody, or a probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One try. ``at`` is when it ended, in seconds of the wall clock; the rest is as in the receipt's ``attempts``."""

    at: float
    outcome: str
    status: int | None
    duration_ms: int | None
    first_token_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds that half of the tries, and nine in ten, took at most."""

    p50: int
    p90: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteHealth:
    """The health of a route, as one process knows it.

    ``opens_in`` is what is left of the cool-down, in seconds; ``probing`` tells whether a probe runs.
    ``outcomes`` counts the remembered tries, and ``recent`` lists the last of them, newest first.
    ``duration_ms`` and ``first_token_ms`` are of the remembered tries that answered. The last success and
    the last failure are told for as long as the process runs.
    """

    circuit: CircuitState
    failures_in_a_row: int
    opens_in: float
    probing: bool
    outcomes: Mapping[str, int]
    recent: tuple[Tried, ...]
    duration_ms: Latency | None
    first_token_ms: Latency | None
    last_success: Tried | None
    last_failure: Tried | None


@dataclass(slots=True)
class _Circuit:
    """``opening`` is 0 while it is closed; ``running`` counts the tries of this opening that have not ended."""

    failures: int = 0
    cool_down: float = COOL_DOWN
    opening: int = 0
    open_until: float = -math.inf
    running: int = 0
    probe_until: float = -math.inf
    probation: bool = False

    def state(self, now: float) -> CircuitState:
        if not self.opening:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self.open_until else CircuitState.HALF_OPEN

    def probing(self, now: float) -> bool:
        return self.running > 0 and now < self.probe_until and not self.probation

    def open(self, opening: int, until: float) -> None:
        self.opening, self.open_until, self.running, self.probation = opening, until, 0, False

    def close(self) -> None:
        self.failures, self.cool_down, self.opening, self.open_until = 0, COOL_DOWN, 0, -math.inf
        self.running, self.probe_until, self.probation = 0, -math.inf, False


_Noted = tuple[float, Attempt | NotedAttempt]


@dataclass(slots=True)
class _History:
    tries: deque[_Noted] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    last_success: _Noted | None = None
    last_failure: _Noted | None = None


class Health:
    """The health of all routes of this process. ``now`` is in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._circuits: dict[str, _Circuit] = {}
        self._histories: dict[str, _History] = {}
        self._openings = count(1)

    def keeping(self, routes: Iterable[str]) -> Health:
        """Return the health that goes on with these routes, and forgets all others.

        They are shared from now on: whoever tried one of them before tells both how it ended. What is
        told of any other route by then is told to this health alone, and ends with it.
        """
        kept = Health()
        kept._openings = self._openings
        for route in routes:
            kept._circuits[route] = self._circuits.setdefault(route, _Circuit())
            kept._histories[route] = self._histories.setdefault(route, _History())
        return kept

    def admits(self, route: str, now: float) -> int | None:
        """Return which opening of the circuit a try that begins now belongs to; ``None`` where none may begin.

        0 stands for a closed circuit, which lets everybody through; a half-open one lets one probe through.
        Whoever is let through says how it ended, with that number: ``succeeded``, ``failed`` or ``let_go``.
        """
        circuit = self._circuits.get(route)
        if circuit is None or not circuit.opening:
            return 0
        if now < circuit.open_until or circuit.probing(now):
            return None
        circuit.running += 1
        circuit.probe_until = now + PROBE_LEASE
        return circuit.opening

    def answering(self, route: str, opening: int) -> None:
        """Note the first token of an answer: who waits for a probe need not wait for its last one."""
        circuit = self._opened(route, opening)
        if circuit is not None:
            circuit.probation = True

    def succeeded(self, route: str, opening: int) -> None:
        """Note an answer: the circuit closes, unless it has opened since the try began."""
        circuit = self._circuits.get(route)
        if circuit is not None and circuit.opening in (0, opening):
            circuit.close()

    def failed(self, route: str, now: float, opening: int, *, leave_for: float | None = None) -> None:
        """Note a failure of the provider's side.

        ``leave_for``: the seconds that the provider asks to be left alone. The circuit opens for that
        long, at most ``LONGEST_COOL_DOWN``, and never for less than the failure alone would have cost.
        That wish counts even where the failure does not, as the circuit has opened since the try began.
        """
        circuit = self._circuits.setdefault(route, _Circuit())
        asked = min(leave_for or 0.0, LONGEST_COOL_DOWN)
        if circuit.opening not in (0, opening):
            circuit.open_until = max(circuit.open_until, now + asked)
            return
        circuit.failures += 1
        due = 0.0
        if circuit.opening:
            due = circuit.cool_down = min(circuit.cool_down * 2, LONGEST_COOL_DOWN)
        elif circuit.failures >= FAILURES_TO_OPEN:
            due = circuit.cool_down
        if max(due, asked) > 0:
            circuit.open(next(self._openings), max(circuit.open_until, now + max(due, asked)))

    def let_go(self, route: str, opening: int) -> None:
        """Note that a try ended without telling anything of the route: the next one may be the probe.

        Beside a probe whose lease ran out another may run: only once both have ended is there room for a third.
        """
        circuit = self._opened(route, opening)
        if circuit is not None:
            circuit.running -= 1

    def close(self, route: str) -> None:
        """Close a circuit, whatever its tries came to."""
        circuit = self._circuits.get(route)
        if circuit is not None:
            circuit.close()

    def _opened(self, route: str, opening: int) -> _Circuit | None:
        """Return the circuit if that opening is its last, and it has not closed since."""
        circuit = self._circuits.get(route)
        return circuit if circuit is not None and circuit.opening == opening != 0 else None

    def down(self, now: float) -> frozenset[str]:
        """Return the routes that are skipped now."""
        # Each request asks: a circuit's ``state`` is not called for that, nor a generator made.
        return frozenset(
            [name for name, circuit in self._circuits.items() if circuit.opening and now < circuit.open_until]
        )

    def shut(self, now: float) -> frozenset[str]:
        """Return the routes that let nobody through now: those that are skipped, and those whose probe still runs."""
        return frozenset(
            name
            for name, circuit in self._circuits.items()
            if circuit.opening and (now < circuit.open_until or circuit.probing(now))
        )

    def last_chance(self) -> frozenset[str]:
        """Return the routes whose circuits open with their next failure."""
        return frozenset(
            name
            for name, circuit in self._circuits.items()
            if circuit.opening or circuit.failures + 1 >= FAILURES_TO_OPEN
        )

    def opens_in(self, route: str, now: float) -> float:
        """Return the seconds until a route's circuit lets a request through; 0 if it does now."""
        circuit = self._circuits.get(route)
        return 0.0 if circuit is None else max(0.0, circuit.open_until - now)

    def noted(self, route: str, attempt: Attempt | NotedAttempt, at: float) -> None:
        """Remember a try that the provider had part in; ``at`` is the wall clock's time, in seconds.

        A route that was passed over was not tried: that would drive out what is known of it.
        """
        history = self._histories.get(route)
        if history is None:
            history = self._histories[route] = _History()
        noted = (at, attempt)
        history.tries.append(noted)
        if attempt.outcome is AttemptOutcome.OK:
            history.last_success = noted
        elif attempt.outcome in FAILURES:
            history.last_failure = noted

    def report(self, route: str, now: float) -> RouteHealth:
        """Return what is known of a route; one that was never tried is well."""
        circuit = self._circuits.get(route, _Circuit())
        history = self._histories.get(route, _History())
        answered = [attempt for _, attempt in history.tries if attempt.outcome is AttemptOutcome.OK]
        newest = list(history.tries)[: -RECENT - 1 : -1]
        return RouteHealth(
            circuit=circuit.state(now),
            failures_in_a_row=circuit.failures,
            opens_in=self.opens_in(route, now),
            probing=circuit.probing(now),
            outcomes=Counter(str(attempt.outcome) for _, attempt in history.tries),
            recent=tuple(_tried(noted) for noted in newest),
            duration_ms=_latency(attempt.duration_ms for attempt in answered),
            first_token_ms=_latency(attempt.first_token_ms for attempt in answered),
            last_success=_tried(history.last_success) if history.last_success is not None else None,
            last_failure=_tried(history.last_failure) if history.last_failure is not None else None,
        )


def _tried(noted: _Noted) -> Tried:
    at, attempt = noted
    return Tried(
        at=at,
        outcome=str(attempt.outcome),
        status=attempt.status,
        duration_ms=attempt.duration_ms,
        first_token_ms=attempt.first_token_ms,
    )


def _latency(told: Iterable[int | None]) -> Latency | None:
    known = sorted(milliseconds for milliseconds in told if milliseconds is not None)
    if not known:
        return None
    return Latency(p50=known[(len(known) - 1) // 2], p90=known[-(-len(known) * 9 // 10) - 1])
