"""The schema's steps: once each, in order, by whoever comes first."""

import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatfee.server.store import migrations
from flatfee.server.store.accounts import Page
from flatfee.server.store.migrations import SchemaTooNew, migrate, steps
from flatfee.server.store.sqlite import SqliteStore
from flatfee.server.windows import Calendar

DIRECTORY = {"accounts", "projects", "keys", "audit"}
LEDGER = {"balances", "arrivals", "slots", "tickets", "receipts", "adjustments", "claims", "boot"}


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    found = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    yield found
    found.close()


def schema(connection: sqlite3.Connection) -> list[tuple[str]]:
    return connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()


def version(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def test_steps_are_numbered_without_a_gap() -> None:
    assert [number for number, _ in steps()] == list(range(1, len(steps()) + 1))


def test_an_empty_file_gets_the_whole_schema(connection: sqlite3.Connection) -> None:
    assert migrate(connection) == steps()[-1][0]
    assert version(connection) == steps()[-1][0]
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == DIRECTORY | LEDGER


def test_running_again_changes_nothing(connection: sqlite3.Connection) -> None:
    migrate(connection)
    before = schema(connection)
    assert migrate(connection) == version(connection)
    assert schema(connection) == before


def test_only_the_steps_that_are_missing_run(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(connection)
    extended = [*steps(), (len(steps()) + 1, "CREATE TABLE more (\n    a TEXT\n);\nINSERT INTO more VALUES ('x;y');\n")]
    monkeypatch.setattr(migrations, "steps", lambda: extended)
    assert migrate(connection) == len(extended)
    assert migrate(connection) == len(extended)
    assert connection.execute("SELECT a FROM more").fetchall() == [("x;y",)]


def test_a_step_that_fails_leaves_nothing_behind(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(connection)
    before = schema(connection), version(connection)
    broken = [*steps(), (len(steps()) + 1, "CREATE TABLE more (a TEXT);\nCREATE TABLE more (a TEXT);\n")]
    monkeypatch.setattr(migrations, "steps", lambda: broken)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection)
    assert (schema(connection), version(connection)) == before
    assert not connection.in_transaction


def test_a_schema_of_a_newer_version_is_refused_and_left_alone(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA user_version = 999")
    with pytest.raises(SchemaTooNew, match="version 999; this flatfee knows"):
        migrate(connection)
    assert schema(connection) == []
    assert version(connection) == 999


def test_two_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    barrier = threading.Barrier(4)
    results: list[object] = []

    def start() -> None:
        connection = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, timeout=30)
        barrier.wait()
        try:
            results.append(migrate(connection))
        except sqlite3.Error as error:
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [steps()[-1][0]] * 4


OLD_ROWS = """
INSERT INTO accounts VALUES ('acme', 'pro', 'past_due', 7);
INSERT INTO projects VALUES ('acme', 'ci');
INSERT INTO keys VALUES (x'01', 'acme', 'ci', 'build', 'proj', 'abcd', '["auto"]', 2000000000.0, 'file');
INSERT INTO keys VALUES (x'02', 'acme', NULL, 'team', 'team', 'efgh', NULL, NULL, 'file');
INSERT INTO balances VALUES ('acme', 1791331200, 12, 9, 3, 0);
INSERT INTO receipts VALUES ('req_1', 'acme', 'ci', 'run', 'premium', x'7b7d');
INSERT INTO receipts VALUES ('req_2', 'acme', 'ci', 'run', 'premium', CAST(
    '{"created_at": "2026-10-20T12:00:00.5Z", "fair_use": {"unit": "token", "charged": 7}}' AS BLOB));
INSERT INTO tickets VALUES ('req_3', 'acme', 'ci', 'run', 'premium', 'default', 'fair_use', 9, 'token', 1791331200,
    'auto', 1792000000.0, 1792000060.0, 1);
INSERT INTO slots VALUES ('acme', 'ci', 'run', 1792000000.0, 1792000120.0, 'openai', 0);
"""


@pytest.mark.parametrize("version", range(1, steps()[-1][0]))
async def test_whatever_an_earlier_version_kept_is_kept(
    connection: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """A file of the first schema, as it was left by each version that came after it."""
    every = steps()
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "steps", lambda: every[:1])
        migrate(connection)
        connection.executescript(OLD_ROWS)
        earlier.setattr(migrations, "steps", lambda: every[:version])
        migrate(connection)
    connection.execute("PRAGMA foreign_keys = ON")
    store = SqliteStore(tmp_path / "ledger.db", clock=lambda: 1_793_534_400.0)
    try:
        caller = await store.find_key(b"\x01")
        account = await store.account("acme")
        (build, team), _ = await store.keys(None, None, Page())
        assert caller is not None
        assert account is not None
        assert (caller.account, caller.project, caller.models) == ("acme", "ci", frozenset({"auto"}))
        assert (account.plan, account.billing, account.billing_day, account.from_file) == ("pro", "past_due", 7, False)
        assert account.created_at > 1_700_000_000
        assert {build.name, team.name} == {"build", "team"}
        assert re.fullmatch(r"key_[0-9a-f]{16}", caller.key_id)
        assert build.id != team.id
        assert (await store.projects("acme", Page()))[0][0].name == "ci"
        assert await store.receipt(caller, "req_1") == b"{}"
        assert await store.receipt(caller, "req_2") is not None
        usage = await store.usage("acme", "token", Calendar("month", 7))
        assert (usage.fair_use_used, usage.fair_use_pending) == (12, 9), "of which 7 stand in a receipt"
        assert usage.continuation_used == 3
        assert await store.audit_books() == []
        assert await store.sweep() == 1, "whoever served it is gone"
        after = await store.usage("acme", "token", Calendar("month", 7))
        assert (after.fair_use_used, after.fair_use_pending) == (21, 0)
    finally:
        await store.close()
