"""Memory of the gateway's process: idle, and what each connection and each open stream adds. Linux only.

Each case has a gateway of its own: memory that one case gave back would hide what the next one takes. Provider and
callers are other processes. What the kernel keeps for sockets is not in these figures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.children import BenchmarkFailed
from benchmarks.own.callers import Caller, connected, leave, request, warm
from benchmarks.own.provider import HELD_EVENTS, Manner
from benchmarks.own.running import Running, gateway, provider

HELD: Final = Manner(kind="held", count=HELD_EVENTS)
FLOOD: Final = Manner(kind="flood")
_WINDOW: Final = 16_384
"""What a caller that stalls lets its system keep."""
_STILL: Final = 0.5
_PATIENCE: Final = 30.0
_WARMUP: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a process holds, in bytes: resident, and its proportional share of what it shares with others."""

    rss: int
    pss: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySample:
    """One case. ``each`` is by how many bytes of RSS one of ``count`` enlarges the process; 0 where none is added."""

    case: str
    round: int
    count: int
    before: Memory
    after: Memory

    @property
    def each(self) -> float:
        """Bytes of RSS for each."""
        return (self.after.rss - self.before.rss) / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEffort:
    """How many of each, and how often."""

    rounds: int
    requests: int
    connections: int
    streams: int


def memory_of(pid: int) -> Memory:
    """Read what a process holds.

    Raises:
        BenchmarkFailed: the system does not tell.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError as error:
        raise BenchmarkFailed(f"The memory of a process is read from /proc/PID/smaps_rollup: {error}") from error
    found = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines[1:])}
    return Memory(rss=found["Rss"], pss=found["Pss"])


def measure(effort: MemoryEffort, folder: Path, say: Callable[[str], None]) -> list[MemorySample]:
    """Take every case, several rounds in turn.

    Raises:
        BenchmarkFailed: a server did not start, an answer was wrong, or the system does not tell.
    """
    return uvloop.run(_measure(effort, folder, say))


async def _measure(effort: MemoryEffort, folder: Path, say: Callable[[str], None]) -> list[MemorySample]:
    samples: list[MemorySample] = []
    with provider(folder) as upstream:
        for number in range(effort.rounds):
            for case, take in _CASES.items():
                say(f"memory: {case} …")
                with gateway(folder, upstream) as running:
                    samples.append(await take(case, number, running, effort))
    return samples


async def _idle(case: str, number: int, running: Running, effort: MemoryEffort) -> MemorySample:
    before = await settled(running.pid)
    await warm(running.port, request(running.key), effort.requests)
    return MemorySample(case=case, round=number, count=0, before=before, after=await settled(running.pid))


async def _connections(case: str, number: int, running: Running, effort: MemoryEffort) -> MemorySample:
    data = request(running.key)
    async with _before(running) as before:
        callers = await connected(running.port, effort.connections)
        for caller in callers:
            await caller.ask(data)
        after = await settled(running.pid)
        leave(callers)
    return MemorySample(case=case, round=number, count=len(callers), before=before, after=after)


async def _streams(case: str, number: int, running: Running, effort: MemoryEffort) -> MemorySample:
    data = request(running.key, HELD)
    async with _before(running) as before:
        callers = await connected(running.port, effort.streams)
        for caller in callers:
            await caller.begin(data)
        after = await settled(running.pid)
        leave(callers)
    return MemorySample(case=case, round=number, count=len(callers), before=before, after=after)


async def _stalled(case: str, number: int, running: Running, effort: MemoryEffort) -> MemorySample:
    data = request(running.key, FLOOD)

    async def stall(caller: Caller) -> None:
        await caller.begin(data)
        caller.stall()

    async with _before(running) as before:
        callers = await connected(running.port, effort.streams, window=_WINDOW)
        for start in range(0, len(callers), 20):
            await asyncio.gather(*(stall(caller) for caller in callers[start : start + 20]))
        after = await settled(running.pid)
        leave(callers)
    return MemorySample(case=case, round=number, count=len(callers), before=before, after=after)


_CASES: Final = {
    "idle": _idle,
    "idle connection": _connections,
    "open stream": _streams,
    "stalled stream": _stalled,
}


@asynccontextmanager
async def _before(running: Running) -> AsyncIterator[Memory]:
    """Yield what the process holds once it has served a while, plain and streamed."""
    await warm(running.port, request(running.key), _WARMUP)
    await warm(running.port, request(running.key, Manner(kind="events")), _WARMUP // 20)
    yield await settled(running.pid)


async def settled(pid: int) -> Memory:
    """Return what a process holds once that changes no more.

    Raises:
        BenchmarkFailed: it goes on changing.
    """
    deadline = time.monotonic() + _PATIENCE
    last = memory_of(pid)
    while time.monotonic() < deadline:
        await asyncio.sleep(_STILL)
        now = memory_of(pid)
        if abs(now.rss - last.rss) <= last.rss // 500:
            return now
        last = now
    raise BenchmarkFailed(f"The gateway's memory still changed after {_PATIENCE:.0f} s: {last.rss} bytes.")
