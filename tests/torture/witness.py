"""What must hold after every step of a run, and what must hold when it has come to rest.

The witness stands beside the store and notes what was really applied, whatever the gateway was
told of it. It believes neither balances nor receipts: it counts for itself and compares.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.torture.ledgers import InlineSqliteStore, ReceiptRow, Rows, audit, rows_of
from tests.torture.world import World

from flatfee.server.store.ledger_commands import Refund
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Outcome, Purse, Refusal, Reservation, Settlement, Ticket
from flatfee.server.store.transactions import Admission
from flatfee.server.windows import Window

METER_OUTPUT: Final = 4
"""Fair-use units of one token of output; a token of the prompt is one."""

_FAILURES: Final = frozenset({"error", "unavailable", "rate_limited", "refused"})


def ticket_owner(ticket: Ticket) -> tuple[str, str | None]:
    """Return whose idempotency keys a request's is among."""
    return ticket.account, ticket.project


class Witness:
    """Notes what was applied to one ledger.

    ``shown`` are the receipts that callers saw; ``hurried`` the requests that do not wait for a slow ledger.
    """

    def __init__(self, world: World, now: Callable[[], float]) -> None:
        self._world = world
        self._now = now
        self._rows: Rows | None = None
        self._bounds: dict[tuple[str, str, Window, Purse], int] = {}
        self._usages: dict[str, list[tuple[int, int]]] = {}
        self.granted: dict[str, Ticket] = {}
        self.marked: set[str] = set()
        self.asked: set[str] = set()
        self.outcomes: dict[str, Outcome] = {}
        self.fresh: Ticket | None = None
        self.key_id, self.terms = "", ("", "")
        self.once: dict[tuple[tuple[str, str | None], bytes], list[str]] = {}
        self.shown: dict[str, dict[str, Any]] = {}
        self.refunded: set[str] = set()
        self.hurried: set[str] = set()

    def saw(self, name: str, arguments: Sequence[Any], result: Any) -> None:
        """Note an operation that was applied, by what it means."""
        match name, arguments:
            case "reserve", (want,):
                self._reserved(want, result)
            case "dispatch", (ticket,):
                self._world.note(ticket.request_id, "dispatched")
                self.marked.add(ticket.request_id)
            case "settle", (ticket, outcome):
                self._settled(ticket, outcome, result)
            case "administer", (_, Refund(request_id=request_id)):
                self._refunded(request_id)
            case "sweep", _ if result:
                self._world.note("swept", result)
            case _:
                pass

    def _reserved(self, want: Reservation, result: Admission) -> None:
        """Note a reservation that was applied."""
        if not isinstance(result, Ticket):
            told = result.code if isinstance(result, Refusal) else type(result).__name__
            self._world.note(want.request_id, "not granted:", told)
            return
        self._world.note(want.request_id, "granted", result.offer, want.workflow)
        if result.request_id in self.granted:
            self._world.violate(f"{result.request_id} was granted twice")
        self.granted[result.request_id] = result
        self.fresh = result
        self.key_id, self.terms = want.caller.key_id, (want.caller.plan, str(want.caller.billing))
        if want.idempotency is not None:
            self.once.setdefault((ticket_owner(result), want.idempotency.key), []).append(result.request_id)

    def sent(self, request_id: str) -> None:
        """Note that a provider was asked: the mark must have been there before."""
        if request_id not in self.marked:
            self._world.violate(f"{request_id} was sent to a provider before it was marked as dispatched")
        self.asked.add(request_id)

    def told(self, request_id: str, usage: tuple[int, int]) -> None:
        """Note what an answer of a provider costs, if it comes to its end."""
        self._usages.setdefault(request_id, []).append(usage)

    def _settled(self, ticket: Ticket, outcome: Outcome, settlement: Settlement) -> None:
        """Note a settlement that was applied: the first one counts, and every other says the same."""
        request_id = ticket.request_id
        self._world.note(request_id, "settled", outcome.charged, outcome.receipt.state)
        before = self._rows.receipts.get(request_id) if self._rows else None
        if before is not None and (not before.lapsed or before.late is not None):
            if json.loads(settlement.json) != before.shown:
                self._world.violate(f"{request_id} was settled again, and says another thing than before")
            return
        self.outcomes[request_id] = outcome
        if before is None:
            self._raise_bounds(ticket, max(0, outcome.charged - ticket.offer.units))

    def _refunded(self, request_id: str) -> None:
        """Note what was given back: how much, the next look tells."""
        self._world.note("refunded", request_id)
        self.refunded.add(request_id)

    def _raise_bounds(self, ticket: Ticket, units: int, but: Window | None = None) -> None:
        """Let every window that holds a ticket's moment, ``but`` one, end higher by some units."""
        for key in self._bounds:
            account, unit, window, purse = key
            mine = (account, unit, purse) == (ticket.account, ticket.terms.unit, ticket.offer.purse)
            if mine and window != but and window.start <= ticket.created_at < window.end:
                self._bounds[key] += units

    def look(self, store: MemoryStore | InlineSqliteStore) -> None:
        """Check what must hold at every moment."""
        rows, before = rows_of(store), self._rows
        self._rows = rows
        for problem in audit(rows):
            self._world.violate(problem)
        if self.fresh is not None:
            self._check_admission(self.fresh, rows, before)
            self.fresh = None
        if before is not None:
            for request_id, kept in before.receipts.items():
                now = rows.receipts.get(request_id)
                if now is None or (now.json, now.charged) != (kept.json, kept.charged):
                    self._world.violate(f"the receipt of {request_id} changed after it was kept")
        self._check_bounds(rows)

    def _check_admission(self, ticket: Ticket, rows: Rows, before: Rows | None) -> None:
        terms, purse = ticket.terms, ticket.offer.purse
        posted, pending, more, held = rows.used(ticket.account, terms.unit, ticket.window)
        cap = {Purse.FAIR_USE: terms.fair_use, Purse.CONTINUATION: terms.continuation_limit}.get(purse)
        used = posted + pending if purse is Purse.FAIR_USE else more + held
        key = ticket.account, terms.unit, ticket.window, purse
        self._raise_bounds(ticket, ticket.offer.units, but=ticket.window)
        if cap is None:
            self._bounds.pop(key, None)
        else:
            self._bounds[key] = max(self._bounds.get(key, 0), cap)
            if used > cap:
                self._world.violate(f"{ticket.request_id} was admitted over the cap of its {purse}: {used} of {cap}")
        if self.key_id in rows.ended:
            self._world.violate(f"{ticket.request_id} was admitted with a key that is revoked")
        if rows.terms[ticket.account] != self.terms:
            self._world.violate(f"{ticket.request_id} was admitted by {self.terms}, not {rows.terms[ticket.account]}")
        slot = (ticket.account, ticket.project, ticket.workflow or "")
        held_one = before is not None and before.slots.get(slot, 0.0) > self._now()
        active = rows.active(ticket.account, self._now())
        if active > terms.workflows and not held_one:
            self._world.violate(f"{ticket.request_id} was admitted as one of {active} workflows of {terms.workflows}")

    def _check_bounds(self, rows: Rows) -> None:
        """A window ends above its cap by no more than what the answers exceeded their reservations."""
        for (account, unit, window, purse), bound in self._bounds.items():
            posted, pending, more, held = rows.used(account, unit, window)
            used = posted + pending if purse is Purse.FAIR_USE else more + held
            if used > bound:
                self._world.violate(f"{account} uses {used} units of {purse} in {window}, bounded by {bound}")

    def at_rest(self, rows: Rows) -> None:
        """Check what must hold once everybody has left and every lease has run out."""
        for request_id in rows.tickets:
            self._world.violate(f"{request_id} still holds units after its lease")
        for key in rows.slots:
            self._world.violate(f"{key} still holds a workflow slot after its time")
        for request_id, ticket in self.granted.items():
            kept = rows.receipts.get(request_id)
            if kept is None:
                self._world.violate(f"{request_id} was admitted, and has no receipt")
            else:
                self._check_receipt(ticket, kept)
        for once, requests in self.once.items():
            charged = [each for each in requests if each in rows.receipts and rows.receipts[each].charged]
            if len(charged) > 1:
                self._world.violate(f"{once}: one idempotency key was charged for {charged}")
        for request_id, receipt in self.shown.items():
            self._check_shown(request_id, receipt, rows.receipts.get(request_id))

    def _check_receipt(self, ticket: Ticket, kept: ReceiptRow) -> None:
        request_id, outcome = ticket.request_id, self.outcomes.get(ticket.request_id)
        estimate = ticket.offer.units if request_id in self.marked else 0
        if outcome is None:
            expected, state = estimate, "estimated" if request_id in self.marked else "refused"
        else:
            expected, state = outcome.charged, outcome.receipt.state or ""
            if kept.lapsed:  # it came late, and may only lower what the lapse had charged
                expected = min(expected, estimate)
            self._check_figures(ticket, outcome)
            self._check_failure(ticket, outcome)
        expected = 0 if ticket.offer.purse is Purse.NONE else expected
        # A refund gives back units of a charge, and nothing else does.
        fits = kept.net < expected if request_id in self.refunded else kept.net == expected
        if not fits or kept.shown["state"] != state:
            self._world.violate(f"{request_id} is {kept.shown['state']} at {kept.net} units, not {state} at {expected}")
        if kept.lapsed and request_id in self.asked and self._world.mood.loses_nothing:
            self._world.violate(f"{request_id} was left to its lease, although its process and the ledger lived on")
        if request_id in self.asked and state == "settled" and not self._usages.get(request_id):
            self._world.violate(f"{request_id} is settled, and no provider told what it used")

    def _check_figures(self, ticket: Ticket, outcome: Outcome) -> None:
        receipt = outcome.receipt
        if receipt.state != "settled" or receipt.usage is None:
            return
        usage = receipt.usage.prompt_tokens or 0, receipt.usage.completion_tokens or 0
        if usage not in self._usages.get(ticket.request_id, ()):
            self._world.violate(f"{ticket.request_id} shows a usage of {usage} that no provider told")
        if ticket.offer.purse is Purse.NONE or (ticket.offer.purse is Purse.FAIR_USE and receipt.tier != "premium"):
            expected = 0
        else:
            expected = usage[0] + usage[1] * METER_OUTPUT if ticket.terms.unit == "token" else 1
        if outcome.charged != expected:
            self._world.violate(f"{ticket.request_id} was charged {outcome.charged} units, not {expected}")

    def _check_failure(self, ticket: Ticket, outcome: Outcome) -> None:
        """Nobody pays for what a provider broke."""
        if self._world.mood.cancel:
            return  # a try that a stopping server cuts off is not among the attempts, and what was heard is charged
        attempts, route = outcome.receipt.attempts, outcome.receipt.route
        if attempts and attempts[-1].outcome in _FAILURES and attempts[-1].route == route and outcome.charged:
            self._world.violate(f"{ticket.request_id} failed, and was charged {outcome.charged} units")

    def _check_shown(self, request_id: str, shown: dict[str, Any], kept: ReceiptRow | None) -> None:
        """What a caller saw is what is kept, or says itself that it is an estimate."""
        state = shown.get("state")
        if kept is None:
            if state != "refused":
                self._world.violate(f"{request_id}: the caller saw {shown}, and nothing is kept")
            return
        if state == "settled" and request_id not in self.refunded and kept.shown != shown:
            self._world.violate(f"{request_id}: the caller saw {shown}, and {kept.shown} is kept")
        if state == "refused" and (kept.shown["state"] != "refused" or kept.net):
            self._world.violate(f"{request_id}: the caller saw 'refused', and {kept} is kept")
        patient = self._world.mood.loses_nothing and request_id not in self.hurried
        if state == "estimated" and kept.shown["state"] == "settled" and patient:
            self._world.violate(f"{request_id}: the caller saw an estimate, and the figures were known")
        if state == "in_flight":
            self._world.violate(f"{request_id}: the caller's answer says that it still runs")
