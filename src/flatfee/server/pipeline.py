"""One completion, from top to bottom."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from flatfee.server.ask import Ask, check_idempotency_key, read_ask
from flatfee.server.call import Call
from flatfee.server.faults import CallerGone, Fault
from flatfee.server.gateway import LEASE_SECONDS, Gateway, terms_of
from flatfee.server.meter import Meter
from flatfee.server.policy.facts import Facts
from flatfee.server.policy.plan import RoutePlan, plan_routes
from flatfee.server.settings import PlanSettings
from flatfee.server.stages.admit import admit
from flatfee.server.stages.authenticate import authenticate, check_scope
from flatfee.server.stages.relay import Job, relay
from flatfee.server.stages.settle import Bill
from flatfee.server.store.base import StoreDown
from flatfee.server.store.records import Caller, Reservation
from flatfee.server.tell import receipt_headers, ticket_headers
from flatfee.wire import ErrorCode


async def serve(call: Call, gateway: Gateway) -> None:
    """Serve one completion. Nothing else runs between these lines."""
    arrived = gateway.monotonic()
    caller = await authenticate(call.headers, gateway.store)
    async with _refusals_leave_a_receipt(call, caller, gateway):
        check_idempotency_key(call.headers)
        ask = read_ask(call.headers, await call.body(gateway.settings.server.max_body_bytes))
        plan = gateway.plan_of(caller)
        routes = await plan_request(ask, caller, plan, gateway)
        ticket = await admit(reserve_for(call.request_id, ask, caller, plan, routes, gateway), gateway.store)
    call.tell(ticket_headers(ticket))
    bill = Bill(ticket=ticket, ask=ask, plan=plan, meter=Meter(), store=gateway.store)
    deadline = arrived + ask.deadline_ms / 1000 if ask.deadline_ms is not None else None
    job = Job(ask=ask, routes=routes.choices[ticket.choice].routes, deadline=deadline)
    async with _settled_on_every_way_out(call, bill, gateway), call.until_gone():
        await relay(job, call, bill, gateway)


async def plan_request(ask: Ask, caller: Caller, plan: PlanSettings, gateway: Gateway) -> RoutePlan:
    """Resolve the model, check the key's scope and plan the routes. Consumes nothing."""
    model = gateway.resolve(ask.model)
    check_scope(caller, ask.model)
    route = None
    if ask.in_tool_loop and ask.workflow is not None:
        route = await gateway.store.last_route(caller, ask.workflow)
    settings, down = gateway.settings, gateway.circuits.down(gateway.monotonic())
    facts = Facts.of(ask, model, route)
    return plan_routes(facts, caller, plan, settings.policy, settings.routes, down, gateway.chance)


def reserve_for(
    request_id: str, ask: Ask, caller: Caller, plan: PlanSettings, routes: RoutePlan, gateway: Gateway
) -> Reservation:
    """Return the reservation that a planned request needs."""
    return Reservation(
        request_id=request_id,
        caller=caller,
        terms=terms_of(plan),
        window=gateway.window_of(caller, plan),
        workflow=ask.workflow,
        offers=tuple(choice.offer for choice in routes.choices),
        model_requested=ask.model,
        lease=LEASE_SECONDS,
    )


@asynccontextmanager
async def _refusals_leave_a_receipt(call: Call, caller: Caller, gateway: Gateway) -> AsyncGenerator[None, None]:
    """Keep a receipt of a request that was refused before it held a ticket."""
    try:
        yield
    except Fault as fault:
        # A caller that is told to slow down must not make us write for each of its tries.
        if fault.code is not ErrorCode.RATE_LIMITED:
            with suppress(StoreDown):  # the refusal stands, whether or not it can be kept
                await gateway.store.record(caller, fault.receipt or call.refusal())
        raise


@asynccontextmanager
async def _settled_on_every_way_out(call: Call, bill: Bill, gateway: Gateway) -> AsyncGenerator[None, None]:
    """Settle however the block ends; an error then carries the settled receipt."""
    gateway.running[bill.ticket.request_id] = bill.ticket
    try:
        yield
    except CallerGone:
        bill.meter.caller_left()
        raise
    finally:
        try:
            call.receipt = (await bill.settle()).receipt
            call.tell(receipt_headers(call.receipt))
        finally:
            del gateway.running[bill.ticket.request_id]
