"""A thousand racers for the last units, in several processes on one SQLite file: never one too many or too few.

All processes wait at a barrier before each race, and each sends its share at once. Afterwards the
file's rows are counted, past the store.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty
from threading import BrokenBarrierError
from typing import Any, Final

from tests.torture.ledgers import audit, file_rows, made_up_caller, reservation
from tests.torture.results import Progress, Result, Violation

from flatfee.server.store.records import Caller, Idempotency, Offer, Purse, Reservation, Ticket
from flatfee.server.store.sqlite import SqliteStore
from flatfee.wire import Lane, Reason

RACERS: Final = 1000
PROCESSES: Final = 4
Share = list[int] | str
"""The offers that one process was granted in one race; or why it gave up."""

_LIMIT: Final = 120.0
"""Seconds within which every process has reached the barrier, and every race has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """What they race for. ``winners`` is how many must be granted each of ``offers``.

    ``workflow``: ``None`` for single requests, else a pattern of the racer's number. With ``one_key``
    all of them send the same idempotency key.
    """

    name: str
    offers: tuple[Offer, ...]
    winners: tuple[int, ...]
    workflow: str | None = None
    one_key: bool = False
    terms: dict[str, Any] = field(default_factory=dict)

    def want(self, number: int, caller: Caller) -> Reservation:
        """Return what one racer asks for."""
        workflow = self.workflow.format(number) if self.workflow is not None else None
        once = Idempotency(key=b"key", body=b"body") if self.one_key else None
        return reservation(caller, f"req_{number:026d}", self.offers, workflow=workflow, once=once, **self.terms)


def _premium(units: int) -> Offer:
    return Offer(lane=Lane.PREMIUM, reason=Reason.DEFAULT, purse=Purse.FAIR_USE, units=units)


def _continuation(units: int) -> Offer:
    return Offer(lane=Lane.CONTINUATION, reason=Reason.FAIR_USE_EXHAUSTED, purse=Purse.CONTINUATION, units=units)


RACES: Final = (
    Race(name="the last unit", offers=(_premium(1),), winners=(1,), terms={"fair_use": 1}),
    Race(name="no unit", offers=(_premium(1),), winners=(0,), terms={"fair_use": 0}),
    Race(name="100 units by 7", offers=(_premium(7),), winners=(14,), terms={"fair_use": 100}),
    Race(
        name="the last units of two purses",
        offers=(_premium(3), _continuation(3)),
        winners=(16, 10),
        terms={"fair_use": 50, "continuation_limit": 31},
    ),
    Race(name="the last slot", offers=(_premium(0),), winners=(1,), terms={"workflows": 1}),
    Race(name="five slots", offers=(_premium(1),), winners=(5,), workflow="run-{}", terms={"workflows": 5}),
    Race(name="one workflow's fan-out", offers=(_premium(1),), winners=(16,), workflow="run", terms={"fanout": 16}),
    Race(name="one idempotency key", offers=(_premium(1),), winners=(1,), one_key=True),
)


def race(rounds: int, racers: int = RACERS, processes: int = PROCESSES) -> Result:
    """Run every race ``rounds`` times."""
    context = multiprocessing.get_context("spawn")
    races = [kind for _ in range(rounds) for kind in RACES]
    barrier, results = context.Barrier(processes), context.Queue()
    progress = Progress("racers", len(races))
    told: dict[int, list[Share]] = defaultdict(list)
    violations: list[Violation] = []
    with tempfile.TemporaryDirectory() as folder:
        runners: list[BaseProcess] = [
            context.Process(target=_run, args=(Path(folder), races, number, processes, racers, barrier, results))
            for number in range(processes)
        ]
        for runner in runners:
            runner.start()
        try:
            for number, kind in enumerate(races):
                shares = _gather(results, number, told, processes)
                violations += [Violation(text=text) for text in _judge(Path(folder), number, kind, shares)]
                if any(isinstance(share, str) for share in shares):
                    break
                progress.at(number + 1, len(violations))
        except Empty:
            violations.append(Violation(text=f"a race did not end within {_LIMIT:.0f} s"))
        finally:
            for runner in runners:
                runner.join(10)
                runner.kill()
    return Result(scenario="racers", runs=len(races), violations=tuple(violations))


def _gather(results: Any, number: int, told: dict[int, list[Share]], processes: int) -> list[Share]:
    """Wait for what every process was granted in a race; or for one of them to give up.

    Raises:
        Empty: they took too long.
    """
    while len(told[number]) < processes:
        race, share = results.get(timeout=_LIMIT)
        if race is None:
            return [share]
        told[race].append(share)
    return told.pop(number)


def _judge(folder: Path, number: int, kind: Race, shares: Sequence[Share]) -> list[str]:
    if gave_up := [share for share in shares if isinstance(share, str)]:
        return [f"{kind.name}: a process gave up: {gave_up[0]}"]
    granted = Counter(choice for share in shares for choice in share)
    path = _file(folder, number)
    rows = file_rows(path)
    found = audit(rows)
    won = tuple(granted[choice] for choice in range(len(kind.winners)))
    if won != kind.winners:
        found.append(f"{won} were granted, not {kind.winners}")
    if len(rows.tickets) != sum(kind.winners):
        found.append(f"{len(rows.tickets)} tickets are kept, not {sum(kind.winners)}")
    for each in folder.glob(f"{path.name}*"):
        each.unlink()
    return [f"{kind.name}: {text}" for text in found]


def _file(folder: Path, number: int) -> Path:
    return folder / f"race-{number}.db"


def _run(
    folder: Path, races: Sequence[Race], runner: int, runners: int, racers: int, barrier: Any, results: Any
) -> None:
    """One process: at each race, ask for its share of all racers at once, and tell what was granted."""

    async def one(number: int, kind: Race) -> list[int]:
        barrier.wait(_LIMIT)  # the file is not there before: they also make it together
        store = SqliteStore(_file(folder, number))
        try:
            caller = await made_up_caller(store)
            wants = [kind.want(racer, caller) for racer in range(runner, racers, runners)]
            barrier.wait(_LIMIT)
            answers = await asyncio.gather(*(store.reserve(want) for want in wants))
        finally:
            await store.close()
        return [answer.choice for answer in answers if isinstance(answer, Ticket)]

    try:
        for number, kind in enumerate(races):
            choices = asyncio.run(one(number, kind))
            barrier.wait(_LIMIT)  # the file may be counted: everybody has left it
            results.put((number, choices))
    except BrokenBarrierError:
        pass  # another process gave up, and says why
    except Exception as error:
        results.put((None, f"{type(error).__name__}: {error}"))
        barrier.abort()
