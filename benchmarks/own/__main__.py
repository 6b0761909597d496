"""The command: take the gateway's own measures, print tables, keep the raw figures."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.children import ROOT
from benchmarks.command import ends_well, keep, say, some_of
from benchmarks.own import first_token, large_ledger, memory, report, stages, startup

_LATEST: Final = ROOT / "benchmarks" / "results" / "own.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured."""

    memory: memory.MemoryEffort
    stages: stages.StageEffort
    ledger: large_ledger.LedgerEffort
    starts: int
    accounts: int
    first_token: tuple[int, int]
    """Rounds, and streams in each."""


FULL: Final = Effort(
    memory=memory.MemoryEffort(rounds=3, requests=5000, connections=500, streams=500),
    stages=stages.StageEffort(rounds=5, requests=3000, streams=48),
    ledger=large_ledger.LedgerEffort(accounts=10_000, receipts=10_000_000, rounds=5, requests=5000),
    starts=5,
    accounts=10_000,
    first_token=(3, 480),
)
QUICK: Final = Effort(
    memory=memory.MemoryEffort(rounds=1, requests=16, connections=4, streams=4),
    stages=stages.StageEffort(rounds=1, requests=16, streams=16),
    ledger=large_ledger.LedgerEffort(accounts=20, receipts=2000, rounds=1, requests=40),
    starts=1,
    accounts=20,
    first_token=(1, 16),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run measures with."""

    effort: Effort
    folder: Path
    ledger: Path | None
    say: Callable[[str], None]


def _memory(run: Run) -> tuple[str, Any]:
    samples = memory.measure(run.effort.memory, run.folder, run.say)
    return report.memory_table(samples), [asdict(one) for one in samples]


def _startup(run: Run) -> tuple[str, Any]:
    samples, imports = startup.measure(run.effort.starts, run.effort.accounts, run.folder, run.say, ledger=run.ledger)
    raw = {"starts": [asdict(one) for one in samples], "imports": asdict(imports)}
    return report.start_table(samples, imports), raw


def _stages(run: Run) -> tuple[str, Any]:
    samples = stages.measure(run.effort.stages, run.folder, run.say)
    return report.stage_table(samples), [asdict(one) for one in samples]


def _first_token(run: Run) -> tuple[str, Any]:
    samples = first_token.measure(*run.effort.first_token, run.folder, run.say)
    return report.first_token_table(samples), [asdict(one) for one in samples]


def _ledger(run: Run) -> tuple[str, Any]:
    measured = large_ledger.measure(run.effort.ledger, run.folder, run.say, ledger=run.ledger)
    return report.ledger_table(measured), asdict(measured)


MEASURES: Final[Mapping[str, Callable[[Run], tuple[str, Any]]]] = {
    "memory": _memory,
    "startup": _startup,
    "stages": _stages,
    "first-token": _first_token,
    "ledger": _ledger,
}
"""Name on the command line → what takes it; the order of the report."""


@ends_well
def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; return the exit code."""
    options = _options(arguments)
    named = machine.describe()
    raw: dict[str, Any] = {
        "date": machine.now(),
        "commit": machine.commit(),
        "machine": named,
        "quick": options.quick,
    }
    for label, value in named.items():
        print(f"{label}: {value}", flush=True)
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="flatfee-bench-", dir=options.folder) as folder:
            effort = QUICK if options.quick else FULL
            run = Run(effort=effort, folder=Path(folder), ledger=options.ledger, say=say)
            text, raw[name] = MEASURES[name](run)
        print(f"\n{text}", flush=True)
    print()
    keep(raw, options.out)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own", description=__doc__)
    names = ",".join(MEASURES)
    parser.add_argument(
        "--only", type=some_of("measure", MEASURES), default=tuple(MEASURES), help=f"some of {names} (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="a few requests each: checks the harness, not the speed")
    parser.add_argument("--out", type=Path, default=_LATEST, help="where the raw figures go (default: %(default)s)")
    parser.add_argument(
        "--ledger",
        type=Path,
        help="the large ledger's file: taken if it is there, made and kept if not (11 GB, some five minutes);"
        " without it, one is made and thrown away",
    )
    parser.add_argument("--folder", type=Path, help="where files are made (default: the system's temporary folder)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
