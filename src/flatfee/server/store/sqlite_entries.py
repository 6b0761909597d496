"""Receipts, adjustments and balances in SQLite. Statements only: what may happen is decided in ``transactions``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

from flatfee.server.ids import earliest_id
from flatfee.server.store.book import Adjustment, KeptReceipt
from flatfee.server.store.ledger import NO_CHANGE, Balance, disagreement
from flatfee.server.store.records import LedgerQuery, Purse
from flatfee.server.windows import Window

_REBUILD = """
SELECT coalesce(sum(posted) FILTER (WHERE purse = 'fair_use'), 0),
    coalesce(sum(pending) FILTER (WHERE purse = 'fair_use'), 0),
    coalesce(sum(posted) FILTER (WHERE purse = 'continuation'), 0),
    coalesce(sum(pending) FILTER (WHERE purse = 'continuation'), 0)
FROM (
    SELECT purse, charged AS posted, 0 AS pending FROM receipts
        WHERE account = ?1 AND charged > 0 AND unit = ?2 AND at >= ?3 AND at < ?4
    UNION ALL SELECT purse, units, 0 FROM adjustments WHERE account = ?1 AND unit = ?2 AND at >= ?3 AND at < ?4
    UNION ALL SELECT purse, 0, units FROM tickets WHERE account = ?1 AND unit = ?2 AND at >= ?3 AND at < ?4
)
"""
_BALANCE = """
SELECT posted, pending, continuation_posted, continuation_pending FROM balances
WHERE account = ? AND unit = ? AND window_start = ? AND window_end = ?
"""
_SHIFT = """
UPDATE balances SET posted = posted + ?4, pending = pending + ?5,
    continuation_posted = continuation_posted + ?6, continuation_pending = continuation_pending + ?7
WHERE account = ?1 AND unit = ?2 AND window_start <= ?3 AND window_end > ?3
"""


ADD_RECEIPT = "INSERT OR IGNORE INTO receipts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class SqliteEntries:
    """The entries of the ledger over one connection, within whatever transaction is open on it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute: Callable[..., sqlite3.Cursor] = connection.execute

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Read what stands together at one moment while the block lasts."""
        self._execute("BEGIN")
        try:
            yield
        finally:
            self._execute("COMMIT")

    def balance(self, account: str, unit: str, window: Window) -> Balance:
        row = self._execute(_BALANCE, (account, unit, window.start, window.end)).fetchone()
        return Balance(*row) if row else self._rebuilt(account, unit, window)

    def open_balance(self, account: str, unit: str, window: Window) -> Balance:
        row = self._execute(_BALANCE, (account, unit, window.start, window.end)).fetchone()
        if row is not None:
            return Balance(*row)
        balance = self._rebuilt(account, unit, window)
        self._execute(
            "INSERT INTO balances VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(account, unit, window.start, window.end),
                *(balance.posted, balance.pending, balance.continuation_posted, balance.continuation_pending),
            ),
        )
        return balance

    def _rebuilt(self, account: str, unit: str, window: Window) -> Balance:
        return Balance(*self._execute(_REBUILD, (account, unit, window.start, window.end)).fetchone())

    def shift_balance(self, account: str, unit: str, at: float, change: Balance) -> None:
        if change == NO_CHANGE:
            return
        self._execute(
            _SHIFT,
            (
                *(account, unit, at),
                *(change.posted, change.pending, change.continuation_posted, change.continuation_pending),
            ),
        )

    def drop_balances(self, before: float) -> None:
        self._execute("DELETE FROM balances WHERE window_end <= ?", (before,))

    def add_receipt(self, receipt: KeptReceipt) -> None:
        self._execute(ADD_RECEIPT, receipt_row(receipt))

    def kept_receipt(self, request_id: str) -> KeptReceipt | None:
        row = self._execute("SELECT * FROM receipts WHERE request_id = ?", (request_id,)).fetchone()
        return _kept(row) if row else None

    def add_adjustment(self, adjustment: Adjustment) -> None:
        self._execute(
            "INSERT INTO adjustments (request_id, account, purse, unit, units, at, made_at, kind, note, json)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(adjustment.request_id, adjustment.account, adjustment.purse, adjustment.unit, adjustment.units),
                *(adjustment.at, adjustment.made_at, adjustment.kind, adjustment.note, adjustment.json),
            ),
        )

    def adjustments(self, request_id: str) -> list[Adjustment]:
        rows = self._execute(
            "SELECT request_id, account, purse, unit, units, at, made_at, kind, note, json FROM adjustments"
            " WHERE request_id = ? ORDER BY id",
            (request_id,),
        )
        return [_adjustment(row) for row in rows]

    def kept_receipts(self, query: LedgerQuery) -> list[KeptReceipt]:
        order = f"ORDER BY request_id {'ASC' if query.oldest_first else 'DESC'}"
        # The ids first, from an index alone: whole rows are read of the page, not of all that it passes over.
        page = f"SELECT request_id FROM receipts WHERE {_receipts_where(query)} {order} LIMIT :limit"  # noqa: S608 - made of constants
        rows = self._execute(
            f"SELECT * FROM receipts WHERE request_id IN ({page}) {order}",  # noqa: S608 - made of constants
            {
                "account": query.account,
                "project": query.project,
                "workflow": query.workflow,
                "lane": query.lane,
                "after": query.after,
                "limit": query.limit + 1,
            },
        ).fetchall()
        return [_kept(row) for row in rows]

    def prune(self, before: float, most: int) -> int:
        old = "SELECT request_id FROM receipts WHERE request_id < ?1 ORDER BY request_id LIMIT ?2"
        bounds = (earliest_id(before), most)
        self._execute(f"DELETE FROM adjustments WHERE request_id IN ({old})", bounds)  # noqa: S608 - a constant
        return self._execute(f"DELETE FROM receipts WHERE request_id IN ({old})", bounds).rowcount  # noqa: S608

    def disagreements(self) -> list[str]:
        """Say which balances do not follow from their entries, both as they were at one moment."""
        with self.snapshot():
            return self._disagreements()

    def _disagreements(self) -> list[str]:
        rows = self._execute("SELECT * FROM balances").fetchall()
        found = []
        for account, unit, start, end, *figures in rows:
            window = Window(start, end)
            rebuilt = self._rebuilt(account, unit, window)
            found.append(disagreement(account, unit, window, Balance(*figures), rebuilt))
        return [line for line in found if line is not None]


def _receipts_where(query: LedgerQuery) -> str:
    """Name only what is asked for: ``:x IS NULL OR x = :x`` would hide the column from the planner."""
    names = ("account", "project", "workflow", "lane")
    where = [f"{name} = :{name}" for name in names if getattr(query, name) is not None]
    if query.after is not None:
        where.append("request_id > :after" if query.oldest_first else "request_id < :after")
    return " AND ".join(where) or "1"


def receipt_row(receipt: KeptReceipt) -> tuple[object, ...]:
    """Return a receipt as its row holds it."""
    return (
        *(receipt.request_id, receipt.account, receipt.project, receipt.workflow, receipt.lane, receipt.json),
        *(receipt.at, receipt.purse, receipt.unit, receipt.charged, receipt.lapsed),
    )


def _kept(row: Iterable[object]) -> KeptReceipt:
    request_id, account, project, workflow, lane, json, at, purse, unit, charged, lapsed = row
    assert isinstance(json, bytes)  # noqa: S101 - the column holds nothing else
    return KeptReceipt(
        request_id=str(request_id),
        account=str(account),
        project=_text(project),
        workflow=_text(workflow),
        lane=_text(lane),
        json=json,
        at=float(str(at)),
        purse=Purse(str(purse)),
        unit=str(unit),
        charged=int(str(charged)),
        lapsed=bool(lapsed),
    )


def _text(value: object) -> str | None:
    return str(value) if value is not None else None


def _adjustment(row: Iterable[object]) -> Adjustment:
    request_id, account, purse, unit, units, at, made_at, kind, note, json = row
    return Adjustment(
        request_id=str(request_id),
        account=str(account),
        purse=Purse(str(purse)),
        unit=str(unit),
        units=int(str(units)),
        at=float(str(at)),
        made_at=float(str(made_at)),
        kind=str(kind),
        note=str(note),
        json=json if isinstance(json, bytes) else None,
    )
