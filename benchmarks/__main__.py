"""The command: measure, print ratios, keep the raw figures. Ends by itself, in under three minutes."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks import client_cost, double_cost, gateway_cost, ledger_cost, machine, report
from benchmarks.children import BenchmarkFailed
from benchmarks.command import ends_well, keep, say, some_of
from benchmarks.peers import measuring, nginx
from benchmarks.peers import report as peers_report
from benchmarks.peers.workloads import named
from benchmarks.targets import DEFAULT_TARGETS, TARGETS

_LATEST: Final = Path(__file__).resolve().parent / "results" / "latest.json"
_FULL: Final = gateway_cost.Effort(rounds=3, seconds=1.0, warmup=0.2, max_requests=1_000_000)
_QUICK: Final = gateway_cost.Effort(rounds=1, seconds=5.0, warmup=0.0, max_requests=20)
_FULL_CLIENTS: Final = client_cost.ClientEffort(rounds=3, calls=400, streams=30, crowd=1000, crowd_rounds=1)
_QUICK_CLIENTS: Final = client_cost.ClientEffort(rounds=1, calls=5, streams=1, crowd=10, crowd_rounds=1)

_BESIDE: Final = ("direct", "nginx", "bare", "process")
_BESIDE_WORKLOADS: Final = ("plain-1", "plain-16", "stream-16", "each-16")
_FULL_BESIDE: Final = measuring.Effort(rounds=3, seconds=1, longest=1, warmup=0, idle=0.5)
_QUICK_BESIDE: Final = measuring.Effort(rounds=1, seconds=1, longest=1, warmup=0, idle=0.1)
"""The gateway beside nginx."""

_FULL_DOUBLE: Final = (3, 500)
_QUICK_DOUBLE: Final = (1, 5)
"""Rounds, and calls in each."""


@ends_well
def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; return the exit code."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="flatfee-bench-") as folder:
        raw = _measure(options, Path(folder))
    keep(raw, options.json)
    return 0


def _measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure, print each table as soon as it is known, and return the raw figures."""
    named = machine.describe()
    raw: dict[str, Any] = {"machine": named, "quick": options.quick}
    print(report.machine_lines(named), flush=True)
    if options.only in (None, "gateway"):
        raw |= _gateway(options, folder)
    if options.only in (None, "client"):
        client_effort = _QUICK_CLIENTS if options.quick else _FULL_CLIENTS
        rounds = client_cost.measure(client_effort, folder, say)
        print(f"\nClients\n\n{report.client_table(rounds)}\n\n{report.CLIENT_LIMITS}\n", flush=True)
        raw["clients"] = {"effort": asdict(client_effort), "samples": [asdict(one) for one in rounds]}
    if options.only in (None, "double"):
        doubles = double_cost.measure(*(_QUICK_DOUBLE if options.quick else _FULL_DOUBLE), say)
        print(f"\nTest double\n\n{report.double_table(doubles)}\n\n{report.DOUBLE_LIMITS}\n", flush=True)
        raw["double"] = [asdict(one) for one in doubles]
    return raw


def _gateway(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the gateway beside nginx; where nginx or wrk is missing, or targets are named, by our own means."""
    effort = _QUICK if options.quick else _FULL
    raw: dict[str, Any] = {}
    if options.targets is None and nginx.found("nginx") and nginx.found("wrk"):
        beside = _QUICK_BESIDE if options.quick else _FULL_BESIDE
        measured = measuring.measure(_BESIDE, named(_BESIDE_WORKLOADS), beside, folder, say)
        print(f"\nGateway (process)\n\n{peers_report.tables(measured)}\n\n{peers_report.LIMITS}\n", flush=True)
        if measured.failed is not None:
            raise BenchmarkFailed(measured.failed)
        raw["gateway"] = {"effort": asdict(beside), **asdict(measured)}
    else:
        samples = gateway_cost.measure(options.targets or DEFAULT_TARGETS, effort, folder, say)
        print(f"\nGateway\n\n{report.gateway_table(samples)}\n\n{report.GATEWAY_LIMITS}\n", flush=True)
        raw["gateway"] = {"effort": asdict(effort), "samples": [asdict(sample) for sample in samples]}
    if "gateway" in (options.targets or DEFAULT_TARGETS):
        ledger = ledger_cost.measure(effort, folder / "ledger", say)
        print(f"{report.ledger_lines(ledger)}\n", flush=True)
        raw["ledger"] = [asdict(one) for one in ledger]
    return raw


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=("gateway", "client", "double"), help="leave the others out")
    parser.add_argument("--quick", action="store_true", help="a few requests each: checks the harness, not the speed")
    parser.add_argument("--json", type=Path, default=_LATEST, help="where the raw figures go (default: %(default)s)")
    parser.add_argument(
        "--targets",
        type=some_of("target", TARGETS),
        help=f"some of {','.join(TARGETS)}, by our own load generator (default: beside nginx, if wrk is here as well)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
