"""A process of its own that asks a hostile upstream once, and prints what that cost it, as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.server.fakes_upstream import BODY, a_route, provider

from flatfee.server.answers.members import UnusableAnswer
from flatfee.server.answers.stream import RelayedStream
from flatfee.server.providers.base import ProviderFailure


@dataclass
class Cost:
    """How the request ended; how much memory (KiB) the process grew by, and for how long (s) its loop stood still."""

    ended: str = ""
    grown: int = 0
    stalled: float = 0.0


def peak() -> int:
    """Return the most memory (KiB) that the process ever had; ``getrusage`` would count its parent's, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


async def ask(port: int, seconds: float, *, stream: bool) -> None:
    """Read the whole answer as the relay does, within a time limit."""
    async with asyncio.timeout(seconds), provider(port) as api, api.send(a_route(), BODY, stream=stream) as answer:
        if not stream:
            await answer.read()
            return
        relayed = RelayedStream(include_usage=True)
        async for chunk in answer.chunks():
            relayed.feed(chunk)
            if relayed.failure is not None:
                raise relayed.failure


@asynccontextmanager
async def watched(cost: Cost) -> AsyncGenerator[None, None]:
    clock = asyncio.get_running_loop().time

    async def beat() -> None:
        while True:
            before = clock()
            await asyncio.sleep(0.001)
            cost.stalled = max(cost.stalled, clock() - before)

    beating = asyncio.create_task(beat())
    try:
        yield
        await asyncio.sleep(0.005)  # so that a stall that lasted until now is seen
    finally:
        beating.cancel()


async def main(port: int, seconds: float, *, stream: bool) -> Cost:
    """Ask once, and count."""
    cost = Cost()
    before = peak()
    async with watched(cost):
        try:
            await ask(port, seconds, stream=stream)
        except (ProviderFailure, UnusableAnswer, TimeoutError) as error:
            cost.ended = f"{type(error).__name__}: {error}"
    cost.grown = peak() - before
    return cost


if __name__ == "__main__":
    found = asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), stream=sys.argv[3] == "stream"))
    sys.stdout.write(json.dumps(asdict(found)))
