"""The ledger's rows in SQLite, but for its entries. Statements only: what may happen is decided in ``transactions``."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from flatfee.server.clocks import Moment
from flatfee.server.store.book import Claim, ClaimKey, OpenTicket, SlotKey
from flatfee.server.store.ledger import Slots
from flatfee.server.store.records import Purse, WorkflowLease
from flatfee.server.store.sqlite_directory import SqliteDirectory
from flatfee.server.store.sqlite_entries import SqliteEntries
from flatfee.wire import Lane, Reason

_ACTIVE: Final = """
SELECT (SELECT count(*) FROM slots WHERE account = ?1 AND expires_at > ?2)
    + (SELECT count(*) FROM tickets WHERE account = ?1 AND workflow IS NULL AND expires_at > ?2)
"""
_SLOT_END: Final = """
SELECT expires_at FROM slots WHERE account = ?1 AND expires_at > ?2
UNION ALL SELECT expires_at FROM tickets WHERE account = ?1 AND workflow IS NULL AND expires_at > ?2
ORDER BY expires_at LIMIT 1 OFFSET ?3 - 1
"""
_REQUESTS: Final = "FROM tickets WHERE account = ? AND project IS ? AND workflow = ?"
_LEASES: Final = (
    "SELECT account, project, workflow, started_at, expires_at, (SELECT count(*) FROM tickets t"
    " WHERE t.account = s.account AND t.workflow = s.workflow AND t.project IS nullif(s.project, ''))"
    " FROM slots s WHERE expires_at > ?1"
)


ADD_TICKET: Final = "INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class SqliteBook(SqliteEntries, SqliteDirectory):
    """A ``Book`` and a ``DirectoryBook`` over one connection, within whatever transaction is open on it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        SqliteEntries.__init__(self, connection)
        SqliteDirectory.__init__(self)

    def begin_boot(self, boot: str) -> None:
        """Note the run of the machine; after another one, every lease has lost its holder."""
        row = self._execute("SELECT id FROM boot").fetchone()
        if row is not None and row[0] == boot:
            return
        self._execute("DELETE FROM boot")
        self._execute("INSERT INTO boot VALUES (?)", (boot,))
        self._execute("DELETE FROM slots")
        self._execute("DELETE FROM arrivals")
        self._execute("UPDATE tickets SET expires_at = 0")

    def touch(self) -> None:
        """Write without changing anything, to see that writing works."""
        self._execute("UPDATE boot SET id = id")

    def arrival(self, key_id: str) -> float | None:
        row = self._execute("SELECT arrival FROM arrivals WHERE key_id = ?", (key_id,)).fetchone()
        return row[0] if row else None

    def set_arrival(self, key_id: str, arrival: float) -> None:
        self._execute("INSERT OR REPLACE INTO arrivals VALUES (?, ?)", (key_id, arrival))

    def drop_arrivals(self, now: float) -> None:
        self._execute("DELETE FROM arrivals WHERE arrival <= ?", (now,))

    def slots(self, account: str, key: SlotKey | None, now: float) -> Slots:
        (active,) = self._execute(_ACTIVE, (account, now)).fetchone()
        own = None
        if key is not None:
            own = self._execute(
                "SELECT released FROM slots WHERE account = ? AND project = ? AND workflow = ? AND expires_at > ?",
                (*row_key(key), now),
            ).fetchone()
        if own is None or key is None:
            return Slots(active=active, holds_one=False, in_flight=0)
        (in_flight,) = self._execute(f"SELECT count(*) {_REQUESTS}", key).fetchone()
        return Slots(active=active, holds_one=True, in_flight=in_flight, released=bool(own[0]))

    def slot_end(self, account: str, now: float, number: int) -> float | None:
        row = self._execute(_SLOT_END, (account, now, number)).fetchone()
        return row[0] if row else None

    def request_end(self, key: SlotKey, number: int) -> float | None:
        statement = f"SELECT expires_at {_REQUESTS} ORDER BY expires_at LIMIT 1 OFFSET ? - 1"
        row = self._execute(statement, (*key, number)).fetchone()
        return row[0] if row else None

    def hold_slot(self, key: SlotKey, now: Moment, expires_at: float) -> None:
        self._execute(
            "INSERT INTO slots VALUES (?1, ?2, ?3, ?6, ?5, NULL, 0) ON CONFLICT DO UPDATE SET"
            " started_at = iif(expires_at > ?4, started_at, ?6),"
            " route = iif(expires_at > ?4, route, NULL),"
            " expires_at = ?5, released = 0",
            (*row_key(key), now.steady, expires_at, now.wall),
        )

    def touch_slot(self, key: SlotKey, now: float, until: float | None, route: str | None) -> None:
        self._execute(
            "UPDATE slots SET expires_at = coalesce(?5, expires_at), route = coalesce(?6, route)"
            " WHERE account = ?1 AND project = ?2 AND workflow = ?3 AND expires_at > ?4",
            (*row_key(key), now, until, route),
        )

    def mark_released(self, key: SlotKey) -> None:
        self._execute("UPDATE slots SET released = 1 WHERE account = ? AND project = ? AND workflow = ?", row_key(key))

    def drop_slot(self, key: SlotKey) -> None:
        self._execute("DELETE FROM slots WHERE account = ? AND project = ? AND workflow = ?", row_key(key))

    def drop_slots(self, now: float) -> None:
        self._execute(
            "DELETE FROM slots WHERE expires_at <= ? OR released AND NOT EXISTS (SELECT 1 FROM tickets t"
            " WHERE t.account = slots.account AND t.workflow = slots.workflow"
            " AND t.project IS nullif(slots.project, ''))",
            (now,),
        )

    def leases(self, now: Moment, account: str | None) -> list[WorkflowLease]:
        if account is None:
            rows = self._execute(f"{_LEASES} ORDER BY started_at", (now.steady,))
        else:
            rows = self._execute(f"{_LEASES} AND account = ?2 ORDER BY started_at", (now.steady, account))
        return [_lease(row, now) for row in rows]

    def last_route(self, key: SlotKey, now: float) -> str | None:
        """Return the route that last answered a live workflow."""
        row = self._execute(
            "SELECT route FROM slots WHERE account = ? AND project = ? AND workflow = ? AND expires_at > ?",
            (*row_key(key), now),
        ).fetchone()
        return row[0] if row else None

    def add_ticket(self, ticket: OpenTicket) -> None:
        self._execute(ADD_TICKET, ticket_row(ticket))

    def mark_dispatched(self, request_id: str) -> bool:
        return self._execute("UPDATE tickets SET dispatched = 1 WHERE request_id = ?", (request_id,)).rowcount > 0

    def extend_ticket(self, request_id: str, now: float, expires_at: float) -> bool:
        statement = "UPDATE tickets SET expires_at = ?3 WHERE request_id = ?1 AND expires_at > ?2"
        return self._execute(statement, (request_id, now, expires_at)).rowcount > 0

    def find_ticket(self, request_id: str) -> OpenTicket | None:
        row = self._execute("SELECT * FROM tickets WHERE request_id = ?", (request_id,)).fetchone()
        return ticket_of(row) if row else None

    def take_ticket(self, request_id: str, account: str) -> OpenTicket | None:
        # Two statements take less time than one with RETURNING, which keeps a table of what it returns.
        ticket = self.find_ticket(request_id)
        if ticket is None or ticket.account != account:
            return None
        self._execute("DELETE FROM tickets WHERE request_id = ?", (request_id,))
        return ticket

    def expired_tickets(self, now: float, most: int = -1) -> list[OpenTicket]:
        rows = self._execute("SELECT * FROM tickets WHERE expires_at <= ? LIMIT ?", (now, most)).fetchall()
        return [ticket_of(row) for row in rows]

    def claim(self, key: ClaimKey) -> Claim | None:
        row = self._execute(
            "SELECT request_id, body, at, holder FROM claims WHERE account = ? AND project = ? AND key = ?",
            _claim_key(key),
        ).fetchone()
        return Claim(request_id=row[0], body=row[1], at=row[2], holder=row[3]) if row else None

    def set_claim(self, key: ClaimKey, claim: Claim) -> None:
        self._execute(
            "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*_claim_key(key), claim.body, claim.request_id, claim.at, claim.holder),
        )

    def drop_claim(self, key: ClaimKey, request_id: str) -> None:
        self._execute(
            "DELETE FROM claims WHERE account = ? AND project = ? AND key = ? AND request_id = ?",
            (*_claim_key(key), request_id),
        )

    def drop_claims(self, before: float) -> None:
        self._execute("DELETE FROM claims WHERE at <= ?", (before,))


def _lease(row: tuple[Any, ...], now: Moment) -> WorkflowLease:
    account, project, name, started, expires, count = row
    return WorkflowLease(
        id=name,
        account=account,
        project=project or None,
        started_at=started,
        expires_at=now.wall + expires - now.steady,
        in_flight=count,
    )


def row_key(key: SlotKey) -> tuple[str, str, str]:
    """Return what a slot is kept under: a primary key has no NULL."""
    return key.account, key.project or "", key.workflow


def _claim_key(key: ClaimKey) -> tuple[str, str, bytes]:
    return key.account, key.project or "", key.key


def ticket_row(ticket: OpenTicket) -> tuple[object, ...]:
    """Return a ticket as its row holds it."""
    return (
        *(ticket.request_id, ticket.account, ticket.project, ticket.workflow, ticket.lane, ticket.reason),
        *(ticket.purse, ticket.units, ticket.unit, ticket.model_requested, ticket.at, ticket.expires_at),
        *(ticket.claim, ticket.reduced, ticket.dispatched),
    )


def ticket_of(row: tuple[Any, ...]) -> OpenTicket:
    """Return the ticket that a row holds."""
    (request_id, account, project, workflow, lane, reason, purse, *rest) = row
    units, unit, model, at, expires_at, claim, reduced, dispatched = rest
    return OpenTicket(
        request_id=request_id,
        account=account,
        project=project,
        workflow=workflow,
        lane=Lane(lane),
        reason=Reason(reason),
        purse=Purse(purse),
        units=units,
        unit=unit,
        model_requested=model,
        at=at,
        expires_at=expires_at,
        claim=claim,
        reduced=bool(reduced),
        dispatched=bool(dispatched),
    )
