"""The gateway's own measures: their pure parts, and one tiny run of all. Nothing here asserts on a speed."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from benchmarks.children import ROOT, BenchmarkFailed, python
from benchmarks.own.__main__ import MEASURES, main
from benchmarks.own.filling import account_of, held, ledger_file, secret_of
from benchmarks.own.first_token import Added, FirstTokenSample, added
from benchmarks.own.large_ledger import EMPTY, LARGE, LargeLedger, LoadSample
from benchmarks.own.memory import Memory, MemorySample
from benchmarks.own.provider import Manner
from benchmarks.own.report import table
from benchmarks.own.staged_server import Watch, watched
from benchmarks.own.stages import OTHERS, REST, Cost, Told, sample_of
from benchmarks.own.startup import by_package

from flatfee.server.keys import digest
from flatfee.server.store.sqlite import SqliteStore


@pytest.mark.processes
def test_a_quick_run_takes_every_measure_and_keeps_the_raw_figures(tmp_path: Path) -> None:
    raw = tmp_path / "own.json"
    command = python("benchmarks.own", "--quick", "--out", str(raw), "--folder", str(tmp_path))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(raw.read_text())
    assert {"date", "commit", "machine", "quick", *MEASURES} == set(told)
    assert {one["case"] for one in told["memory"]} == {"idle", "idle connection", "open stream", "stalled stream"}
    assert {one["ledger"] for one in told["ledger"]["loads"]} >= {EMPTY, LARGE}
    assert all(one["absent"] == [] for one in told["stages"]), "a stage has another name now"
    assert "CPU by stage" in done.stdout


def test_an_unknown_measure_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "memory,speed"])
    assert "unknown measure 'speed'; use some of memory, startup" in capsys.readouterr().err


# The large ledger


def test_a_filled_ledger_is_one_that_the_store_agrees_with(tmp_path: Path) -> None:
    path = tmp_path / "large.db"
    filled = ledger_file(path, 3, 400, lambda _: None)
    assert (filled.accounts, filled.receipts) == (3, 400)

    async def books() -> tuple[list[str], int]:
        store = SqliteStore(path)
        try:
            caller = await store.find_key(digest(secret_of(2)))
            assert caller is not None
            assert caller.account == account_of(2)
            return await store.audit_books(), held(path).receipts
        finally:
            await store.close()

    disagreements, receipts = asyncio.run(books())
    assert disagreements == []
    assert receipts >= 400


def test_a_ledger_that_is_there_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "large.db"
    ledger_file(path, 2, 40, lambda _: None)
    assert ledger_file(path, 2, 40, lambda _: None).seconds == 0.0
    with pytest.raises(BenchmarkFailed, match="holds 2 accounts"):
        ledger_file(path, 3, 40, lambda _: None)


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    sqlite3.connect(path).execute("CREATE TABLE mine (x)").connection.close()
    before = path.read_bytes()
    with pytest.raises(BenchmarkFailed, match="is no ledger"):
        ledger_file(path, 3, 40, lambda _: None)
    assert path.read_bytes() == before


def load(ledger: str, number: int, per_second: float) -> LoadSample:
    return LoadSample(
        ledger=ledger, round=number, per_second=per_second, p50_ms=1.0, p99_ms=2.0, cpu_us=None, written=None
    )


def test_the_ratio_is_the_median_of_the_rounds(tmp_path: Path) -> None:
    rates = {EMPTY: (100, 200, 400), LARGE: (90, 100, 320)}
    loads = [load(name, number, rate) for name, row in rates.items() for number, rate in enumerate(row)]
    file = ledger_file(tmp_path / "large.db", 1, 2, lambda _: None)
    assert LargeLedger(file=file, loads=loads, timed=[]).ratio(LARGE) == pytest.approx(0.8)


# CPU by stage


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def test_a_stage_is_charged_for_what_no_stage_inside_it_takes() -> None:
    clock = Clock()
    watch = Watch(clock)

    def five() -> None:
        clock.now += 5

    inner = watched(watch, "inner", five)

    def outer() -> None:
        clock.now += 2
        inner()
        clock.now += 3

    watched(watch, "outer", outer)()
    assert watch.take() == ({"outer": 5, "inner": 5}, {"outer": 1, "inner": 1})


def test_a_coroutine_is_not_charged_while_it_waits() -> None:
    clock = Clock()
    watch = Watch(clock)

    async def waiting(ready: asyncio.Event) -> str:
        clock.now += 2
        await ready.wait()
        clock.now += 1
        return "done"

    async def both() -> str:
        ready = asyncio.Event()
        task = asyncio.ensure_future(watched(watch, "waiting", waiting)(ready))
        await asyncio.sleep(0)
        clock.now += 100
        ready.set()
        return str(await task)

    assert asyncio.run(both()) == "done"
    assert watch.take() == ({"waiting": 3}, {"waiting": 2})


def test_what_is_watched_behaves_as_it_did() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    @asynccontextmanager
    async def context() -> AsyncIterator[str]:
        try:
            yield "inside"
        except ValueError:
            return

    async def use() -> tuple[list[int], str]:
        found = [number async for number in watched(Watch(), "numbers", numbers)()]
        entered = watched(Watch(), "context", context)()
        inside = await entered.__aenter__()
        assert await entered.__aexit__(ValueError, ValueError("once"), None), "the context takes it"
        return found, inside

    assert asyncio.run(use()) == ([1, 2], "inside")


def told(**changes: Any) -> Told:
    figures: dict[str, Any] = {
        "requests": 10,
        "loop": 100_000,
        "process": 150_000,
        "spent": {"plan": 60_000},
        "entries": {"plan": 20},
        "absent": (),
        "toll": 1000.0,
    }
    return Told(**figures | changes)


def test_stages_and_the_rest_come_to_what_the_gateway_used() -> None:
    with_watch, truth = told(), told(loop=80_000, process=130_000)
    sample = sample_of("plain", 0, Cost.of(with_watch), Cost.of(truth), with_watch)
    assert sample.stages == pytest.approx({"plan": 4.0, REST: 4.0, OTHERS: 5.0})
    assert sample.sum == pytest.approx(sample.truth)
    assert sample.missed == pytest.approx(0.0)


def test_one_more_event_is_the_difference_of_long_and_short_streams() -> None:
    long = Cost.of(told(loop=900_000, process=950_000, spent={"plan": 60_000, "read": 800_000}))
    more = long.beyond(Cost.of(told()), 800)
    assert (more.loop, more.others) == pytest.approx((0.1, 0.0))
    assert more.stages == pytest.approx({"plan": 0.0, "read": 0.1})


# The rest


def test_what_each_adds_is_told_of_resident_memory() -> None:
    before, after = Memory(rss=1000, pss=900), Memory(rss=1800, pss=1500)
    assert MemorySample(case="open stream", round=0, count=4, before=before, after=after).each == 200.0
    assert MemorySample(case="idle", round=0, count=0, before=before, after=after).each == 0.0


def test_added_time_is_between_the_median_rounds() -> None:
    samples = [
        FirstTokenSample(
            side=side, connections=1, round=number, first_p50_ms=took, first_p99_ms=2 * took, whole_p50_ms=9.0
        )
        for side, row in (("direct", (1.0, 2.0, 30.0)), ("gateway", (4.0, 5.0, 6.0)))
        for number, took in enumerate(row)
    ]
    assert added(samples) == [Added(connections=1, p50_ms=3.0, p99_ms=6.0)]


def test_imports_are_summed_by_package() -> None:
    lines = "import time:       200 |        300 |   flatfee.wire\nimport time:      1300 |   1500 | flatfee\n"
    assert by_package(f"{lines}import time:       100 |        100 | json\n") == {"flatfee": 1.5, "json": 0.1}


def test_a_manner_is_read_as_it_was_told() -> None:
    manner = Manner(kind="held", count=8, pause=2.5)
    assert Manner.read(manner.told()) == manner


def test_a_table_is_as_wide_as_its_longest_cells() -> None:
    assert table([("name", "x"), ("a longer name", "10")]).splitlines() == [
        "| name          |  x |",
        "|---------------|---:|",
        "| a longer name | 10 |",
    ]
