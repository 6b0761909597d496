"""The gateway on real sockets: streams as they flow, callers that leave or do not read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.server.fakes import (
    DONE,
    LIMIT,
    STREAM,
    Reply,
    ScriptedAnswer,
    ScriptedProvider,
    Silence,
    delta,
    error,
    event,
    events_of,
    make_settings,
    plain,
    route,
    streamed,
    until,
)
from tests.server.fakes_gateway import Served, on_loopback, request

from flatfee.server.providers.base import MAX_ANSWER
from flatfee.server.settings import ProviderSettings, RouteSettings

HEAD_END = b"\r\n\r\n"


async def receipt_of(served: Served, head: bytes) -> dict[str, Any]:
    """Look up the receipt of a response whose head is known."""
    lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
    return await receipt_by_id(served, lines["x-flatfee-request-id"])


async def receipt_by_id(served: Served, request_id: str) -> dict[str, Any]:
    _, _, body = await served.exchange(request(f"/v1/receipts/{request_id}", method="GET"))
    receipt: dict[str, Any] = json.loads(body)
    return receipt


async def usage_of(served: Served) -> dict[str, Any]:
    _, _, body = await served.exchange(request("/v1/usage", method="GET"))
    usage: dict[str, Any] = json.loads(body)
    return usage


def dechunk(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        out, body = out + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return out


async def test_a_plain_answer_goes_over_the_wire() -> None:
    async with on_loopback(provider=ScriptedProvider()) as served:
        status, headers, body = await served.exchange(request())
    assert status == 200
    assert json.loads(body)["flatfee"]["request_id"].lower() == headers["x-flatfee-request-id"]
    assert "server" not in headers


async def test_each_event_reaches_the_caller_before_the_next_is_there() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(first=streamed(STREAM[0], gate, *STREAM[1:]))
    async with on_loopback(provider=provider) as served, asyncio.timeout(LIMIT):
        reader, writer = await served.open(request(stream=True))
        await reader.readuntil(HEAD_END)
        assert STREAM[0] in await reader.readuntil(b"\n\n\r\n")
        gate.set()
        assert (await reader.read()).endswith(DONE + b"\r\n0\r\n\r\n")
        writer.close()


async def test_a_caller_that_leaves_in_mid_stream_is_charged_what_was_delivered() -> None:
    provider = ScriptedProvider(first=streamed(delta("canary-" * 8), Silence.FOR_EVER))
    async with on_loopback(provider=provider) as served:
        reader, writer = await served.open(request(stream=True))
        head = await reader.readuntil(HEAD_END)
        await reader.readuntil(b"\n\n")
        writer.close()
        await until(lambda: provider.left == 1 and not served.app.gateway.running)
        receipt, usage = await receipt_of(served, head), await usage_of(served)
        assert served.app.gateway.health.down(served.app.gateway.monotonic()) == frozenset()
    assert receipt["state"] == "estimated"
    assert receipt["usage"]["completion_tokens"] == 14
    assert [tried["outcome"] for tried in receipt["attempts"]] == ["cancelled"]
    assert usage["fair_use"]["used"] == receipt["fair_use"]["charged"] == receipt["usage"]["prompt_tokens"] + 4 * 14
    assert (usage["fair_use"]["pending"], usage["workflows"]["active"]) == (0, 0)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_caller_that_leaves_before_a_byte_is_charged_its_prompt_at_most(stream: bool) -> None:
    provider = ScriptedProvider(first=Reply(before=Silence.FOR_EVER))
    async with on_loopback(provider=provider) as served:
        _, writer = await served.open(request(stream=stream))
        await until(lambda: provider.asked)
        (request_id,) = served.app.gateway.running
        writer.close()
        await until(lambda: provider.left == 1 and not served.app.gateway.running)
        receipt = await receipt_by_id(served, request_id)
    assert provider.routes == ["first"]
    assert receipt["state"] == "estimated"
    assert receipt["fair_use"]["charged"] == receipt["usage"]["prompt_tokens"] < 50


async def test_a_caller_that_leaves_between_two_tries_pays_nothing() -> None:
    provider = ScriptedProvider(first=error(429, retry_after="5"))
    async with on_loopback(provider=provider) as served:
        _, writer = await served.open(request())
        await until(lambda: provider.left == 1)
        (request_id,) = served.app.gateway.running
        writer.close()
        await until(lambda: not served.app.gateway.running)
        receipt = await receipt_by_id(served, request_id)
    assert (receipt["state"], receipt["fair_use"]["charged"]) == ("refused", 0)
    assert provider.routes == ["first"]


async def test_a_caller_that_leaves_with_half_a_body_asks_nobody(caplog: pytest.LogCaptureFixture) -> None:
    provider = ScriptedProvider()
    async with on_loopback(provider=provider) as served:
        _, writer = await served.open(request()[:-5])
        await until(lambda: served.app.gateway.active)
        writer.close()
        await until(lambda: not served.app.gateway.active)
    assert provider.asked == []
    assert "request.crashed" not in caplog.messages


class Flood(ScriptedProvider):
    """A provider that sends as fast as it is read; ``sent`` counts events of 64 KiB."""

    sent = 0

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[ScriptedAnswer, None]:
        flood = self

        class Answer(ScriptedAnswer):
            async def chunks(self) -> AsyncIterator[bytes]:
                piece = delta("x" * 65_536)
                while True:
                    flood.sent += 1
                    await asyncio.sleep(0)  # as any network would
                    yield piece

        self.asked.append((route.name, {}))
        try:
            yield Answer(Reply())
        finally:
            self.left += 1


async def test_readers_that_stall_pause_the_upstream_and_say_nothing_of_the_route() -> None:
    """Three of them would open the circuit if their stalling were the route's failure."""
    provider = Flood()
    routes = [route("first", priority=1, total_timeout=0.3), route("second", priority=2)]
    async with on_loopback(make_settings(routes=routes), provider) as served:
        opened = [await served.open(request(stream=True)) for _ in range(3)]
        heads = [await reader.readuntil(HEAD_END) for reader, _ in opened]
        await until(lambda: provider.left == 3)
        receipts = [await receipt_of(served, head) for head in heads]
        assert served.app.gateway.health.down(served.app.gateway.monotonic()) == frozenset()
        for _, writer in opened:
            writer.transport.abort()
    assert provider.sent * 65_536 < 3 * MAX_ANSWER
    for receipt in receipts:
        assert receipt["state"] == "estimated"
        assert receipt["fair_use"]["charged"] > 16_000
        assert [tried["outcome"] for tried in receipt["attempts"]] == ["cancelled"]


async def test_a_reader_that_stalls_and_then_leaves_is_charged_what_was_delivered() -> None:
    provider = Flood()
    async with on_loopback(make_settings(routes=[route("first")]), provider) as served:
        reader, writer = await served.open(request(stream=True))
        head = await reader.readuntil(HEAD_END)
        connection: Any = next(iter(served.server.server_state.connections))
        await until(lambda: connection.departure.paused)
        writer.transport.abort()
        await until(lambda: provider.left == 1 and not served.app.gateway.running)
        receipt = await receipt_of(served, head)
    assert receipt["state"] == "estimated"
    assert receipt["usage"]["completion_tokens"] > 16_000


async def test_a_large_event_and_a_slow_reader_get_along() -> None:
    big = delta("x" * 3_000_000)
    provider = ScriptedProvider(first=streamed(big, *STREAM[2:]))
    async with on_loopback(provider=provider) as served, asyncio.timeout(LIMIT):
        reader, writer = await served.open(request(stream=True))
        await reader.readuntil(HEAD_END)
        parts = []
        while part := await reader.read(65_536):
            parts.append(part)
            await asyncio.sleep(0)
        writer.close()
    assert dechunk(b"".join(parts)).startswith(big)


@pytest.mark.parametrize("limit", [1024, 100_000])
async def test_a_body_in_chunks_is_bounded_too(limit: int) -> None:
    body = b'{"model": "premium", "messages": [{"role": "user", "content": "' + b"x" * 5000 + b'"}]}'
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + 512]), body[at : at + 512]) for at in range(0, 5200, 512))
    head = request(body=b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    async with on_loopback(make_settings(server={"max_body_bytes": limit}), ScriptedProvider()) as served:
        status, _, answer = await served.exchange(head, chunks + b"0\r\n\r\n")
    assert status == (200 if limit > 5000 else 413)
    assert limit > 5000 or json.loads(answer)["error"]["code"] == "request_too_large"


async def test_a_key_sent_twice_is_refused() -> None:
    async with on_loopback(provider=ScriptedProvider()) as served:
        status, _, body = await served.exchange(request("/v1/chat/completions", None, "authorization: Bearer other"))
    assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_request")


async def test_the_host_header_says_nothing() -> None:
    async with on_loopback(provider=ScriptedProvider()) as served:
        odd = request().replace(b"host: gateway", b"host: evil.example:1")
        status, _, body = await served.exchange(odd)
    assert status == 200
    assert b"evil" not in body


async def test_a_line_break_smuggled_into_a_header_splits_nothing() -> None:
    async with on_loopback(provider=ScriptedProvider()) as served:
        status, headers, body = await served.exchange(
            request("/v1/models/a%0d%0ax-evil:%201", method="GET"),
        )
    assert status == 404
    assert "x-evil" not in headers
    assert json.loads(body)["error"]["code"] == "model_not_found"


@asynccontextmanager
async def real_upstream(*pieces: bytes) -> AsyncGenerator[tuple[int, list[bytes], asyncio.Event], None]:
    """A raw upstream that streams ``pieces`` and then waits for its caller to leave."""
    heads: list[bytes] = []
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(HEAD_END))
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in pieces:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
        while await reader.read(65_536):
            continue
        left.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads, left
    finally:
        server.close()


async def test_the_upstream_connection_of_a_caller_that_left_is_closed_and_knew_none_of_its_headers() -> None:
    async with real_upstream(STREAM[0]) as (port, heads, left):
        base = make_settings(routes=[route("first")])
        settings = base.model_copy(
            update={"providers": (ProviderSettings(name="fake", kind="openai", base_url=f"http://127.0.0.1:{port}"),)}
        )
        async with on_loopback(settings) as served, asyncio.timeout(LIMIT):
            lines = ("cookie: canary-cookie", "x-mine: canary-header", "x-flatfee-workflow: canary-workflow")
            reader, writer = await served.open(request("/v1/chat/completions", None, *lines, stream=True))
            await reader.readuntil(STREAM[0])
            assert not left.is_set()
            writer.close()
            await left.wait()
            await until(lambda: not served.app.gateway.running)
    assert b"canary" not in heads[0]
    assert heads[0].startswith(b"POST /chat/completions HTTP/1.1\r\n")


async def test_a_stream_that_breaks_ends_well_formed_on_the_wire() -> None:
    provider = ScriptedProvider(first=streamed(STREAM[0], event({"error": {"message": "x"}})))
    async with on_loopback(make_settings(routes=[route("first")]), provider) as served:
        status, headers, body = await served.exchange(request(stream=True))
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert events_of(dechunk(body))[-1]["error"]["code"] == "provider_unavailable"
    assert body.endswith(b"\r\n0\r\n\r\n")


async def test_requests_on_one_connection_know_nothing_of_each_other() -> None:
    provider = ScriptedProvider(first=[plain("one"), plain("two")])
    async with on_loopback(provider=provider) as served:
        kept = request().replace(b"connection: close\r\n", b"")
        status, _, body = await served.exchange(kept + request())
    assert status == 200
    first, second = (at for at in range(len(body)) if body.startswith(b'"request_id":"', at))
    assert body[first : first + 44] != body[second : second + 44]
    assert b"one" in body[:first]
    assert b"two" in body[first:second]
