"""Both stores in lock-step against a small model, whatever happens in whatever order."""

import asyncio
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flatfee.receipt import Receipt
from flatfee.server.keys import KeyKind
from flatfee.server.store.base import Store, StoreDown
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Caller, Offer, Outcome, Purse, Refusal, Reservation, Settlement, Terms, Ticket
from flatfee.server.store.sqlite import SqliteStore
from flatfee.server.windows import Window
from flatfee.wire import Billing, ErrorCode, Lane, Reason, ReceiptState

_T = TypeVar("_T")
CAP, CONTINUATION_CAP, SLOTS, FANOUT, LEASE, IDLE = 100, 60, 3, 2, 60.0, 40.0
WINDOWS = (Window(0, 1000), Window(1000, 2000))
CI, WEB, TEAM = (
    Caller(
        key_id="key",
        kind=KeyKind.PROJECT if project else KeyKind.TEAM,
        account="acme",
        project=project,
        plan="pro",
        billing=Billing.ACTIVE,
        billing_day=1,
    )
    for project in ("ci", "web", None)
)
CALLERS = st.sampled_from([CI, CI, WEB, TEAM])
Flow = tuple[str | None, str]  # project and id
TERMS = Terms(
    unit="token",
    fair_use=CAP,
    continuation_limit=CONTINUATION_CAP,
    workflows=SLOTS,
    fanout=FANOUT,
    idle=IDLE,
    requests_per_minute=None,
)
OFFERS = {
    Purse.FAIR_USE: (Lane.PREMIUM, Reason.DEFAULT),
    Purse.CONTINUATION: (Lane.CONTINUATION, Reason.FAIR_USE_EXHAUSTED),
    Purse.NONE: (Lane.BUDGET, Reason.SMALL_TASK),
}


@dataclass
class Running:
    """A request that runs, as the model knows it."""

    tickets: tuple[Ticket, Ticket]
    purse: Purse
    units: int
    window: Window
    flow: Flow | None
    expires_at: float
    dispatched: bool = False


class Ledgers(RuleBasedStateMachine):
    """``posted`` is by (window, purse); ``slots`` is until when each named workflow holds one."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.directory = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        path = Path(self.directory.name) / "ledger.db"
        self.stores: tuple[Store, Store] = MemoryStore(lambda: self.now), SqliteStore(path, clock=lambda: self.now)
        self.posted: dict[tuple[Window, Purse], int] = {}
        self.running: dict[str, Running] = {}
        self.ended: list[Running] = []
        self.slots: dict[Flow, float] = {}
        self.released: set[Flow] = set()
        self.count = 0

    def teardown(self) -> None:
        for store in self.stores:
            self.run(store.close())
        self.loop.close()
        self.directory.cleanup()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run_until_complete(work)

    def used(self, window: Window, purse: Purse) -> tuple[int, int]:
        pending = sum(run.units for run in self.running.values() if run.window == window and run.purse is purse)
        return self.posted.get((window, purse), 0), pending

    def live(self) -> dict[Flow, float]:
        return {flow: end for flow, end in self.slots.items() if end > self.now}

    def in_flight(self, flow: Flow | None) -> int:
        return sum(run.flow == flow for run in self.running.values())

    def active(self) -> int:
        return len(self.live()) + sum(run.flow is None and run.expires_at > self.now for run in self.running.values())

    def expected(self, offers: tuple[Offer, ...], window: Window, flow: Flow | None) -> int | ErrorCode:
        if flow in self.live():
            if self.in_flight(flow) >= FANOUT:
                return ErrorCode.WORKFLOW_LIMIT
        elif self.active() >= SLOTS:
            return ErrorCode.WORKFLOW_LIMIT
        spent = sum(self.used(window, Purse.FAIR_USE))
        for index, offer in enumerate(offers):
            fits = {
                Purse.FAIR_USE: spent + offer.units <= CAP,
                Purse.CONTINUATION: sum(self.used(window, Purse.CONTINUATION)) + offer.units <= CONTINUATION_CAP,
                Purse.NONE: spent < CAP,
            }
            if fits[offer.purse]:
                return index
        return ErrorCode.FAIR_USE_EXHAUSTED

    @rule(
        wanted=st.lists(st.tuples(st.sampled_from(list(OFFERS)), st.integers(0, 60)), min_size=1, max_size=3),
        window=st.sampled_from(WINDOWS),
        workflow=st.sampled_from([None, "a", "b", "c", "d"]),
        caller=CALLERS,
    )
    def reserve(self, wanted: list[tuple[Purse, int]], window: Window, workflow: str | None, caller: Caller) -> None:
        offers = tuple(
            Offer(
                lane=OFFERS[purse][0], reason=OFFERS[purse][1], purse=purse, units=0 if purse is Purse.NONE else units
            )
            for purse, units in wanted
        )
        self.count += 1
        reservation = Reservation(
            request_id=f"req_{self.count:026d}",
            caller=caller,
            terms=TERMS,
            window=window,
            workflow=workflow,
            offers=offers,
            model_requested="auto",
            lease=LEASE,
        )
        flow = (caller.project, workflow) if workflow is not None else None
        expected = self.expected(offers, window, flow)
        memory, sqlite = (self.run(store.reserve(reservation)) for store in self.stores)
        assert memory == sqlite
        if isinstance(memory, Refusal) or isinstance(sqlite, Refusal):
            assert isinstance(memory, Refusal)
            assert memory.code is expected
            return
        assert memory.choice == expected
        offer = offers[memory.choice]
        self.running[memory.request_id] = Running(
            (memory, sqlite), offer.purse, offer.units, window, flow, self.now + LEASE
        )
        if flow is not None:
            self.slots[flow] = self.now + max(LEASE, IDLE)
            self.released.discard(flow)
        assert offer.purse is not Purse.FAIR_USE or sum(self.used(window, Purse.FAIR_USE)) <= CAP
        assert memory.standing.workflows_active == self.active() <= SLOTS

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def dispatch(self, data: st.DataObject) -> None:
        run = self.running[data.draw(st.sampled_from(sorted(self.running)))]
        for store, ticket in zip(self.stores, run.tickets, strict=True):
            self.run(store.dispatch(ticket))
        run.dispatched = True

    @precondition(lambda self: self.running)
    @rule(data=st.data(), charged=st.integers(0, 80), route=st.sampled_from([None, "openai", "azure"]))
    def settle(self, data: st.DataObject, charged: int, route: str | None) -> None:
        run = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        self.end(run, charged)
        for flow in self.live().keys() & {run.flow}:
            if not self.in_flight(flow):
                self.slots[flow] = self.now + (0 if flow in self.released else IDLE)
        fair_use = self.both_settle(run, charged, route).receipt.fair_use
        assert fair_use is not None
        assert fair_use.charged == (charged if run.purse is Purse.FAIR_USE else 0)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), charged=st.integers(0, 80))
    def settle_again(self, data: st.DataObject, charged: int) -> None:
        run = data.draw(st.sampled_from(self.ended))
        kept = self.run(self.stores[0].receipt(TEAM, run.tickets[0].request_id))
        assert self.both_settle(run, charged, "late").json == kept

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def dispatch_too_late(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.ended))
        for store, ticket in zip(self.stores, run.tickets, strict=True):
            try:
                self.run(store.dispatch(ticket))
            except StoreDown:
                continue
            raise AssertionError(ticket)

    def both_settle(self, run: Running, charged: int, route: str | None) -> Settlement:
        receipt = Receipt(request_id=run.tickets[0].request_id, lane=Lane.PREMIUM, state=ReceiptState.SETTLED)
        outcome = Outcome(charged=0 if run.purse is Purse.NONE else charged, receipt=receipt, route=route)
        memory, sqlite = (
            self.run(store.settle(ticket, outcome)) for store, ticket in zip(self.stores, run.tickets, strict=True)
        )
        assert memory == sqlite
        return memory

    def end(self, run: Running, charged: int) -> None:
        self.posted[run.window, run.purse] = self.posted.get((run.window, run.purse), 0) + charged
        self.ended.append(run)

    @rule(workflow=st.sampled_from(["a", "b", "c", "d"]), caller=CALLERS)
    def release(self, workflow: str, caller: Caller) -> None:
        flow = (caller.project, workflow)
        expected = flow in self.live()
        if self.in_flight(flow):
            self.released.add(flow)
        else:
            self.slots.pop(flow, None)
        assert [self.run(store.release(caller, workflow)) for store in self.stores] == [expected] * 2

    @rule(seconds=st.sampled_from([0.5, 10.0, 39.5, 59.5, 60.0]))
    def advance(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def heartbeat(self) -> None:
        for index, store in enumerate(self.stores):
            tickets = [run.tickets[index] for run in (*self.running.values(), *self.ended)]
            self.run(store.heartbeat(tickets, LEASE))
        for run in self.running.values():
            run.expires_at = self.now + LEASE
        for flow in self.live().keys() & {run.flow for run in (*self.running.values(), *self.ended)}:
            self.slots[flow] = self.now + max(LEASE, IDLE)

    @rule()
    def sweep(self) -> None:
        lost = [id_ for id_, run in self.running.items() if run.expires_at <= self.now]
        for id_ in lost:
            run = self.running.pop(id_)
            self.end(run, run.units if run.dispatched else 0)
        self.slots = {
            flow: end for flow, end in self.live().items() if flow not in self.released or self.in_flight(flow)
        }
        assert [self.run(store.sweep()) for store in self.stores] == [len(lost)] * 2

    @invariant()
    def both_stores_agree_with_the_model(self) -> None:
        for window in WINDOWS:
            memory, sqlite = (self.run(store.usage(CI, window)) for store in self.stores)
            assert memory == sqlite
            assert (memory.fair_use_used, memory.fair_use_pending) == self.used(window, Purse.FAIR_USE)
            assert (memory.continuation_used, memory.continuation_pending) == self.used(window, Purse.CONTINUATION)
            assert memory.workflows_active == self.active()
        for caller in (CI, WEB, TEAM):
            leases = [sorted(self.run(store.workflows(caller)), key=repr) for store in self.stores]
            assert leases[0] == leases[1]
            assert sorted((lease.id, lease.expires_at, lease.in_flight) for lease in leases[0]) == sorted(
                (flow[1], end, self.in_flight(flow))
                for flow, end in self.live().items()
                if caller is TEAM or flow[0] == caller.project
            )

    @invariant()
    def receipts_add_up_to_what_was_posted(self) -> None:
        ids = [run.tickets[0].request_id for run in self.ended]
        charged = 0
        for id_ in ids:
            found = [self.run(store.receipt(TEAM, id_)) for store in self.stores]
            assert found[0] is not None
            assert found[0] == found[1]
            fair_use = Receipt.model_validate_json(found[0]).fair_use
            charged += fair_use.charged or 0 if fair_use else 0
        assert charged == sum(self.posted.get((window, Purse.FAIR_USE), 0) for window in WINDOWS)


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
