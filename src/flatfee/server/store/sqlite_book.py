"""The rows of the SQLite store. Statements only: what may happen is decided in ``transactions``."""

from __future__ import annotations

import sqlite3

from flatfee.server.store.ledger import Balance, Slots
from flatfee.server.store.records import Caller, Purse, ReceiptQuery, WorkflowLease
from flatfee.server.store.sqlite_directory import SqliteDirectory
from flatfee.server.store.transactions import KeptReceipt, OpenTicket, SlotKey
from flatfee.wire import Lane, Reason


class SqliteBook(SqliteDirectory):
    """A ``Book`` and a ``DirectoryBook`` over one connection, within whatever transaction is open on it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def touch(self) -> None:
        """Write without changing anything, to see that writing works."""
        self._execute("DELETE FROM slots WHERE 0")

    def balance(self, account: str, window_start: int) -> Balance:
        row = self._execute(
            "SELECT posted, pending, continuation_posted, continuation_pending FROM balances"
            " WHERE account = ? AND window_start = ?",
            (account, window_start),
        ).fetchone()
        return Balance(*row) if row else Balance()

    def set_balance(self, account: str, window_start: int, balance: Balance) -> None:
        self._execute(
            "INSERT INTO balances VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET"
            " posted = ?3, pending = ?4, continuation_posted = ?5, continuation_pending = ?6",
            (
                account,
                window_start,
                balance.posted,
                balance.pending,
                balance.continuation_posted,
                balance.continuation_pending,
            ),
        )

    def arrival(self, key_id: str) -> float | None:
        row = self._execute("SELECT arrival FROM arrivals WHERE key_id = ?", (key_id,)).fetchone()
        return row[0] if row else None

    def set_arrival(self, key_id: str, arrival: float) -> None:
        self._execute("INSERT OR REPLACE INTO arrivals VALUES (?, ?)", (key_id, arrival))

    def drop_arrivals(self, now: float) -> None:
        self._execute("DELETE FROM arrivals WHERE arrival <= ?", (now,))

    def slots(self, account: str, key: SlotKey | None, now: float) -> Slots:
        named, named_end, holds, released = self._execute(
            "SELECT count(*), min(expires_at), max(project = ?3 AND workflow = ?4),"
            " max(released AND project = ?3 AND workflow = ?4) FROM slots WHERE account = ?1 AND expires_at > ?2",
            (account, now, *(_row_key(key)[1:] if key else (None, None))),
        ).fetchone()
        single, single_end = self._execute(
            "SELECT count(*), min(expires_at) FROM tickets WHERE account = ? AND workflow IS NULL AND expires_at > ?",
            (account, now),
        ).fetchone()
        in_flight = 0
        if holds and key is not None:
            in_flight = self._execute(
                "SELECT count(*) FROM tickets WHERE account = ? AND project IS ? AND workflow = ?", key
            ).fetchone()[0]
        ends = [end for end in (named_end, single_end) if end is not None]
        return Slots(
            active=named + single,
            holds_one=bool(holds),
            in_flight=in_flight,
            frees_at=min(ends, default=None),
            released=bool(released),
        )

    def hold_slot(self, key: SlotKey, now: float, expires_at: float) -> None:
        self._execute(
            "INSERT INTO slots VALUES (?1, ?2, ?3, ?4, ?5, NULL, 0) ON CONFLICT DO UPDATE SET"
            " started_at = iif(expires_at > ?4, started_at, ?4),"
            " route = iif(expires_at > ?4, route, NULL),"
            " expires_at = ?5, released = 0",
            (*_row_key(key), now, expires_at),
        )

    def touch_slot(self, key: SlotKey, now: float, until: float | None, route: str | None) -> None:
        self._execute(
            "UPDATE slots SET expires_at = coalesce(?5, expires_at), route = coalesce(?6, route)"
            " WHERE account = ?1 AND project = ?2 AND workflow = ?3 AND expires_at > ?4",
            (*_row_key(key), now, until, route),
        )

    def mark_released(self, key: SlotKey) -> None:
        self._execute("UPDATE slots SET released = 1 WHERE account = ? AND project = ? AND workflow = ?", _row_key(key))

    def drop_slot(self, key: SlotKey) -> None:
        self._execute("DELETE FROM slots WHERE account = ? AND project = ? AND workflow = ?", _row_key(key))

    def drop_slots(self, now: float) -> None:
        self._execute(
            "DELETE FROM slots WHERE expires_at <= ? OR released AND NOT EXISTS (SELECT 1 FROM tickets t"
            " WHERE t.account = slots.account AND t.workflow = slots.workflow"
            " AND t.project IS nullif(slots.project, ''))",
            (now,),
        )

    def list_slots(self, caller: Caller, now: float) -> list[WorkflowLease]:
        """Return the live slots that a caller sees, oldest first."""
        rows = self._execute(
            "SELECT workflow, started_at, expires_at, (SELECT count(*) FROM tickets t"
            " WHERE t.account = s.account AND t.workflow = s.workflow AND t.project IS nullif(s.project, ''))"
            " FROM slots s WHERE account = ?1 AND project = coalesce(?2, project) AND expires_at > ?3"
            " ORDER BY started_at",
            (caller.account, caller.project, now),
        )
        return [
            WorkflowLease(id=name, started_at=started, expires_at=expires, in_flight=count)
            for name, started, expires, count in rows
        ]

    def last_route(self, key: SlotKey, now: float) -> str | None:
        """Return the route that last answered a live workflow."""
        row = self._execute(
            "SELECT route FROM slots WHERE account = ? AND project = ? AND workflow = ? AND expires_at > ?",
            (*_row_key(key), now),
        ).fetchone()
        return row[0] if row else None

    def add_ticket(self, ticket: OpenTicket) -> None:
        self._execute(
            "INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                ticket.request_id,
                ticket.account,
                ticket.project,
                ticket.workflow,
                ticket.lane,
                ticket.reason,
                ticket.purse,
                ticket.units,
                ticket.unit,
                ticket.window_start,
                ticket.model_requested,
                ticket.created_at,
                ticket.expires_at,
                ticket.dispatched,
            ),
        )

    def mark_dispatched(self, request_id: str) -> bool:
        return self._execute("UPDATE tickets SET dispatched = 1 WHERE request_id = ?", (request_id,)).rowcount > 0

    def extend_ticket(self, request_id: str, expires_at: float) -> None:
        self._execute("UPDATE tickets SET expires_at = ? WHERE request_id = ?", (expires_at, request_id))

    def take_ticket(self, request_id: str) -> bool:
        return self._execute("DELETE FROM tickets WHERE request_id = ?", (request_id,)).rowcount > 0

    def expired_tickets(self, now: float) -> list[OpenTicket]:
        return [_ticket(row) for row in self._execute("SELECT * FROM tickets WHERE expires_at <= ?", (now,))]

    def find_ticket(self, request_id: str) -> OpenTicket | None:
        """Return a running request."""
        row = self._execute("SELECT * FROM tickets WHERE request_id = ?", (request_id,)).fetchone()
        return _ticket(row) if row else None

    def add_receipt(self, receipt: KeptReceipt) -> None:
        self._execute(
            "INSERT OR IGNORE INTO receipts VALUES (?, ?, ?, ?, ?, ?)",
            (receipt.request_id, receipt.account, receipt.project, receipt.workflow, receipt.lane, receipt.json),
        )

    def receipt_json(self, request_id: str) -> bytes | None:
        kept = self.find_receipt(request_id)
        return kept.json if kept else None

    def find_receipt(self, request_id: str) -> KeptReceipt | None:
        """Return a receipt with its owner."""
        row = self._execute("SELECT * FROM receipts WHERE request_id = ?", (request_id,)).fetchone()
        return _kept(row) if row else None

    def list_receipts(self, caller: Caller, query: ReceiptQuery) -> list[bytes]:
        """Return a page of receipts, newest first, and one more if more follow."""
        rows = self._execute(
            f"SELECT json FROM receipts WHERE {_receipts_where(caller, query)}"  # noqa: S608 - made of constants
            " ORDER BY request_id DESC LIMIT :limit",
            {
                "account": caller.account,
                "project": caller.project,
                "workflow": query.workflow,
                "lane": query.lane,
                "after": query.after,
                "limit": query.limit + 1,
            },
        )
        return [receipt for (receipt,) in rows]


def _receipts_where(caller: Caller, query: ReceiptQuery) -> str:
    """Name only what is asked for: ``:x IS NULL OR x = :x`` would hide the column from the planner."""
    where = ["account = :account"]
    if query.workflow is not None:
        where.append("workflow = :workflow")
    if caller.project is not None:
        # A workflow has fewer receipts than its project: "+" keeps the project's index from being chosen.
        where.append("project = :project" if query.workflow is None else "+project = :project")
    if query.lane is not None:
        where.append("lane = :lane")
    if query.after is not None:
        where.append("request_id < :after")
    return " AND ".join(where)


def _row_key(key: SlotKey) -> tuple[str, str, str]:
    """Return what a slot is kept under: a primary key has no NULL."""
    return key.account, key.project or "", key.workflow


def _ticket(row: tuple[object, ...]) -> OpenTicket:
    (request_id, account, project, workflow, lane, reason, purse, *rest) = row
    units, unit, window_start, model, created_at, expires_at, dispatched = rest
    return OpenTicket(
        request_id=str(request_id),
        account=str(account),
        project=str(project) if project is not None else None,
        workflow=str(workflow) if workflow is not None else None,
        lane=Lane(str(lane)),
        reason=Reason(str(reason)),
        purse=Purse(str(purse)),
        units=int(str(units)),
        unit=str(unit),
        window_start=int(str(window_start)),
        model_requested=str(model),
        created_at=float(str(created_at)),
        expires_at=float(str(expires_at)),
        dispatched=bool(dispatched),
    )


def _kept(row: tuple[str, str, str | None, str | None, str | None, bytes]) -> KeptReceipt:
    request_id, account, project, workflow, lane, receipt = row
    return KeptReceipt(
        request_id=request_id, account=account, project=project, workflow=workflow, lane=lane, json=receipt
    )
