"""Clocks: a window's edge to the millisecond, the ends of leases, and every billing day for years.

Jumps of the wall clock under running requests are a part of the simulation; here is what can be
said exactly.
"""

from __future__ import annotations

import asyncio
import tempfile
from calendar import monthrange
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tests.torture.ledgers import InlineSqliteStore, audit, made_up_caller, memory_store, reservation, rows_of
from tests.torture.results import Progress, Result, Violation
from tests.torture.virtual import Clocks

from flatfee.receipt import Receipt
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Offer, Outcome, Purse, Refusal, Reservation, Ticket
from flatfee.server.windows import Calendar, window_at
from flatfee.wire import Lane, Reason, ReceiptState

_MILLISECOND: Final = 0.001
_KINDS: Final = ("month", "1h", "5h", "7d")
_FIRST_YEAR: Final = 2023
_PREMIUM: Final = Offer(lane=Lane.PREMIUM, reason=Reason.DEFAULT, purse=Purse.FAIR_USE, units=60)
Store = MemoryStore | InlineSqliteStore


def calendars(years: int) -> Result:
    """Check the windows of every billing day, at every midnight and a millisecond on either side of it."""
    first = datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC)
    days = [
        first + timedelta(days=number)
        for number in range((datetime(_FIRST_YEAR + years, 1, 1, tzinfo=UTC) - first).days)
    ]
    found = [Violation(text=text) for billing_day in range(1, 32) for text in _check_days(billing_day, days)]
    return Result(scenario="billing days", runs=31 * len(days), violations=tuple(found))


def _check_days(billing_day: int, days: list[datetime]) -> Iterator[str]:
    for midnight in days:
        moment = midnight.timestamp()
        before, at, after = (
            window_at("month", billing_day, moment + shift) for shift in (-_MILLISECOND, 0, _MILLISECOND)
        )
        opens = midnight.day == min(billing_day, monthrange(midnight.year, midnight.month)[1])
        where = f"billing day {billing_day}, {midnight:%Y-%m-%d}"
        if at != after or not at.start <= moment < at.end:
            yield f"{where}: {at} does not hold its own moment"
        if opens and not (before.end == at.start == moment):
            yield f"{where}: a window must begin here, and {before} is followed by {at}"
        if not opens and before != at:
            yield f"{where}: a window begins where none must: {at}"
        if not 28 * 86_400 <= at.end - at.start <= 31 * 86_400:
            yield f"{where}: {at} is no month"


def edges(rounds: int) -> Result:
    """Reserve, settle and lapse at edges of windows and leases, on both stores."""
    checks: list[Callable[[_Desk, int], Awaitable[None]]] = [
        _Desk.window_edge,
        _Desk.lease_edge,
        _Desk.jump,
        _Desk.told_to_wait,
    ]
    runs = [(check, number, kind) for number in range(rounds) for check in checks for kind in ("memory", "sqlite")]
    progress = Progress("edges of windows and leases", len(runs))
    violations: list[Violation] = []
    for done, (check, number, kind) in enumerate(runs, 1):
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(_at_a_desk(check, number, Path(folder) / "ledger.db" if kind == "sqlite" else None))
        violations += [Violation(text=f"{check.__name__} {number} on {kind}: {text}") for text in found]
        progress.at(done, len(violations))
    return Result(scenario="edges of windows and leases", runs=len(runs), violations=tuple(violations))


async def _at_a_desk(check: Callable[[_Desk, int], Awaitable[None]], number: int, path: Path | None) -> list[str]:
    desk = _Desk(path)
    try:
        await check(desk, number)
    except Exception as error:
        desk.found.append(f"the check itself failed: {error!r}")
    finally:
        if isinstance(desk.store, InlineSqliteStore):
            desk.store.drop()
    return desk.found


class _Desk:
    """A store whose clocks stand still until they are moved."""

    def __init__(self, path: Path | None) -> None:
        self.steady = 1000.0
        self.clocks = Clocks(lambda: self.steady, 1_793_534_400.0)
        wall, steady = self.clocks.wall, lambda: self.steady
        self.store: Store = InlineSqliteStore(path, wall, steady) if path else memory_store(wall, steady)
        self.found: list[str] = []
        self._count = 0

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.found.append(f"{what}: {found}, not {wanted}")

    def put(self, wall: float) -> None:
        """Set the wall clock."""
        self.clocks.jump(wall - self.clocks.wall())

    async def want(self, calendar: Calendar, fair_use: int = 100, **terms: Any) -> Reservation:
        self._count += 1
        caller = await made_up_caller(self.store)
        return reservation(caller, f"req_{self._count:026d}", [_PREMIUM], calendar=calendar, fair_use=fair_use, **terms)

    async def admitted(self, calendar: Calendar) -> Ticket:
        answer = await self.store.reserve(await self.want(calendar))
        assert isinstance(answer, Ticket), answer
        return answer

    async def settle(self, ticket: Ticket, charged: int) -> None:
        receipt = Receipt(request_id=ticket.request_id, state=ReceiptState.SETTLED)
        await self.store.settle(ticket, Outcome(charged=charged, receipt=receipt, answered=True))

    async def used(self, calendar: Calendar) -> tuple[int, int]:
        found = await self.store.usage("acme", "token", calendar)
        return found.fair_use_used, found.fair_use_pending

    async def window_edge(self, number: int) -> None:
        """What is reserved a millisecond before the edge stays there; at the edge all units are new."""
        calendar = Calendar(_KINDS[number % len(_KINDS)], 1 + number % 31)
        edge = calendar.at(self.clocks.wall() + number * 86_400 * 13).end
        self.put(edge - _MILLISECOND)
        old = await self.admitted(calendar)
        full = await self.store.reserve(await self.want(calendar))
        self.expect("before the edge", isinstance(full, Refusal), True)
        self.put(edge)
        new = await self.admitted(calendar)
        self.expect("windows", (old.window.end, new.window.start), (edge, edge))
        await self.settle(old, 70)  # it belongs to the window that it was reserved in, and may exceed its reservation
        self.expect("the new window", await self.used(calendar), (0, 60))
        self.put(edge - _MILLISECOND)
        self.expect("the old window", await self.used(calendar), (70, 0))
        self.put(edge + _MILLISECOND)
        await self.settle(new, 40)
        self.expect("the new window, settled", await self.used(calendar), (40, 0))
        self.found += audit(rows_of(self.store))

    async def lease_edge(self, number: int) -> None:
        """A lease holds until its last millisecond, and not a moment longer, whatever the wall clock does."""
        calendar = Calendar("month", 1)
        ticket = await self.admitted(calendar)
        if number % 2:
            await self.store.dispatch(ticket)
        self.steady += 60 - _MILLISECOND
        self.clocks.jump((number % 3 - 1) * 3600)
        self.expect("swept before its end", await self.store.sweep(), 0)
        self.steady += _MILLISECOND
        if number % 4 < 2:  # whether or not anything sweeps: what it held is free, unless it was spent
            answer = await self.store.reserve(await self.want(calendar))
            self.expect("its units are free at its end", isinstance(answer, Ticket), not number % 2)
            if isinstance(answer, Ticket):
                await self.settle(answer, 0)
        else:
            self.expect("swept at its end", await self.store.sweep(), 1)
        await self.settle(ticket, 25)  # late: it may lower what the lapse had charged
        rows = rows_of(self.store)
        self.expect("charged", rows.receipts[ticket.request_id].net, 25 if number % 2 else 0)
        self.found += audit(rows)

    async def jump(self, number: int) -> None:
        """An hour either way frees nothing that is held, holds nothing that is free, and loses no unit."""
        calendar = Calendar("month", 1)
        self.put(window_at("month", 1, self.clocks.wall()).start + 43_200.0)
        hour = 3600 if number % 2 else -3600
        ticket = await self.admitted(calendar)
        self.clocks.jump(hour)
        self.expect("swept after the jump", await self.store.sweep(), 0)
        refused = await self.store.reserve(await self.want(calendar))
        self.expect("the units are held", isinstance(refused, Refusal), True)
        self.expect("slots", rows_of(self.store).active("acme", self.steady), 1)
        await self.settle(ticket, 30)
        self.clocks.jump(-hour)
        self.expect("used", await self.used(calendar), (30, 0))
        self.expect("slots after the end", rows_of(self.store).active("acme", self.steady), 0)
        again = await self.store.reserve(await self.want(calendar))
        self.expect("what is left is free", isinstance(again, Ticket), True)
        self.found += audit(rows_of(self.store))

    async def told_to_wait(self, number: int) -> None:
        """Who waits exactly as long as told gets in, through the slots and through the rate; and not much before."""
        calendar, limit = Calendar("month", 1), 1 + number % 4
        terms = {"workflows": limit} if number % 2 else {"requests_per_minute": limit}
        for _ in range(3):
            answer = await self.store.reserve(await self.want(calendar, fair_use=100_000, **terms))
            while isinstance(answer, Ticket):
                self.steady += number * 0.37 % 1
                answer = await self.store.reserve(await self.want(calendar, fair_use=100_000, **terms))
            wait = answer.retry_after if isinstance(answer, Refusal) else None
            assert wait is not None, answer
            self.expect(f"a wait of {wait} s, by clocks that nobody sets", wait <= 60, True)
            self.steady += max(0.0, wait - 1.5)
            early = await self.store.reserve(await self.want(calendar, fair_use=100_000, **terms))
            self.expect("let in before its time", isinstance(early, Ticket), False)
            self.steady += min(1.5, wait)
            late = await self.store.reserve(await self.want(calendar, fair_use=100_000, **terms))
            self.expect(f"let in after {wait} s, through {terms}", isinstance(late, Ticket), True)
            self.clocks.jump((-3600, 3600)[number % 2])
        self.found += audit(rows_of(self.store))
