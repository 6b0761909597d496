"""The ledger's file: its place, who may read it, whether it opens, can be written, and is whole.

The file is looked at as it is: none is made, no schema is brought up to date, nothing is written.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flatfee.server.doctor.finding import Finding, Verdict, fail, ok, warn
from flatfee.server.store.migrations import steps
from flatfee.server.store.sqlite_book import SqliteBook

PATIENCE: Final = 5.0
"""Seconds to wait for a file that another program has locked."""
MIN_FREE: Final = 64 * 1024 * 1024
GOOD_FREE: Final = 1024 * 1024 * 1024
OLD_REQUEST: Final = 3600.0
"""Seconds after which a request that still holds units is more likely lost than running."""

_STORE: Final = "store"
_BOOKS: Final = "books"
_SHOWN: Final = 5
"""How many of many mistakes are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What came of it. ``newest_receipt`` is in seconds since the epoch; ``None`` if there is none."""

    findings: tuple[Finding, ...]
    newest_receipt: float | None = None


def ledger_path(store: str) -> Path | None:
    """Return the file that ``[server] store`` names, or ``None`` for one in memory."""
    return None if store == "memory://" else Path(store.removeprefix("sqlite:///"))


def examine_ledger(store: str, now: float, *, patience: float = PATIENCE) -> Examined:
    """Look at the ledger that ``[server] store`` names. ``now`` is in seconds since the epoch."""
    path = ledger_path(store)
    if path is None:
        cure = 'Name a file, such as store = "sqlite:///flatfee.db", unless it is to be forgotten.'
        return Examined(findings=(warn(_STORE, "memory:// forgets everything when the gateway stops", cure),))
    place = _check_place(path)
    if place is not None:
        return Examined(findings=(place,))
    free = check_free(path, shutil.disk_usage(path.absolute().parent).free)
    if not path.exists():
        return Examined(findings=(ok(_STORE, f"{path} is not there yet; the first start makes it"), free))
    mode = _check_mode(path)
    try:
        with closing(_open(path, patience)) as connection:
            findings = tuple(_check_file(connection, path, now))
            readable = any(finding.check == _BOOKS for finding in findings)
            newest = _newest_receipt(connection) if readable else None
    except sqlite3.Error as error:
        return Examined(findings=(_cannot_be_used(path, error, patience), mode, free))
    return Examined(findings=(*findings, mode, free), newest_receipt=newest)


def check_free(path: Path, free: int) -> Finding:
    """Judge how many bytes are free where the ledger is."""
    shown = f"{free / 2**20:,.0f} MiB are free at {path.absolute().parent}"
    cure = "Make room, or move the file: a ledger that cannot be written stops every request."
    if free < MIN_FREE:
        return fail("disk", shown, cure)
    return warn("disk", shown, cure) if free < GOOD_FREE else ok("disk", shown)


def _check_place(path: Path) -> Finding | None:
    """SQLite makes two files beside its own, so that the folder must be writable too."""
    folder = path.absolute().parent
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        cure = "Check that this user may enter its folder, or name another file: [server] store."
        return fail(_STORE, f"{path} cannot be looked at: {error.strerror}", cure)
    if not folder.is_dir():
        return fail(_STORE, f"there is no folder {folder}", f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        return fail(_STORE, f"the folder {folder} cannot be written by this user", "Change its owner, or the user.")
    if path.exists() and not path.is_file():
        return fail(_STORE, f"{path} is not a file", "Name another one: [server] store.")
    return None


def _check_mode(path: Path) -> Finding:
    if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        return warn("store access", f"{path} may be read by every user of this machine", f"chmod 600 {path}*")
    return ok("store access", f"{path} is not for every user of this machine")


def _open(path: Path, patience: float) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=patience, isolation_level=None)


def _check_file(connection: sqlite3.Connection, path: Path, now: float) -> Iterator[Finding]:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    known = steps()[-1][0]
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        yield fail(_STORE, f"{path} is another program's database", "Name another file: [server] store.")
        return
    if version > known:
        yield fail(_STORE, f"the schema of {path} is {version}, this flatfee knows {known}", "Upgrade flatfee.")
        return
    connection.execute("BEGIN IMMEDIATE")  # takes the lock that writing needs, and writes nothing
    connection.execute("ROLLBACK")
    shown = f"{path} opens and can be written; its schema is {version}"
    yield ok(_STORE, shown if version == known else f"{shown}, and the next start brings it to {known}")
    pages = _check_pages(connection, path)
    yield pages
    if version == known and pages.verdict == Verdict.OK:
        yield _check_leases(connection, now)
        yield _check_books(connection)


def _check_pages(connection: sqlite3.Connection, path: Path) -> Finding:
    try:
        told = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({_SHOWN})")]
    except sqlite3.DatabaseError as error:  # a page so damaged that the check itself ends there
        told = [str(error)]
    if told == ["ok"]:
        return ok("store pages", "PRAGMA quick_check finds the file whole")
    cure = f"Stop the gateway, keep a copy of {path}*, and go back to a backup or recover it (sqlite3 .recover)."
    return fail("store pages", f"PRAGMA quick_check: {'; '.join(told)}", cure)


def _check_leases(connection: sqlite3.Connection, now: float) -> Finding:
    old: int = connection.execute("SELECT count(*) FROM tickets WHERE at < ?", (now - OLD_REQUEST,)).fetchone()[0]
    if not old:
        return ok("leases", "no request has held fair-use for more than an hour")
    return warn(
        "leases",
        f"requests that have held fair-use for more than an hour: {old:,}",
        "Start the gateway: what was lost is ended within a minute, and its fair-use settled.",
    )


def _check_books(connection: sqlite3.Connection) -> Finding:
    wrong = SqliteBook(connection).disagreements()
    if not wrong:
        return ok(_BOOKS, "every balance is what its receipts come to")
    shown = "; ".join(wrong[:_SHOWN])
    cure = f"Keep a copy of the file, and report this: it must not happen. {len(wrong):,} balances are wrong in all."
    return fail(_BOOKS, shown, cure)


def _newest_receipt(connection: sqlite3.Connection) -> float | None:
    # Ids are ordered by time.
    row = connection.execute("SELECT at FROM receipts ORDER BY request_id DESC LIMIT 1").fetchone()
    return float(row[0]) if row is not None else None


def _cannot_be_used(path: Path, error: sqlite3.Error, patience: float) -> Finding:
    if "locked" in str(error):
        cure = "Find the program that holds it (fuser or lsof), and end it or wait."
        return fail(_STORE, f"another program has held {path} locked for {patience:g} s", cure)
    cure = f"Check that this user may write {path}, and that it is a ledger; or name another file: [server] store."
    return fail(_STORE, f"{path} cannot be used: {error}", cure)
