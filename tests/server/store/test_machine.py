"""Both stores in lock-step against a small model, whatever happens in whatever order.

The model is as plain as can be: lists of what was reserved, charged and given back, and what holds
a slot until when. After every step both stores must say what it says, each store's balances must
follow from its own receipts, and no more slots may be held than there are.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flatfee.receipt import Receipt
from flatfee.server.keys import KeyKind
from flatfee.server.store.account_commands import AddAccount, AddProject, ChangeAccount
from flatfee.server.store.accounts import Denied
from flatfee.server.store.base import ForeignTicket, Store, StoreDown
from flatfee.server.store.key_commands import AddKey, RevokeKey
from flatfee.server.store.ledger_commands import Refund
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import (
    Caller,
    Changed,
    Idempotency,
    NewKey,
    Offer,
    Outcome,
    Purse,
    Refusal,
    Repeat,
    Reservation,
    Settlement,
    Terms,
    Ticket,
)
from flatfee.server.store.sqlite import SqliteStore
from flatfee.server.store.transactions import REMEMBER_SECONDS
from flatfee.server.windows import Calendar, Window
from flatfee.wire import Billing, ErrorCode, Lane, Reason, ReceiptState

_T = TypeVar("_T")
SLOTS, FANOUT, LEASE, IDLE = 3, 2, 60.0, 40.0
PLANS = {"pro": (100, 60, "1h"), "team": (160, 90, "1h"), "slow": (80, 40, "3h")}
"""Plan → fair-use, continuation's limit and kind of window."""

PROJECTS = ("ci", "web", None)
OFFERS = {
    Purse.FAIR_USE: (Lane.PREMIUM, Reason.DEFAULT),
    Purse.CONTINUATION: (Lane.CONTINUATION, Reason.FAIR_USE_EXHAUSTED),
    Purse.NONE: (Lane.BUDGET, Reason.SMALL_TASK),
}
PURSES = [Purse.FAIR_USE, Purse.FAIR_USE, Purse.CONTINUATION, Purse.NONE]
Flow = tuple[str | None, str]  # project and id
ClaimedKey = tuple[str | None, str]  # project and key


@dataclass
class Request:
    """A request as the model knows it. ``at`` is wall time, ``expires_at`` steady time."""

    tickets: tuple[Ticket, Ticket]
    purse: Purse
    units: int
    at: float
    flow: Flow | None
    claim: ClaimedKey | None
    expires_at: float
    dispatched: bool = False
    charged: int = 0
    lapsed: bool = False
    corrected: bool = False
    refunded: int = 0

    @property
    def id(self) -> str:
        return self.tickets[0].request_id

    @property
    def net(self) -> int:
        return self.charged - self.refunded


class Ledgers(RuleBasedStateMachine):
    """``slots`` is until when each named workflow holds one; ``claims`` what each idempotency key was used for."""

    def __init__(self) -> None:
        super().__init__()
        self.wall, self.steady = 1_793_534_400.0, 0.0
        self.directory = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        clocks: dict[str, Any] = {"clock": lambda: self.wall, "steady": lambda: self.steady}
        path = Path(self.directory.name) / "ledger.db"
        self.stores: tuple[Store, Store] = MemoryStore(**clocks), SqliteStore(path, **clocks)
        self.running: dict[str, Request] = {}
        self.ended: dict[str, Request] = {}
        self.slots: dict[Flow, float] = {}
        self.released: set[Flow] = set()
        self.claims: dict[ClaimedKey, tuple[str, str, float]] = {}
        self.plan = "pro"
        self.count = 0
        self.keys: dict[str | None, str] = {}
        self.looked_up: dict[str | None, Caller] = {}
        self.administer(AddAccount(name="acme", plan="pro"))
        for project in PROJECTS:
            if project is not None:
                self.administer(AddProject(account="acme", name=project))
            self.make_key(project)
            self.looked_up[project] = self.valid_caller(project)

    def teardown(self) -> None:
        self.come_to_rest()
        for store in self.stores:
            self.run(store.close())
        self.loop.close()
        self.directory.cleanup()

    def come_to_rest(self) -> None:
        """Once every lease is over nothing is held, whatever happened before."""
        self.wall += LEASE + IDLE
        self.steady += max(LEASE, IDLE)
        self.sweep()
        usage = self.both(lambda store: store.usage("acme", "token", self.calendar(self.plan)))
        assert (usage.fair_use_pending, usage.continuation_pending, usage.workflows_active) == (0, 0, 0)
        assert self.running == {}
        self.receipts_tell_what_the_model_charged()

    # What both stores are told, and must answer alike

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run_until_complete(work)

    def both(self, work: Callable[[Store], Coroutine[Any, Any, Any]]) -> Any:
        memory, sqlite = (self.run(_caught(work(store))) for store in self.stores)
        assert memory == sqlite
        if isinstance(memory, Failed):
            raise memory.error
        return memory

    def administer(self, command: Any) -> Any:
        return self.both(lambda store: store.administer("test", command))

    def make_key(self, project: str | None) -> None:
        self.count += 1
        key_id = f"key_{self.count:016}"
        kind = KeyKind.PROJECT if project else KeyKind.TEAM
        digest = hashlib.sha256(key_id.encode()).digest()
        key = NewKey(id=key_id, digest=digest, name="key", kind=kind, last4="abcd")
        self.administer(AddKey(key=key, account="acme", project=project))
        self.keys[project] = key_id

    def valid_caller(self, project: str | None) -> Caller:
        return Caller(
            key_id=self.keys[project],
            kind=KeyKind.PROJECT if project else KeyKind.TEAM,
            account="acme",
            project=project,
            plan=self.plan,
            billing=Billing.ACTIVE,
            billing_day=1,
        )

    # What the model says

    def calendar(self, plan: str) -> Calendar:
        return Calendar(PLANS[plan][2], 1)

    def used(self, window: Window, purse: Purse) -> tuple[int, int]:
        posted = sum(request.net for request in self.ended.values() if self.counts(request, window, purse))
        pending = sum(request.units for request in self.running.values() if self.counts(request, window, purse))
        return posted, pending

    @staticmethod
    def counts(request: Request, window: Window, purse: Purse) -> bool:
        return request.purse is purse and window.start <= request.at < window.end

    def live(self) -> dict[Flow, float]:
        return {flow: end for flow, end in self.slots.items() if end > self.steady}

    def in_flight(self, flow: Flow | None) -> int:
        return sum(request.flow == flow for request in self.running.values())

    def active(self) -> int:
        single = [run for run in self.running.values() if run.flow is None and run.expires_at > self.steady]
        return len(self.live()) + len(single)

    def expected(self, want: Reservation, flow: Flow | None, claim: ClaimedKey | None, body: str) -> Any:
        if want.caller != self.valid_caller(want.caller.project):
            revoked = want.caller.key_id != self.keys[want.caller.project]
            return Changed(None if revoked else self.valid_caller(want.caller.project))
        choice = self.choose(want, flow, claim, body)
        return self.choose(want, flow, claim, body) if choice != 0 and self.lapse() else choice

    def choose(self, want: Reservation, flow: Flow | None, claim: ClaimedKey | None, body: str) -> Any:
        if claim is not None and claim in self.claims:
            request_id, claimed_body, at = self.claims[claim]
            if at > self.wall - REMEMBER_SECONDS:
                if claimed_body != body:
                    return ErrorCode.IDEMPOTENCY_MISMATCH
                return ErrorCode.IDEMPOTENCY_IN_FLIGHT if request_id in self.running else Repeat
        if flow in self.live():
            if self.in_flight(flow) >= FANOUT:
                return ErrorCode.WORKFLOW_LIMIT
        elif self.active() >= SLOTS:
            return ErrorCode.WORKFLOW_LIMIT
        window = self.calendar(self.plan).at(self.wall)
        cap, continuation, _ = PLANS[self.plan]
        spent = sum(self.used(window, Purse.FAIR_USE))
        for index, offer in enumerate(want.offers):
            fits = {
                Purse.FAIR_USE: spent + offer.units <= cap,
                Purse.CONTINUATION: sum(self.used(window, Purse.CONTINUATION)) + offer.units <= continuation,
                Purse.NONE: spent < cap,
            }
            if fits[offer.purse]:
                return index
        return ErrorCode.FAIR_USE_EXHAUSTED

    def lapse(self) -> int:
        lost = [request for request in self.running.values() if request.expires_at <= self.steady]
        for request in lost:
            request.lapsed = True
            self.end(request, request.units if request.dispatched else 0, answered=False)
        return len(lost)

    def end(self, request: Request, charged: int, *, answered: bool) -> None:
        self.ended[request.id] = self.running.pop(request.id)
        request.charged = charged if request.purse is not Purse.NONE else 0
        if request.claim is not None and not request.charged and not answered:
            del self.claims[request.claim]

    # What may happen

    @rule(
        wanted=st.lists(st.tuples(st.sampled_from(PURSES), st.integers(0, 60)), min_size=1, max_size=3),
        workflow=st.sampled_from([None, "a", "b", "c", "d"]),
        project=st.sampled_from(["ci", "ci", "web", None]),
        key=st.sampled_from([None, None, "once", "twice"]),
        body=st.sampled_from(["{}", "[]"]),
    )
    def reserve(
        self, wanted: list[tuple[Purse, int]], workflow: str | None, project: str | None, key: str | None, body: str
    ) -> None:
        caller, self.count = self.looked_up[project], self.count + 1
        want = self.reservation(caller, wanted, workflow, key, body)
        flow = (project, workflow) if workflow is not None else None
        claim = (project, key) if key is not None else None
        expected = self.expected(want, flow, claim, body)
        memory, sqlite = (self.run(store.reserve(want)) for store in self.stores)
        assert memory == sqlite
        if isinstance(memory, Changed):
            assert memory == expected
            self.looked_up[project] = self.valid_caller(project)
        elif isinstance(memory, Repeat):
            assert expected is Repeat
            assert claim is not None
            assert memory.request_id == self.claims[claim][0]
        elif isinstance(memory, Refusal):
            assert memory.code is expected
        else:
            assert isinstance(sqlite, Ticket)
            assert memory.choice == expected
            self.admit(want, (memory, sqlite), flow, claim, body)

    def reservation(
        self, caller: Caller, wanted: list[tuple[Purse, int]], workflow: str | None, key: str | None, body: str
    ) -> Reservation:
        cap, continuation, _ = PLANS[caller.plan]
        terms = Terms(
            unit="token",
            fair_use=cap,
            continuation_limit=continuation,
            workflows=SLOTS,
            fanout=FANOUT,
            idle=IDLE,
            requests_per_minute=None,
        )
        offers = tuple(
            Offer(
                lane=OFFERS[purse][0], reason=OFFERS[purse][1], purse=purse, units=0 if purse is Purse.NONE else units
            )
            for purse, units in wanted
        )
        return Reservation(
            request_id=f"req_{self.count:026d}",
            caller=caller,
            terms=terms,
            calendar=self.calendar(caller.plan),
            workflow=workflow,
            offers=offers,
            model_requested="auto",
            lease=LEASE,
            idempotency=Idempotency(key=key.encode(), body=body.encode()) if key is not None else None,
        )

    def admit(
        self,
        want: Reservation,
        tickets: tuple[Ticket, Ticket],
        flow: Flow | None,
        claim: ClaimedKey | None,
        body: str,
    ) -> None:
        offer = tickets[0].offer
        request = Request(tickets, offer.purse, offer.units, self.wall, flow, claim, self.steady + LEASE)
        self.running[want.request_id] = request
        if flow is not None:
            self.slots[flow] = self.steady + max(LEASE, IDLE)
            self.released.discard(flow)
        if claim is not None:
            self.claims[claim] = (want.request_id, body, self.wall)
        window = want.calendar.at(self.wall)
        assert offer.purse is not Purse.FAIR_USE or sum(self.used(window, Purse.FAIR_USE)) <= want.terms.fair_use
        assert tickets[0].window == window
        assert tickets[0].standing.workflows_active == self.active() <= SLOTS

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def dispatch(self, data: st.DataObject) -> None:
        request = self.running[data.draw(st.sampled_from(sorted(self.running)))]
        for store, ticket in zip(self.stores, request.tickets, strict=True):
            self.run(store.dispatch(ticket))
        request.dispatched = True

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def dispatch_too_late(self, data: st.DataObject) -> None:
        request = self.ended[data.draw(st.sampled_from(sorted(self.ended)))]
        for store, ticket in zip(self.stores, request.tickets, strict=True):
            assert isinstance(self.run(_caught(store.dispatch(ticket))), Failed)

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(),
        charged=st.integers(0, 80),
        route=st.sampled_from([None, "openai", "azure"]),
        answered=st.booleans(),
    )
    def settle(self, data: st.DataObject, charged: int, route: str | None, answered: bool) -> None:
        request = self.running[data.draw(st.sampled_from(sorted(self.running)))]
        self.end(request, charged, answered=answered)
        for flow in self.live().keys() & {request.flow}:
            if not self.in_flight(flow):
                self.slots[flow] = self.steady + (0 if flow in self.released else IDLE)
        fair_use = self.both_settle(request, charged, route, answered).receipt.fair_use
        assert fair_use is not None
        assert fair_use.charged == (request.charged if request.purse is Purse.FAIR_USE else 0)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), charged=st.integers(0, 80))
    def settle_again(self, data: st.DataObject, charged: int) -> None:
        """Settled before, it changes nothing; lost before, it lowers the estimate, once."""
        request = self.ended[data.draw(st.sampled_from(sorted(self.ended)))]
        if request.lapsed and not request.corrected:
            request.corrected = True
            request.charged = max(min(request.charged, charged), request.refunded)
            settlement = self.both_settle(request, charged, "late", answered=True)
        else:
            kept = self.run(self.stores[0].receipt(self.looked_up[None], request.id))
            settlement = self.both_settle(request, charged, "late", answered=True)
            assert settlement.json == kept
        told = settlement.receipt.fair_use.charged if settlement.receipt.fair_use else None
        assert told == (request.net if request.purse is Purse.FAIR_USE else 0)

    def both_settle(self, request: Request, charged: int, route: str | None, answered: bool) -> Settlement:
        receipt = Receipt(request_id=request.id, lane=Lane.PREMIUM, state=ReceiptState.SETTLED)
        units = 0 if request.purse is Purse.NONE else charged
        outcome = Outcome(charged=units, receipt=receipt, route=route, answered=answered)
        memory, sqlite = (
            self.run(store.settle(ticket, outcome)) for store, ticket in zip(self.stores, request.tickets, strict=True)
        )
        assert memory == sqlite
        return memory

    @precondition(lambda self: self.running or self.ended)
    @rule(data=st.data(), claimed=st.sampled_from(["account", "id"]))
    def settle_what_is_not_ones_own(self, data: st.DataObject, claimed: str) -> None:
        requests = self.running | self.ended
        ticket = requests[data.draw(st.sampled_from(sorted(requests)))].tickets[0]
        forged = replace(ticket, account="other") if claimed == "account" else replace(ticket, request_id="req_forged")
        outcome = Outcome(charged=1, receipt=Receipt(request_id=forged.request_id))
        for store in self.stores:
            failed = self.run(_caught(store.settle(forged, outcome)))
            assert isinstance(failed, Failed)
            assert isinstance(failed.error, ForeignTicket)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), units=st.one_of(st.none(), st.integers(0, 70)))
    def refund(self, data: st.DataObject, units: int | None) -> None:
        request = self.ended[data.draw(st.sampled_from(sorted(self.ended)))]
        back = request.net if units is None else units
        try:
            self.administer(Refund(request_id=request.id, units=units))
        except Denied:
            assert not 1 <= back <= request.net
        else:
            assert 1 <= back <= request.net
            request.refunded += back

    @rule(plan=st.sampled_from(sorted(PLANS)))
    def change_plan(self, plan: str) -> None:
        self.plan = plan
        self.administer(ChangeAccount(name="acme", plan=plan))

    @rule(project=st.sampled_from(PROJECTS))
    def replace_key(self, project: str | None) -> None:
        self.administer(RevokeKey(id=self.keys[project]))
        self.make_key(project)
        if self.looked_up[project].key_id not in self.keys.values():
            want = self.reservation(self.looked_up[project], [(Purse.NONE, 0)], None, None, "{}")
            assert self.both(lambda store: store.reserve(want)) == Changed(None)
            self.looked_up[project] = self.valid_caller(project)

    @rule(workflow=st.sampled_from(["a", "b", "c", "d"]), project=st.sampled_from(PROJECTS))
    def release(self, workflow: str, project: str | None) -> None:
        flow = (project, workflow)
        expected = flow in self.live()
        if self.in_flight(flow):
            self.released.add(flow)
        else:
            self.slots.pop(flow, None)
        caller = self.looked_up[project]
        assert self.both(lambda store: store.release(caller, workflow)) == expected

    @rule(seconds=st.sampled_from([0.5, 10.0, 39.5, 59.5, 60.0, 1800.0]))
    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    @rule(seconds=st.sampled_from([-3600.0, -1.0, 1.0, 3600.0]))
    def set_the_clock(self, seconds: float) -> None:
        """Somebody puts the wall clock right; what is held is held as before."""
        self.wall += seconds

    @rule()
    def heartbeat(self) -> None:
        requests = [*self.running.values(), *self.ended.values()]
        for index, store in enumerate(self.stores):
            self.run(store.heartbeat([request.tickets[index] for request in requests], LEASE))
        extended = [request for request in self.running.values() if request.expires_at > self.steady]
        for request in extended:
            request.expires_at = self.steady + LEASE
        for flow in self.live().keys() & {request.flow for request in extended}:
            self.slots[flow] = self.steady + max(LEASE, IDLE)

    @rule()
    def sweep(self) -> None:
        lost = self.lapse()
        self.slots = {
            flow: end for flow, end in self.live().items() if flow not in self.released or self.in_flight(flow)
        }
        self.claims = {key: claim for key, claim in self.claims.items() if claim[2] > self.wall - REMEMBER_SECONDS}
        assert self.both(lambda store: store.sweep()) == lost

    # What must hold after every step

    @invariant()
    def both_stores_agree_with_the_model(self) -> None:
        for kind in ("1h", "3h"):
            calendar = Calendar(kind, 1)
            usage = self.both(lambda store, calendar=calendar: store.usage("acme", "token", calendar))  # type: ignore[misc]
            assert (usage.fair_use_used, usage.fair_use_pending) == self.used(usage.window, Purse.FAIR_USE)
            told = usage.continuation_used, usage.continuation_pending
            assert told == self.used(usage.window, Purse.CONTINUATION)
            assert usage.workflows_active == self.active() <= SLOTS
        for project in PROJECTS:
            leases = [sorted(self.run(store.workflows(self.looked_up[project])), key=repr) for store in self.stores]
            assert leases[0] == leases[1]
            ends = [(lease.id, lease.expires_at - self.wall, lease.in_flight) for lease in leases[0]]
            assert sorted(ends) == sorted(
                (flow[1], self.wall + end - self.steady - self.wall, self.in_flight(flow))
                for flow, end in self.live().items()
                if project is None or flow[0] == project
            )

    @invariant()
    def balances_follow_from_the_receipts(self) -> None:
        assert self.both(lambda store: store.audit_books()) == []

    @invariant()
    def receipts_tell_what_the_model_charged(self) -> None:
        for request in self.ended.values():
            found = self.both(lambda store, id_=request.id: store.receipt(self.looked_up[None], id_))  # type: ignore[misc]
            assert found is not None
            fair_use = Receipt.model_validate_json(found).fair_use
            assert fair_use is not None
            assert fair_use.charged == (request.net if request.purse is Purse.FAIR_USE else 0)


class Failed:
    """An error as an answer; equal to another of its kind."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failed) and type(other.error) is type(self.error)

    def __hash__(self) -> int:
        return hash(type(self.error))


async def _caught(work: Coroutine[Any, Any, _T]) -> Any:
    try:
        return await work
    except (StoreDown, Denied) as error:
        return Failed(error)


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(
    max_examples=5, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

AT_LENGTH = {"settings": settings(TestLedgers.settings, max_examples=30)}
TestLedgersAtLength = pytest.mark.slow(type("TestLedgersAtLength", (Ledgers.TestCase,), AT_LENGTH))
