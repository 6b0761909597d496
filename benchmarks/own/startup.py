"""Start-up: from the start of the process until it tells that it is ready, and what importing takes of that."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.children import ROOT, BenchmarkFailed, cores, cpu_seconds, free_port, run
from benchmarks.load import KEY_ENV
from benchmarks.own.filling import ledger_file
from benchmarks.own.running import KEY, command_for, configure, provider

_READY: Final = b"flatfee is ready"
_MODULE: Final = "flatfee.server.run"
_TIMEOUT: Final = 60.0
_MOST_TOLD: Final = 12
_COMPILED: Final = {"PYTHONDONTWRITEBYTECODE": ""}
"""Bytecode is kept whatever the environment says, as where the gateway is installed."""
_LINE: Final = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSample:
    """One start. ``ready_ms`` is wall time, ``cpu_ms`` what the process used by then, if the system tells."""

    case: str
    round: int
    ready_ms: float
    cpu_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """What importing the server takes of a bare interpreter, and the packages that take most (their own code)."""

    bare_ms: float
    server_ms: float
    packages: dict[str, float]


def measure(
    rounds: int, accounts: int, folder: Path, say: Callable[[str], None], *, ledger: Path | None = None
) -> tuple[list[StartSample], Imports]:
    """Start the gateway again and again: on a new file, on one with many accounts, and on ``ledger``, if given.

    Raises:
        BenchmarkFailed: it did not start.
    """
    many = folder / "accounts.db"
    ledger_file(many, accounts, 0, say)
    stores: dict[str, Path | None] = {"a new ledger": None, f"{accounts} accounts": many}
    if ledger is not None:
        stores["the large ledger"] = ledger
    samples = []
    with provider(folder) as upstream:
        for number in range(rounds):
            for case, store in stores.items():
                say(f"start-up: {case} …")
                path = store or folder / f"start-{number}.db"
                config = configure(folder, upstream.url, path)
                samples.append(_start(case, number, config))
    return samples, imports(rounds)


def _start(case: str, number: int, config: Path) -> StartSample:
    """Start once, with its code compiled already, and end it."""
    core = cores()[0]
    command = command_for(config, free_port())
    environment = {**os.environ, **_COMPILED, "PYTHONPATH": str(ROOT / "src"), KEY_ENV: KEY, "PYTHONUNBUFFERED": "1"}
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    begun = time.perf_counter()
    child = subprocess.Popen(
        [*pinned, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if _READY in line:
                ready = time.perf_counter() - begun
                used = cpu_seconds(child.pid)
                cpu = used * 1e3 if used is not None else None
                return StartSample(case=case, round=number, ready_ms=ready * 1e3, cpu_ms=cpu)
        raise BenchmarkFailed(f"The gateway did not start on {case}.")
    finally:
        child.terminate()
        child.wait(_TIMEOUT)
        if child.stdout is not None:
            child.stdout.close()


def imports(rounds: int) -> Imports:
    """Measure what importing the server takes."""
    return Imports(
        bare_ms=min(_elapsed("pass") for _ in range(rounds)),
        server_ms=min(_elapsed(f"import {_MODULE}") for _ in range(rounds)),
        packages=by_package(_import_times()),
    )


def _elapsed(code: str) -> float:
    begun = time.perf_counter()
    run([sys.executable, "-c", code], core=cores()[0], timeout=_TIMEOUT, env=_COMPILED)
    return (time.perf_counter() - begun) * 1e3


def _import_times() -> str:
    code = (
        "import subprocess, sys; "
        f"print(subprocess.run([sys.executable, '-X', 'importtime', '-c', 'import {_MODULE}'], "
        "stderr=subprocess.PIPE, text=True, check=True).stderr)"
    )
    return run([sys.executable, "-c", code], core=cores()[0], timeout=_TIMEOUT, env=_COMPILED)


def by_package(told: str) -> dict[str, float]:
    """Sum what ``-X importtime`` tells (its own microseconds of each module) by package, in ms, the most first."""
    sums: Counter[str] = Counter()
    for own, module in _LINE.findall(told):
        sums[module.partition(".")[0]] += int(own)
    return {name: own / 1e3 for name, own in sums.most_common(_MOST_TOLD)}
