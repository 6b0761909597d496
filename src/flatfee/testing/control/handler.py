"""The control API as ASGI: reads a request, guards it, lets the endpoint do its work, and answers JSON.

It is there only where somebody asked for it by a flag, on a loopback address. Pages in browsers can reach those,
too, so a request that says it comes from one, or names another host, is refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any, Final
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError

from flatfee.server.admin.wording import refusal
from flatfee.server.call import Call, Receive, Scope, Send
from flatfee.server.faults import CallerGone, Fault
from flatfee.server.ids import request_id
from flatfee.server.store.accounts import Denied
from flatfee.server.store.base import StoreDown
from flatfee.testing.control.endpoint import Endpoint, Json, Visit
from flatfee.testing.gateway import ScriptedGateway
from flatfee.wire import ErrorCode

log = logging.getLogger("flatfee.testing")

ROOT: Final = "_test"
MAX_BODY_BYTES: Final = 8 << 20
AT_ONCE: Final = 8
"""Requests that are served at the same time."""

WAITING_AT_ONCE: Final = 64
"""Beside those, requests that wait: for what clients do, or for time."""

_LOOPBACK: Final = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
_TYPED: Final = b"none"
"""``Sec-Fetch-Site`` of what a person asks a browser for. Any other value: a page asks."""


class Control:
    """Serves ``/_test`` of one gateway. ``close`` ends its threads."""

    def __init__(self, gateway: ScriptedGateway, endpoints: Sequence[Endpoint[Any]]) -> None:
        self._gateway = gateway
        self._endpoints = endpoints
        # Not the loop's own threads: while those work, no time is skipped, and an endpoint may wait for just that.
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="flatfee-control")
        self._waiting = ThreadPoolExecutor(WAITING_AT_ONCE, thread_name_prefix="flatfee-control-waiting")

    def close(self) -> None:
        """Let go of the threads; a request that still waits is not waited for."""
        for threads in (self._threads, self._waiting):
            threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        now = self._gateway.now.timestamp()
        call = Call(scope, receive, send, request_id(now), now)
        # Cancelled by the server, which is ending, and would log it as a crash: it is the last that happens here.
        with suppress(CallerGone, asyncio.CancelledError):
            try:
                _guard(call)
                endpoint, names = self._find(call, scope["raw_path"].decode("latin-1"))
                answer = await self._serve(endpoint, names, call)
                call.tell({"cache-control": "no-store"})
                await call.respond(200, json.dumps(answer, default=str).encode())
                if endpoint.then is not None:
                    endpoint.then()
            except CallerGone:
                raise
            except Exception as error:  # noqa: BLE001 - every exception is told as an error of the gateway's own form
                await call.fail(_fault(error))

    async def _serve(self, endpoint: Endpoint[Any], names: Mapping[str, str], call: Call) -> Json:
        body = await call.body(MAX_BODY_BYTES)
        form = _form(endpoint, call, body)
        over = threading.Event()
        visit = Visit(gateway=self._gateway, names=names, body=form, over=over)
        threads = self._waiting if endpoint.waits else self._threads
        try:
            async with call.until_gone():
                return await asyncio.wrap_future(threads.submit(endpoint.handler, visit))
        finally:
            over.set()

    def _find(self, call: Call, path: str) -> tuple[Endpoint[Any], Mapping[str, str]]:
        """Return the endpoint for a path, in which ``%2F`` is no slash, and the path's parameters."""
        below = path.removeprefix(f"/{ROOT}").rstrip("/")
        for endpoint in self._endpoints:
            found = _pattern(endpoint.path).fullmatch(below) if endpoint.method == call.method else None
            if found is not None:
                return endpoint, {name: unquote(value) for name, value in found.groupdict().items()}
        known = ", ".join(f"{endpoint.method} /{ROOT}{endpoint.path}" for endpoint in self._endpoints)
        raise Fault(ErrorCode.NOT_FOUND, f"There is no {call.method[:16]} {path[:80]}; there are: {known}.")


def _guard(call: Call) -> None:
    host = call.headers.get(b"host", b"").decode("latin-1")
    page = b"origin" in call.headers or call.headers.get(b"sec-fetch-site", _TYPED) != _TYPED
    if page or not _LOOPBACK.fullmatch(host):
        raise Fault(ErrorCode.BROWSER_ORIGIN, "The control API answers programs on this machine only, and no pages.")


def _form(endpoint: Endpoint[Any], call: Call, body: bytes) -> BaseModel:
    form: type[BaseModel] = endpoint.takes
    try:
        if endpoint.method in {"GET", "DELETE"}:
            return form.model_validate(call.query)
        return form.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise refusal(error, form, "member") from error


def _fault(error: Exception) -> Exception:
    """Return what is told of an error. Nobody but the tests' author asks here, so what is not foreseen is shown."""
    if isinstance(error, Fault | Denied | StoreDown):
        return error
    told = str(error.args[0]) if error.args else type(error).__name__
    if isinstance(error, TimeoutError):
        return Fault(ErrorCode.DEADLINE_EXCEEDED, told)
    if isinstance(error, ValueError | LookupError | AssertionError):
        return Fault(ErrorCode.INVALID_REQUEST, told)
    log.error("control.crashed", exc_info=error)
    message = f"flatfee failed here: {type(error).__name__}: {told}. Standard error of the gateway has more; report it."
    return Fault(ErrorCode.GATEWAY_OVERLOADED, message)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template)))
