"""One completion, from top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from flatfee.server.ask import Ask, digests_of, read_ask, read_idempotency_key
from flatfee.server.asked import Asked, Beside
from flatfee.server.call import Call
from flatfee.server.faults import CallerGone, Fault, deadline_passed
from flatfee.server.gateway import LEASE_SECONDS, Gateway, calendar_of, terms_of
from flatfee.server.kept import MOST_STREAMED
from flatfee.server.meter import Meter
from flatfee.server.patience import in_time
from flatfee.server.policy.facts import Facts, share_left
from flatfee.server.policy.plan import RoutePlan, plan_routes
from flatfee.server.settings import PlanSettings
from flatfee.server.stages.admit import admit, refusal_of
from flatfee.server.stages.authenticate import authenticate, check_scope, still_valid
from flatfee.server.stages.compact import Compacted, compacted, may_help, with_economy
from flatfee.server.stages.relay import relay
from flatfee.server.stages.replay import replay
from flatfee.server.stages.settle import Bill
from flatfee.server.stages.tries import Job
from flatfee.server.store.base import Store, StoreDown
from flatfee.server.store.records import Caller, Changed, Idempotency, Outcome, Repeat, Reservation, Ticket
from flatfee.server.tell import receipt_headers, ticket_headers
from flatfee.wire import ErrorCode, Lane, Model

_Answer = Ticket | Repeat | Changed
_MOST_CHANGES: Final = 5
"""A caller may change so often between its look-up and its admission; more is no accident."""

_LEAVE_NO_RECEIPT: Final = frozenset(
    {ErrorCode.RATE_LIMITED, ErrorCode.IDEMPOTENCY_EXPIRED, ErrorCode.DEADLINE_EXCEEDED}
)
"""A caller that is told to slow down must not make us write for each of its tries; the receipt that comes with
an answer that is gone is of another request, which has left it already; and a ledger that was too slow to
admit a request is not asked to note that it was."""


async def serve(call: Call, gateway: Gateway) -> None:
    """Serve one completion. Nothing else runs between these lines."""
    arrived = gateway.monotonic()
    caller = await authenticate(call.headers, gateway.store)
    ask = None
    try:
        key = read_idempotency_key(call.headers)
        body = await call.body(gateway.settings.server.max_body_bytes)
        ask = read_ask(call.headers, body)
        once = _used_once(key, body, gateway) if key is not None else None
        deadline = arrived + ask.deadline_ms / 1000 if ask.deadline_ms is not None else None
        admitted = await _admitted(call.request_id, ask, caller, once, deadline, gateway)
        if isinstance(admitted, Repeat):
            await replay(admitted, call, gateway)
            return
    except Fault as fault:
        await _leave_a_receipt(fault, call, caller, ask, gateway)
        raise
    call.tell(ticket_headers(admitted.ticket))
    if once is not None:
        call.copy_what_is_sent(MOST_STREAMED)
    await _relayed(admitted, ask, deadline, call, gateway)


def _used_once(key: bytes, body: bytes, gateway: Gateway) -> Idempotency:
    of_key, of_body = digests_of(key, body)
    return Idempotency(key=of_key, body=of_body, holder=gateway.holder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admitted:
    """A request that holds a ticket, with the plan it was admitted by and what is to be relayed.

    ``short`` is the request without what economy is spared of it, where that was needed to plan.
    """

    ticket: Ticket
    plan: PlanSettings
    job: Job
    short: Compacted | None


async def _admitted(
    request_id: str, ask: Ask, caller: Caller, once: Idempotency | None, deadline: float | None, gateway: Gateway
) -> _Admitted | Repeat:
    """Plan and reserve; plan anew if meanwhile the key or its account has become another."""
    for _ in range(_MOST_CHANGES):
        # All that a request takes of the configuration, at one moment: a reload may come at any await.
        settings, providers, health = gateway.settings, gateway.providers, gateway.health
        plan = gateway.plan_of(caller)
        planned = await plan_request(ask, caller, plan, gateway)
        routes = planned.routes
        want = reserve_for(request_id, ask, caller, plan, routes, gateway, once)
        admitting = admit(want, gateway.store)
        answer = await (admitting if deadline is None else _in_time(admitting, want, deadline, gateway))
        if isinstance(answer, Repeat):
            return answer
        if isinstance(answer, Ticket):
            chosen = routes.choices[answer.choice].routes
            job = Job(ask=ask, routes=chosen, settings=settings, providers=providers, health=health)
            return _Admitted(ticket=answer, plan=plan, job=job, short=planned.short)
        caller = still_valid(answer.caller)
    raise Fault(ErrorCode.GATEWAY_OVERLOADED, "The account is being changed all the time; try again shortly.")


async def _in_time(
    admitting: Coroutine[Any, Any, _Answer], want: Reservation, deadline: float, gateway: Gateway
) -> _Answer:
    """Wait for the ledger until the caller's deadline; a ticket that comes later is given back."""

    async def give_back(answer: _Answer) -> None:
        if isinstance(answer, Ticket):
            await gateway.store.settle(answer, Outcome(charged=0, receipt=refusal_of(want)))

    try:
        return await in_time(admitting, deadline - gateway.monotonic(), gateway.keep_doing, give_back)
    except TimeoutError as error:
        raise deadline_passed() from error


async def _job(admitted: _Admitted, bill: Bill) -> Job:
    """Return what to relay; what economy routes are spared of it is noted in the meter."""
    job = admitted.job
    if job.settings.policy.compaction is None and admitted.short is None:
        return job
    short = await compacted(job.ask, admitted.ticket.offer.lane, job.settings.policy.compaction, admitted.short)
    if short is None:
        return job
    bill.meter.compaction = short.figures
    return replace(job, compacted=short.ask)


class Planned(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The routes of a request; and what economy is asked of it, where they depend on that."""

    routes: RoutePlan
    short: Compacted | None


async def plan_request(
    ask: Ask, caller: Caller, plan: PlanSettings, gateway: Gateway, chance: Callable[[], float] | None = None
) -> Planned:
    """Resolve the model, check the key's scope and plan the routes, by the gateway's dice. Consumes nothing.

    The settings are those of the moment when it begins.
    """
    settings, health = gateway.settings, gateway.health
    model = gateway.resolve(ask.model)
    check_scope(caller, ask.model, settings)
    route = None
    if ask.in_tool_loop and ask.workflow is not None:
        route = await gateway.store.last_route(caller, ask.workflow)
    down = health.down(gateway.monotonic())
    left = None
    if model is Model.AUTO and settings.policy.asks_for_fair_use:
        left = await fair_use_left(caller, plan, gateway.store)
    now = datetime.fromtimestamp(gateway.store.now(), UTC)
    facts = Facts.of(ask, model, caller, now, workflow=ask.workflow, fair_use_left=left, tool_loop_route=route)
    short = await compacted(ask, Lane.BUDGET, settings.policy.compaction) if may_help(ask, settings) else None
    facts = with_economy(facts, short)
    routes = plan_routes(facts, caller, plan, settings.policy, settings.ranks, down, chance or gateway.chance)
    return Planned(routes=routes, short=short)


async def fair_use_left(caller: Caller, plan: PlanSettings, store: Store) -> float:
    """Return the share (0 to 1) of the plan's fair-use that is neither used nor pending in this window.

    Raises:
        StoreDown: it cannot be read; a rule that asks for it is not guessed at, and nothing is admitted.
    """
    terms = terms_of(plan)
    usage = await store.usage(caller.account, terms.unit, calendar_of(caller, plan))
    return share_left(terms.fair_use, usage)


def reserve_for(
    request_id: str,
    ask: Ask,
    caller: Caller,
    plan: PlanSettings,
    routes: RoutePlan,
    gateway: Gateway,
    idempotency: Idempotency | None = None,
) -> Reservation:
    """Return the reservation that a planned request needs."""
    return Reservation(
        request_id=request_id,
        caller=caller,
        terms=terms_of(plan),
        calendar=calendar_of(caller, plan),
        workflow=ask.workflow,
        offers=tuple([choice.offer for choice in routes.choices]),
        model_requested=ask.model,
        lease=LEASE_SECONDS,
        idempotency=idempotency,
        reduced=gateway.keeps_figures_only(caller),
        early=True,
    )


async def _leave_a_receipt(fault: Fault, call: Call, caller: Caller, ask: Ask | None, gateway: Gateway) -> None:
    """Keep a receipt of a request that was refused before it held a ticket; of one that was read, its facts too."""
    if fault.code in _LEAVE_NO_RECEIPT:
        return
    receipt = fault.receipt or call.refusal()
    if ask is not None and gateway.knows(ask.model):
        receipt = receipt.model_copy(update={"model_requested": ask.model})
    beside = Beside(code=fault.code, facts=Asked.of(ask) if ask is not None else None)
    reduced = gateway.keeps_figures_only(caller)
    with suppress(StoreDown):  # the refusal stands, whether or not it can be kept
        await gateway.store.record(caller, receipt, beside=beside, reduced=reduced)


async def _relayed(admitted: _Admitted, ask: Ask, deadline: float | None, call: Call, gateway: Gateway) -> None:
    """Answer a request that holds a ticket, and settle on every way out; an error then carries the settled receipt."""
    ticket = admitted.ticket
    bill = Bill(ticket=ticket, ask=ask, plan=admitted.plan, meter=Meter(), gateway=gateway, deadline=deadline)
    gateway.running[ticket.request_id] = ticket
    try:
        async with call.until_gone():
            await relay(await _job(admitted, bill), call, bill, gateway)
    except CallerGone:
        bill.meter.caller_left()
        raise
    except Fault as fault:
        bill.code = fault.code
        raise
    finally:
        try:
            await _settled(call, bill, gateway)
        finally:
            del gateway.running[ticket.request_id]


async def _settled(call: Call, bill: Bill, gateway: Gateway) -> None:
    try:
        settlement = await bill.settle()
    except asyncio.CancelledError:
        call.receipt = bill.foreseen  # the gateway ends, and its caller is told what this will come to
        raise
    if not call.over:  # an error is still to be told, and the receipt with it
        call.receipt = settlement.receipt
        if not call.started:
            call.tell(receipt_headers(call.receipt))
    answer = call.sent()
    if answer is not None:
        gateway.answers.put(call.request_id, answer)
