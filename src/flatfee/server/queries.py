"""Endpoints that only tell: models, receipts, usage, workflows, health. No completion, and no dry run of one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from flatfee.server.call import Call
from flatfee.server.faults import Fault
from flatfee.server.gateway import Gateway, calendar_of, terms_of
from flatfee.server.policy.patterns import is_prefix
from flatfee.server.stages.authenticate import authenticate
from flatfee.server.statement import rfc3339
from flatfee.server.store.base import StoreDown
from flatfee.server.store.records import Caller, ReceiptQuery
from flatfee.wire import WORKFLOW_ID, ErrorCode, Model, Tier

_MAX_PAGE = 100
_NUMBER = re.compile(r"[0-9]{1,9}")


async def list_models(call: Call, gateway: Gateway) -> None:
    """``GET /v1/models``. An alias that ends in ``*`` is no name to ask for, and not listed."""
    await authenticate(call.headers, gateway.store)
    names = (*Model, *(alias for alias in gateway.settings.aliases if not is_prefix(alias)))
    await _respond(call, _list([_model(name, gateway) for name in names]))


async def get_model(call: Call, gateway: Gateway, name: str) -> None:
    """``GET /v1/models/{id}``, for every name that can be asked for."""
    await authenticate(call.headers, gateway.store)
    await _respond(call, _model(name, gateway))


def _model(name: str, gateway: Gateway) -> dict[str, Any]:
    """Return what the routes of a model hold and can do, taken together: no request need find all in one of them."""
    meaning = gateway.resolve(name)
    routes = [route for route in gateway.settings.routes if meaning in {Model.AUTO, Model(route.tier)}]
    sizes = [int(route.room) for route in routes if route.room is not None]
    able = {capability for route in routes for capability in route.can}
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "flatfee",
        **({"tier": Tier(meaning)} if meaning is not Model.AUTO else {}),
        **({"context_tokens": max(sizes)} if sizes else {}),
        "capabilities": sorted(able),
    }


async def get_receipt(call: Call, gateway: Gateway, request_id: str) -> None:
    """``GET /v1/receipts/{request_id}``; another project's receipt does not exist."""
    caller = await authenticate(call.headers, gateway.store)
    found = await gateway.store.receipt(caller, request_id)
    if found is None:
        raise Fault(ErrorCode.NOT_FOUND, f"There is no receipt {request_id[:40]!r} for this key.")
    await call.respond(200, found)


async def list_receipts(call: Call, gateway: Gateway) -> None:
    """``GET /v1/receipts?workflow=&lane=&limit=&after=``, newest first."""
    caller = await authenticate(call.headers, gateway.store)
    query = call.query
    limit = query.get("limit", "20")
    if not _NUMBER.fullmatch(limit) or not 1 <= int(limit) <= _MAX_PAGE:
        raise Fault(ErrorCode.INVALID_REQUEST, f"limit is {limit[:20]!r}; send 1 to {_MAX_PAGE}.", param="limit")
    wanted = ReceiptQuery(
        workflow=query.get("workflow"), lane=query.get("lane"), limit=int(limit), after=query.get("after")
    )
    found, more = await gateway.store.receipts(caller, wanted)
    await call.respond(200, msgspec.json.encode(_list([msgspec.Raw(json) for json in found], more=more)))


async def get_usage(call: Call, gateway: Gateway) -> None:
    """``GET /v1/usage``."""
    await _respond(call, await usage_of(await authenticate(call.headers, gateway.store), gateway))


async def usage_of(caller: Caller, gateway: Gateway) -> dict[str, Any]:
    """Return the state of the caller's plan in its current window."""
    plan = gateway.plan_of(caller)
    terms = terms_of(plan)
    usage = await gateway.store.usage(caller.account, terms.unit, calendar_of(caller, plan))
    used, pending = usage.fair_use_used, usage.fair_use_pending
    answer: dict[str, Any] = {
        "object": "usage",
        "account": caller.account,
        **({"project": caller.project} if caller.project is not None else {}),
        "plan": plan.name,
        "billing": caller.billing,
        "window": {"start": rfc3339(usage.window.start), "end": rfc3339(usage.window.end)},
        "fair_use": {
            "unit": terms.unit,
            "limit": terms.fair_use,
            "used": used,
            "pending": pending,
            "remaining": max(0, terms.fair_use - used - pending),
        },
        "workflows": {"active": usage.workflows_active, "limit": terms.workflows},
    }
    if plan.continuation:
        answer["continuation"] = _continuation(
            terms.continuation_limit, usage.continuation_used, usage.continuation_pending
        )
    return answer


def _continuation(limit: int | None, used: int, pending: int) -> dict[str, int]:
    """Return continuation's figures; without a cap there is no limit to tell."""
    if limit is None:
        return {"used": used}
    return {"limit": limit, "used": used, "remaining": max(0, limit - used - pending)}


async def list_workflows(call: Call, gateway: Gateway) -> None:
    """``GET /v1/workflows``: live leases of the project; with a team key, of the account."""
    caller = await authenticate(call.headers, gateway.store)
    leases = await gateway.store.workflows(caller)
    await _respond(
        call,
        _list(
            [
                {
                    "object": "workflow",
                    "id": lease.id,
                    "in_flight": lease.in_flight,
                    "started_at": rfc3339(lease.started_at),
                    "expires_at": rfc3339(lease.expires_at),
                }
                for lease in leases
            ]
        ),
    )


async def release_workflow(call: Call, gateway: Gateway, workflow: str) -> None:
    """``DELETE /v1/workflows/{id}``: free its slot, at once or with its last running request."""
    caller = await authenticate(call.headers, gateway.store)
    known = WORKFLOW_ID.fullmatch(workflow) is not None and await gateway.store.release(caller, workflow)
    if not known:
        raise Fault(ErrorCode.NOT_FOUND, f"There is no live workflow {workflow[:128]!r}.")
    await _respond(call, {"object": "workflow", "id": workflow, "deleted": True})


async def live(call: Call, gateway: Gateway) -> None:
    """``GET /health/live``: this process answers."""
    del gateway
    await _respond(call, {"status": "live"})


async def ready(call: Call, gateway: Gateway) -> None:
    """``GET /health/ready``: the ledger can be written and a route is up."""
    if gateway.draining:
        raise Fault(ErrorCode.GATEWAY_OVERLOADED, "The gateway is shutting down.")
    try:
        await gateway.store.ready()
    except StoreDown as error:
        raise Fault(ErrorCode.STORE_UNAVAILABLE, "The ledger cannot be written.") from error
    down = gateway.health.down(gateway.monotonic())
    if all(route.name in down for route in gateway.settings.routes):
        raise Fault(ErrorCode.PROVIDER_UNAVAILABLE, "Every route is down.")
    await _respond(call, {"status": "ready"})


def _list(data: Sequence[object], *, more: bool = False) -> dict[str, Any]:
    return {"object": "list", "data": list(data), "has_more": more}


async def _respond(call: Call, body: dict[str, Any]) -> None:
    await call.respond(200, msgspec.json.encode(body))
