"""What a ledger of many accounts and receipts costs, beside an empty one: requests/s, reads and housekeeping.

All gateways share the core under measurement, and are put under load in turn. Reads and the forgetting of old
receipts are timed on the large file by the store's own operations.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.children import cores, cpu_seconds, python, run
from benchmarks.own.callers import Caller, query
from benchmarks.own.filling import Filled, account_of, ledger_file, secret_of
from benchmarks.own.running import Running, gateway, provider
from benchmarks.stats import median
from flatfee.server.housekeeping import PRUNE_AT_ONCE
from flatfee.server.store.sqlite import SqliteStore

CONNECTIONS: Final = 16
EMPTY: Final = "empty, one account"
MANY: Final = "empty, many accounts"
LARGE: Final = "large"
_TIMEOUT: Final = 300.0
_WARMUP: Final = 500
_READS: Final = 100
_PRUNES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEffort:
    """How large the ledger is, and how much is asked of it."""

    accounts: int
    receipts: int
    rounds: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSample:
    """One round of load on one ledger. ``written`` is bytes that the process wrote for each request, if told."""

    ledger: str
    round: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float | None
    written: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """How long one operation on the large ledger takes, in ms."""

    what: str
    p50_ms: float
    most_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeLedger:
    """Everything that was measured, and the file that it was measured on."""

    file: Filled
    loads: list[LoadSample]
    timed: list[Timed]

    def ratio(self, ledger: str) -> float:
        """Return requests/s of a ledger beside the empty one: the median of the rounds' ratios."""
        by_round = {(one.ledger, one.round): one.per_second for one in self.loads}
        rounds = sorted({one.round for one in self.loads})
        return median([by_round[ledger, number] / by_round[EMPTY, number] for number in rounds])


def measure(effort: LedgerEffort, folder: Path, say: Callable[[str], None], *, ledger: Path | None) -> LargeLedger:
    """Fill the ledger, or take the one that is there; put gateways under load in turn; time what reads it.

    Raises:
        BenchmarkFailed: the file is another one, a server did not start, or an answer was wrong.
    """
    large, many = ledger or folder / "large.db", folder / "many.db"
    file = ledger_file(large, effort.accounts, effort.receipts, say)
    ledger_file(many, effort.accounts, 0, say)
    with ExitStack() as stack:
        upstream = stack.enter_context(provider(folder))
        stores = {EMPTY: None, MANY: many, LARGE: large}
        running = {name: stack.enter_context(gateway(folder, upstream, ledger=path)) for name, path in stores.items()}
        loads = _loads(running, effort, say)
        say("reads of the large ledger …")
        timed = uvloop.run(_reads(running[LARGE], effort.accounts))
    say("housekeeping of the large ledger …")
    return LargeLedger(file=file, loads=loads, timed=timed + uvloop.run(_housekeeping(large)))


def _loads(running: dict[str, Running], effort: LedgerEffort, say: Callable[[str], None]) -> list[LoadSample]:
    used = dict.fromkeys(running, 0)
    samples = []
    for number in range(effort.rounds):
        say(f"large ledger, round {number + 1} …")
        for name, one in running.items():
            accounts = 0 if name == EMPTY else effort.accounts
            # Before the first round each account asks once, so that each has a balance that is kept.
            warmup = max(_WARMUP, accounts) if not number else min(_WARMUP, effort.requests)
            samples.append(_load(name, number, one, accounts, warmup, effort.requests, used[name]))
            used[name] += warmup + effort.requests
    return samples


def _load(
    ledger: str, number: int, running: Running, accounts: int, warmup: int, requests: int, skip: int
) -> LoadSample:
    figures = {"accounts": accounts, "connections": CONNECTIONS, "warmup": warmup, "requests": requests, "skip": skip}
    options = [text for name, value in figures.items() for text in (f"--{name}", str(value))]
    cpu, written = cpu_seconds(running.pid), _written(running.pid)
    printed = run(
        python("benchmarks.own.crowd", "--port", str(running.port), *options), core=cores()[1], timeout=_TIMEOUT
    )
    cpu_after, written_after = cpu_seconds(running.pid), _written(running.pid)
    told = json.loads(printed)
    answered = told.pop("answered")
    return LoadSample(
        ledger=ledger,
        round=number,
        cpu_us=(cpu_after - cpu) * 1e6 / answered if cpu is not None and cpu_after is not None else None,
        written=(written_after - written) / answered if written is not None and written_after is not None else None,
        **told,
    )


def _written(pid: int) -> int | None:
    """Return the bytes that a process has written to files and pipes so far; ``None`` where it is not told."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


async def _reads(running: Running, accounts: int) -> list[Timed]:
    """Time what users ask of a gateway that nobody else asks anything, each time for another account."""
    caller = await Caller.connect(running.port)
    found = []
    for path in ("/v1/receipts?limit=20", "/v1/receipts?limit=100&lane=premium", "/v1/usage"):

        async def ask(number: int, path: str = path) -> None:
            await caller.ask(query(secret_of(number * 97 % accounts), path))

        found.append(await _timed(f"GET {path}", ask, _READS))
    caller.leave()
    return found


async def _housekeeping(path: Path) -> list[Timed]:
    """Time the sweep, a heartbeat's worth of forgetting, and an account's whole past, by the store itself."""
    store = SqliteStore(path)

    async def sweep(_: int) -> None:
        await store.sweep()

    async def prune(_: int) -> None:
        await store.prune(store.now() - 29.9 * 86_400, PRUNE_AT_ONCE)

    async def account(number: int) -> None:
        await store.account(account_of(number))

    try:
        return [
            await _timed("sweep", sweep, _READS),
            await _timed(f"forget {PRUNE_AT_ONCE} receipts", prune, _PRUNES),
            await _timed("look up an account", account, _READS),
        ]
    finally:
        await store.close()


async def _timed(what: str, work: Callable[[int], Awaitable[None]], times: int) -> Timed:
    took = []
    for number in range(times):
        begun = time.perf_counter()
        await work(number)
        took.append((time.perf_counter() - begun) * 1e3)
        await asyncio.sleep(0)
    return Timed(what=what, p50_ms=median(took), most_ms=max(took))
