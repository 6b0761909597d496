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
from benchmarks.targets import TARGETS, Target, fake_upstream
from flatfee.receipt import Attempt, Receipt, TokenUsage
from flatfee.server.ids import request_id
from flatfee.server.keys import KeyKind, digest
from flatfee.server.store.records import (
    Caller,
    NewAccount,
    NewKey,
    NewProject,
    Offer,
    Outcome,
    Purse,
    Reservation,
    Terms,
    Ticket,
)
from flatfee.server.store.sqlite import SqliteStore
from flatfee.server.windows import Calendar
from flatfee.wire import Billing, Lane, Reason, ReceiptState, Tier

CONNECTIONS: Final = 16
_REQUESTS: Final = 4000
_TIMEOUT: Final = 120.0
_OFFER: Final = Offer(lane=Lane.PREMIUM, reason=Reason.DEFAULT, purse=Purse.FAIR_USE, units=17_196)
_TERMS: Final = Terms(
    unit="token",
    fair_use=10**12,
    continuation_limit=None,
    workflows=1000,
    fanout=16,
    idle=120.0,
    requests_per_minute=None,
)


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
        want = Reservation(
            request_id=request_id(store.now()),
            caller=caller,
            terms=_TERMS,
            calendar=Calendar("month", 1),
            workflow=None,
            offers=(_OFFER,),
            model_requested="auto",
            lease=60.0,
        )
        ticket = await store.reserve(want)
        assert isinstance(ticket, Ticket)
        await store.dispatch(ticket)
        await store.settle(ticket, Outcome(charged=1834, receipt=_receipt(ticket), route="fixed", answered=True))


def _receipt(ticket: Ticket) -> Receipt:
    return Receipt(
        request_id=ticket.request_id,
        lane=ticket.offer.lane,
        reason=ticket.offer.reason,
        state=ReceiptState.SETTLED,
        model_requested="auto",
        model_served="fixed",
        route="fixed-premium",
        tier=Tier.PREMIUM,
        usage=TokenUsage(prompt_tokens=1200, completion_tokens=158, cached_tokens=0),
        attempts=(Attempt(route="fixed-premium", outcome="ok", status=200, duration_ms=3),),
    )


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
