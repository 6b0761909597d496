"""The ledger's share: that the figure is taken from real work, and told."""

from __future__ import annotations

import json

import pytest
from benchmarks.ledger_cost import LedgerSample

from benchmarks import ledger_cost, report


def test_the_command_prints_cpu_time_for_each_request(capsys: pytest.CaptureFixture[str]) -> None:
    ledger_cost.main(["--requests", "32"])
    assert json.loads(capsys.readouterr().out)["cpu_us"] > 0


def test_the_share_is_the_median_of_each_rounds_ratio() -> None:
    rounds = [(100.0, 400.0), (300.0, 600.0), (100.0, 1000.0)]
    samples = [LedgerSample(round=at, ledger_us=one, gateway_us=all_) for at, (one, all_) in enumerate(rounds)]
    assert ": 0.25 of the 600 µs" in report.ledger_lines(samples)


def test_a_system_that_tells_no_cpu_time_is_said_to() -> None:
    assert "does not tell" in report.ledger_lines([])
