"""One account's ledger in a replay: the memory store's own book and transactions, on virtual time. Pure.

Each account has a book of its own, for nothing in the ledger reaches across accounts, and a book's work grows with
what it holds. Receipts are not kept there: whoever settles is given them.
"""

from __future__ import annotations

import hashlib
from typing import Final, cast

from flatfee.server.clocks import Moment
from flatfee.server.gateway import LEASE_SECONDS, calendar_of, terms_of
from flatfee.server.keys import KeyKind
from flatfee.server.policy.facts import share_left
from flatfee.server.replaying.payers import Payer
from flatfee.server.store import transactions
from flatfee.server.store.accounts import Account, Key
from flatfee.server.store.book import SlotKey
from flatfee.server.store.memory_book import MemoryBook
from flatfee.server.store.records import Caller, Offer, Outcome, Refusal, Reservation, Settlement, Ticket

_IDLE_SLOTS: Final = 16
"""So many slots of one account are looked through before those that have run out are dropped."""


class AccountLedger:
    """An account's balances, slots and rates. Moments are virtual, and the same on both clocks.

    Which key a request came with is not known: each project has one, and requests without a project share another.
    """

    def __init__(self, payer: Payer) -> None:
        self.payer = payer
        self._terms = terms_of(payer.plan)
        self._book = MemoryBook(max_receipts=0)
        self._callers: dict[str | None, Caller] = {}
        self._book.put_account(
            Account(
                name=payer.name,
                plan=payer.plan.name,
                billing=payer.billing,
                billing_day=payer.billing_day,
                created_at=0.0,
            )
        )

    def caller(self, project: str | None) -> Caller:
        """Return who asks for a project."""
        found = self._callers.get(project)
        if found is None:
            found = self._callers[project] = self._new_caller(project)
        return found

    def _new_caller(self, project: str | None) -> Caller:
        key = Key(
            id=f"key_{len(self._callers)}",
            digest=hashlib.sha256((project or "").encode()).digest(),
            kind=KeyKind.PROJECT if project is not None else KeyKind.TEAM,
            account=self.payer.name,
            project=project,
            name="replay",
            last4="",
            models=None,
            created_at=0.0,
            expires_at=None,
            source="file",
        )
        self._book.put_key(key)
        return cast("Caller", self._book.caller(key.id, 0.0))  # it was just put there, and never ends

    def last_route(self, caller: Caller, workflow: str, now: float) -> str | None:
        """Return the route that last answered a live workflow."""
        return self._book.last_route(SlotKey(caller.account, caller.project, workflow), now)

    def fair_use_left(self, now: float) -> float:
        """Return the share (0 to 1) of the plan's fair-use that is neither used nor pending."""
        calendar = calendar_of(self.caller(None), self.payer.plan)
        usage = transactions.usage(self._book, self.payer.name, self._terms.unit, calendar, Moment(now, now))
        return share_left(self._terms.fair_use, usage)

    def want(
        self, request_id: str, caller: Caller, workflow: str | None, offers: tuple[Offer, ...], model: str
    ) -> Reservation:
        """Return the reservation that a planned request needs."""
        return Reservation(
            request_id=request_id,
            caller=caller,
            terms=self._terms,
            calendar=calendar_of(caller, self.payer.plan),
            workflow=workflow,
            offers=offers,
            model_requested=model,
            lease=LEASE_SECONDS,
        )

    def reserve(self, want: Reservation, now: float) -> Ticket | Refusal:
        """Grant the first offer that fits, or say why none can be granted."""
        if len(self._book.held) > _IDLE_SLOTS:
            self._book.drop_slots(now)
        answer = transactions.reserve(self._book, want, Moment(now, now))
        # No idempotency key is used here, and nobody changes an account: nothing else can be answered.
        return cast("Ticket | Refusal", answer)

    def heartbeat(self, ticket: Ticket, now: float) -> None:
        """Extend what a running request holds, as a gateway does for as long as it runs."""
        transactions.heartbeat(self._book, [ticket], LEASE_SECONDS, Moment(now, now))

    def settle(self, ticket: Ticket, outcome: Outcome, now: float) -> Settlement:
        """Post what was spent, and free what was held."""
        return transactions.settle(self._book, ticket, outcome, Moment(now, now))
