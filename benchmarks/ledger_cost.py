"""What a request's money costs: reserve, dispatch, settle and its receipt, on SQLite, without a gateway around it.

As a command it does that work alone in a process of its own, from 16 tasks at once as 16 connections do, and
prints its CPU time for each request. Its own making of reservations and receipts counts as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.children import cores, python, run
from benchmarks.gateway_cost import SCENARIOS, Effort, sample
from benchmarks.own.requests import outcome_of, reservation
from benchmarks.targets import TARGETS, Target, fake_upstream
from flatfee.server.keys import KeyKind, digest
from flatfee.server.store.records import Caller, NewAccount, NewKey, NewProject, Ticket
from flatfee.server.store.sqlite import SqliteStore
from flatfee.wire import Billing

CONNECTIONS: Final = 16
_REQUESTS: Final = 4000
_TIMEOUT: Final = 120.0
_PROMPT_TOKENS: Final = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSample:
    """One round: CPU of the ledger alone and of the gateway beside it, in microseconds for each request."""

    round: int
    ledger_us: float
    gateway_us: float


def measure(effort: Effort, folder: Path, say: Callable[[str], None]) -> list[LedgerSample]:
    """Start a gateway; measure the ledger alone and the gateway in turn.

    Raises:
        BenchmarkFailed: either failed.
    """
    say("the ledger alone …")
    folder.mkdir()
    with fake_upstream(folder) as upstream, TARGETS["gateway"](upstream, folder) as gateway:
        return _measure(gateway, effort)


def _measure(gateway: Target, effort: Effort) -> list[LedgerSample]:
    (scenario,) = (found for found in SCENARIOS if found.shape == "plain" and found.connections == CONNECTIONS)
    samples = []
    for number in range(effort.rounds):
        requests = min(_REQUESTS, effort.max_requests * CONNECTIONS)
        printed = run(python("benchmarks.ledger_cost", "--requests", str(requests)), core=cores()[0], timeout=_TIMEOUT)
        whole = sample(scenario, gateway, number, effort).cpu_us
        if whole is not None:
            alone: float = json.loads(printed)["cpu_us"]
            samples.append(LedgerSample(round=number, ledger_us=alone, gateway_us=whole))
    return samples


async def _load(store: SqliteStore, requests: int) -> float:
    secret = "the-benchmark's-key-needs-32-characters"
    key = NewKey(digest=digest(secret), name="bench", kind=KeyKind.PROJECT, last4="ters")
    project = NewProject(name="bench", keys=(key,))
    account = NewAccount(name="bench", plan="bench", billing=Billing.ACTIVE, billing_day=1, projects=(project,))
    await store.provision([account])
    caller = await store.find_key(key.digest)
    assert caller is not None
    before = time.process_time()
    await asyncio.gather(*(_connection(store, caller, requests // CONNECTIONS) for _ in range(CONNECTIONS)))
    return (time.process_time() - before) * 1e6 / (requests // CONNECTIONS * CONNECTIONS)


async def _connection(store: SqliteStore, caller: Caller, requests: int) -> None:
    for _ in range(requests):
        ticket = await store.reserve(reservation(caller, store.now(), None))
        assert isinstance(ticket, Ticket)
        await store.dispatch(ticket)
        await store.settle(ticket, outcome_of(ticket, prompt_tokens=_PROMPT_TOKENS, stream=False))


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the work and print the figure as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger_cost", description=__doc__)
    parser.add_argument("--requests", type=int, default=_REQUESTS)
    requests = parser.parse_args(arguments).requests

    async def work() -> float:
        with tempfile.TemporaryDirectory(prefix="flatfee-bench-") as folder:
            store = SqliteStore(Path(folder) / "ledger.db")
            try:
                return await _load(store, requests)
            finally:
                await store.close()

    print(json.dumps({"cpu_us": uvloop.run(work())}))


if __name__ == "__main__":
    main()
