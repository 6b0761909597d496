"""The end of a server: what runs is finished, what is new is refused, and nothing stays unsettled."""

from __future__ import annotations

import asyncio
import gc
import json
import signal

import pytest
from tests.server.fakes import (
    DONE,
    LIMIT,
    STREAM,
    FailingStore,
    ScriptedProvider,
    Silence,
    make_settings,
    streamed,
    until,
)
from tests.server.fakes_gateway import Served, on_loopback, request

from flatfee.server import run
from flatfee.server.app import App, create_app


async def begin(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin a stream and read its first event."""
    reader, writer = await served.open(request(stream=True))
    async with asyncio.timeout(LIMIT):
        await reader.readuntil(STREAM[0])
    return reader, writer


async def test_a_signal_lets_streams_finish_and_refuses_what_is_new(caplog: pytest.LogCaptureFixture) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(first=streamed(STREAM[0], gate, *STREAM[1:]))
    with caplog.at_level("INFO"):
        async with on_loopback(provider=provider) as served:
            reader, writer = await begin(served)
            served.server.handle_exit(signal.SIGTERM, None)
            await until(lambda: served.app.gateway.draining)
            status, headers, body = await served.exchange(request())
            assert (status, json.loads(body)["error"]["code"]) == (503, "gateway_overloaded")
            assert int(headers["retry-after"]) >= 1
            assert (await served.exchange(request("/health/ready", method="GET")))[0] == 503
            assert (await served.exchange(request("/health/live", method="GET")))[0] == 200
            gate.set()
            async with asyncio.timeout(LIMIT):
                rest = await reader.read()
                await served.serving
            writer.close()
    assert rest.endswith(DONE + b"\r\n0\r\n\r\n")
    assert "server.draining" in caplog.messages
    assert provider.closed


async def test_an_idle_gateway_ends_at_the_first_signal() -> None:
    async with on_loopback(provider=ScriptedProvider()) as served:
        served.server.handle_exit(signal.SIGINT, None)
        async with asyncio.timeout(LIMIT):
            await served.serving


@pytest.mark.parametrize("how", ["the grace is over", "a second signal"])
async def test_what_runs_for_too_long_is_ended_and_settled(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run, "CANCEL_SECONDS", 0)
    store = FailingStore()
    grace = 0.05 if how == "the grace is over" else 600
    provider = ScriptedProvider(first=streamed(STREAM[0], Silence.FOR_EVER))
    settings = make_settings(server={"shutdown_grace": grace})
    async with on_loopback(settings, provider, store=store) as served:
        reader, writer = await begin(served)
        served.server.handle_exit(signal.SIGTERM, None)
        await until(lambda: served.app.gateway.draining)
        if grace == 600:
            served.server.handle_exit(signal.SIGTERM, None)
            served.server._captured_signals.clear()  # which uvicorn would raise again in this process
        async with asyncio.timeout(LIMIT):
            await served.serving
            rest = await reader.read()
        writer.close()
        assert served.app.gateway.running == {}
    ((_, outcome),) = store.settled
    assert outcome.charged > 0
    assert outcome.receipt.state == "estimated"
    assert b'"code":"gateway_overloaded"' in rest
    assert b'"state":"estimated"' in rest
    assert b"[DONE]" not in rest
    assert rest.endswith(b"\r\n0\r\n\r\n")
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_signal_before_the_start_is_obeyed() -> None:
    server = run.GatewayServer(_app())
    server.handle_exit(signal.SIGTERM, None)
    assert server.should_exit


def test_run_serves_with_a_collector_that_comes_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[run.GatewayServer] = []
    monkeypatch.setattr(run.GatewayServer, "run", lambda server, sockets=None: ran.append(server))
    app, bound, before = _app(), [], gc.get_threshold()
    run.run(app, on_ready=lambda *address: bound.append(address))
    run.run(app)
    try:
        for server in ran:
            assert server.config.app is app
            assert server._on_ready is not None
            server._on_ready("127.0.0.1", 1)
        assert gc.get_threshold() > before
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
    assert bound == [("127.0.0.1", 1)]


def _app() -> App:
    return create_app(make_settings())
