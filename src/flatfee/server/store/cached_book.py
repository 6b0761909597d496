"""A book of SQLite's rows that remembers what it read of an account, and keeps what it writes until the commit.

Nothing is decided here. While nobody else writes to the file, a reservation reads no row, and what a
transaction changed twice is written once. What is remembered holds only as long as nobody else has
written: SQLite tells of other connections (``PRAGMA data_version``), the connection of its own changes.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from typing import Any, Final

from msgspec.structs import replace

from flatfee.server.clocks import Moment
from flatfee.server.store.book import KeptReceipt, OpenTicket, SlotKey
from flatfee.server.store.ledger import NO_CHANGE, Balance, Slots
from flatfee.server.store.records import Caller
from flatfee.server.store.sqlite_book import ADD_TICKET, SqliteBook, row_key, ticket_row
from flatfee.server.store.sqlite_directory import Until, still
from flatfee.server.store.sqlite_entries import ADD_RECEIPT, receipt_row
from flatfee.server.windows import Window

_MOST_ACCOUNTS: Final = 16_384

_BalanceKey = tuple[str, int, int]


class _Slot:
    """A workflow's slot, as its row holds it."""

    __slots__ = ("expires_at", "released", "route", "started_at")

    def __init__(self, started_at: float, expires_at: float, route: str | None, released: int) -> None:
        self.started_at = started_at
        self.expires_at = expires_at
        self.route = route
        self.released = released


class _Account:
    """What is remembered of one account: its balances, its workflows' slots, and how many requests run.

    ``loose`` counts the live tickets that name no workflow; no lease of one of them ends before ``soonest``.
    ``flights`` counts the tickets of each workflow, once somebody asked.
    """

    __slots__ = ("balances", "counted_at", "flights", "loose", "slots", "soonest")

    def __init__(self, balances: dict[_BalanceKey, Balance], slots: dict[SlotKey, _Slot]) -> None:
        self.balances = balances
        self.slots = slots
        self.flights: Counter[SlotKey] | None = None
        self.loose = 0
        self.soonest = self.counted_at = 0.0

    def put(self, ticket: OpenTicket) -> None:
        """Count a ticket."""
        if ticket.workflow is None:
            self.loose += 1
            self.soonest = min(self.soonest, ticket.expires_at)
        elif self.flights is not None:
            self.flights[_slot_of(ticket)] += 1

    def take(self, ticket: OpenTicket) -> None:
        """Count it no more."""
        if ticket.workflow is None:
            self.loose -= ticket.expires_at >= self.soonest  # one whose lease ran out is not counted any more
        elif self.flights is not None:
            self.flights[_slot_of(ticket)] -= 1


def _slot_of(ticket: OpenTicket) -> SlotKey:
    return SlotKey(ticket.account, ticket.project, ticket.workflow or "")


class CachedBook(SqliteBook):
    """A ``Book`` for ``LoopWriter``, for what a request does: reserve, dispatch, settle."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._connection = connection
        self._now_execute = connection.execute
        self._execute = self._flushed_execute
        self._accounts: dict[str, _Account] = {}
        self._own: dict[str, tuple[OpenTicket, int]] = {}  # tickets that were added here, and in which time
        self._time = 0  # is another one whenever another process has written
        self._callers: dict[str, Until] = {}
        self._first_end: float | None = None  # no lease ends before it; ``None``: not known
        self._version = -1
        self._changes = -1
        self._clear_kept()

    def _clear_kept(self) -> None:
        self._added: dict[str, OpenTicket] = {}
        self._marked: dict[str, OpenTicket] = {}
        self._taken: list[str] = []
        self._receipts: list[KeptReceipt] = []
        self._shifted: dict[tuple[str, _BalanceKey], Balance] = {}
        self._held: set[SlotKey] = set()

    def _flushed_execute(self, *statement: Any) -> sqlite3.Cursor:
        """Run any other statement on the rows as they stand."""
        self.flush()
        return self._now_execute(*statement)

    def begin(self) -> None:
        """Forget what may be another by now, if anybody has written since, by another connection or by this one."""
        (version,) = self._now_execute("PRAGMA data_version").fetchone()
        if self._connection.total_changes != self._changes:
            self._forget()
        elif version != self._version or len(self._accounts) > _MOST_ACCOUNTS:
            # Others never change our tickets; they end one whose lease has run out.
            self._time += 1
            self._forget_accounts()
        self._version = version

    def flush(self) -> None:
        """Write what was kept."""
        many = self._connection.executemany
        if self._taken:
            many("DELETE FROM tickets WHERE request_id = ?", [(each,) for each in self._taken])
        if self._added:
            many(ADD_TICKET, map(ticket_row, self._added.values()))
        if self._marked:
            many(
                "UPDATE tickets SET dispatched = 1 WHERE request_id = ?",
                [(each,) for each in self._marked],
            )
        if self._shifted:
            many(
                "UPDATE balances SET posted = ?, pending = ?, continuation_posted = ?, continuation_pending = ?"
                " WHERE account = ? AND unit = ? AND window_start = ? AND window_end = ?",
                [
                    (now.posted, now.pending, now.continuation_posted, now.continuation_pending, account, *key)
                    for (account, key), now in self._shifted.items()
                ],
            )
        if self._receipts:
            many(ADD_RECEIPT, map(receipt_row, self._receipts))
        if self._held:
            self._write_slots()
        self._clear_kept()

    def _write_slots(self) -> None:
        for key in self._held:
            owner = row_key(key)
            slot = self._accounts[key.account].slots.get(key)
            if slot is None:
                self._now_execute("DELETE FROM slots WHERE account = ? AND project = ? AND workflow = ?", owner)
                continue
            row = (*owner, slot.started_at, slot.expires_at, slot.route, slot.released)
            self._now_execute("INSERT OR REPLACE INTO slots VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def committed(self) -> None:
        """Note that what is remembered is what stands."""
        self._changes = self._connection.total_changes

    def rolled_back(self) -> None:
        """Forget everything, and what was kept."""
        super().rolled_back()
        self._clear_kept()
        self._forget()
        self._version = self._changes = -1

    def _forget(self) -> None:
        self._own.clear()
        self._forget_accounts()

    def _forget_accounts(self) -> None:
        self._first_end = None
        self._accounts.clear()
        self._callers.clear()

    def _account(self, name: str) -> _Account:
        known = self._accounts.get(name)
        if known is None:
            known = self._accounts[name] = self._read_account(name)
        return known

    def _read_account(self, name: str) -> _Account:
        balances = self._execute(
            "SELECT unit, window_start, window_end, posted, pending, continuation_posted, continuation_pending"
            " FROM balances WHERE account = ?",
            (name,),
        ).fetchall()
        slots = self._execute(
            "SELECT project, workflow, started_at, expires_at, route, released FROM slots WHERE account = ?", (name,)
        ).fetchall()
        return _Account(
            {(unit, start, end): Balance(*figures) for unit, start, end, *figures in balances},
            {SlotKey(name, project or None, workflow): _Slot(*rest) for project, workflow, *rest in slots},
        )

    # Who asks.

    def caller(self, key_id: str, now: float) -> Caller | None:
        known = self._callers.get(key_id)
        if known is None:
            known = self.caller_until(key_id, now)
            if known is None:
                return None
            self._callers[key_id] = known
        return still(known, now)

    # Balances.

    def open_balance(self, account: str, unit: str, window: Window) -> Balance:
        balances = self._account(account).balances
        key = (unit, window.start, window.end)
        found = balances.get(key)
        if found is None:
            found = balances[key] = super().open_balance(account, unit, window)
        return found

    def balance(self, account: str, unit: str, window: Window) -> Balance:
        found = self._account(account).balances.get((unit, window.start, window.end))
        return super().balance(account, unit, window) if found is None else found

    def shift_balance(self, account: str, unit: str, at: float, change: Balance) -> None:
        if change == NO_CHANGE:
            return
        balances = self._account(account).balances
        for key, before in balances.items():
            if key[0] == unit and key[1] <= at < key[2]:
                balances[key] = self._shifted[account, key] = before + change

    # Tickets.

    def add_ticket(self, ticket: OpenTicket) -> None:
        if ticket.request_id in self._own:
            message = f"there is a ticket {ticket.request_id!r} already"
            raise sqlite3.IntegrityError(message)
        self._account(ticket.account).put(ticket)
        self._own[ticket.request_id] = ticket, self._time
        self._added[ticket.request_id] = ticket
        if self._first_end is not None and ticket.expires_at < self._first_end:
            self._first_end = ticket.expires_at

    def expired_tickets(self, now: float, most: int = -1) -> list[OpenTicket]:
        """Look for them only once the first lease of all can have run out: it is asked whenever premium is spent."""
        first = self._first_end
        if first is None or first <= now:
            (end,) = self._execute("SELECT min(expires_at) FROM tickets").fetchone()
            first = self._first_end = math.inf if end is None else end
        return [] if first > now else super().expired_tickets(now, most)

    def take_ticket(self, request_id: str, account: str) -> OpenTicket | None:
        ticket, time = self._own.get(request_id, (None, 0))
        if ticket is None:
            ticket = super().take_ticket(request_id, account)
        elif ticket.account != account:
            return None
        elif time != self._time:
            ended = self._execute("DELETE FROM tickets WHERE request_id = ?", (request_id,)).rowcount == 0
            del self._own[request_id]
            ticket = None if ended else ticket
        else:
            del self._own[request_id]
            self._marked.pop(request_id, None)
            if self._added.pop(request_id, None) is None:
                self._taken.append(request_id)
        if ticket is not None:
            self._account(account).take(ticket)
        return ticket

    def mark_dispatched(self, request_id: str) -> bool:
        ticket, time = self._own.get(request_id, (None, 0))
        if ticket is None or time != self._time:
            return super().mark_dispatched(request_id)
        marked = replace(ticket, dispatched=True)
        self._own[request_id] = marked, time
        (self._added if request_id in self._added else self._marked)[request_id] = marked
        return True

    def extend_ticket(self, request_id: str, now: float, expires_at: float) -> bool:
        found = self.find_ticket(request_id)
        if found is not None:
            self._account(found.account).soonest = 0.0  # count again
        self._own.pop(request_id, None)
        self._first_end = None  # a lease may even become shorter
        return super().extend_ticket(request_id, now, expires_at)

    # Slots.

    def slots(self, account: str, key: SlotKey | None, now: float) -> Slots:
        known = self._account(account)
        active = self._active(account, known, now)
        own = known.slots.get(key) if key is not None else None
        if own is None or key is None or own.expires_at <= now:
            return Slots(active=active, holds_one=False, in_flight=0)
        if known.flights is None:
            known.flights = self._count_flights(account)
        return Slots(active=active, holds_one=True, in_flight=known.flights[key], released=bool(own.released))

    def _active(self, account: str, known: _Account, now: float) -> int:
        """Return how many slots are held: by workflows, and by requests that name none."""
        if now >= known.soonest or now < known.counted_at:
            known.loose, end = self._execute(
                "SELECT count(*), min(expires_at) FROM tickets"
                " WHERE account = ? AND workflow IS NULL AND expires_at > ?",
                (account, now),
            ).fetchone()
            known.soonest = math.inf if end is None else end
            known.counted_at = now
        if not known.slots:
            return known.loose
        return known.loose + sum(slot.expires_at > now for slot in known.slots.values())

    def _count_flights(self, account: str) -> Counter[SlotKey]:
        rows = self._execute(
            "SELECT project, workflow, count(*) FROM tickets WHERE account = ? AND workflow IS NOT NULL"
            " GROUP BY project, workflow",
            (account,),
        )
        return Counter({SlotKey(account, project, workflow): count for project, workflow, count in rows})

    def hold_slot(self, key: SlotKey, now: Moment, expires_at: float) -> None:
        slots = self._account(key.account).slots
        before = slots.get(key)
        if before is not None and before.expires_at > now.steady:
            slots[key] = _Slot(before.started_at, expires_at, before.route, 0)
        else:
            slots[key] = _Slot(now.wall, expires_at, None, 0)
        self._held.add(key)

    def touch_slot(self, key: SlotKey, now: float, until: float | None, route: str | None) -> None:
        slot = self._account(key.account).slots.get(key)
        if slot is not None and slot.expires_at > now:
            slot.expires_at = slot.expires_at if until is None else until
            slot.route = slot.route if route is None else route
            self._held.add(key)

    def drop_slot(self, key: SlotKey) -> None:
        if self._account(key.account).slots.pop(key, None) is not None:
            self._held.add(key)

    # Receipts.

    def add_receipt(self, receipt: KeptReceipt) -> None:
        self._receipts.append(receipt)
