"""One desk for every store: it fills in what a test does not care about, and sets the time."""

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.server.store.rows import make_known

from flatfee.receipt import Receipt
from flatfee.server.keys import KeyKind
from flatfee.server.store.base import Store
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import (
    Caller,
    Idempotency,
    Offer,
    Outcome,
    Purse,
    Refusal,
    Reservation,
    Settlement,
    Terms,
    Ticket,
    Usage,
)
from flatfee.server.store.sqlite import SqliteStore
from flatfee.server.store.transactions import Admission
from flatfee.server.windows import Calendar
from flatfee.wire import Billing, Lane, Reason, ReceiptState

START = 1_793_534_400  # 2026-11-01T12:00:00Z
CALENDAR = Calendar("month", 1)
WINDOW = CALENDAR.at(START)


class Clock:
    """A clock that stands still until a test advances it."""

    def __init__(self) -> None:
        self.now = START + 0.123

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Desk:
    """A store with one account's plan: a cap of 100 units, four workflows, no rate limit."""

    window = WINDOW
    _numbers = itertools.count(1)  # of all desks: two may share a file

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock

    @staticmethod
    def premium(units: int) -> Offer:
        return Offer(lane=Lane.PREMIUM, reason=Reason.DEFAULT, purse=Purse.FAIR_USE, units=units)

    @staticmethod
    def budget() -> Offer:
        return Offer(lane=Lane.BUDGET, reason=Reason.SMALL_TASK, purse=Purse.NONE)

    @staticmethod
    def continuation(units: int) -> Offer:
        return Offer(lane=Lane.CONTINUATION, reason=Reason.FAIR_USE_EXHAUSTED, purse=Purse.CONTINUATION, units=units)

    @staticmethod
    def caller(account: str = "acme", project: str | None = "ci", key: str = "key") -> Caller:
        return Caller(
            key_id=f"{account}/{project}/{key}",
            kind=KeyKind.PROJECT if project else KeyKind.TEAM,
            account=account,
            project=project,
            plan="pro",
            billing=Billing.ACTIVE,
            billing_day=1,
        )

    def request_id(self) -> str:
        return f"req_{next(self._numbers):026d}"

    def want(
        self,
        *offers: Offer,
        workflow: str | None = None,
        caller: Caller | None = None,
        calendar: Calendar = CALENDAR,
        lease: float = 60.0,
        request_id: str | None = None,
        idempotency: Idempotency | None = None,
        reduced: bool = False,
        **terms: Any,
    ) -> Reservation:
        plan: dict[str, Any] = {
            "unit": "token",
            "fair_use": 100,
            "continuation_limit": None,
            "workflows": 4,
            "fanout": 16,
            "idle": 120.0,
            "requests_per_minute": None,
        }
        return Reservation(
            request_id=request_id or self.request_id(),
            caller=caller or self.caller(),
            terms=Terms(**plan | terms),
            calendar=calendar,
            workflow=workflow,
            offers=offers or (self.premium(10),),
            model_requested="auto",
            lease=lease,
            idempotency=idempotency,
            reduced=reduced,
        )

    async def know(self, caller: Caller) -> None:
        """Keep a caller's account, project and key, if the store does not know them yet."""
        digest = hashlib.sha256(caller.key_id.encode()).digest()

        def write(book: Any) -> None:
            if book.key(caller.key_id) is None:
                make_known(book, caller, digest)

        store: Any = self.store
        await store._write(write)

    async def reserve(self, *offers: Offer, **wanted: Any) -> Admission:
        want = self.want(*offers, **wanted)
        await self.know(want.caller)
        return await self.store.reserve(want)

    async def admitted(self, *offers: Offer, **wanted: Any) -> Ticket:
        ticket = await self.reserve(*offers, **wanted)
        assert isinstance(ticket, Ticket), ticket
        return ticket

    async def refused(self, *offers: Offer, **wanted: Any) -> Refusal:
        refusal = await self.reserve(*offers, **wanted)
        assert isinstance(refusal, Refusal)
        return refusal

    async def settle(
        self, ticket: Ticket, charged: int = 0, route: str | None = None, *, answered: bool = True
    ) -> Settlement:
        receipt = Receipt(
            request_id=ticket.request_id,
            lane=ticket.offer.lane,
            reason=ticket.offer.reason,
            state=ReceiptState.SETTLED,
            route=route,
        )
        return await self.store.settle(
            ticket, Outcome(charged=charged, receipt=receipt, route=route, answered=answered)
        )

    async def usage(self, calendar: Calendar = CALENDAR, account: str = "acme") -> Usage:
        return await self.store.usage(account, "token", calendar)

    async def balance(self, calendar: Calendar = CALENDAR) -> tuple[int, int]:
        """Return what is posted and what is pending in the window of now."""
        usage = await self.usage(calendar)
        return usage.fair_use_used, usage.fair_use_pending

    async def balance_at(self, moment: float, calendar: Calendar = CALENDAR) -> tuple[int, int]:
        """Return the same of the window that holds another moment."""
        now, self.clock.now = self.clock.now, moment
        try:
            return await self.balance(calendar)
        finally:
            self.clock.now = now

    async def receipt(self, request_id: str, caller: Caller | None = None) -> Receipt | None:
        found = await self.store.receipt(caller or self.caller(), request_id)
        return Receipt.model_validate_json(found) if found is not None else None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def open_sqlite(path: Path, clock: Clock) -> AsyncIterator[Callable[[], Desk]]:
    """Open the same file as often as a test likes; every store is closed at the end."""
    opened: list[SqliteStore] = []

    def open_(**options: Any) -> Desk:
        opened.append(SqliteStore(path, clock=clock, **options))
        return Desk(opened[-1], clock)

    yield open_
    for store in opened:
        await store.close()


@pytest.fixture
def want(clock: Clock) -> Callable[..., Reservation]:
    """Make reservations of premium units without any store."""
    desk = Desk(MemoryStore(clock), clock)
    return lambda units, **wanted: desk.want(desk.premium(units), **wanted)


@pytest.fixture(params=["memory", "sqlite"])
def desk(request: pytest.FixtureRequest, clock: Clock) -> Desk:
    """The store under the contract: each of its tests runs over every kind."""
    if request.param == "memory":
        return Desk(MemoryStore(clock), clock)
    found: Desk = request.getfixturevalue("open_sqlite")()
    return found
