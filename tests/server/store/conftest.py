"""One desk for every store: it fills in what a test does not care about, and sets the time."""

import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from flatfee.receipt import Receipt
from flatfee.server.keys import KeyKind
from flatfee.server.store.base import Store
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import (
    Caller,
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
from flatfee.server.windows import Window
from flatfee.wire import Billing, Lane, Reason, ReceiptState

START = 1_793_534_400  # 2026-11-01T12:00:00Z
WINDOW = Window(START - 43_200, START - 43_200 + 30 * 86_400)


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
        window: Window = WINDOW,
        lease: float = 60.0,
        request_id: str | None = None,
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
            window=window,
            workflow=workflow,
            offers=offers or (self.premium(10),),
            model_requested="auto",
            lease=lease,
        )

    async def reserve(self, *offers: Offer, **wanted: Any) -> Ticket | Refusal:
        return await self.store.reserve(self.want(*offers, **wanted))

    async def admitted(self, *offers: Offer, **wanted: Any) -> Ticket:
        ticket = await self.reserve(*offers, **wanted)
        assert isinstance(ticket, Ticket)
        return ticket

    async def refused(self, *offers: Offer, **wanted: Any) -> Refusal:
        refusal = await self.reserve(*offers, **wanted)
        assert isinstance(refusal, Refusal)
        return refusal

    async def settle(self, ticket: Ticket, charged: int = 0, route: str | None = None) -> Settlement:
        receipt = Receipt(
            request_id=ticket.request_id,
            lane=ticket.offer.lane,
            reason=ticket.offer.reason,
            state=ReceiptState.SETTLED,
            route=route,
        )
        return await self.store.settle(ticket, Outcome(charged=charged, receipt=receipt, route=route))

    async def usage(self, window: Window = WINDOW, account: str = "acme") -> Usage:
        return await self.store.usage(self.caller(account), window)

    async def balance(self, window: Window = WINDOW) -> tuple[int, int]:
        """Return what is posted and what is pending."""
        usage = await self.usage(window)
        return usage.fair_use_used, usage.fair_use_pending

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
