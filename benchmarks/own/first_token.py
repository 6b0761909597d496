"""Added time to the first token: paced streams through the gateway and without it, on the same provider, in turn."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.children import cores, python, run
from benchmarks.own.callers import Caller, connected, leave, request
from benchmarks.own.provider import Manner
from benchmarks.own.running import gateway, provider
from benchmarks.stats import percentile

CONNECTIONS: Final = (1, 16)
MANNER: Final = Manner(kind="events", count=12, pause=5.0)
"""A stream of 12 events with 5 ms between them."""
_LASTS: Final = MANNER.count * MANNER.pause / 1e3
_WARMUP: Final = 20
_TIMEOUT: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTokenSample:
    """One round of one side: times until the first event came, and until the whole answer had, in ms."""

    side: str
    connections: int
    round: int
    first_p50_ms: float
    first_p99_ms: float
    whole_p50_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What the gateway adds to the time of the first token, in ms: differences of the medians, and of the p99."""

    connections: int
    p50_ms: float
    p99_ms: float


def measure(rounds: int, streams: int, folder: Path, say: Callable[[str], None]) -> list[FirstTokenSample]:
    """Stream through the gateway and directly, in turn.

    Raises:
        BenchmarkFailed: an answer was wrong or stayed away.
    """
    samples = []
    with provider(folder) as upstream, gateway(folder, upstream) as running:
        for connections in CONNECTIONS:
            say(f"first token, {connections} connections …")
            for number in range(rounds):
                for side, port in (("direct", upstream.port), ("gateway", running.port)):
                    printed = run(
                        python(
                            "benchmarks.own.first_token",
                            *("--port", str(port), "--key", running.key),
                            *("--connections", str(connections), "--streams", str(streams)),
                        ),
                        core=cores()[1],
                        timeout=_TIMEOUT,
                    )
                    told = json.loads(printed)
                    samples.append(FirstTokenSample(side=side, connections=connections, round=number, **told))
    return samples


def added(samples: list[FirstTokenSample]) -> list[Added]:
    """Return what the gateway adds, each side by its median round."""

    def middle(side: str, connections: int, figure: Callable[[FirstTokenSample], float]) -> float:
        found = sorted(figure(one) for one in samples if (one.side, one.connections) == (side, connections))
        return percentile(found, 0.5)

    def more(connections: int, figure: Callable[[FirstTokenSample], float]) -> float:
        return middle("gateway", connections, figure) - middle("direct", connections, figure)

    return [
        Added(
            connections=connections,
            p50_ms=more(connections, lambda one: one.first_p50_ms),
            p99_ms=more(connections, lambda one: one.first_p99_ms),
        )
        for connections in sorted({one.connections for one in samples})
    ]


async def drive(port: int, key: str, connections: int, streams: int) -> dict[str, float]:
    """Stream on so many connections at once, each again as soon as it is answered; ``streams`` in all."""
    data = request(key, MANNER)
    firsts: list[float] = []
    wholes: list[float] = []

    async def each(number: int, caller: Caller, count: int) -> None:
        await asyncio.sleep(_LASTS * number / connections)  # streams that begin together wait for each other
        for turn in range(-_WARMUP // connections, count):
            sent = time.perf_counter()
            await caller.ask(data)
            if turn >= 0:
                firsts.append((caller.first - sent) * 1e3)
                wholes.append((time.perf_counter() - sent) * 1e3)

    callers = await connected(port, connections)
    count = max(1, streams // connections)
    await asyncio.gather(*(each(number, caller, count) for number, caller in enumerate(callers)))
    leave(callers)
    firsts.sort()
    wholes.sort()
    return {
        "first_p50_ms": percentile(firsts, 0.50),
        "first_p99_ms": percentile(firsts, 0.99),
        "whole_p50_ms": percentile(wholes, 0.50),
    }


def main() -> None:
    """Run as a process of its own; the figures go to standard output as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--streams", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(uvloop.run(drive(options.port, options.key, options.connections, options.streams))))


if __name__ == "__main__":
    main()
