"""Callers that take their time: with a head, with a body, with what is left of one, and with reading."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.server.abuse.wire import BODY, CHUNKED, LIVE, Bench, Caller, check_refusal, head, whole
from tests.server.fakes import ANSWER, Reply, ScriptedAnswer, ScriptedProvider, Silence, delta, plain, until
from tests.server.fakes_gateway import on_loopback

from flatfee.server import call
from flatfee.server.http import connection as connections
from flatfee.server.http import departure
from flatfee.server.settings import RouteSettings

pytestmark = pytest.mark.slow

STREAMED = whole(body=BODY[:-1] + b', "stream": true}')
LARGE = "x" * 24_000_000
"""More than the machine keeps for a reader that does not read."""


@asynccontextmanager
async def gateway(provider: ScriptedProvider | None = None) -> AsyncGenerator[Bench, None]:
    provider = provider or ScriptedProvider()
    async with on_loopback(provider=provider) as served:
        yield Bench(served, provider)
        for writer in served.writers:
            writer.transport.abort()
        await until(lambda: not served.server.server_state.connections)


@pytest.fixture
def short_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)


@pytest.fixture
def short_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departure, "WRITE_SECONDS", 0.2)


async def reads_nothing(bench: Bench, raw: bytes) -> Caller:
    """Send a request and never read a byte of its answer."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", bench.served.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # the stream's transport reads, too
    bench.served.writers.append(writer)
    writer.write(raw)
    return Caller(reader, writer)


@pytest.mark.usefixtures("short_heads")
@pytest.mark.parametrize("raw", [LIVE[:1], LIVE[:30], LIVE[:-1]])
async def test_half_a_head_is_refused_after_a_time(raw: bytes) -> None:
    async with gateway() as bench:
        caller = await bench.call(raw)
        answer = await caller.answer()
        check_refusal(answer)
        assert (answer.code, await caller.rest()) == ("invalid_request", b"")
        await bench.serves()


@pytest.mark.usefixtures("short_heads")
async def test_a_head_that_trickles_is_not_waited_for_longer_than_one_that_stops() -> None:
    async with gateway() as bench:
        caller = await bench.call(LIVE[:-2])
        trickling = asyncio.create_task(_trickle(caller))
        assert (await caller.answer()).code == "invalid_request"
        trickling.cancel()


async def _trickle(caller: Caller) -> None:
    while True:
        await caller.send(b"a: b\r\n")
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("short_heads")
@pytest.mark.parametrize("raw", [b"", b"\r\n"], ids=["nothing", "an empty line"])
async def test_a_connection_that_says_nothing_is_closed_without_a_word(raw: bytes) -> None:
    async with gateway() as bench:
        assert await (await bench.call(raw)).rest() == b""


@pytest.mark.usefixtures("short_heads")
async def test_an_empty_line_behind_a_body_is_no_head_that_is_waited_for() -> None:
    gate = asyncio.Event()
    async with gateway(ScriptedProvider(first=Reply(plain().pieces, before=gate))) as bench:
        caller = await bench.call(whole())
        await until(lambda: bench.gateway.running)
        (connection,) = bench.connections
        await caller.send(b"\r\n")
        await until(lambda: connection._reader.loose)
        await until(lambda: connection.arrival.until is None)
        gate.set()
        assert (await caller.answer()).status == 200
        await caller.send(LIVE)
        assert (await caller.answer()).status == 200


@pytest.mark.usefixtures("short_heads")
async def test_a_kept_connection_may_rest_longer_but_its_next_head_may_not_take_longer() -> None:
    async with gateway() as bench:
        caller = await bench.call(LIVE)
        assert (await caller.answer()).status == 200
        (connection,) = bench.connections
        assert connection._resting
        await caller.send(LIVE[:9])
        assert (await caller.answer()).code == "invalid_request"


@pytest.mark.usefixtures("short_heads")
async def test_half_a_head_behind_a_request_that_runs_is_refused_after_its_answer() -> None:
    gate = asyncio.Event()
    async with gateway(ScriptedProvider(first=Reply(plain().pieces, before=gate))) as bench:
        caller = await bench.call(whole() + LIVE[:9])
        (connection,) = bench.connections
        await until(lambda: connection._refusal is not None)
        gate.set()
        assert ANSWER.encode() in (await caller.answer()).body
        assert (await caller.answer()).code == "invalid_request"
        assert await caller.rest() == b""


@pytest.mark.parametrize("raw", [whole()[:-3], head(CHUNKED) + b"3e\r\n{", head(CHUNKED)], ids=str)
async def test_a_body_that_stops_is_refused_after_a_time(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "BODY_SECONDS", 0.1)
    async with gateway() as bench:
        caller = await bench.call(raw)
        answer = await caller.answer()
        check_refusal(answer)
        assert answer.code == "invalid_request"
        await bench.serves()
        assert bench.provider.routes == ["first"]


@pytest.mark.parametrize("close", [b"a: b", b"connection: close"], ids=["kept", "closing"])
async def test_the_rest_of_a_body_that_was_answered_is_not_waited_for_for_ever(
    close: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.1)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.1)
    async with gateway() as bench:
        caller = await bench.call(whole(close).replace(b"canary-key", b"canary-kex")[:-9])
        assert (await caller.answer()).code == "invalid_api_key"
        assert await caller.rest() == b""


async def test_a_connection_whose_refused_body_came_late_is_kept_as_long_as_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flatfee.server.run._KEEP_ALIVE_SECONDS", 0.1)
    async with gateway() as bench:
        raw = whole().replace(b"canary-key", b"canary-kex")
        caller = await bench.call(raw[:-9])
        assert (await caller.answer()).code == "invalid_api_key"
        await caller.send(raw[-9:])
        assert await caller.rest() == b""


async def test_who_goes_on_sending_after_a_refusal_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.1)
    async with gateway() as bench:
        caller = await bench.call(b"EVIL\r\n\r\n")
        assert (await caller.answer()).status == 400
        trickling = asyncio.create_task(_trickle(caller))
        await until(lambda: not bench.connections)
        trickling.cancel()


class Flood(ScriptedProvider):
    """A provider that streams without end, as fast as it is read."""

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[ScriptedAnswer, None]:
        class Answer(ScriptedAnswer):
            async def chunks(self) -> AsyncIterator[bytes]:
                piece = delta("x" * 65_536)
                while True:
                    await asyncio.sleep(0)  # as any network would
                    yield piece

        self.asked.append((route.name, {}))
        try:
            yield Answer(Reply())
        finally:
            self.left += 1


@pytest.mark.usefixtures("short_reading")
async def test_a_reader_that_takes_nothing_is_gone_and_its_stream_with_it() -> None:
    async with gateway(Flood()) as bench:
        await reads_nothing(bench, STREAMED)
        await until(lambda: bench.gateway.running)
        (known,) = bench.gateway.running
        await until(lambda: not bench.connections)
        await until(lambda: bench.provider.left == 1)
        await bench.at_rest()
        receipt = await bench.receipt(known)
        assert (receipt["state"], [tried["outcome"] for tried in receipt["attempts"]]) == ("estimated", ["cancelled"])
        assert (await bench.get("/v1/workflows"))["data"] == []
        assert (await bench.get("/v1/usage"))["fair_use"]["pending"] == 0


@pytest.mark.usefixtures("short_reading")
@pytest.mark.parametrize("close", [b"a: b", b"connection: close"], ids=["kept", "closing"])
async def test_a_reader_that_does_not_take_the_last_bytes_is_gone_and_paid_what_it_bought(close: bytes) -> None:
    async with gateway(ScriptedProvider(first=plain(LARGE))) as bench:
        await reads_nothing(bench, whole(close))
        await until(lambda: bench.provider.left == 1)
        await until(lambda: not bench.connections)
        await bench.at_rest()
        (receipt,) = (await bench.get("/v1/receipts"))["data"]
        assert (receipt["state"], receipt["usage"]["completion_tokens"]) == ("settled", 5)


@pytest.mark.usefixtures("short_reading")
async def test_a_connection_that_ends_waits_for_its_very_last_bytes_no_longer_than_for_others() -> None:
    async with gateway(ScriptedProvider(first=plain(LARGE))) as bench:
        await reads_nothing(bench, whole(b"connection: close"))
        (connection,) = await _some(bench)
        await until(connection.transport.is_closing)
        connection.resume_writing()  # as if few enough were left for more to be written
        await until(lambda: not bench.connections)


@pytest.mark.usefixtures("short_reading")
@pytest.mark.parametrize("close", [b"a: b", b"connection: close"], ids=["kept", "closing"])
async def test_a_connection_that_rests_on_bytes_nobody_takes_is_ended(
    close: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flatfee.server.run._KEEP_ALIVE_SECONDS", 0.1)
    async with gateway(ScriptedProvider(first=plain(LARGE))) as bench:
        await reads_nothing(bench, whole(close))
        (connection,) = await _some(bench)
        connection.transport.set_write_buffer_limits(
            high=2 * len(LARGE)
        )  # as if less than it takes for a pause were left
        await until(lambda: bench.provider.left == 1)
        await until(lambda: not bench.connections)


async def _some(bench: Bench) -> set[Any]:
    await until(lambda: bench.connections)
    return bench.connections


async def test_a_reader_is_slow_and_not_gone_while_bytes_leave() -> None:
    async with gateway(ScriptedProvider(first=plain(LARGE))) as bench:
        caller = await reads_nothing(bench, whole())
        (connection,) = await _some(bench)
        await until(lambda: connection.departure._timer is not None)
        await until(lambda: connection.transport.get_write_buffer_size() == connection.departure._unsent < len(LARGE))
        for left in range(departure.LOOKS - 1, 0, -1):
            connection.departure._timer.cancel()
            connection.departure._look()
            assert connection.departure._looks_left == left
        caller.writer.transport.resume_reading()  # type: ignore[attr-defined]  # the stream's transport reads, too
        while connection.transport.get_write_buffer_size() == connection.departure._unsent:
            await caller.reader.read(65_536)
        connection.departure._timer.cancel()
        connection.departure._look()
        assert connection.departure._looks_left == departure.LOOKS
        assert not connection.transport.is_closing()


@pytest.mark.skipif(departure.NOTSENT_LOWAT is None, reason="the system takes bytes in steps of its own")
async def test_a_reader_of_small_pieces_is_seen_to_read() -> None:
    async with gateway(ScriptedProvider(first=plain(LARGE))) as bench:
        caller = await reads_nothing(bench, whole())
        (connection,) = await _some(bench)
        unsent = connection.transport.get_write_buffer_size
        await until(lambda: connection.departure._timer is not None)
        await until(lambda: unsent() == connection.departure._unsent < len(LARGE))
        caller.writer.transport.resume_reading()  # type: ignore[attr-defined]  # the stream's transport reads, too
        for _ in range(5):
            before = unsent()
            await caller.reader.readexactly(48_000)
            await until(lambda before=before: unsent() < before)  # type: ignore[misc]  # bound as it is now


async def test_a_slow_reader_gets_the_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departure, "WRITE_SECONDS", 2.0)
    async with gateway(ScriptedProvider(first=plain("x" * 8_000_000))) as bench:
        caller = await bench.call(whole(b"connection: close"))
        size = 0
        while part := await caller.reader.read(65_536):
            size += len(part)
            await asyncio.sleep(0)
        assert size > 8_000_000


async def test_who_leaves_while_it_does_not_read_is_gone_at_once() -> None:
    async with gateway(Flood()) as bench:
        caller = await reads_nothing(bench, STREAMED)
        (connection,) = await _some(bench)
        await until(lambda: connection.departure.paused)
        caller.reset()
        await until(lambda: bench.provider.left == 1)
        await bench.at_rest()


async def test_a_gateway_that_drains_waits_no_longer_for_a_reader_than_it_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(departure, "WRITE_SECONDS", 0.4)
    async with gateway(Flood()) as bench:
        await reads_nothing(bench, STREAMED)
        await until(lambda: bench.gateway.running)
        bench.served.server.drain()
        async with asyncio.timeout(10):
            await bench.served.serving
    assert bench.gateway.running == {}


async def test_while_a_request_runs_no_limit_of_its_connection_does() -> None:
    async with gateway(ScriptedProvider(first=Reply(before=Silence.FOR_EVER))) as bench:
        await bench.call(whole())
        (connection,) = await _some(bench)
        await until(lambda: bench.gateway.running)
        assert (connection.arrival.until, connection.departure._timer) == (None, None)
