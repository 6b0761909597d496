"""What abuses the gateway: plain sockets, bytes that are written by hand, and tables of them."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.server.fakes import KEY, LIMIT, PROMPT, ScriptedProvider, until
from tests.server.fakes_gateway import Served

BODY = json.dumps({"model": "premium", "messages": [{"role": "user", "content": PROMPT}]}).encode()
CHUNKED = b"transfer-encoding: chunked"
IN_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
AUTHORIZATION = b"authorization: Bearer " + KEY.encode()
REQUEST_ID = re.compile(r"req_[0-9A-HJKMNP-TV-Z]{26}")

ASK = b"POST /v1/chat/completions HTTP/1.1"
MODELS = b"GET /v1/models HTTP/1.1"
LIVE = b"GET /health/live HTTP/1.1\r\nhost: gateway\r\n\r\n"


def head(*lines: bytes, first: bytes = ASK, host: bytes | None = b"host: gateway") -> bytes:
    """Return a request's head: with a host and a key, unless it is told otherwise."""
    return b"\r\n".join([first, *([host] if host is not None else []), AUTHORIZATION, *lines, b"", b""])


def whole(*lines: bytes, body: bytes = BODY, first: bytes = ASK) -> bytes:
    """Return a request with a body and its length."""
    return head(*lines, b"content-length: %d" % len(body), first=first) + body


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """The error's code, if it is an error."""
        return json.loads(self.body)["error"]["code"] if self.status >= 400 and self.body else None

    @property
    def request_id(self) -> str:
        return self.headers["x-flatfee-request-id"]


@dataclass(frozen=True)
class Case:
    """One abuse and what is answered; ``closes`` says whether the connection ends with it."""

    name: str
    raw: bytes
    status: int = 400
    code: str | None = "invalid_request"
    closes: bool = True

    def __str__(self) -> str:
        return self.name


def ok(name: str, raw: bytes, *, closes: bool = False) -> Case:
    """Return a case that is no abuse, whatever it looks like."""
    return Case(name, raw, 200, None, closes)


def stays(name: str, raw: bytes, status: int = 400, code: str | None = "invalid_request") -> Case:
    """Return a case that is refused, and the connection lives on."""
    return Case(name, raw, status, code, closes=False)


class Caller:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, raw: bytes) -> None:
        """Send bytes. That the gateway has closed its side meanwhile is heard when it is read."""
        if self.writer.is_closing():
            return
        self.writer.write(raw)
        try:
            await self.writer.drain()
        except ConnectionError:
            return

    async def answer(self) -> Answer:
        """Read one response that tells its length, or comes in chunks."""
        async with asyncio.timeout(LIMIT):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            status = int(first.split()[1])
            headers = dict(line.split(": ", 1) for line in lines)
            if status == 100:
                return Answer(status, headers, b"")
            if "content-length" in headers:
                return Answer(status, headers, await self.reader.readexactly(int(headers["content-length"])))
            return Answer(status, headers, await self._chunks())

    async def _chunks(self) -> bytes:
        out = b""
        while size := int(await self.reader.readline(), 16):
            out += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)
        return out

    async def rest(self) -> bytes:
        """Read up to the end of the connection."""
        async with asyncio.timeout(LIMIT):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def reset(self) -> None:
        """End the connection with a reset instead of a goodbye."""
        if self.writer.is_closing():
            return
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


class Bench:
    """A gateway on loopback, the provider behind it, and callers."""

    def __init__(self, served: Served, provider: ScriptedProvider) -> None:
        self.served = served
        self.provider = provider

    @property
    def gateway(self) -> Any:
        return self.served.app.gateway

    @property
    def connections(self) -> set[Any]:
        """The gateway's side of every connection."""
        found: set[Any] = self.served.server.server_state.connections
        return found

    async def call(self, *parts: bytes) -> Caller:
        """Connect and send bytes."""
        caller = Caller(*await self.served.open())
        for part in parts:
            await caller.send(part)
        return caller

    async def serves(self) -> None:
        """See that a good request is served."""
        caller = await self.call(whole(b"connection: close"))
        answer = await caller.answer()
        assert (answer.status, await caller.rest()) == (200, b"")

    async def get(self, path: str) -> dict[str, Any]:
        caller = await self.call(head(b"connection: close", first=f"GET {path} HTTP/1.1".encode()))
        found: dict[str, Any] = json.loads((await caller.answer()).body)
        return found

    async def receipt(self, request_id: str) -> dict[str, Any]:
        return await self.get(f"/v1/receipts/{request_id}")

    async def at_rest(self) -> None:
        """Wait until no request is served any more."""
        await until(lambda: not self.gateway.active and not self.gateway.running)

    async def try_out(self, case: Case) -> Answer:
        """Send a case, check all that is promised of its answer, and see that the gateway goes on."""
        asked = len(self.provider.asked)
        caller = await self.call(case.raw)
        answer = await caller.answer()
        assert (answer.status, answer.code) == (case.status, case.code), answer
        check_ids(answer)
        if case.status >= 400:
            check_refusal(answer)
            assert len(self.provider.asked) == asked
        if case.closes:
            assert await caller.rest() == b""
        else:
            await caller.send(LIVE)
            assert (await caller.answer()).status == 200
        await self.serves()
        return answer


def check_ids(answer: Answer) -> None:
    """See that a response tells its request id, and no header that a caller smuggled in."""
    assert REQUEST_ID.fullmatch(answer.request_id)
    assert answer.headers["x-request-id"] == answer.request_id
    assert "evil" not in str(answer.headers)


def check_refusal(answer: Answer) -> None:
    """See that an error has the one envelope."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-should-retry"] == "false"
    if answer.body:
        envelope = json.loads(answer.body)
        assert set(envelope) == {"error", "flatfee"}
        assert set(envelope["error"]) == {"message", "type", "param", "code"}
        assert envelope["flatfee"]["request_id"] == answer.request_id
        assert envelope["flatfee"]["state"] == "refused"
        assert "Traceback" not in envelope["error"]["message"]
        assert "canary" not in envelope["error"]["message"]
