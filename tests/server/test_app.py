"""The app around the endpoints: what no endpoint may see, what works in the background, ASGI's lifespan."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.server.fakes import (
    ANSWER,
    KEY,
    STREAM,
    FailingStore,
    Reply,
    ScriptedProvider,
    delta,
    error,
    event,
    make_settings,
    plain,
    streamed,
    until,
)
from tests.server.fakes_gateway import running

from flatfee.receipt import Receipt
from flatfee.server import housekeeping
from flatfee.server.app import App, create_app, open_store
from flatfee.server.gateway import LEASE_SECONDS
from flatfee.server.ids import request_id
from flatfee.server.keys import KeyKind
from flatfee.server.providers.simulated import SimulatedProvider
from flatfee.server.settings import ReceiptsSettings, ServerSettings
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Caller
from flatfee.server.store.sqlite import SqliteStore
from flatfee.server.worker import Worker
from flatfee.wire import Billing

ORIGIN = "https://app.example.com"


@pytest.mark.parametrize("path", ["/v1/models", "/health/live", "/nothing"])
@pytest.mark.parametrize("origin", ["https://example.com", "null", ORIGIN + ".evil.example"])
async def test_a_page_that_is_not_allowed_is_refused_everywhere(path: str, origin: str) -> None:
    async with running(make_settings(server={"allowed_origins": [ORIGIN]})) as rig:
        response = await rig.client.get(path, headers={"origin": origin})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "browser_origin")
    assert "access-control-allow-origin" not in response.headers


async def test_a_page_that_is_allowed_is_told_so() -> None:
    async with running(make_settings(server={"allowed_origins": [ORIGIN]})) as rig:
        response = await rig.ask({"origin": ORIGIN})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["vary"] == "origin"


async def test_headers_may_be_as_large_as_allowed_and_no_larger() -> None:
    async with running(make_settings(server={"max_header_bytes": 1024})) as rig:
        fits = await rig.client.get("/health/live", headers={"x": "x" * 700})
        large = await rig.client.get("/health/live", headers={"x": "x" * 1024})
    assert fits.status_code == 200
    assert (large.status_code, large.json()["error"]["code"]) == (431, "headers_too_large")


async def test_a_gateway_at_its_capacity_refuses_what_is_new_but_stays_healthy() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(first=[streamed(STREAM[0], gate, *STREAM[1:]), streamed()])
    async with running(make_settings(server={"max_requests": 1}), provider) as rig:
        first = asyncio.create_task(rig.ask(stream=True))
        await until(lambda: provider.asked)
        response = await rig.ask()
        assert (await rig.client.get("/health/live")).status_code == 200
        gate.set()
        assert (await first).status_code == 200
        assert rig.gateway.active == 0
        assert (await rig.ask(stream=True)).status_code == 200
    assert (response.status_code, response.json()["error"]["code"]) == (503, "gateway_overloaded")
    assert int(response.headers["retry-after"]) >= 1


async def test_one_of_several_workers_takes_its_share_of_the_gateways_capacity() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(first=[streamed(STREAM[0], gate, *STREAM[1:]), streamed()])
    async with running(make_settings(server={"max_requests": 4}), provider) as rig:
        rig.gateway.worker = Worker(0, 4)
        first = asyncio.create_task(rig.ask(stream=True))
        await until(lambda: provider.asked)
        assert (await rig.ask()).status_code == 503
        gate.set()
        assert (await first).status_code == 200


def beaten_since(store: FailingStore, beats: int) -> bool:
    """Tell whether a whole round of the housekeeping began and ended since."""
    return store.heartbeats > beats + 1


async def test_a_running_requests_lease_is_extended_and_a_lost_one_is_swept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping, "SWEEP_SECONDS", 0.001)
    now = 1_800_000_000.0
    store = FailingStore(clock=lambda: now)
    gate = asyncio.Event()
    provider = ScriptedProvider(first=streamed(STREAM[0], gate, *STREAM[1:]))
    async with running(provider=provider, store=store) as rig:
        asking = asyncio.create_task(rig.ask(stream=True))
        await until(lambda: provider.asked)
        for _ in range(3):
            now += LEASE_SECONDS * 0.9
            await until(partial(beaten_since, store, store.heartbeats))
        assert (await rig.usage())["fair_use"]["pending"] > 0
        store.down.add("heartbeat")
        await until(partial(beaten_since, store, store.heartbeats))
        store.down.clear()
        ((running_id, ticket),) = rig.gateway.running.items()
        rig.gateway.running.clear()
        now += LEASE_SECONDS * 1.1
        await until(lambda: "ledger.swept" in caplog.messages)
        usage = await rig.usage()
        rig.gateway.running[running_id] = ticket
        gate.set()
        response = await asking
        after = await rig.usage()
    assert usage["fair_use"]["pending"] == 0
    assert usage["fair_use"]["used"] == ticket.offer.units
    # It was settled as lost, at its estimate; its own late end lowers that to what it used.
    assert after["fair_use"]["used"] == 10 + 4 * 5 < ticket.offer.units
    assert '"state":"settled"' in response.text
    assert "store.down" in caplog.messages


@pytest.mark.parametrize(("rounds", "left"), [(50, 0), (2, 3)])
async def test_a_round_forgets_what_is_too_old_in_short_transactions_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rounds: int, left: int
) -> None:
    monkeypatch.setattr(housekeeping, "PRUNE_AT_ONCE", 2)
    monkeypatch.setattr(housekeeping, "PRUNES_IN_A_ROUND", rounds)
    caplog.set_level(logging.INFO, "flatfee.server")
    now = 1_800_000_000.0
    store = MemoryStore(lambda: now)
    settings = make_settings()
    settings = settings.model_copy(update={"receipts": ReceiptsSettings(retention_days=40)})
    owner = Caller(
        key_id="k", kind=KeyKind.TEAM, account="acme", project="ci", plan="pro", billing=Billing.ACTIVE, billing_day=1
    )
    for _ in range(7):
        await store.record(owner, Receipt(request_id=request_id(now - 41 * 86_400)))
    async with running(settings, store=store) as rig:
        await until(lambda: "receipts.pruned" in caplog.messages)
        assert len((await rig.client.get("/v1/receipts")).json()["data"]) == left


async def test_an_allowed_page_still_needs_a_key() -> None:
    async with running(make_settings(server={"allowed_origins": [ORIGIN]})) as rig:
        response = await rig.ask({"origin": ORIGIN, "authorization": ""})
    assert response.json()["error"]["code"] == "missing_api_key"


async def test_nothing_secret_is_logged_told_or_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Keys, prompts and answers are the caller's: whatever happens, they go nowhere else."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("flatfee.server").setLevel(logging.DEBUG)
    provider = ScriptedProvider(
        first=[
            plain(),
            streamed(),
            Reply([b'{"error": {"message": "canary-upstream"}}'], 401),
            streamed(delta(ANSWER), event({"error": {"message": "canary-upstream"}})),
            Reply([b"canary-html"]),
            Reply([b"canary-html"]),
            error(500),
        ]
    )
    told: list[Any] = []
    async with running(provider=provider) as rig:
        for stream in (False, True, False, True, False):
            response = await rig.ask({"x-flatfee-workflow": "w"}, stream=stream)
            told.append(await rig.receipt(response))
        told.append((await rig.ask({"authorization": f"Bearer {KEY}x"})).text)
        told.append((await rig.ask({"authorization": f"Basic {KEY}"})).text)
        told.append((await rig.ask(tools="canary-tools")).text)
        told.append((await rig.client.post("/v1/chat/completions", content=b'{"canary')).text)
        told.append((await rig.client.get("/v1/receipts")).text)
        told.append((await rig.client.get("/v1/usage")).text)
        told.append(repr(rig.gateway) + repr(rig.app.gateway.settings))
    logged = [(record.getMessage(), str(record.__dict__)) for record in caplog.records]
    assert len(logged) > 5
    assert "canary" not in str(logged).replace("rawdata", "")
    assert "canary" not in str(told)


async def test_only_http_is_spoken() -> None:
    app = create_app(make_settings())

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(RuntimeError, match="websocket"):
        await app({"type": "websocket"}, nothing, nothing)


async def live(app: App) -> list[dict[str, Any]]:
    """Run an app's lifespan, and return what it said."""
    messages = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(messages)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "lifespan"}, receive, send)
    return sent


async def test_the_lifespan_starts_and_ends_everything() -> None:
    provider = ScriptedProvider()
    app = create_app(make_settings(), providers={"fake": provider})
    assert await live(app) == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]
    assert provider.closed


async def test_a_store_that_is_down_at_the_start_is_told() -> None:
    app = create_app(make_settings(), store=FailingStore("provision"))
    assert await live(app) == [{"type": "lifespan.startup.failed", "message": "the disk is full"}]


async def test_the_store_is_the_one_that_the_settings_name(tmp_path: Path) -> None:
    assert isinstance(open_store(ServerSettings(store="memory://")), MemoryStore)
    store = open_store(ServerSettings(store=f"sqlite:///{tmp_path / 'ledger.db'}"))
    assert isinstance(store, SqliteStore)
    assert (tmp_path / "ledger.db").exists()
    await store.close()


async def test_an_app_is_built_from_its_settings_alone(tmp_path: Path) -> None:
    settings = make_settings(server={"store": f"sqlite:///{tmp_path / 'ledger.db'}"})
    app = create_app(settings)
    assert isinstance(app.gateway.providers["fake"], SimulatedProvider)
    async with running(settings, store=app.gateway.store) as rig:
        response = await rig.ask({"x-flatfee-workflow": "w"})
        assert await rig.receipt(response) == response.json()["flatfee"]
        assert (await rig.usage())["fair_use"]["used"] == 30


async def test_a_new_ledger_is_not_for_every_user_of_the_machine(tmp_path: Path) -> None:
    store = open_store(ServerSettings(store=f"sqlite:///{tmp_path / 'ledger.db'}"))
    await store.ready()
    modes = modes_in(tmp_path)
    await store.close()
    assert modes == {0o600}


def modes_in(folder: Path) -> set[int]:
    return {file.stat().st_mode & 0o777 for file in folder.iterdir()}
