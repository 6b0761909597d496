"""The machine is judged by what is handed in: versions, the limit of open files, the clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flatfee.server.doctor.finding import Finding, Verdict
from flatfee.server.doctor.machine import Machine, check_clock, check_open_files, check_python, check_sqlite

NOON = 1_795_608_000.0  # 2026-11-25 12:00 UTC
MACHINE = Machine(python=(3, 11, 7), sqlite=(3, 51, 3), open_files=20_000, now=NOON, steady=True)


def verdicts(found: list[Finding]) -> list[Verdict]:
    return [finding.verdict for finding in found]


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ((3, 6, 23), Verdict.OK),
        ((3, 7, 0), Verdict.WARN),
        ((3, 40, 1), Verdict.WARN),
        ((3, 44, 5), Verdict.WARN),
        ((3, 44, 6), Verdict.OK),
        ((3, 45, 0), Verdict.WARN),
        ((3, 50, 6), Verdict.WARN),
        ((3, 50, 7), Verdict.OK),
        ((3, 51, 0), Verdict.WARN),
        ((3, 51, 2), Verdict.WARN),
        ((3, 51, 3), Verdict.OK),
        ((3, 53, 0), Verdict.OK),
    ],
)
def test_a_sqlite_with_the_wal_reset_bug_is_a_warning(version: tuple[int, ...], verdict: Verdict) -> None:
    finding = check_sqlite(version)
    assert finding.verdict == verdict
    if verdict == Verdict.WARN:
        assert "https://sqlite.org/wal.html#walresetbug" in finding.found
        assert "3.51.3" in (finding.cure or "")


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 10, 14), Verdict.FAIL), ((3, 11, 0), Verdict.OK), ((3, 14, 1), Verdict.OK)]
)
def test_python_is_new_enough_or_not(version: tuple[int, ...], verdict: Verdict) -> None:
    assert check_python(version).verdict == verdict


@pytest.mark.parametrize(
    ("limit", "verdict"), [(None, Verdict.OK), (2064, Verdict.OK), (2063, Verdict.WARN), (10, Verdict.WARN)]
)
def test_a_request_needs_two_open_files(limit: int | None, verdict: Verdict) -> None:
    assert check_open_files(limit, 1000).verdict == verdict


def test_the_cure_of_few_open_files_is_enough() -> None:
    cure = check_open_files(1024, 1000).cure or ""
    assert "ulimit -n 2064" in cure
    assert "max_requests = 480" in cure
    assert check_open_files(1024, 480).verdict == Verdict.OK


@pytest.mark.parametrize(
    ("ahead", "verdict"),
    [(None, Verdict.OK), (-3600.0, Verdict.OK), (0.5, Verdict.OK), (30.0, Verdict.WARN), (61.0, Verdict.FAIL)],
)
def test_a_clock_behind_the_newest_receipt_is_told(ahead: float | None, verdict: Verdict) -> None:
    newest = NOON + ahead if ahead is not None else None
    assert verdicts(list(check_clock(MACHINE, newest))) == [verdict]


@pytest.mark.parametrize("now", [0.0, 1_700_000_000.0, 5_000_000_000.0])
def test_a_year_that_cannot_be_is_a_failure(now: float) -> None:
    assert verdicts(list(check_clock(replace(MACHINE, now=now), None))) == [Verdict.FAIL]


def test_leases_that_run_by_the_time_of_day_are_a_warning() -> None:
    assert verdicts(list(check_clock(replace(MACHINE, steady=False), None))) == [Verdict.OK, Verdict.WARN]


def test_this_machine_can_be_looked_at() -> None:
    machine = Machine.this()
    assert machine.python >= (3, 11)
    assert machine.now > NOON - 366 * 86400
