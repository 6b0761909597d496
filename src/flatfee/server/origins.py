"""Web pages: which of them may send requests, and what their browsers must be told (Fetch standard, CORS)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from flatfee.server.call import Call
from flatfee.server.faults import Fault
from flatfee.wire import REQUEST_HEADERS, RESPONSE_HEADERS, ErrorCode

_PREFLIGHT: Final = {
    "access-control-allow-methods": "GET, POST, DELETE",
    "access-control-allow-headers": ", ".join(["content-type", *(name.lower() for name in REQUEST_HEADERS)]),
    "access-control-max-age": "600",
}
_EXPOSED: Final = ", ".join(name.lower() for name in RESPONSE_HEADERS)


def check_origin(call: Call, allowed: Collection[str]) -> None:
    """Let a page's request pass only if the operator allowed the page. Other callers send no ``Origin``.

    Raises:
        Fault: ``browser_origin``.
    """
    sent = call.headers.get(b"origin")
    if sent is None:
        return
    origin = sent.decode("latin-1")
    if origin not in allowed:
        raise Fault(
            ErrorCode.BROWSER_ORIGIN,
            "Keys do not belong in browsers: send requests from your server. "
            "The operator can allow a page by [server] allowed_origins.",
        )
    call.tell({"access-control-allow-origin": origin, "access-control-expose-headers": _EXPOSED, "vary": "origin"})


def is_preflight(call: Call) -> bool:
    """Tell whether a browser only asks what a page may do."""
    return call.method == "OPTIONS" and b"origin" in call.headers and b"access-control-request-method" in call.headers


async def answer_preflight(call: Call) -> None:
    """Tell what an allowed page may send. No key is needed: browsers send none with this question."""
    call.tell(_PREFLIGHT)
    await call.respond(204, b"")
