"""Trouble with the ledger's file: full, locked, read-only, gone, cut short. Premium and economy fail closed.

A real store with its writer's thread serves real requests while the trouble lasts. Nothing may be
served unmetered, nothing may hang, and once the trouble is over everything must add up.
"""

from __future__ import annotations

import asyncio
import fcntl
import multiprocessing
import resource
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from tests.server.fakes import DONE, STREAM, ScriptedProvider, make_settings, plain, streamed, until
from tests.server.fakes_gateway import Rig, running
from tests.torture.ledgers import audit, file_rows, hurry, open_later, writing_connection
from tests.torture.results import Progress, Result, Violation, quiet

from flatfee.server.gateway import LEASE_SECONDS
from flatfee.server.housekeeping import SWEEP_SECONDS
from flatfee.server.store.sqlite import SqliteStore
from flatfee.server.store.turn import path_beside

_LIMIT: Final = 20.0
"""Seconds within which any request must be answered while the file is in trouble."""

_PATIENCE: Final = 0.3
"""How long the store waits for a lock here, in seconds; five in earnest."""

_TRIES: Final = 60
Mend = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """``strike`` brings it about and returns what ends it.

    ``waits``: it is over before the store's patience is, so that requests succeed. ``at_once``: the
    first request already must fail; otherwise one of ``_TRIES`` must. ``unready``: no write at all can
    succeed. ``apart``: it needs a process of its own.
    """

    name: str
    strike: Callable[[SqliteStore, Path], Mend]
    waits: bool = False
    at_once: bool = True
    unready: bool = True
    apart: bool = False


def _full(store: SqliteStore, _: Path) -> Mend:
    connection = writing_connection(store)
    (before,) = connection.execute("PRAGMA max_page_count").fetchone()
    connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size, if that is more
    return lambda: connection.execute(f"PRAGMA max_page_count = {before}")


def _read_only(store: SqliteStore, _: Path) -> Mend:
    connection = writing_connection(store)
    connection.execute("PRAGMA query_only = ON")
    return lambda: connection.execute("PRAGMA query_only = OFF")


def _locked(_: SqliteStore, path: Path) -> Mend:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    def mend() -> None:
        other.execute("ROLLBACK")
        other.close()

    return mend


def _locked_for_a_moment(store: SqliteStore, path: Path) -> Mend:
    mend = _locked(store, path)
    hurry(store, 5.0)
    asyncio.get_running_loop().call_later(0.2, mend)
    return lambda: None


def _turn_kept(_: SqliteStore, path: Path) -> Mend:
    other = path_beside(path).open("r+")
    fcntl.flock(other, fcntl.LOCK_EX)
    return other.close


def _cut_short(_: SqliteStore, path: Path) -> Mend:
    """No file of this process may grow: writes end in an I/O error, half-way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = path.with_name(path.name + "-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 1000, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _gone(_: SqliteStore, path: Path) -> Mend:
    aside = path.with_name("aside")
    path.rename(aside)
    return lambda: aside.rename(path)


def _replaced(store: SqliteStore, path: Path) -> Mend:
    mend = _gone(store, path)
    path.write_bytes(b"")
    return mend


TROUBLES: Final = (
    Trouble(name="the disk is full", strike=_full, at_once=False, unready=False),
    Trouble(name="the file is read-only", strike=_read_only),
    Trouble(name="another process locks the file for too long", strike=_locked),
    Trouble(name="another process locks the file for a moment", strike=_locked_for_a_moment, waits=True),
    Trouble(name="another process keeps its turn", strike=_turn_kept),
    Trouble(name="a write is cut short", strike=_cut_short, at_once=False, unready=False, apart=True),
    Trouble(name="the file is gone", strike=_gone),
    Trouble(name="the file is replaced", strike=_replaced),
)


def disks(rounds: int, troubles: Sequence[Trouble] = TROUBLES) -> Result:
    """Bring about every trouble ``rounds`` times."""
    numbers = [number for _ in range(rounds) for number in range(len(troubles))]
    progress = Progress("storage faults", len(numbers))
    violations: list[Violation] = []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        for done, number in enumerate(numbers, 1):
            trouble = troubles[number]
            found = apart.submit(_run_apart, number).result() if trouble.apart else _run(trouble)
            violations += [Violation(text=f"{trouble.name}: {text}") for text in found]
            progress.at(done, len(violations))
    return Result(scenario="storage faults", runs=len(numbers), violations=tuple(violations))


def _run_apart(number: int) -> list[str]:
    with quiet():
        return _run(TROUBLES[number])


def _run(trouble: Trouble) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return asyncio.run(_Storm(trouble, Path(folder) / "ledger.db").run())
        except Exception as error:
            return [f"the run itself failed: {error!r}"]


class _Storm:
    """One gateway through one trouble."""

    def __init__(self, trouble: Trouble, path: Path) -> None:
        self._trouble = trouble
        self._path = path
        self._found: list[str] = []
        self._kept: list[dict[str, Any]] = []

    async def run(self) -> list[str]:
        store = SqliteStore(self._path)
        hurry(store, _PATIENCE)
        going_on = asyncio.Event()
        provider = ScriptedProvider(first=[plain(), streamed(STREAM[0], going_on, *STREAM[1:], DONE), plain()])
        async with running(make_settings(concurrent_workflows=100), provider, store=store) as rig:
            await self._served(rig)
            held = asyncio.create_task(rig.ask(stream=True))
            await until(lambda: len(provider.asked) == 2)
            mend = self._trouble.strike(store, self._path)
            try:
                await (self._served(rig) if self._trouble.waits else self._fails(rig))
                going_on.set()
                async with asyncio.timeout(_LIMIT):
                    await self._bought_is_given(await held)
            except TimeoutError:
                self._found.append(f"no answer within {_LIMIT:.0f} s")
            finally:
                mend()
            await self._served(rig)
        await self._look()
        return self._found

    async def _served(self, rig: Rig) -> None:
        async with asyncio.timeout(_LIMIT):
            answer = await rig.ask()
        if answer.status_code != 200 or answer.json()["flatfee"]["state"] != "settled":
            self._found.append(f"a request was answered {answer.status_code}: {answer.text[:300]}")
        else:
            self._kept.append(answer.json()["flatfee"])

    async def _fails(self, rig: Rig) -> None:
        """Every request is refused while the trouble lasts; with a full disk, as soon as nothing fits any more."""
        refused = 0
        for number in range(_TRIES):
            if refused == 4:
                break
            asked = len(rig.provider.asked)
            async with asyncio.timeout(_LIMIT):
                answer = await rig.ask(model=("premium", "economy")[number % 2])
            if answer.status_code == 200:
                if self._trouble.at_once or refused:
                    self._found.append(f"a request was served while the ledger was in trouble: {answer.text[:200]}")
                continue
            refused += 1
            self._check_refusal(answer)
            if len(rig.provider.asked) > asked:
                self._found.append("a provider was asked for what cannot be metered")
        if not refused:
            self._found.append(f"none of {_TRIES} requests was refused")
        if self._trouble.unready and (await rig.client.get("/health/ready")).status_code != 503:
            self._found.append("it says that it is ready")

    def _check_refusal(self, answer: httpx.Response) -> None:
        told = answer.status_code, answer.json()["error"]["code"], answer.headers["x-should-retry"]
        if told != (503, "store_unavailable", "true") or int(answer.headers["retry-after"]) < 1:
            self._found.append(f"it was refused with {told}")

    async def _bought_is_given(self, answer: httpx.Response) -> None:
        """What ran when the trouble came is answered, with figures that are estimates if they cannot be kept."""
        if answer.status_code != 200 or b"[DONE]" not in answer.content:
            self._found.append(f"what was bought is not given: {answer.text[:200]}")

    async def _look(self) -> None:
        """Once every lease is over, the books must balance, and hold what callers were shown."""
        store = open_later(self._path, LEASE_SECONDS + SWEEP_SECONDS)
        try:
            await store.sweep()
            self._found += await store.audit_books()
        finally:
            await store.close()
        rows = file_rows(self._path)
        self._found += audit(rows)
        self._found += [f"{each} still holds units" for each in rows.tickets]
        for receipt in self._kept:
            row = rows.receipts.get(receipt["request_id"])
            if row is None or row.shown != receipt:
                self._found.append(f"the caller saw {receipt}, and {row} is kept")
