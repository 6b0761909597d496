"""The machine's two clocks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flatfee.server import clocks
from flatfee.server.clocks import Clocks, clocks_of, system_clocks


def test_the_machines_steady_time_goes_on_by_itself_and_is_of_one_boot() -> None:
    first, second = system_clocks(), system_clocks()
    assert first.boot == second.boot != ""
    before, after = first.now(), second.now()
    assert after.steady >= before.steady
    assert abs(before.wall - time.time()) < 60


def test_where_the_machine_does_not_tell_its_starts_apart_leases_run_on_wall_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(clocks, "_BOOT_ID", tmp_path / "none")
    found = system_clocks()
    assert (found.steady is found.wall, found.is_steady) == (True, False)


def test_a_clock_that_is_given_is_both_unless_two_are_given() -> None:
    one = clocks_of(lambda: 1.0, None)
    two = clocks_of(lambda: 1.0, lambda: 2.0)
    assert (one.now().steady, two.now().steady) == (1.0, 2.0)
    assert isinstance(clocks_of(None, None), Clocks)
