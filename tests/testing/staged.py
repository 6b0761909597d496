"""Answers of a gateway that tests of the journal need: refused, cut and left at will, and entries made by hand."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import httpx

from flatfee.server.call import Call, Receive, Scope, Send
from flatfee.server.faults import Fault
from flatfee.testing import ScriptedGateway
from flatfee.testing.judging.entry import Entry
from flatfee.testing.running.exchange import Exchange
from flatfee.wire import ERRORS, ErrorCode, Header, error_body

Act = Callable[[Call], Coroutine[Any, Any, None]]
USER: Final[Any] = {"role": "user", "content": "Hello"}


def chunk(**delta: Any) -> bytes:
    event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps(event | {"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def called(arguments: str, name: str = "pay", call_id: str = "call-1") -> dict[str, Any]:
    """What a delta has of a tool call."""
    return {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def refuse(code: ErrorCode, retry_after: int | None = None) -> Act:
    async def act(call: Call) -> None:
        await call.fail(Fault(code, f"This is {code}.", retry_after=retry_after))

    return act


def refuse_without_headers(code: ErrorCode) -> Act:
    """Refuse as a gateway behind a proxy that lets none of its headers through."""

    async def act(call: Call) -> None:
        await call.respond(ERRORS[code].status, json.dumps(error_body(code, "No.")).encode())

    return act


def fail_midway(*pieces: bytes, code: ErrorCode = ErrorCode.PROVIDER_UNAVAILABLE) -> Act:
    async def act(call: Call) -> None:
        await call.start_stream()
        for piece in pieces:
            await call.write(piece)
        await call.fail(Fault(code, "The provider broke off."))

    return act


def endless(size: int) -> Act:
    """Send a stream that is too large for whoever does not read it."""

    async def act(call: Call) -> None:
        await call.start_stream()
        for _ in range(size):
            await asyncio.sleep(0)  # as a relay does, while it waits for its provider
            await call.write(b": " + b"x" * 65536 + b"\n\n")
        await call.finish()

    return act


class Stage:
    """Answers requests for completions with what stands in its queue, and lets the gateway's own app answer others."""

    def __init__(self, gateway: ScriptedGateway) -> None:
        self._app = gateway._inside.front.app
        self.queue: deque[Act] = deque()
        gateway._inside.front.app = self  # type: ignore[assignment]  # as much of an app as the front calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not (self.queue and scope["path"].endswith("/completions")):
            await self._app(scope, receive, send)
            return
        act = self.queue.popleft()
        call = Call(scope, receive, send, "req_00000000000000000000000000", 0.0)
        await call.body(1 << 20)
        await act(call)

    @property
    def gateway(self) -> object:
        return self._app.gateway


class Agent:
    """A client of its own making, as good or as bad as a test wants it. It waits in the gateway's time."""

    def __init__(self, gateway: ScriptedGateway) -> None:
        self.gateway = gateway
        self.wait = gateway.advance
        headers = {"Authorization": f"Bearer {gateway.api_key}"}
        self.http = httpx.Client(base_url=gateway.base_url, headers=headers, verify=False, trust_env=False)

    def request(self, text: str = "Hello", *, headers: Mapping[str, str] | None = None, **body: Any) -> httpx.Request:
        asked = {"model": "premium", "messages": [{"role": "user", "content": text}], **body}
        return self.http.build_request("POST", "/chat/completions", json=asked, headers=headers)

    def ask(self, text: str = "Hello", **options: Any) -> httpx.Response:
        return self.http.send(self.request(text, **options))


def noted(number: int = 1, at: float = 0.0, **facts: Any) -> Entry:
    """An entry as the gateway would have made it. ``told`` are headers of the answer, ``took`` its seconds."""
    headers = {
        Header.WORKFLOW: facts.pop("workflow", None),
        Header.IDEMPOTENCY_KEY: facts.pop("idempotency_key", None),
        Header.DEADLINE_MS: facts.pop("deadline", None),
        **facts.pop("headers", {}),
    }
    body = {"model": "premium", "messages": [USER], **facts.pop("asked", {})}
    took = facts.pop("took", 0.1)
    ended = None if took is None else at + took
    code = facts.pop("code", None)
    told = {**(_told(code) if code else {}), **facts.pop("told", {})}
    answer = facts.pop("answer", json.dumps(error_body(code, "No.") if code else {}).encode())
    given: dict[str, Any] = {
        "number": number,
        "method": "POST",
        "path": "/v1/chat/completions",
        "query": "",
        "headers": {name: str(value) for name, value in headers.items() if value is not None},
        "arrived": at,
        "real": at,
        "body": json.dumps(body).encode(),
        "status": ERRORS[code].status if code else 200,
        "response": bytearray(answer),
        "response_size": len(answer),
        "response_headers": told,
        "first_byte": ended,
        "ended": ended,
        "real_ended": ended,
        "whole": ended is not None,
        **facts,
    }
    given["whole"] = given["whole"] and not (given.get("left") or given.get("cut"))
    return Entry.of(Exchange(**given), epoch=0.0)


def _told(code: ErrorCode) -> dict[str, str]:
    rule = ERRORS[code]
    return {"x-should-retry": str(rule.retryable).lower()} | ({"retry-after": "1"} if rule.retryable else {})
