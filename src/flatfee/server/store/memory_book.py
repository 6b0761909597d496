"""The ledger's rows in dictionaries. Reads and writes only: what may happen is decided in ``transactions``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from flatfee.server.ids import earliest_id
from flatfee.server.store.book import Adjustment, Claim, ClaimKey, KeptReceipt
from flatfee.server.store.ledger import Balance, change, disagreement
from flatfee.server.store.memory_directory import MemoryDirectory
from flatfee.server.store.memory_slots import MemorySlots
from flatfee.server.store.records import LedgerQuery
from flatfee.server.windows import Window

_BalanceKey = tuple[str, str, int, int]


class MemoryEntries(MemorySlots):
    """Receipts, adjustments and balances. Of the receipts, the newest are kept.

    What loses its oldest at each request is an ``OrderedDict``: a ``dict`` looks for its first among all that it lost.
    """

    def __init__(self, max_receipts: int) -> None:
        super().__init__()
        self.max_receipts = max_receipts
        self.receipts: OrderedDict[str, KeptReceipt] = OrderedDict()
        self.adjusted: dict[str, list[Adjustment]] = {}
        self.balances: dict[_BalanceKey, Balance] = {}
        self._windows: dict[tuple[str, str], list[_BalanceKey]] = {}
        self._forgotten: dict[_BalanceKey, Balance] = {}

    def balance(self, account: str, unit: str, window: Window) -> Balance:
        key = (account, unit, window.start, window.end)
        found = self.balances.get(key)
        if found is None:
            found = self.balances[key] = self._rebuilt(key)
            self._windows.setdefault(key[:2], []).append(key)
        return found

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
        return [key for key in self._windows.get((account, unit), ()) if key[2] <= at < key[3]]

    def drop_balances(self, before: float) -> None:
        self.balances = {key: balance for key, balance in self.balances.items() if key[3] > before}
        self._windows = {}
        for key in self.balances:
            self._windows.setdefault(key[:2], []).append(key)
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
        self.claims: OrderedDict[ClaimKey, Claim] = OrderedDict()

    def arrival(self, key_id: str) -> float | None:
        return self.arrivals.get(key_id)

    def set_arrival(self, key_id: str, arrival: float) -> None:
        self.arrivals[key_id] = arrival

    def drop_arrivals(self, now: float) -> None:
        self.arrivals = {key_id: arrival for key_id, arrival in self.arrivals.items() if arrival > now}

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
        self.claims = OrderedDict((key, claim) for key, claim in self.claims.items() if claim.at > before)
