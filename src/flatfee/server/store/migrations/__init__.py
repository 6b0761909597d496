"""Numbered steps of the SQLite schema: ``0001_….sql`` and so on, run once each, in order.

The number of the last step stands in ``PRAGMA user_version``. A step is never edited once it was
released; a change is a new file.
"""

from __future__ import annotations

import sqlite3
from importlib import resources


class SchemaTooNew(Exception):
    """The file was written by a newer version of flatfee; upgrade, or use another file."""


def steps() -> list[tuple[int, str]]:
    """Return every step as (number, SQL), in order."""
    files = [file for file in resources.files(__name__).iterdir() if file.name.endswith(".sql")]
    return sorted((int(file.name[:4]), file.read_text(encoding="utf-8")) for file in files)


def migrate(connection: sqlite3.Connection) -> int:
    """Bring the schema up to date and return its number. Safe when several processes start at once.

    Raises:
        SchemaTooNew: the file has a step that this version does not know.
    """
    known = steps()
    connection.execute("BEGIN IMMEDIATE")
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > known[-1][0]:
            message = (
                f"its schema is version {version}; this flatfee knows {known[-1][0]}: upgrade, or use another file"
            )
            raise SchemaTooNew(message)
        for number, script in known:
            if number > version:
                _run(connection, script)
                connection.execute(f"PRAGMA user_version = {number:d}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return known[-1][0]


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run each statement within the open transaction; ``executescript`` would commit it first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
