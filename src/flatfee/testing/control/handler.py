"""The control API as ASGI: reads a request, guards it, lets the endpoint do its work, and answers JSON.

It is there only where somebody asked for it by a flag, on a loopback address. Pages in browsers can reach those,
too, so a request that says it comes from one, or names another host, is refused.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError

from flatfee.server.admin.wording import refusal
from flatfee.server.call import Call, Receive, Scope, Send
from flatfee.server.faults import CallerGone, Fault
from flatfee.server.ids import request_id
from flatfee.testing.control.endpoint import Endpoint, Json, Visit
from flatfee.testing.gateway import ScriptedGateway
from flatfee.wire import ErrorCode

ROOT: Final = "_test"
MAX_BODY_BYTES: Final = 8 << 20
AT_ONCE: Final = 8
"""Requests that are served at the same time; one that waits for the journal holds its place."""

_LOOPBACK: Final = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.ASCII)


class Control:
    """Serves ``/_test`` of one gateway. ``close`` ends its threads."""

    def __init__(self, gateway: ScriptedGateway, endpoints: Sequence[Endpoint[Any]]) -> None:
        self._gateway = gateway
        self._endpoints = endpoints
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="flatfee-control")

    def close(self) -> None:
        """Let go of the threads; a request that still waits is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        now = self._gateway.now.timestamp()
        call = Call(scope, receive, send, request_id(now), now)
        try:
            _guard(call)
            endpoint, names = self._find(call)
            answer = await self._serve(endpoint, names, call)
            call.tell({"cache-control": "no-store"})
            await call.respond(200, json.dumps(answer, default=str).encode())
            if endpoint.then is not None:
                endpoint.then()
        except CallerGone:
            return
        except Exception as error:  # noqa: BLE001 - every exception is told as an error of the gateway's own form
            await call.fail(error)

    async def _serve(self, endpoint: Endpoint[Any], names: Mapping[str, str], call: Call) -> Json:
        body = await call.body(MAX_BODY_BYTES)
        form = _form(endpoint, call, body)
        visit = Visit(gateway=self._gateway, names=names, body=form)
        # Not the loop's own threads: while those work, no time is skipped, and an endpoint may wait for just that.
        try:
            return await asyncio.wrap_future(self._threads.submit(endpoint.handler, visit))
        except (ValueError, LookupError, AssertionError) as error:
            message = str(error.args[0]) if error.args else type(error).__name__
            raise Fault(ErrorCode.INVALID_REQUEST, message) from error

    def _find(self, call: Call) -> tuple[Endpoint[Any], Mapping[str, str]]:
        path = call.path.removeprefix(f"/{ROOT}").rstrip("/")
        for endpoint in self._endpoints:
            found = _pattern(endpoint.path).fullmatch(path) if endpoint.method == call.method else None
            if found is not None:
                return endpoint, {name: unquote(value) for name, value in found.groupdict().items()}
        known = ", ".join(f"{endpoint.method} /{ROOT}{endpoint.path}" for endpoint in self._endpoints)
        raise Fault(ErrorCode.NOT_FOUND, f"There is no {call.method[:16]} {call.path[:80]}; there are: {known}.")


def _guard(call: Call) -> None:
    host = call.headers.get(b"host", b"").decode("latin-1")
    if b"origin" in call.headers or not _LOOPBACK.fullmatch(host):
        raise Fault(ErrorCode.BROWSER_ORIGIN, "The control API answers programs on this machine only, and no pages.")


def _form(endpoint: Endpoint[Any], call: Call, body: bytes) -> BaseModel:
    form: type[BaseModel] = endpoint.takes
    try:
        if endpoint.method in {"GET", "DELETE"}:
            return form.model_validate(call.query)
        return form.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise refusal(error, form, "member") from error


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template)))
