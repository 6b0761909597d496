"""CPU by stage: what a plain request costs and what one more event of a stream does, in microseconds.

Two gateways run in turn on the same core: one with a stop-watch around its stages, and one without, which tells what
a request costs in truth. The toll of the watch is measured by itself, and taken off each stage for each time that it
was entered. What the watched gateway used beside all stages is a line of its own: the event loop, its system calls and
the switching of tasks, which no stage holds. By how much the sum of all that misses the truth is told.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.children import free_port, python
from benchmarks.own.callers import connected, leave, request
from benchmarks.own.provider import Manner
from benchmarks.own.running import Running, gateway, provider

_SHORT: Final = Manner(kind="events", count=203)
_LONG: Final = Manner(kind="events", count=1003)
PLAIN: Final = "plain request"
EVENT: Final = "streamed event"
OTHERS: Final = "the ledger's thread"
REST: Final = "event loop and system calls"
_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one gateway used for so many requests: nanoseconds of its loop's thread, of all of it, and by stage."""

    requests: int
    loop: float
    process: float
    spent: dict[str, int]
    entries: dict[str, int]
    absent: tuple[str, ...]
    toll: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSample:
    """One round of one kind of work. All figures are microseconds of CPU for each unit of it.

    ``stages`` has ``toll`` taken off for each of their ``entries``; ``truth`` is what the gateway without a watch
    used, ``watched`` what the one with it did.
    """

    work: str
    round: int
    stages: dict[str, float]
    truth: float
    watched: float
    toll: float
    entries: float
    absent: tuple[str, ...]

    @property
    def sum(self) -> float:
        """What all stages come to."""
        return sum(self.stages.values())

    @property
    def missed(self) -> float:
        """By how much the sum is less than the truth, as a share of that."""
        return (self.truth - self.sum) / self.truth if self.truth else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEffort:
    """How much to ask, and how often."""

    rounds: int
    requests: int
    streams: int


@dataclass(frozen=True, slots=True)
class _Server:
    running: Running
    told: int

    async def ask(self, manner: Manner | None, count: int, connections: int) -> Told:
        """Ask ``count`` times, and return what that took; what came before is not in it."""
        data = request(self.running.key, manner)
        callers = await connected(self.running.port, connections)
        for caller in callers:
            await caller.ask(data)
        before = self._figures()
        each = max(1, count // connections)

        async def asking(number: int) -> None:
            for _ in range(each):
                await callers[number].ask(data)

        await asyncio.gather(*(asking(number) for number in range(connections)))
        after = self._figures()
        leave(callers)
        return Told(
            requests=each * connections,
            loop=after["loop"] - before["loop"],
            process=after["process"] - before["process"],
            spent=after["spent"],
            entries=after["entries"],
            absent=tuple(after["absent"]),
            toll=after["toll"],
        )

    def _figures(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.told}", timeout=_TIMEOUT) as answer:
            figures: dict[str, Any] = json.loads(answer.read())
        return figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Microseconds for one unit of work: of the loop's thread, of the other threads, and by stage, with entries."""

    loop: float
    others: float
    stages: dict[str, float]
    entries: dict[str, float]

    @classmethod
    def of(cls, told: Told) -> Cost:
        """Return what one request cost."""
        return cls(
            loop=told.loop / told.requests / 1e3,
            others=(told.process - told.loop) / told.requests / 1e3,
            stages={stage: spent / told.requests / 1e3 for stage, spent in told.spent.items()},
            entries={stage: count / told.requests for stage, count in told.entries.items()},
        )

    def beyond(self, less: Cost, units: int) -> Cost:
        """Return what each of ``units`` more cost, beside work that has so many fewer."""
        return Cost(
            loop=(self.loop - less.loop) / units,
            others=(self.others - less.others) / units,
            stages={stage: (spent - less.stages.get(stage, 0.0)) / units for stage, spent in self.stages.items()},
            entries={stage: (count - less.entries.get(stage, 0.0)) / units for stage, count in self.entries.items()},
        )


def sample_of(work: str, number: int, watched: Cost, truth: Cost, told: Told) -> StageSample:
    """Take the watch's toll off each stage; other threads are not watched, and are told as they are in truth."""
    toll = told.toll / 1e3
    stages = {
        stage: max(0.0, spent - toll * watched.entries.get(stage, 0.0)) for stage, spent in watched.stages.items()
    }
    return StageSample(
        work=work,
        round=number,
        stages=stages | {REST: watched.loop - sum(watched.stages.values()), OTHERS: truth.others},
        truth=truth.loop + truth.others,
        watched=watched.loop + watched.others,
        toll=toll,
        entries=sum(watched.entries.values()),
        absent=told.absent,
    )


def measure(
    effort: StageEffort, folder: Path, say: Callable[[str], None], *, connections: int = 16
) -> list[StageSample]:
    """Measure both kinds of work, the gateways in turn.

    Raises:
        BenchmarkFailed: a server did not start, or an answer was wrong.
    """
    return uvloop.run(_measure(effort, folder, say, connections))


async def _measure(
    effort: StageEffort, folder: Path, say: Callable[[str], None], connections: int
) -> list[StageSample]:
    samples: list[StageSample] = []
    ports = free_port(), free_port()
    command = python("benchmarks.own.staged_server", "--told", str(ports[0]))
    bare = [*python("benchmarks.own.staged_server", "--told", str(ports[1])), "--plain"]
    with (
        provider(folder) as upstream,
        gateway(folder, upstream, command=command) as watched,
        gateway(folder, upstream, command=bare) as truth,
    ):
        servers = _Server(watched, ports[0]), _Server(truth, ports[1])
        for number in range(effort.rounds):
            say(f"stages, round {number + 1} …")
            told = [await one.ask(None, effort.requests, connections) for one in servers]
            costs = [Cost.of(one) for one in told]
            samples.append(sample_of(PLAIN, number, costs[0], costs[1], told[0]))
            short = [Cost.of(await one.ask(_SHORT, effort.streams, connections)) for one in servers]
            long = [Cost.of(await one.ask(_LONG, effort.streams, connections)) for one in servers]
            more = [many.beyond(few, _LONG.count - _SHORT.count) for many, few in zip(long, short, strict=True)]
            samples.append(sample_of(EVENT, number, more[0], more[1], told[0]))
    return samples
