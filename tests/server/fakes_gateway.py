"""A gateway to test: in memory with a client, or on loopback where connections matter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from tests.server.fakes import KEY, LIMIT, ScriptedProvider, make_body, make_settings, until

from flatfee.server.app import App, create_app
from flatfee.server.asked import BESIDE
from flatfee.server.gateway import Gateway
from flatfee.server.health import FAILURES_TO_OPEN
from flatfee.server.providers.base import Provider
from flatfee.server.run import GatewayServer
from flatfee.server.settings import (
    Settings,
)
from flatfee.server.store.base import Store
from flatfee.server.store.memory import MemoryStore


class Rig:
    """A running gateway in memory, its provider, and a client that has a key."""

    def __init__(self, app: App, provider: ScriptedProvider, client: httpx.AsyncClient) -> None:
        self.app = app
        self.provider = provider
        self.client = client

    @property
    def gateway(self) -> Gateway:
        return self.app.gateway

    async def ask(self, headers: Mapping[str, str] | None = None, **body: Any) -> httpx.Response:
        """Send a completion."""
        return await self.client.post("/v1/chat/completions", json=make_body(**body), headers=headers)

    async def dry_run(self, headers: Mapping[str, str] | None = None, **body: Any) -> httpx.Response:
        """Ask what would become of a completion."""
        return await self.client.post("/v1/route", json=make_body(**body), headers=headers)

    def take_down(self, *names: str) -> None:
        """Have the circuits of routes open."""
        for name in names * FAILURES_TO_OPEN:
            self.gateway.health.failed(name, self.gateway.monotonic(), 0)

    async def receipt(self, response: httpx.Response) -> dict[str, Any]:
        """Look up the receipt of a response, without what is kept beside it."""
        found = await self.client.get(f"/v1/receipts/{response.headers['x-flatfee-request-id']}")
        assert found.status_code == 200, found.text
        receipt: dict[str, Any] = found.json()
        return {name: value for name, value in receipt.items() if name not in BESIDE}

    async def usage(self) -> dict[str, Any]:
        usage: dict[str, Any] = (await self.client.get("/v1/usage")).json()
        return usage


@asynccontextmanager
async def running(
    settings: Settings | None = None,
    provider: ScriptedProvider | None = None,
    *,
    store: Store | None = None,
) -> AsyncGenerator[Rig, None]:
    """Run a gateway in memory."""
    provider = provider or ScriptedProvider()
    providers: dict[str, Provider] = {"fake": provider}
    app = create_app(settings or make_settings(), store=store or MemoryStore(), providers=providers)
    app.gateway.chance = lambda: 0.0
    headers = {"authorization": f"Bearer {KEY}"}
    async with app.running():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            yield Rig(app, provider, client)


@dataclass
class Served:
    """A gateway on loopback."""

    app: App
    server: GatewayServer
    serving: asyncio.Task[None]
    port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def open(self, *parts: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect and send bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        for part in parts:
            writer.write(part)
            await writer.drain()
        return reader, writer

    async def exchange(self, *parts: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes and read one response, up to the end of the connection."""
        reader, _ = await self.open(*parts)
        async with asyncio.timeout(LIMIT):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


def request(
    path: str = "/v1/chat/completions", body: bytes | None = None, *lines: str, method: str = "POST", **json_body: Any
) -> bytes:
    """Return a request as bytes, with a key, for a connection that is closed after it."""
    if body is None:
        body = json.dumps(make_body(**json_body)).encode() if method == "POST" else b""
    head = [
        f"{method} {path} HTTP/1.1",
        "host: gateway",
        f"authorization: Bearer {KEY}",
        f"content-length: {len(body)}",
        "connection: close",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


@asynccontextmanager
async def on_loopback(
    settings: Settings | None = None,
    provider: ScriptedProvider | None = None,
    *,
    store: Store | None = None,
) -> AsyncGenerator[Served, None]:
    """Run a gateway on a free port of loopback; without a provider, with those of the settings."""
    providers: dict[str, Provider] | None = {"fake": provider} if provider is not None else None
    app = create_app(settings or make_settings(), store=store or MemoryStore(), providers=providers)
    bound: list[int] = []
    server = GatewayServer(app, on_ready=lambda _, port: bound.append(port))
    serving = asyncio.create_task(server.serve())
    await until(lambda: bound or serving.done())
    served = Served(app, server, serving, bound[0] if bound else 0)
    try:
        yield served
    finally:
        for writer in served.writers:
            writer.transport.abort()
        server.should_exit = True
        await serving
