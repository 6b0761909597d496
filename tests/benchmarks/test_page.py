"""The page of results: it is what the figures say, it tells what is missing, and its charts can be read by all."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.page import drawing, tables
from benchmarks.page.__main__ import FIGURES, INTO, files, main, stale
from benchmarks.page.drawing import Chart, Column, Mark, Row, decades, draw
from benchmarks.page.figures import Measured, NoFigures, Peers, read, shown
from benchmarks.peers.gateways import ROWS, Did
from benchmarks.peers.measuring import Refusal, Sample, Start
from benchmarks.peers.workers import ONE_CORE, SHARED, TWO_CORES
from benchmarks.peers.workloads import named

SVG = "{http://www.w3.org/2000/svg}"
RATES = {"direct": 50_000.0, "nginx": 20_000.0, "tensorzero": 1500.0, "process": 3000.0, "power": 1600.0}
WORKLOADS = named(["plain-1", "plain-16", "plain-256", "stream-16", "paced-16"])


def a_sample(workload: str, target: str, rate: float, at: int) -> Sample:
    return Sample(
        workload=workload,
        target=target,
        round=at,
        requests=100,
        seconds=2.0,
        per_second=rate * (1 + 0.1 * at),
        p50_ms=1000 / rate,
        p99_ms=4000 / rate,
        cpu_us=1e6 / rate,
        loaded_mb=50.0,
        first_event_p50_ms=0.5 if workload == "paced-16" else None,
        first_event_p99_ms=2.5 if workload == "paced-16" else None,
    )


def a_peers_run() -> dict[str, Any]:
    """Return made-up figures as ``benchmarks.peers`` writes them: TensorZero cannot stream at a pace."""
    names = [workload.name for workload in WORKLOADS]
    samples = [a_sample(work, name, rate, at) for work in names for name, rate in RATES.items() for at in range(3)]
    samples = [one for one in samples if (one.workload, one.target) != ("paced-16", "tensorzero")]
    arrangements = {ONE_CORE: 1000.0, TWO_CORES: 1900.0}
    return {
        "about": {
            "date": "2026-01-02 03:04 UTC",
            "commit": "0123456789ab",
            "machine": {
                "machine": "An Abacus, 2 cores usable",
                "python": "CPython 3.11.0",
                "load before the run": "0.00",
            },
            "tools": {"nginx": "1.22.1", "wrk": "4.1.0"},
            "effort": {"rounds": 3, "seconds": 2, "longest": 12, "warmup": 1, "idle": 2.0},
            "quick": False,
        },
        "targets": [
            {
                "name": name,
                "title": ROWS[name].title,
                "version": "1",
                "did": asdict(ROWS[name].did),
                "ours": ROWS[name].ours,
            }
            for name in RATES
        ],
        "workloads": [asdict(workload) for workload in (*WORKLOADS, SHARED)],
        "skipped": {"litellm": "it is not installed"},
        "starts": [
            asdict(Start(target=name, phase="plain", seconds=1.5, idle_mb=44.0, idle_cpu=0.001)) for name in RATES
        ],
        "refusals": [asdict(Refusal(target="tensorzero", workload="paced-16", said="status 500: `no`"))],
        "samples": [asdict(one) for one in samples],
        "workers": [
            asdict(a_sample("workers", name, rate, at)) for name, rate in arrangements.items() for at in (0, 1)
        ],
        "checked": {"process": 200},
        "failed": None,
        "goals": [],
    }


def an_own_run() -> dict[str, Any]:
    def memory(case: str, count: int, before: int, after: int) -> dict[str, Any]:
        sides = {"before": {"rss": before, "pss": before}, "after": {"rss": after, "pss": after}}
        return {"case": case, "round": 0, "count": count, **sides}

    load = {"round": 0, "p50_ms": 9.0, "p99_ms": 15.0, "cpu_us": 300.0, "written": 2000.0}
    stage = {"round": 0, "toll": 2.0, "entries": 5.0, "absent": []}
    return {
        "machine": {"machine": "An Abacus, 2 cores usable", "python": "CPython 3.11.0", "load before the run": "0.50"},
        "quick": False,
        "memory": [
            memory("idle", 0, 50_000_000, 70_000_000),
            memory("open stream", 100, 50_000_000, 53_000_000),
        ],
        "startup": {
            "starts": [{"case": "a new ledger", "round": 0, "ready_ms": 500.0, "cpu_ms": 400.0}],
            "imports": {"bare_ms": 10.0, "server_ms": 300.0, "packages": {"pydantic": 80.0}},
        },
        "stages": [
            {
                "work": "plain request",
                **stage,
                "stages": {"relay": 70.0, "plan": 30.0},
                "truth": 104.0,
                "watched": 120.0,
            },
            {"work": "streamed event", **stage, "stages": {"relay": 0.3}, "truth": 0.4, "watched": 0.5},
        ],
        "first-token": [
            {
                "side": side,
                "connections": 1,
                "round": 0,
                "first_p50_ms": ms,
                "first_p99_ms": 2 * ms,
                "whole_p50_ms": 60.0,
            }
            for side, ms in (("direct", 0.25), ("gateway", 1.0))
        ],
        "ledger": {
            "file": {"accounts": 10_000, "receipts": 10_000_000, "bytes": 11_000_000_000, "seconds": 0.0},
            "loads": [
                {"ledger": "empty, one account", "per_second": 1000.0, **load},
                {"ledger": "large", "per_second": 980.0, **load},
            ],
            "timed": [{"what": "sweep", "p50_ms": 0.05, "most_ms": 0.3}],
        },
    }


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "peers.json").write_text(json.dumps(a_peers_run()))
    (folder / "own.json").write_text(json.dumps(an_own_run()))
    return folder


def change(figures: Path, name: str, **members: Any) -> None:
    path = figures / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | members))


def the_page(figures: Path, notes: str = "") -> str:
    return files(figures, notes)["benchmarks.md"]


def line_with(text: str, words: str) -> str:
    return next(line for line in text.splitlines() if words in line)


# --- The page in the documentation ---


def test_the_page_is_what_the_figures_in_the_documentation_come_to() -> None:
    assert stale(FIGURES, INTO) == []


def test_what_was_written_is_not_stale_until_a_figure_changes(figures: Path, tmp_path: Path) -> None:
    into = tmp_path / "docs"
    assert main(["--figures", str(figures), "--into", str(into)]) == 0
    assert stale(figures, into) == []
    change(figures, "peers", refusals=[])
    assert stale(figures, into) == ["benchmarks-streams.svg", "benchmarks.md"]
    assert main(["--check", "--figures", str(figures), "--into", str(into)]) == 1


def test_a_chart_that_nothing_was_measured_for_any_more_is_removed(figures: Path, tmp_path: Path) -> None:
    into = tmp_path / "docs"
    main(["--figures", str(figures), "--into", str(into)])
    (figures / "own.json").unlink()
    assert "benchmarks-stages.svg" in stale(figures, into)
    main(["--figures", str(figures), "--into", str(into)])
    assert not (into / "benchmarks-stages.svg").exists()


def test_a_page_without_figures_is_stale(tmp_path: Path) -> None:
    (tmp_path / "benchmarks.md").write_text("# Very fast\n")
    assert stale(tmp_path / "none", tmp_path) == ["benchmarks.md"]


def test_figures_of_a_quick_run_are_refused(figures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(figures, "own", quick=True)
    assert main(["--figures", str(figures), "--into", str(tmp_path / "docs")]) == 1
    assert "own.json is of a run with --quick" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"about": {}}'])
def test_figures_that_no_benchmark_writes_are_refused(figures: Path, text: str) -> None:
    (figures / "peers.json").write_text(text)
    with pytest.raises(NoFigures, match="again"):
        read(figures)


# --- What it says ---


def test_what_a_target_left_undone_stands_beside_its_figures(figures: Path) -> None:
    answer = the_page(figures).partition("## Goals")[0]
    assert "keys, budget, receipts" in line_with(answer, "| TensorZero")
    assert "1,650" in line_with(answer, "| TensorZero")
    assert line_with(answer, "| nginx").rstrip(" |").endswith("everything")
    assert line_with(answer, "| flatfee, sqlite power").rstrip(" |").endswith("nothing")


@pytest.mark.parametrize(
    ("did", "said"),
    [
        (Did(keys="yes", policy="yes", budget="no", receipts="yes", durable="yes"), "budget"),
        (
            Did(keys="master key only", policy="yes", budget="yes", receipts="yes", durable="no"),
            "writes that last; keys: master key only",
        ),
    ],
)
def test_what_was_done_in_part_is_told_as_such(did: Did, said: str) -> None:
    assert tables.undone(Measured(name="x", title="X", version="1", did=did, ours=False)) == said


def test_goals_are_judged_from_the_samples_of_both_runs(figures: Path) -> None:
    goals = the_page(figures).partition("## Goals")[2].partition("## What each")[0]
    assert [cell.strip() for cell in line_with(goals, "against TensorZero (no keys").split("|")[2:]] == [
        "≥ 1.2",
        "2.00",
        "2.00–2.00",
        "reached",
        "",
    ]
    assert "**not reached**" in line_with(goals, "streams/s of 203 events")
    assert "not measured" in line_with(goals, "against LiteLLM (no budgets)")
    assert "0.98" in line_with(goals, "10,000 accounts and 10,000,000 receipts")
    assert "30.0" in line_with(goals, "each open stream")
    assert "**not reached**" in line_with(goals, "after requests")


def test_who_cannot_do_a_workload_is_named_with_its_answer(figures: Path) -> None:
    text = the_page(figures)
    assert "TensorZero, no database cannot do: streams of 203 events, one each 2 ms" in text
    assert "`status 500: 'no'`" in text
    assert "- litellm is left out: it is not installed" in text
    assert "| TensorZero, no database: cannot " in text


def test_a_sample_with_an_error_gives_no_figure(figures: Path) -> None:
    samples = json.loads((figures / "peers.json").read_text())["samples"]
    for one in samples:
        if one["target"] == "tensorzero":
            one["errors"] = {"status 502": 1}
    change(figures, "peers", samples=samples)
    assert "| TensorZero, no database: failed (status 502) |" in " ".join(the_page(figures).split())


def test_sections_of_what_was_not_measured_are_left_out(figures: Path) -> None:
    whole = the_page(figures)
    (figures / "own.json").unlink()
    alone = the_page(figures)
    for heading in ("## Memory", "## CPU by stage", "## Added time to the first token", "## 10,000 accounts"):
        assert heading in whole
        assert heading not in alone
    assert "benchmarks-stages.svg" not in alone


def test_clients_are_told_if_they_were_measured(figures: Path) -> None:
    assert "## Clients" not in the_page(figures)
    sample = {"client": "flatfee", "round": 0, "figures": {"start_ms": 120.0}}
    raw = {"machine": {}, "quick": False, "clients": {"effort": {}, "samples": [sample]}}
    (figures / "bench.json").write_text(json.dumps(raw))
    assert "120 (1.00, 1.00)" in the_page(figures)


def test_notes_stand_below_the_goals(figures: Path) -> None:
    goals = the_page(figures, "The interpreter is in the way.").partition("## Goals")[2].partition("## What each")[0]
    assert goals.rstrip().endswith("The interpreter is in the way.")


def test_every_chart_is_shown_and_every_chart_shown_is_written(figures: Path) -> None:
    written = files(figures, "")
    shown_there = {part.partition(")")[0] for part in written["benchmarks.md"].split("](")[1:]}
    assert {name for name in shown_there if name.endswith(".svg")} == written.keys() - {"benchmarks.md"}
    assert len(written) == 6


# --- Charts ---


def test_charts_have_a_title_their_figures_in_words_and_nothing_from_elsewhere(figures: Path) -> None:
    for name, svg in files(figures, "").items():
        if not name.endswith(".svg"):
            continue
        root = ET.fromstring(svg)
        assert root.get("aria-labelledby") == "title desc"
        assert root.findtext(f"{SVG}title")
        assert ":" in (root.findtext(f"{SVG}desc") or "")
        assert "prefers-color-scheme: dark" in svg
        assert not {"script", "image", "foreignObject"} & {node.tag.removeprefix(SVG) for node in root.iter()}
        assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_ten_times_as_much_is_everywhere_as_far_away() -> None:
    marks = [Mark(middle=value, low=value, high=value) for value in (1.0, 10.0, 100.0)]
    rows = [Row(label=str(at), kind="other") for at in range(3)]
    column = Column(heading="h", unit="u", marks=marks)
    root = ET.fromstring(draw(Chart(title="t", note="n", rows=rows, columns=[column], style="dots")))
    first, second, third = (float(dot.get("cx", "")) for dot in root.iter(f"{SVG}circle"))
    assert second - first == pytest.approx(third - second, abs=0.02)


def test_what_was_not_measured_is_written_instead_of_drawn() -> None:
    column = Column(heading="h", unit="u", marks=[Mark(instead="cannot")])
    rows = [Row(label="r", kind="other")]
    for style in ("dots", "bars"):
        root = ET.fromstring(draw(Chart(title="t", note="n", rows=rows, columns=[column], style=style)))
        assert "cannot" in {node.text for node in root.iter(f"{SVG}text")}
        assert list(root.iter(f"{SVG}circle")) == []


def test_every_dot_is_inside_its_chart(figures: Path) -> None:
    for svg in (text for name, text in files(figures, "").items() if name.endswith(".svg")):
        for dot in ET.fromstring(svg).iter(f"{SVG}circle"):
            assert 0 < float(dot.get("cx", "")) < drawing.WIDTH


@pytest.mark.parametrize(
    ("values", "powers"), [([3.0, 700.0], (0, 3)), ([10.0], (1, 2)), ([0.02], (-2, -1)), ([], (0, 1))]
)
def test_an_axis_holds_its_values_between_powers_of_ten(values: list[float], powers: tuple[int, int]) -> None:
    assert decades(values) == powers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (12_345.6, "12,346"),
        (99.96, "100"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.0062, "0.0062"),
        (-0.0001, "0"),
    ],
)
def test_figures_have_three_digits(value: float | None, text: str) -> None:
    assert shown(value) == text


def test_ratios_are_of_rounds(figures: Path) -> None:
    found = read(figures)
    assert found is not None
    peers: Peers = replace(
        found.peers, samples=[one for one in found.peers.samples if one.target != "process" or one.round]
    )
    verdict = peers.ratio("plain-16", "process", "tensorzero")
    assert verdict.measured == pytest.approx(2.0)
    assert verdict.lowest == pytest.approx(2.0)
