"""An upstream made of a raw socket, byte for byte, and the OpenAI adapter that asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr
from tests.server.fakes import route, until

from flatfee.server.providers.base import ProviderFailure
from flatfee.server.providers.openai import OpenAIProvider
from flatfee.server.settings import ProviderSettings, RouteSettings

SECRET = "canary-upstream-secret"
BODY = b'{"model":"m","messages":[{"role":"user","content":"canary-prompt"}]}'

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


class Upstream:
    """A server that answers every request with ``answer`` and notes what it saw."""

    def __init__(self, answer: Callable[[Writer], Awaitable[None]]) -> None:
        self._answer = answer
        self.port = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.ended = 0
        self.writers: list[Writer] = []

    async def serve(self, reader: Reader, writer: Writer) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(int(fields[b"content-length"])))
                await self._answer(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended += 1
            writer.close()


AnUpstream = TypeVar("AnUpstream", bound=Upstream)


def upstream(answer: Callable[[Writer], Awaitable[None]]) -> AbstractAsyncContextManager[Upstream]:
    return on_a_port(Upstream(answer))


@asynccontextmanager
async def on_a_port(fake: AnUpstream) -> AsyncGenerator[AnUpstream, None]:
    """Let an upstream be served on loopback, until all who asked it have left."""
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        await until(lambda: fake.ended == fake.connections)


@asynccontextmanager
async def provider(
    port: int, key: str | None = SECRET, host: str = "http://127.0.0.1"
) -> AsyncGenerator[OpenAIProvider, None]:
    settings = ProviderSettings(
        name="up", kind="openai", base_url=f"{host}:{port}/v1/", api_key=SecretStr(key) if key else None
    )
    made = OpenAIProvider(settings)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def pair(
    answer: Callable[[Writer], Awaitable[None]], key: str | None = SECRET
) -> AsyncGenerator[tuple[Upstream, OpenAIProvider], None]:
    """An upstream, and the adapter that is connected to it."""
    async with upstream(answer) as fake, provider(fake.port, key) as api:
        yield fake, api


def a_route(**options: Any) -> RouteSettings:
    return RouteSettings.model_validate(route("up", **options))


def head(size: int | None = None, *lines: str, status: str = "200 OK") -> bytes:
    length = "transfer-encoding: chunked" if size is None else f"content-length: {size}"
    return "\r\n".join([f"HTTP/1.1 {status}", length, *lines, "", ""]).encode()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def say(*parts: bytes, close: bool = False) -> Callable[[Writer], Awaitable[None]]:
    async def answer(writer: Writer) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if close:
            writer.close()

    return answer


def whole(body: bytes, *lines: str, status: str = "200 OK") -> Callable[[Writer], Awaitable[None]]:
    return say(head(len(body), *lines, status=status) + body)


async def fails(port: int, host: str = "http://127.0.0.1", **options: Any) -> ProviderFailure:
    """Ask an upstream, and return how it fails."""
    async with provider(port, host=host) as api:
        with pytest.raises(ProviderFailure) as caught:
            async with api.send(a_route(**options), BODY, stream=False) as answer:
                await answer.read()
    assert SECRET not in str(caught.value)
    return caught.value
