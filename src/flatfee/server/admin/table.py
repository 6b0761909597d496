"""Every endpoint of the admin API, and who serves a path. Nothing else."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from typing import Any, Final

from flatfee.server.admin import accounts, audit, keys, plans, receipts, reload, routes, workflows
from flatfee.server.admin.endpoint import Endpoint
from flatfee.server.admin.openapi import document
from flatfee.server.call import Call
from flatfee.server.faults import Fault
from flatfee.server.gateway import Gateway
from flatfee.wire import ErrorCode

ROOT: Final = "/admin/v1"
DOCUMENT: Final = f"{ROOT}/openapi.json"

ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    *accounts.ENDPOINTS,
    *keys.ENDPOINTS,
    *plans.ENDPOINTS,
    *receipts.ENDPOINTS,
    *routes.ENDPOINTS,
    *workflows.ENDPOINTS,
    *reload.ENDPOINTS,
    *audit.ENDPOINTS,
)


def find(method: str, path: str) -> Callable[[Call, Gateway], Awaitable[None]]:
    """Return the handler of a request.

    Raises:
        Fault: ``not_found``, naming the document that lists what exists.
    """
    if (method, path) == ("GET", DOCUMENT):
        return _tell_document
    for endpoint in ENDPOINTS:
        names = _match(endpoint.path, path.removeprefix(ROOT)) if endpoint.method == method else None
        if names is not None and path.startswith(ROOT):
            return partial(endpoint.serve, names)
    raise Fault(
        ErrorCode.NOT_FOUND, f"There is no endpoint {method[:16]} {path[:80]}; GET {DOCUMENT} lists what there is."
    )


def _match(template: str, path: str) -> Mapping[str, str] | None:
    """Return the parameters of a path that has the form of a template."""
    found = _pattern(template).fullmatch(path)
    return found.groupdict() if found else None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template)))


async def _tell_document(call: Call, gateway: Gateway) -> None:
    """Answer the OpenAPI document; it says nothing that is not public, so it needs no key."""
    del gateway
    await call.respond(200, _document())


@cache
def _document() -> bytes:
    """Make the document once: it takes long enough for a stranger to stall everybody by asking for it."""
    return document(ENDPOINTS, ROOT)
