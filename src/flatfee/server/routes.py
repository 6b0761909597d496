"""Paths and their handlers, nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from flatfee.server import pipeline, queries
from flatfee.server.admin import table
from flatfee.server.call import Call
from flatfee.server.faults import Fault
from flatfee.server.gateway import Gateway
from flatfee.server.inspecting.dry_run import dry_run
from flatfee.wire import ErrorCode

Handler = Callable[[Call, Gateway], Awaitable[None]]
NamedHandler = Callable[[Call, Gateway, str], Awaitable[None]]

ENDPOINTS: Final[Mapping[tuple[str, str], Handler]] = {
    ("POST", "/v1/chat/completions"): pipeline.serve,
    ("GET", "/v1/models"): queries.list_models,
    ("POST", "/v1/route"): dry_run,
    ("GET", "/v1/receipts"): queries.list_receipts,
    ("GET", "/v1/usage"): queries.get_usage,
    ("GET", "/v1/workflows"): queries.list_workflows,
    ("GET", "/health/live"): queries.live,
    ("GET", "/health/ready"): queries.ready,
}
NAMED_ENDPOINTS: Final[Mapping[tuple[str, str], NamedHandler]] = {
    ("GET", "/v1/models/"): queries.get_model,
    ("GET", "/v1/receipts/"): queries.get_receipt,
    ("DELETE", "/v1/workflows/"): queries.release_workflow,
}
"""Endpoints whose path ends in a name."""
ADMIN: Final = "/admin/"
"""Where the admin API begins; its endpoints are looked up apart."""


def find(method: str, path: str) -> Handler:
    """Return the handler of a request; for HEAD that of GET, whose body the server leaves out.

    Raises:
        Fault: ``not_found``, listing what exists.
    """
    method = "GET" if method == "HEAD" else method
    handler = ENDPOINTS.get((method, path))
    if handler is not None:
        return handler
    if path.startswith(ADMIN):
        return table.find(method, path)
    for (verb, prefix), named in NAMED_ENDPOINTS.items():
        if verb == method and path.startswith(prefix) and len(path) > len(prefix):
            return partial(_call_named, named, path[len(prefix) :])
    known = ", ".join(f"{verb} {at}" for verb, at in (*ENDPOINTS, *NAMED_ENDPOINTS))
    raise Fault(ErrorCode.NOT_FOUND, f"There is no endpoint {method[:16]} {path[:80]}; there are: {known}.")


async def _call_named(named: NamedHandler, name: str, call: Call, gateway: Gateway) -> None:
    await named(call, gateway, name)
