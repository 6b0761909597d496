"""A gateway with limits, and clients in one line before it, in virtual time. Same seed, same course."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from flatfee.client.pacing import Limit, Line, Ticket


class World:
    """Virtual time: what is due happens in order, and in no time of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        if seconds < float("inf"):
            heapq.heappush(self._due, (self.now + seconds, next(self._order), act))

    def run(self, until: float = 1e6) -> None:
        while self._due and self._due[0][0] <= until:
            self.now, _, act = heapq.heappop(self._due)
            act()


@dataclass
class Gateway:
    """Grants ``slots`` at once and ``rate`` calls a second (after a burst); tells the first if ``tells``."""

    world: World
    slots: int = 10**9
    rate: float | None = None
    burst: int = 1
    tells: bool = True
    retry_after: float = 30.0
    active: dict[object, int] = field(default_factory=dict)
    arrival: float = 0.0
    refusals: int = 0

    def admits(self, key: object) -> Limit | None:
        now = self.world.now
        if self.rate is not None:
            arrival = max(self.arrival, now)
            if arrival - now > (self.burst - 1) / self.rate + 1e-9:
                self.refusals += 1
                return Limit.RATE
            self.arrival = arrival + 1 / self.rate
        if key not in self.active and len(self.active) >= self.slots:
            self.refusals += 1
            return Limit.SLOTS
        self.active[key] = self.active.get(key, 0) + 1
        return None

    def told(self) -> int | None:
        return self.slots if self.tells else None


class Task:
    """One call: waits for its turn, is refused or served, and ends."""

    def __init__(self, line: Line, gateway: Gateway, chance: random.Random, service: float, streamed: bool) -> None:
        self.line, self.gateway, self.chance, self.service, self.streamed = line, gateway, chance, service, streamed
        self.world = gateway.world
        self.ticket: Ticket | None = None
        self.sent = self.refused = 0
        self.first_sent_at: float | None = None
        self.let_go_at: float | None = None
        self.refused_at: float | None = None
        self.admitted_at: float | None = None
        self.done_at: float | None = None
        self.wakes = 0

    @property
    def number(self) -> int:
        assert self.ticket
        return self.ticket.number

    def arrive(self) -> None:
        self.ticket = self.line.ticket(None, self._woken)
        self.line.enter(self.ticket, self.world.now)
        self.look()

    def leave(self) -> None:
        assert self.ticket
        if self.done_at is None and not self.ticket.inside:
            self.line.left(self.ticket, self.world.now)
            self.done_at = self.world.now

    def _woken(self) -> bool:
        self.wakes += 1
        self.world.after(0.0, self.look)
        return True

    def look(self) -> None:
        assert self.ticket
        if self.done_at is not None or self.sent > self.refused:
            return
        wait = self.line.look(self.ticket, self.world.now)
        if wait is None:
            self.sent += 1
            self.let_go_at = self.world.now
            self.first_sent_at = self.first_sent_at or self.world.now
            self.world.after(self._trip(), self._reach)
        else:
            self.world.after(wait, self.look)

    def _trip(self) -> float:
        return self.chance.uniform(0.001, 0.02)

    def _reach(self) -> None:
        assert self.ticket
        limit = self.gateway.admits(self)
        active = len(self.gateway.active)
        if limit is not None:
            self.world.after(self._trip(), lambda: self._turned_away(limit))
            return
        self.admitted_at = self.world.now
        if self.streamed:
            self.world.after(self._trip(), lambda: self._hear(active))
        self.world.after(self.service, lambda: self._serve(active))

    def _turned_away(self, limit: Limit) -> None:
        assert self.ticket
        self.refused += 1
        self.refused_at = self.refused_at or self.world.now
        wait = self.gateway.retry_after if limit is Limit.SLOTS else 1.0
        self.line.refused(self.ticket, limit, wait, self.gateway.told(), self.world.now)
        self.look()

    def _hear(self, active: int) -> None:
        assert self.ticket
        told = self.gateway.told()
        self.line.admitted(self.ticket, active if told else None, told, self.world.now)

    def _serve(self, active: int) -> None:
        del self.gateway.active[self]

        def heard() -> None:
            assert self.ticket
            if not self.streamed:
                self._hear(active)
            self.line.left(self.ticket, self.world.now)
            self.done_at = self.world.now

        self.world.after(self._trip(), heard)
