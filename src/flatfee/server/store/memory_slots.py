"""Open tickets and workflow slots in dictionaries, and by account, so that nothing is looked for among all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from flatfee.server.clocks import Moment
from flatfee.server.store.book import OpenTicket, SlotKey
from flatfee.server.store.ledger import Slots
from flatfee.server.store.records import WorkflowLease

_NOBODY: Final[dict[str, OpenTicket]] = {}


class MemorySlot(msgspec.Struct, frozen=True, gc=False):
    """A workflow's slot. ``started_at`` is wall time, ``expires_at`` steady time."""

    started_at: float
    expires_at: float
    route: str | None = None
    released: bool = False


class _Holdings:
    """What one account holds: its slots, and its tickets that name no workflow.

    No lease of these tickets ends before ``soonest``: until then there is nothing to count.
    """

    __slots__ = ("loose", "slots", "soonest")

    def __init__(self) -> None:
        self.slots: dict[SlotKey, MemorySlot] = {}
        self.loose: dict[str, OpenTicket] = {}
        self.soonest = math.inf

    def put(self, ticket: OpenTicket) -> None:
        self.loose[ticket.request_id] = ticket
        self.soonest = min(self.soonest, ticket.expires_at)

    def ends(self, now: float) -> list[float]:
        """Return when each live slot and each live ticket ends."""
        all_ends = [*(slot.expires_at for slot in self.slots.values()), *(it.expires_at for it in self.loose.values())]
        return [end for end in all_ends if end > now]

    def active(self, now: float) -> int:
        """Return how many of them are live."""
        loose = len(self.loose)
        if now >= self.soonest:
            ends = [ticket.expires_at for ticket in self.loose.values()]
            self.soonest, loose = min(ends, default=math.inf), sum(end > now for end in ends)
        return loose + sum(slot.expires_at > now for slot in self.slots.values()) if self.slots else loose


class MemorySlots:
    """The tickets and slots of a ``MemoryBook``."""

    def __init__(self) -> None:
        self.tickets: dict[str, OpenTicket] = {}
        self.held: dict[SlotKey, MemorySlot] = {}
        self._holdings: dict[str, _Holdings] = {}
        self._running: dict[SlotKey, dict[str, OpenTicket]] = {}

    # Slots.

    def slots(self, account: str, key: SlotKey | None, now: float) -> Slots:
        holdings = self._holdings.get(account)
        active = holdings.active(now) if holdings is not None else 0
        own = self.held.get(key) if key is not None else None
        if key is None or own is None or own.expires_at <= now:
            return Slots(active, False, 0)
        return Slots(active, True, self.in_flight(key), own.released)

    def slot_end(self, account: str, now: float, number: int) -> float | None:
        holdings = self._holdings.get(account)
        return _nth(holdings.ends(now), number) if holdings is not None else None

    def request_end(self, key: SlotKey, number: int) -> float | None:
        return _nth((ticket.expires_at for ticket in self._running.get(key, _NOBODY).values()), number)

    def in_flight(self, key: SlotKey) -> int:
        """Return how many requests of a workflow run."""
        return len(self._running.get(key, _NOBODY))

    def leases(self, now: Moment, account: str | None) -> list[WorkflowLease]:
        found = [
            WorkflowLease(
                id=key.workflow,
                account=key.account,
                project=key.project,
                in_flight=self.in_flight(key),
                started_at=slot.started_at,
                expires_at=now.wall + slot.expires_at - now.steady,
            )
            for key, slot in self.held.items()
            if account in {None, key.account} and slot.expires_at > now.steady
        ]
        return sorted(found, key=lambda lease: lease.started_at)

    def last_route(self, key: SlotKey, now: float) -> str | None:
        """Return the route that last answered a live workflow."""
        slot = self.held.get(key)
        return slot.route if slot is not None and slot.expires_at > now else None

    def hold_slot(self, key: SlotKey, now: Moment, expires_at: float) -> None:
        slot = self.held.get(key)
        if slot is None or slot.expires_at <= now.steady:
            self._set_slot(key, MemorySlot(now.wall, expires_at))
        else:
            self._set_slot(key, replace(slot, expires_at=expires_at, released=False))

    def touch_slot(self, key: SlotKey, now: float, until: float | None, route: str | None) -> None:
        slot = self.held.get(key)
        if slot is not None and slot.expires_at > now:
            until = slot.expires_at if until is None else until
            self._set_slot(key, replace(slot, expires_at=until, route=slot.route if route is None else route))

    def mark_released(self, key: SlotKey) -> None:
        self._set_slot(key, replace(self.held[key], released=True))

    def drop_slot(self, key: SlotKey) -> None:
        del self.held[key], self._holdings[key.account].slots[key]
        self._forget_if_empty(key.account)

    def drop_slots(self, now: float) -> None:
        over = [
            key
            for key, slot in self.held.items()
            if slot.expires_at <= now or (slot.released and not self.in_flight(key))
        ]
        for key in over:
            self.drop_slot(key)

    def _set_slot(self, key: SlotKey, slot: MemorySlot) -> None:
        self.held[key] = self._holdings_of(key.account).slots[key] = slot

    def _holdings_of(self, account: str) -> _Holdings:
        found = self._holdings.get(account)
        if found is None:
            found = self._holdings[account] = _Holdings()
        return found

    def _forget_if_empty(self, account: str) -> None:
        holdings = self._holdings[account]
        if not (holdings.loose or holdings.slots):
            del self._holdings[account]

    # Tickets.

    def add_ticket(self, ticket: OpenTicket) -> None:
        self.tickets[ticket.request_id] = ticket
        if ticket.workflow is None:
            self._holdings_of(ticket.account).put(ticket)
        else:
            self._running.setdefault(_slot_of(ticket, ticket.workflow), {})[ticket.request_id] = ticket

    def mark_dispatched(self, request_id: str) -> bool:
        ticket = self.tickets.get(request_id)
        if ticket is not None:
            self.add_ticket(replace(ticket, dispatched=True))
        return ticket is not None

    def extend_ticket(self, request_id: str, now: float, expires_at: float) -> bool:
        ticket = self.tickets.get(request_id)
        if ticket is None or ticket.expires_at <= now:
            return False
        self.add_ticket(replace(ticket, expires_at=expires_at))
        return True

    def find_ticket(self, request_id: str) -> OpenTicket | None:
        return self.tickets.get(request_id)

    def take_ticket(self, request_id: str, account: str) -> OpenTicket | None:
        ticket = self.tickets.get(request_id)
        if ticket is None or ticket.account != account:
            return None
        del self.tickets[request_id]
        if ticket.workflow is None:
            del self._holdings[account].loose[request_id]
            self._forget_if_empty(account)
        else:
            key = _slot_of(ticket, ticket.workflow)
            running = self._running[key]
            del running[request_id]
            if not running:
                del self._running[key]
        return ticket

    def expired_tickets(self, now: float, most: int = -1) -> list[OpenTicket]:
        lost = [ticket for ticket in self.tickets.values() if ticket.expires_at <= now]
        return lost if most < 0 else lost[:most]


def _nth(ends: Iterable[float], number: int) -> float | None:
    in_order = sorted(ends)
    return in_order[number - 1] if number <= len(in_order) else None


def _slot_of(ticket: OpenTicket, workflow: str) -> SlotKey:
    return SlotKey(ticket.account, ticket.project, workflow)
