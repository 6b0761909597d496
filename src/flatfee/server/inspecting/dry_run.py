"""``POST /v1/route``: what would happen to a completion. Only what it is decided on is fetched here."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from flatfee.server.ask import read_ask
from flatfee.server.call import Call
from flatfee.server.gateway import Gateway
from flatfee.server.inspecting.inspection import State, as_json, inspect, likeliest
from flatfee.server.pipeline import plan_request, reserve_for
from flatfee.server.stages.authenticate import authenticate
from flatfee.server.stages.compact import compacted
from flatfee.server.tell import standing_headers
from flatfee.wire import Header, Tier


async def dry_run(call: Call, gateway: Gateway) -> None:
    """Answer what would happen to this completion. Calls no provider, consumes nothing.

    Raises:
        Fault: what the completion itself would be refused with before a provider is asked, but for the limits
            of the moment: rate, workflow slots, idempotency.
    """
    caller = await authenticate(call.headers, gateway.store)
    ask = read_ask(call.headers, await call.body(gateway.settings.server.max_body_bytes))
    # Those of the plan: a reload may come at any await.
    settings, health, plan = gateway.settings, gateway.health, gateway.plan_of(caller)
    planned = await plan_request(ask, caller, plan, gateway, likeliest)
    routes = planned.routes
    want = reserve_for(call.request_id, ask, caller, plan, routes, gateway)
    usage = await gateway.store.usage(caller.account, want.terms.unit, want.calendar)
    down, last_chance = health.shut(gateway.monotonic()), health.last_chance()
    found = inspect(want, routes, State(settings=settings, plan=plan, usage=usage, down=down, last_chance=last_chance))
    told = found.foresight
    call.tell({Header.LANE: told.lane, Header.REASON: told.reason, **standing_headers(found.standing)})
    if told.first.route.tier is Tier.ECONOMY:
        short = await compacted(ask, found.offer.lane, settings.policy.compaction, planned.short)
        found = replace(found, compaction=short.figures if short is not None else None)
    await call.respond(200, msgspec.json.encode(as_json(found)))
