"""Load from many accounts: each request of a connection is of the next account, so that all of them take turns."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass

import uvloop

from benchmarks.own.callers import Caller, connected, leave, request
from benchmarks.own.filling import secret_of
from benchmarks.own.running import KEY
from benchmarks.stats import percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to do: ``accounts`` 0 is the configuration's own account; ``skip`` accounts were used before."""

    port: int
    accounts: int
    connections: int
    warmup: int
    requests: int
    skip: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdFigures:
    """What one run saw. ``answered`` includes the warm-up."""

    answered: int
    per_second: float
    p50_ms: float
    p99_ms: float


class _Crowd:
    """The counts of one run, shared by its connections."""

    def __init__(self, order: Order) -> None:
        self._order = order
        keys = [secret_of(number) for number in range(order.accounts)] or [KEY]
        self._requests = [request(key) for key in keys]
        self._next = order.skip
        self._sent: dict[Caller, float] = {}
        self._latencies: list[float] = []
        self._answered = 0
        self._begun = 0.0
        self._ended = 0.0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, callers: list[Caller]) -> CrowdFigures:
        """Ask until there are enough answers."""
        for caller in callers:
            caller.answered = self._heard
            self._ask(caller)
        await self._done
        ordered = sorted(self._latencies)
        return CrowdFigures(
            answered=self._answered,
            per_second=len(ordered) / (self._ended - self._begun),
            p50_ms=percentile(ordered, 0.50) * 1e3,
            p99_ms=percentile(ordered, 0.99) * 1e3,
        )

    def _ask(self, caller: Caller) -> None:
        data = self._requests[self._next % len(self._requests)]
        self._next += 1
        self._sent[caller] = time.perf_counter()
        caller.send(data)

    def _heard(self, caller: Caller) -> None:
        now = time.perf_counter()
        self._answered += 1
        order = self._order
        if self._answered == order.warmup:
            self._begun = now
        elif order.warmup < self._answered <= order.warmup + order.requests:
            self._latencies.append(now - self._sent[caller])
            self._ended = now
        if self._answered < order.warmup + order.requests:
            self._ask(caller)
        elif not self._done.done():
            self._done.set_result(None)


async def drive(order: Order) -> CrowdFigures:
    """Run one order to its end."""
    callers = await connected(order.port, order.connections)
    figures = await _Crowd(order).run(callers)
    leave(callers)
    return figures


def main() -> None:
    """Run as a process of its own; the figures go to standard output as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("port", "accounts", "connections", "warmup", "requests", "skip"):
        parser.add_argument(f"--{name}", type=int, required=True)
    order = Order(**vars(parser.parse_args()))
    print(json.dumps(asdict(uvloop.run(drive(order)))))


if __name__ == "__main__":
    main()
