"""The harness against what it was made for: the real gateway and the real clients."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from benchmarks.children import ROOT, python
from benchmarks.contenders import CONTENDERS

from benchmarks import client_cost, gateway_cost

pytestmark = pytest.mark.processes

SCENARIOS = {scenario.title for scenario in gateway_cost.SCENARIOS}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        python("benchmarks", *arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_quick_run_reaches_the_real_gateway(tmp_path: Path) -> None:
    """Every answer carries its receipt, or the run would fail."""
    raw = tmp_path / "raw.json"
    done = bench("--quick", "--only", "gateway", "--targets", "gateway", "--json", str(raw))
    assert done.returncode == 0, done.stderr
    assert {sample["scenario"] for sample in json.loads(raw.read_text())["gateway"]["samples"]} == SCENARIOS


def test_a_quick_run_measures_every_client(tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    done = bench("--quick", "--only", "client", "--json", str(raw))
    assert done.returncode == 0, done.stderr
    samples = json.loads(raw.read_text())["clients"]["samples"]
    assert {sample["client"] for sample in samples if "call_cpu_us" in sample["figures"]} == set(CONTENDERS)
    assert {sample["client"] for sample in samples if "crowd_s" in sample["figures"]} == set(client_cost.CROWD)
