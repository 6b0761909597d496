"""The ledger's rows in dictionaries. Reads and writes only: what may happen is decided in ``transactions``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec
from msgspec.structs import replace

from flatfee.server.clocks import Moment
from flatfee.server.ids import earliest_id
from flatfee.server.store.book import Adjustment, Claim, ClaimKey, KeptReceipt, OpenTicket, SlotKey
from flatfee.server.store.ledger import Balance, Slots, change, disagreement
from flatfee.server.store.memory_directory import MemoryDirectory
from flatfee.server.store.records import LedgerQuery, WorkflowLease
from flatfee.server.windows import Window

_BalanceKey = tuple[str, str, int, int]


class MemorySlot(msgspec.Struct, frozen=True, gc=False):
    """A workflow's slot. ``started_at`` is wall time, ``expires_at`` steady time."""

    started_at: float
    expires_at: float
    route: str | None = None
    released: bool = False


class MemoryEntries:
    """Receipts, adjustments and balances. Of the receipts, the newest are kept."""

    def __init__(self, max_receipts: int) -> None:
        self.max_receipts = max_receipts
        self.tickets: dict[str, OpenTicket] = {}
        self.receipts: dict[str, KeptReceipt] = {}
        self.adjusted: dict[str, list[Adjustment]] = {}
        self.balances: dict[_BalanceKey, Balance] = {}
        self._forgotten: dict[_BalanceKey, Balance] = {}

    def balance(self, account: str, unit: str, window: Window) -> Balance:
        key = (account, unit, window.start, window.end)
        if key not in self.balances:
            self.balances[key] = self._rebuilt(key)
        return self.balances[key]

    def _rebuilt(self, key: _BalanceKey) -> Balance:
        account, unit, start, end = key
        total = self._forgotten.get(key, Balance())
        for owner, entry_unit, at, part in self._parts():
            if (owner, entry_unit) == (account, unit) and start <= at < end:
                total += part
        return total

    def _parts(self) -> Iterator[tuple[str, str, float, Balance]]:
        for kept in self.receipts.values():
            yield kept.account, kept.unit, kept.at, change(kept.purse, posted=kept.charged)
        for made in self.adjusted.values():
            for entry in made:
                yield entry.account, entry.unit, entry.at, change(entry.purse, posted=entry.units)
        for ticket in self.tickets.values():
            yield ticket.account, ticket.unit, ticket.at, change(ticket.purse, pending=ticket.units)

    open_balance = balance

    def shift_balance(self, account: str, unit: str, at: float, change: Balance) -> None:
        for key in self._around(account, unit, at):
            self.balances[key] += change

    def _around(self, account: str, unit: str, at: float) -> list[_BalanceKey]:
        return [key for key in self.balances if key[:2] == (account, unit) and key[2] <= at < key[3]]

    def drop_balances(self, before: float) -> None:
        self.balances = {key: balance for key, balance in self.balances.items() if key[3] > before}
        self._forgotten = {key: balance for key, balance in self._forgotten.items() if key[3] > before}

    def add_receipt(self, receipt: KeptReceipt) -> None:
        self.receipts.setdefault(receipt.request_id, receipt)
        if len(self.receipts) > self.max_receipts:
            self._forget(next(iter(self.receipts)))

    def _forget(self, request_id: str) -> None:
        kept = self.receipts.pop(request_id)
        made = self.adjusted.pop(request_id, [])
        part = change(kept.purse, posted=kept.charged + sum(entry.units for entry in made))
        for key in self._around(kept.account, kept.unit, kept.at):
            self._forgotten[key] = self._forgotten.get(key, Balance()) + part

    def kept_receipt(self, request_id: str) -> KeptReceipt | None:
        return self.receipts.get(request_id)

    def add_adjustment(self, adjustment: Adjustment) -> None:
        self.adjusted.setdefault(adjustment.request_id, []).append(adjustment)

    def adjustments(self, request_id: str) -> list[Adjustment]:
        return list(self.adjusted.get(request_id, ()))

    def kept_receipts(self, query: LedgerQuery) -> list[KeptReceipt]:
        found = (
            kept
            for request_id, kept in sorted(self.receipts.items(), reverse=not query.oldest_first)
            if query.account in {None, kept.account}
            and query.project in {None, kept.project}
            and query.workflow in {None, kept.workflow}
            and query.lane in {None, kept.lane}
            and (query.after is None or (request_id > query.after if query.oldest_first else request_id < query.after))
        )
        return list(islice(found, query.limit + 1))

    def prune(self, before: float, most: int) -> int:
        first = earliest_id(before)
        old = sorted(request_id for request_id in self.receipts if request_id < first)[:most]
        for request_id in old:
            self._forget(request_id)
        return len(old)

    def disagreements(self) -> list[str]:
        """Say which balances do not follow from their entries."""
        found = (
            disagreement(key[0], key[1], Window(key[2], key[3]), kept, self._rebuilt(key))
            for key, kept in self.balances.items()
        )
        return [line for line in found if line is not None]


class MemoryBook(MemoryEntries, MemoryDirectory):
    """All rows of a store. Of receipts and of used idempotency keys, the newest ``max_receipts`` are kept."""

    def __init__(self, max_receipts: int) -> None:
        MemoryEntries.__init__(self, max_receipts)
        MemoryDirectory.__init__(self)
        self.arrivals: dict[str, float] = {}
        self.held: dict[SlotKey, MemorySlot] = {}
        self.claims: dict[ClaimKey, Claim] = {}

    def arrival(self, key_id: str) -> float | None:
        return self.arrivals.get(key_id)

    def set_arrival(self, key_id: str, arrival: float) -> None:
        self.arrivals[key_id] = arrival

    def drop_arrivals(self, now: float) -> None:
        self.arrivals = {key_id: arrival for key_id, arrival in self.arrivals.items() if arrival > now}

    def slots(self, account: str, key: SlotKey | None, now: float) -> Slots:
        own = self.held.get(key) if key is not None else None
        if own is not None and own.expires_at <= now:
            own = None
        return Slots(
            active=len(self._slot_ends(account, now)),
            holds_one=own is not None,
            in_flight=self.in_flight(key) if key is not None and own is not None else 0,
            released=own is not None and own.released,
        )

    def _slot_ends(self, account: str, now: float) -> list[float]:
        named = [slot.expires_at for key, slot in self.held.items() if key.account == account]
        single = [
            ticket.expires_at
            for ticket in self.tickets.values()
            if ticket.account == account and ticket.workflow is None
        ]
        return [end for end in (*named, *single) if end > now]

    def slot_end(self, account: str, now: float, number: int) -> float | None:
        return _nth(self._slot_ends(account, now), number)

    def request_end(self, key: SlotKey, number: int) -> float | None:
        return _nth([ticket.expires_at for ticket in self.tickets.values() if _slot_of(ticket) == key], number)

    def in_flight(self, key: SlotKey) -> int:
        """Return how many requests of a workflow run."""
        return sum(_slot_of(ticket) == key for ticket in self.tickets.values())

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
            self.held[key] = MemorySlot(now.wall, expires_at)
        else:
            self.held[key] = replace(slot, expires_at=expires_at, released=False)

    def touch_slot(self, key: SlotKey, now: float, until: float | None, route: str | None) -> None:
        slot = self.held.get(key)
        if slot is not None and slot.expires_at > now:
            self.held[key] = replace(
                slot,
                expires_at=slot.expires_at if until is None else until,
                route=slot.route if route is None else route,
            )

    def mark_released(self, key: SlotKey) -> None:
        self.held[key] = replace(self.held[key], released=True)

    def drop_slot(self, key: SlotKey) -> None:
        del self.held[key]

    def drop_slots(self, now: float) -> None:
        self.held = {
            key: slot
            for key, slot in self.held.items()
            if slot.expires_at > now and (not slot.released or self.in_flight(key))
        }

    def add_ticket(self, ticket: OpenTicket) -> None:
        self.tickets[ticket.request_id] = ticket

    def mark_dispatched(self, request_id: str) -> bool:
        ticket = self.tickets.get(request_id)
        if ticket is not None:
            self.tickets[request_id] = replace(ticket, dispatched=True)
        return ticket is not None

    def extend_ticket(self, request_id: str, now: float, expires_at: float) -> bool:
        ticket = self.tickets.get(request_id)
        if ticket is None or ticket.expires_at <= now:
            return False
        self.tickets[request_id] = replace(ticket, expires_at=expires_at)
        return True

    def find_ticket(self, request_id: str) -> OpenTicket | None:
        return self.tickets.get(request_id)

    def take_ticket(self, request_id: str, account: str) -> OpenTicket | None:
        ticket = self.tickets.get(request_id)
        return self.tickets.pop(request_id) if ticket is not None and ticket.account == account else None

    def expired_tickets(self, now: float, most: int = -1) -> list[OpenTicket]:
        lost = [ticket for ticket in self.tickets.values() if ticket.expires_at <= now]
        return lost if most < 0 else lost[:most]

    def claim(self, key: ClaimKey) -> Claim | None:
        return self.claims.get(key)

    def set_claim(self, key: ClaimKey, claim: Claim) -> None:
        self.claims.pop(key, None)  # so that the oldest is always the first
        self.claims[key] = claim
        while len(self.claims) > self.max_receipts:
            oldest = next(iter(self.claims))
            if self.claims[oldest].request_id in self.tickets:
                return
            del self.claims[oldest]

    def drop_claim(self, key: ClaimKey, request_id: str) -> None:
        claim = self.claims.get(key)
        if claim is not None and claim.request_id == request_id:
            del self.claims[key]

    def drop_claims(self, before: float) -> None:
        self.claims = {key: claim for key, claim in self.claims.items() if claim.at > before}


def _nth(ends: list[float], number: int) -> float | None:
    return sorted(ends)[number - 1] if number <= len(ends) else None


def _slot_of(ticket: OpenTicket) -> SlotKey | None:
    return SlotKey(ticket.account, ticket.project, ticket.workflow) if ticket.workflow is not None else None
