"""The mixed soak: fifty workflows, a provider with every kind of mishap, and a gateway that must keep nothing.

``python -m tests.faults.soak`` runs it at length. The gateway is the real one, in a process of its own, its
ledger on disk. What requests and mishaps are is their seed's; which of them meet is the machine's, so a
run can be repeated as far as real sockets allow.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from tests.faults.mishaps import Mishaps
from tests.faults.upstream import FaultyUpstream
from tests.faults.visitors import Errand, Visit, visit
from tests.faults.watched import Watched, watched
from tests.server.fakes import KEY, route
from tests.torture.ledgers import ReceiptRow, audit, file_rows
from tests.torture.results import Progress

from flatfee.server.store.sqlite import SqliteStore

WORKFLOWS: Final = 50
SPEED: Final = 50.0
"""The clock of the circuits runs so much faster: a cool-down of ten seconds lasts a fifth of one."""

GROWTH: Final = 12 * 1024 * 1024
"""Bytes by which the gateway may grow after the first quarter of the requests."""

REST: Final = 20.0
"""Seconds after the last answer within which everything must be given back."""

LIKELY: Final = {"one": 0.25, "two": 0.25, "three": 0.15, "four": 0.25, "five": 0.03}
"""How likely each model's tries fail."""

_LIMITS: Final = {"connect_timeout": 1.0, "first_token_timeout": 2.0, "idle_timeout": 2.0, "total_timeout": 8.0}


def _route(name: str, model: str, tier: str = "premium", provider: str = "faulty", **options: Any) -> dict[str, Any]:
    return {**route(name, tier, **options), "provider": provider, "model": model, **_LIMITS}


ROUTES: Final = (
    _route("first", "one", prefill=True),
    _route("second", "two"),
    _route("third", "three", priority=2, prefill=True),
    _route("refused", "none", provider="refusing", weight=0.1),
    _route("fourth", "four", "economy", prefill=True),
    _route("fifth", "five", "economy"),
    _route("unheard", "none", "economy", provider="deaf", weight=0.1),
)


@dataclass
class Soak:
    """What came of a run."""

    seed: int
    visits: list[Visit] = field(default_factory=list)
    mishaps: Counter[str] = field(default_factory=Counter)
    resident: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    processor: float = 0.0
    receipts: int = 0
    connections: int = 0

    @property
    def verdicts(self) -> Counter[str]:
        return Counter(f"{seen.verdict} {seen.code or ''}".strip() for seen in self.visits)


async def soak(seed: int, count: int, folder: Path, *, rest: float = REST, broken: Sequence[str] = ()) -> Soak:
    """Send ``count`` requests from 50 workflows, and look at what is left."""
    run, mishaps = Soak(seed), Mishaps(seed, LIKELY)
    async with FaultyUpstream() as upstream:
        for model in LIKELY:
            upstream.plays(model, then=mishaps)
        upstreams = {"faulty": upstream.url, "refusing": upstream.refusing, "deaf": upstream.deaf}
        async with watched(folder, upstreams=upstreams, routes=ROUTES, speed=SPEED, broken=broken) as gateway:
            before = await _warmed_up(gateway)
            started = time.monotonic()
            await _visit_all(run, gateway, count)
            run.seconds, run.processor = time.monotonic() - started, gateway.processor()
            run.wrong += await _at_rest(gateway, before, rest)
            run.wrong += await _usage_at_rest(gateway, rest)
            run.resident.append(gateway.resident())
        run.connections = upstream.connections
        run.wrong += await _still_open(upstream, rest)
    run.mishaps = mishaps.played
    run.wrong += [str(seen) for seen in run.visits if seen.wrong]
    run.wrong += [
        f"request {number} was tried {tries} times by {model}"
        for (number, model), tries in mishaps.tries.items()
        if tries > 2
    ]
    run.wrong += await _ledger(run, gateway)
    run.wrong += _memory(run)
    run.wrong += [
        f"the log has {word!r}" for word in ("Traceback", "never retrieved", "Unclosed", KEY) if word in gateway.log
    ]
    return run


async def _warmed_up(gateway: Watched) -> dict[str, Any]:
    """Ask one thing, so that what is opened once is open; return what the gateway holds then."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", trust_env=False) as client:
        (await client.get("/v1/usage", headers={"authorization": f"Bearer {KEY}"})).raise_for_status()
    await _until(gateway, lambda held: not held["callers"], REST)
    return await gateway.inside()


async def _visit_all(run: Soak, gateway: Watched, count: int) -> None:
    numbers: Iterator[int] = iter(range(1, count + 1))
    progress = Progress("soak", count)

    async def workflow(name: str) -> None:
        for number in numbers:
            seen = await visit(Errand.drawn(run.seed, number, name), gateway.port)
            run.visits.append(seen)
            if len(run.visits) in {count // 4, count // 2, 3 * count // 4, count}:
                run.resident.append(gateway.resident())
            progress.at(len(run.visits), sum(seen.wrong is not None for seen in run.visits))

    async with asyncio.TaskGroup() as group:
        for place in range(WORKFLOWS):
            group.create_task(workflow(f"run-{place}"))


async def _until(gateway: Watched, holds: Callable[[dict[str, Any]], bool], rest: float) -> dict[str, Any]:
    """Look into the gateway until something holds, or until it is time that it did."""
    end = time.monotonic() + rest
    while not holds(held := await gateway.inside()) and time.monotonic() < end:  # noqa: ASYNC110 - in another process
        await asyncio.sleep(0.1)
    return held


async def _at_rest(gateway: Watched, before: dict[str, Any], rest: float) -> list[str]:
    """Nothing is held for a request that has ended."""
    counts = ("running", "active", "unfinished", "acquired", "callers")
    held = await _until(
        gateway, lambda held: not any(held[name] for name in counts) and held["tasks"] == before["tasks"], rest
    )
    found = [f"at rest the gateway holds {held[name]} {name}" for name in counts if held[name]]
    if held["tasks"] != before["tasks"]:
        found.append(f"at rest the tasks are {held['tasks']}, and were {before['tasks']}")
    files = held["files"] - held["pooled"]
    if files > before["files"] - before["pooled"]:
        found.append(f"at rest {files} files are open, and {before['files'] - before['pooled']} were")
    return found


async def _usage_at_rest(gateway: Watched, rest: float) -> list[str]:
    """No units are pending, and no workflow holds a slot once it has been idle."""
    headers = {"authorization": f"Bearer {KEY}"}
    end = time.monotonic() + rest
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{gateway.port}", headers=headers, trust_env=False
    ) as client:
        while True:
            usage = (await client.get("/v1/usage")).json()
            held = usage["fair_use"]["pending"], usage["workflows"]["active"]
            if held == (0, 0):
                return []
            if time.monotonic() > end:
                return [f"at rest {held[0]} units are pending, and {held[1]} workflows active"]
            await asyncio.sleep(0.2)


async def _still_open(upstream: FaultyUpstream, rest: float) -> list[str]:
    """The gateway has ended: whatever it had open to its provider is closed."""
    end = time.monotonic() + rest
    while upstream.open and time.monotonic() < end:  # noqa: ASYNC110 - closed by another process
        await asyncio.sleep(0.05)
    return [f"the provider still has {len(upstream.open)} connections"] if upstream.open else []


async def _ledger(run: Soak, gateway: Watched) -> list[str]:
    """Each request has one receipt, which says what its caller saw; the books balance."""
    rows = file_rows(gateway.ledger)
    run.receipts = len(rows.receipts)
    found = audit(rows)
    store = SqliteStore(gateway.ledger)
    found += await store.audit_books()
    await store.close()
    found += [f"{request_id} still holds units" for request_id in rows.tickets]
    seen = Counter(each.request_id for each in run.visits if each.request_id is not None)
    found += [f"{request_id} is the id of {times} requests" for request_id, times in seen.items() if times > 1]
    late = {each.request_id for each in run.visits if each.code == "deadline_exceeded"}
    found += [f"{each} has no receipt" for each in seen.keys() - rows.receipts.keys() - late]
    unseen = sum(each.request_id is None for each in run.visits)
    if len(rows.receipts.keys() - seen.keys()) > unseen:
        found.append(
            f"there are {len(rows.receipts)} receipts, for {len(seen)} requests and {unseen} that left at once"
        )
    for each in run.visits:
        kept = rows.receipts.get(each.request_id or "")
        if kept is not None and each.receipt:
            found += _differences(each, kept)
    return found


def _differences(seen: Visit, kept: ReceiptRow) -> list[str]:
    given_back = (seen.receipt["state"], kept.shown["state"], kept.net) == ("refused", "refused", 0)
    # The ledger was too slow for the caller's deadline: what it keeps then is more than the caller was told.
    hurried = given_back and seen.code == "deadline_exceeded"
    if kept.shown != seen.receipt and seen.receipt["state"] != "estimated" and not hurried:
        return [f"request {seen.errand.number} saw {seen.receipt}, and {kept.shown} is kept"]
    if seen.verdict == "whole" and kept.shown["attempts"][-1]["outcome"] != "ok":
        return [f"request {seen.errand.number} got its whole answer, and {kept.shown} is kept"]
    if seen.verdict.startswith("error") and kept.net and not _paid_for_time(seen, kept):
        return [f"request {seen.errand.number} failed, and was charged {kept.net}: {kept.shown}"]
    return []


def _paid_for_time(seen: Visit, kept: ReceiptRow) -> bool:
    """Tell whether a limit of the caller's own or of the whole answer ended it while it flowed: that is charged."""
    in_full = any(
        each["outcome"] == "timeout" and each["duration_ms"] >= (_LIMITS["total_timeout"] - 0.1) * 1000
        for each in kept.shown["attempts"]
    )
    return seen.code == "deadline_exceeded" or in_full


def _memory(run: Soak) -> list[str]:
    first, *later = run.resident
    grown = max(later) - first
    return [f"it grew by {grown / 1e6:.1f} MB after the first quarter"] if grown > GROWTH else []


def report(run: Soak) -> str:
    """Return the figures of a run as a table in Markdown."""
    rows = [
        ("requests", f"{len(run.visits):,}"),
        *((f"… {verdict}", f"{count:,}") for verdict, count in run.verdicts.most_common()),
        ("tries that reached the provider", f"{sum(run.mishaps.values()):,}"),
        ("connections to the provider", f"{run.connections:,}"),
        ("receipts", f"{run.receipts:,}"),
        ("seconds", f"{run.seconds:.0f}"),
        ("processor seconds of the gateway", f"{run.processor:.0f}"),
        ("resident, by quarters and at rest, MB", " ".join(f"{each / 1e6:.0f}" for each in run.resident)),
        ("violations", f"{len(run.wrong):,}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(["| soak | |", "| --- | ---: |", *(f"| {name:<{width}} | {value} |" for name, value in rows)])


def run_soak(seed: int, count: int, *, rest: float = REST, broken: Sequence[str] = ()) -> Soak:
    """Run one soak in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(soak(seed, count, Path(folder), rest=rest, broken=broken))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak at length; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeat the requests and mishaps of a run")
    parser.add_argument("--count", type=int, default=5000, help="how many requests (5000)")
    parser.add_argument(
        "--break", dest="broken", action="append", default=[], help="break the gateway in a way of tests.faults.broken"
    )
    asked = parser.parse_args(arguments)
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1_000_000)
    run = run_soak(seed, asked.count, broken=asked.broken)
    print(report(run))
    for text in run.wrong[:20]:
        print(text, file=sys.stderr)
    if run.wrong:
        print(f"again: python -m tests.faults.soak --seed {seed} --count {asked.count}", file=sys.stderr)
    return int(bool(run.wrong))


if __name__ == "__main__":
    sys.exit(main())
