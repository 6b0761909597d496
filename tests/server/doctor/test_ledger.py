"""The ledger's file is looked at as it is; what is wrong with it is told with the cure."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flatfee.server.doctor.finding import Finding, Verdict
from flatfee.server.doctor.ledger import GOOD_FREE, MIN_FREE, Examined, check_free, examine_ledger
from flatfee.server.store.migrations import migrate, steps

NOW = time.time()


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger that is well."""
    path = tmp_path / "ledger.db"
    path.touch(mode=0o600)
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection)
    return path


def examined(path: Path, patience: float = 0.05) -> Examined:
    return examine_ledger(f"sqlite:///{path}", NOW, patience=patience)


def wrong(found: Examined) -> list[Finding]:
    return [each for each in found.findings if each.verdict != Verdict.OK and each.check != "disk"]


def test_a_ledger_that_is_well_has_nothing_to_tell(path: Path) -> None:
    assert wrong(examined(path)) == []
    assert examined(path).newest_receipt is None


def test_looking_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    examined(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["ledger.db"]


def test_a_ledger_that_is_not_there_yet_is_fine_and_is_not_made(tmp_path: Path) -> None:
    assert wrong(examined(tmp_path / "new.db")) == []
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_in_memory_is_a_warning() -> None:
    (finding,) = examine_ledger("memory://", NOW).findings
    assert finding.verdict == Verdict.WARN
    assert "sqlite:///" in (finding.cure or "")


def test_a_missing_folder_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    (finding,) = wrong(examined(tmp_path / "missing" / "ledger.db"))
    assert (finding.verdict, finding.cure) == (Verdict.FAIL, f"mkdir -p {tmp_path}/missing")


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    (finding,) = wrong(examined(tmp_path))
    assert finding.verdict == Verdict.FAIL


def test_a_file_that_cannot_even_be_looked_at_is_told(tmp_path: Path) -> None:
    """As when a folder above it may not be entered; here its name is too long, which holds for root as well."""
    (finding,) = examined(tmp_path / ("a" * 300)).findings
    assert (finding.check, finding.verdict) == ("store", Verdict.FAIL)
    assert "cannot be looked at: File name too long" in finding.found
    assert "may enter its folder" in str(finding.cure)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.touch(mode=0o600)
    path.write_text("buy milk " * 1000)
    (finding,) = wrong(examined(path))
    assert finding.verdict == Verdict.FAIL
    assert "not a database" in finding.found


def test_another_programs_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    path.touch(mode=0o600)
    with opened(path) as connection:
        connection.execute("CREATE TABLE songs (title)")
    (finding,) = wrong(examined(path))
    assert finding.verdict == Verdict.FAIL
    assert "another program" in finding.found


def test_a_schema_from_the_future_asks_for_an_upgrade(path: Path) -> None:
    with opened(path) as connection:
        connection.execute(f"PRAGMA user_version = {steps()[-1][0] + 1}")
    (finding,) = wrong(examined(path))
    assert (finding.verdict, finding.cure) == (Verdict.FAIL, "Upgrade flatfee.")


def test_an_empty_file_is_brought_up_to_date_by_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch(mode=0o600)
    found = examined(path)
    assert wrong(found) == []
    assert any("the next start brings it to" in each.found for each in found.findings)


def test_a_file_that_another_program_holds_is_told(path: Path) -> None:
    with opened(path) as other:
        other.execute("BEGIN IMMEDIATE")
        (finding,) = wrong(examined(path))
        other.execute("ROLLBACK")
    assert finding.verdict == Verdict.FAIL
    assert "locked" in finding.found


def test_a_file_that_everybody_may_read_is_a_warning(path: Path) -> None:
    path.chmod(0o644)
    (finding,) = wrong(examined(path))
    assert (finding.verdict, finding.cure) == (Verdict.WARN, f"chmod 600 {path}*")


@pytest.mark.parametrize("table", ["arrivals", "receipts", "tickets"])
def test_damaged_pages_are_found(path: Path, table: str) -> None:
    with opened(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((found[0] - 1) * size)
        file.write(b"\xff" * 64)
    (finding,) = wrong(examined(path))
    assert (finding.verdict, finding.check) == (Verdict.FAIL, "store pages")


def test_requests_that_have_held_fair_use_for_long_are_a_warning(path: Path) -> None:
    keep_row(path, "tickets", request_id="req_young", at=NOW - 60)
    assert wrong(examined(path)) == []
    keep_row(path, "tickets", request_id="req_old", at=NOW - 7200)
    (finding,) = wrong(examined(path))
    assert (finding.verdict, finding.found[-1]) == (Verdict.WARN, "1")


def test_the_newest_receipt_is_the_one_with_the_last_id(path: Path) -> None:
    keep_row(path, "receipts", request_id="req_01B", at=200.0)
    keep_row(path, "receipts", request_id="req_01A", at=100.0)
    assert examined(path).newest_receipt == 200.0


def test_a_balance_that_does_not_follow_from_its_receipts_is_told(path: Path) -> None:
    keep_row(path, "balances", account="acme", unit="token", window_start=0, window_end=100, posted=7)
    (finding,) = wrong(examined(path))
    assert (finding.check, finding.verdict) == ("books", Verdict.FAIL)
    assert "acme" in finding.found


def test_a_ledger_of_an_earlier_version_is_looked_at_as_far_as_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch(mode=0o600)
    with opened(path) as connection:
        connection.executescript(f"{steps()[0][1]}; PRAGMA user_version = 1")
    found = examined(path)
    assert wrong(found) == []
    assert found.newest_receipt is None


@pytest.mark.parametrize(
    ("free", "verdict"),
    [
        (0, Verdict.FAIL),
        (MIN_FREE - 1, Verdict.FAIL),
        (MIN_FREE, Verdict.WARN),
        (GOOD_FREE - 1, Verdict.WARN),
        (GOOD_FREE, Verdict.OK),
    ],
)
def test_room_that_runs_out_is_told(free: int, verdict: Verdict, tmp_path: Path) -> None:
    assert check_free(tmp_path / "ledger.db", free).verdict == verdict


def keep_row(path: Path, table: str, **given: object) -> None:
    """Write a row; columns that do not matter here hold what their type asks for."""
    with opened(path) as connection:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        values: dict[str, object] = {row[1]: 0 if row[2] in {"INTEGER", "REAL"} else "" for row in columns if row[3]}
        values |= given
        marks = ", ".join(f":{column}" for column in values)
        connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", values)
