"""The command: measure the targets in turn, print ratios, keep the raw figures. Ends by itself."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.children import ROOT
from benchmarks.command import ends_well, keep, say, some_of
from benchmarks.peers import goals, measuring, nginx, report, workers
from benchmarks.peers.gateways import ROWS
from benchmarks.peers.measuring import Effort
from benchmarks.peers.workloads import WORKLOADS, Workload, named

WORKERS: Final = "workers"
NAMES: Final = (*ROWS, WORKERS)
_ALONE: Final = frozenset({"direct", "bare", "memory", "process", "power"})
"""What can be measured with our own upstream and load generator, where nginx or wrk is missing."""

_OUT: Final = ROOT / "benchmarks" / "results" / "peers.json"
_QUICK: Final = Effort(rounds=1, seconds=1, longest=1, warmup=0, idle=0.2)


@ends_well
def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; return the exit code: 1 if one of ours failed."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="flatfee-bench-") as folder:
        raw = _measure(options, Path(folder))
    keep(raw, options.out)
    if raw["failed"] is not None:
        print(f"Benchmark failed: {raw['failed']}", file=sys.stderr)
        return 1
    failed = [one for one in (*raw["samples"], *raw["workers"]) if one["errors"] and one["target"] not in _theirs()]
    return 1 if failed else 0


def _measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure, print, and return the raw figures."""
    if not _ALONE.issuperset(options.only):
        for program in ("nginx", "wrk"):
            nginx.needed(program)
    wanted = [name for name in options.only if name in ROWS]
    skipped = {name: why for name in wanted if (why := ROWS[name].missing())}
    for name, why in skipped.items():
        say(f"{name} is left out: {why}")
    names = [name for name in wanted if name not in skipped]
    effort = _QUICK if options.quick else Effort(rounds=options.rounds, seconds=2, longest=12, warmup=1, idle=2.0)
    about = _about(effort, quick=options.quick)
    print(report.about_lines(about), flush=True)
    measured = measuring.measure(names, options.workloads, effort, folder, say)
    shared = workers.measure(effort, folder, say) if WORKERS in options.only and measured.failed is None else []
    verdicts = goals.judge([*measured.samples, *shared])
    versions = {name: ROWS[name].version() for name in names}
    print(report.whole(names, measured, shared, verdicts, versions, skipped), flush=True)
    return {
        "about": about,
        "targets": [_target(name, versions[name]) for name in names],
        "workloads": [asdict(workload) for workload in (*options.workloads, *([workers.SHARED] if shared else []))],
        "skipped": skipped,
        **asdict(measured),
        "workers": [asdict(sample) for sample in shared],
        "goals": [_goal(verdict) for verdict in verdicts],
    }


def _target(name: str, version: str) -> dict[str, Any]:
    row = ROWS[name]
    return {"name": name, "title": row.title, "version": version, "did": asdict(row.did), "ours": row.ours}


def _goal(verdict: goals.Verdict) -> dict[str, Any]:
    told = asdict(verdict)
    del told["goal"]
    return {"name": verdict.goal.name, "wanted": verdict.wanted, **told}


def _about(effort: Effort, *, quick: bool) -> dict[str, Any]:
    """Say what the figures belong to."""
    return {
        "date": machine.now(),
        "commit": machine.commit(),
        "machine": machine.describe(),
        "tools": {
            "nginx": nginx.version_of("nginx", "-v").rpartition("/")[2],
            "wrk": nginx.version_of("wrk", "-v").removeprefix("wrk ").partition(" ")[0],
        },
        "effort": asdict(effort),
        "quick": quick,
    }


def _theirs() -> set[str]:
    return {name for name, row in ROWS.items() if not row.ours}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--only", type=_names, default=NAMES, help=f"some of {','.join(NAMES)} (default: all)")
    known = ",".join(workload.name for workload in WORKLOADS)
    parser.add_argument("--workloads", type=_workloads, default=WORKLOADS, help=f"some of {known} (default: all)")
    parser.add_argument("--rounds", type=_rounds, default=3, help="1 to 20 (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a second each: checks the harness, not the speed")
    parser.add_argument("--out", type=Path, default=_OUT, help="where the raw figures go (default: %(default)s)")
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    names = some_of("target", NAMES)(text)
    return tuple(name for name in NAMES if name in names)


def _workloads(text: str) -> tuple[Workload, ...]:
    try:
        return named(text.split(","))
    except ValueError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from fault


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 20:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds; use 1 to 20")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
