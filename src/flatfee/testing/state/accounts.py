"""Accounts of a scripted gateway: allowance and use, billing. Their keys are made in ``keys``.

Limits are changed in the gateway's settings, use is posted through the ledger, the rest by the commands that an
administrator has. So the books balance, and a test sees what production would show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict, Unpack

from flatfee.receipt import Receipt
from flatfee.server.configuration import validated
from flatfee.server.gateway import LEASE_SECONDS, calendar_of, terms_of
from flatfee.server.keys import KeyKind
from flatfee.server.queries import usage_of
from flatfee.server.settings import AccountSettings, PlanSettings
from flatfee.server.store.account_commands import ChangeAccount
from flatfee.server.store.accounts import Account, Page
from flatfee.server.store.key_commands import AddKey
from flatfee.server.store.ledger import moment
from flatfee.server.store.ledger_commands import Refund
from flatfee.server.store.records import Caller, NewKey, Offer, Outcome, Purse, Reservation, Terms, Ticket
from flatfee.testing.inside import ACTOR, Inside
from flatfee.testing.options import LIMITS, TERMS, nearest
from flatfee.types import Usage
from flatfee.wire import Billing, Lane, Reason, ReceiptState, Tier

_MOST: Final = 1 << 53
_WIDE: Final = 1 << 30
_SET: Final = "account.set()"
_USED: Final = {"used": Purse.FAIR_USE, "continuation_used": Purse.CONTINUATION}
_LANES: Final = {
    Purse.FAIR_USE: (Lane.PREMIUM, Reason.REQUESTED, Tier.PREMIUM),
    Purse.CONTINUATION: (Lane.CONTINUATION, Reason.FAIR_USE_EXHAUSTED, Tier.ECONOMY),
}


class AccountChanges(TypedDict, total=False):
    """What ``AccountState.set`` can change. The limits are those of ``[[plans]]``, times in seconds."""

    fair_use: int
    meter: Literal["tokens", "requests"]
    window: str
    output_reserve: int
    concurrent_workflows: int
    workflow_idle: float
    workflow_fanout: int
    requests_per_minute: int | None
    continuation: bool
    continuation_limit: int | None
    billing: Billing | str
    billing_day: int
    used: int
    continuation_used: int


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account, as a test may see and change it."""

    name: str
    _inside: Inside

    @property
    def usage(self) -> Usage:
        """What ``GET /v1/usage`` tells now."""
        return self._inside.run(self.told())

    def set(self, /, **changes: Unpack[AccountChanges]) -> None:
        """Change what is given, from the next request on.

        Limits change the account's plan, and what was used stays used: by a smaller ``fair_use`` it may be more than
        is allowed. ``used`` and ``continuation_used`` are units of the current window: what is missing is posted as
        a request of its own, what is too much is refunded, from the newest requests on.

        Raises:
            ValueError: a value is impossible, or there is nothing of that name. Nothing has changed.
        """
        given: dict[str, Any] = dict(changes)
        for name in given:
            if name not in AccountChanges.__annotations__:
                message = f"{_SET} knows no {name!r}; {nearest(name, list(AccountChanges.__annotations__))}."
                raise ValueError(message)
        for name in _USED:
            _check_units(name, given.get(name, 0))
        self._inside.change(self._change(given))

    def spend(self, units: int, *, continuation: bool = False) -> None:
        """Use up units, as a request that costs so many would: of fair-use, or of what continuation may use.

        Raises:
            ValueError: it is no whole number of 0 or more.
        """
        _check_units("units", units)
        self._inside.change(self._post(Purse.CONTINUATION if continuation else Purse.FAIR_USE, units))

    async def told(self) -> Usage:
        """Return ``usage``, on the gateway's event loop."""
        caller = _caller_of(await self._account(), await self.project())
        return Usage.model_validate(await usage_of(caller, self._inside.gateway))

    async def plan(self) -> PlanSettings:
        """Return the account's plan as it is now, on the gateway's event loop."""
        return self._inside.gateway.plan_of(_caller_of(await self._account(), None))

    async def project(self) -> str | None:
        """Return the project that a test means where it names none, on the gateway's event loop."""
        if self.name == self._inside.account:
            return self._inside.project
        found, _ = await self._inside.store.projects(self.name, Page(limit=1))
        return found[0].name if found else None

    async def _account(self) -> Account:
        account = await self._inside.store.account(self.name)
        if account is None:
            raise _no_account(self.name, [each.name for each in await all_accounts(self._inside)])
        return account

    async def _change(self, given: dict[str, Any]) -> None:
        gateway = self._inside.gateway
        plan = await self.plan()
        changed = validated(PlanSettings, plan.model_dump() | _of(given, LIMITS), _SET)
        terms = validated(AccountSettings, {"name": self.name, "plan": plan.name, **_of(given, TERMS)}, _SET)
        plans = tuple(changed if each.name == plan.name else each for each in gateway.settings.plans)
        gateway.settings = gateway.settings.model_copy(update={"plans": plans})
        new_terms = {name: getattr(terms, name) for name in TERMS if name in given}
        if new_terms:
            await self._inside.store.administer(ACTOR, ChangeAccount(name=self.name, **new_terms))
        for name, purse in _USED.items():
            if name in given:
                await self._set_used(purse, given[name])

    async def _set_used(self, purse: Purse, units: int) -> None:
        usage = await self.told()
        use = usage.fair_use if purse is Purse.FAIR_USE else usage.continuation
        used = (use.used if use is not None else None) or 0
        if units >= used:
            await self._post(purse, units - used)
        else:
            await self._give_back(purse, used - units)

    async def _give_back(self, purse: Purse, units: int) -> None:
        store = self._inside.store
        caller = _caller_of(await self._account(), None)
        plan = self._inside.gateway.plan_of(caller)
        window = calendar_of(caller, plan).at(store.now())
        for request_id, charged in await store.charges(self.name, terms_of(plan).unit, purse, window):
            if units:
                part = min(units, charged)
                await store.administer(ACTOR, Refund(request_id=request_id, units=part, note="set by the test"))
                units -= part

    async def _post(self, purse: Purse, units: int) -> None:
        """Reserve and settle a request that costs so many units, whatever the plan allows."""
        if not units:
            return
        gateway, store = self._inside.gateway, self._inside.store
        caller = await self._team()
        plan = gateway.plan_of(caller)
        lane, reason, tier = _LANES[purse]
        request_id = gateway.new_id(store.now())
        want = Reservation(
            request_id=request_id,
            caller=caller,
            terms=_unlimited(terms_of(plan)),
            calendar=calendar_of(caller, plan),
            workflow=None,
            offers=(Offer(lane=lane, reason=reason, purse=purse, units=units),),
            model_requested=tier,
            lease=LEASE_SECONDS,
        )
        ticket = await store.reserve(want)
        assert isinstance(ticket, Ticket), ticket  # noqa: S101 - nothing limits it
        receipt = Receipt(
            request_id=request_id,
            lane=lane,
            reason=reason,
            state=ReceiptState.SETTLED,
            model_requested=tier,
            tier=tier,
            created_at=moment(ticket.created_at),
        )
        await store.settle(ticket, Outcome(charged=units, receipt=receipt, answered=True))

    async def _team(self) -> Caller:
        """Return who spends for a test: a team key of the account, which no request can send."""
        store = self._inside.store
        known = hashlib.sha256(f"{ACTOR}/{self.name}".encode()).digest()
        caller = await store.find_key(known)
        if caller is None:
            key = NewKey(digest=known, name=ACTOR, kind=KeyKind.TEAM, last4="")
            await store.administer(ACTOR, AddKey(key=key, account=self.name))
            caller = await store.find_key(known)
        assert caller is not None  # noqa: S101 - it was just made
        return caller


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of a gateway, by name."""

    _inside: Inside

    def __getitem__(self, name: str) -> AccountState:
        """Return an account.

        Raises:
            KeyError: there is none; the message lists those that are.
        """
        if name not in list(self):
            raise _no_account(name, list(self))
        return AccountState(name, self._inside)

    def __iter__(self) -> Iterator[str]:
        """Return their names."""
        return iter([account.name for account in self._inside.run(all_accounts(self._inside))])


async def all_accounts(inside: Inside) -> list[Account]:
    """Return the accounts by name, on the gateway's event loop."""
    found, _ = await inside.store.accounts(Page(limit=1000))
    return found


def _caller_of(account: Account, project: str | None) -> Caller:
    """Return an account as one who asks what it has; it cannot spend."""
    return Caller(
        key_id="",
        kind=KeyKind.TEAM if project is None else KeyKind.PROJECT,
        account=account.name,
        project=project,
        plan=account.plan,
        billing=account.billing,
        billing_day=account.billing_day,
    )


def _unlimited(terms: Terms) -> Terms:
    return Terms(
        unit=terms.unit,
        fair_use=_MOST * 2,
        continuation_limit=None,
        workflows=_WIDE,
        fanout=_WIDE,
        idle=terms.idle,
        requests_per_minute=None,
    )


def _of(given: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in names}


def _check_units(name: str, units: object) -> None:
    if not isinstance(units, int) or isinstance(units, bool) or not 0 <= units <= _MOST:
        message = f"{name}={units!r} is not possible; use a whole number of units, 0 or more."
        raise ValueError(message)


def _no_account(name: str, known: list[str]) -> KeyError:
    return KeyError(f"There is no account {name!r}; there are: {', '.join(known)}. new_key(account=...) makes one.")
