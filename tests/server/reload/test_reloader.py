"""Reading the configuration again, in one process: what holds when, and what a bad file changes."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.fakes import (
    DONE,
    KEY,
    FailingStore,
    Reply,
    ScriptedProvider,
    Silence,
    delta,
    error,
    events_of,
    make_body,
    make_settings,
    streamed,
    until,
    usage_event,
)
from tests.server.fakes_gateway import Served, on_loopback, request, running
from tests.server.reload.conftest import ADMIN_KEY, ENV, PLANS, PROVIDERS, ROUTES, Desk, at_desk, text

from flatfee.cli import hangups
from flatfee.server.reload import reloader
from flatfee.server.reload.changes import Changes, NotReloaded
from flatfee.server.reload.reloader import AtSignal
from flatfee.server.reload.source import Source
from flatfee.server.run import obeying_hangups
from flatfee.server.settings import Settings
from flatfee.server.store.account_commands import AddAccount
from flatfee.server.store.commands import Command
from flatfee.server.store.records import Caller

OTHER = '{name = "other", kind = "simulated"}'
OTHER_ROUTE = '{name = "second", provider = "other", model = "two", tier = "premium"}'
TWO_PLANS = PLANS + ', {name = "small", fair_use = 50000}'


def problems(response: httpx.Response) -> tuple[int, str, list[str]]:
    told = response.json()["error"]
    return response.status_code, told["code"], told["message"].splitlines()


def fingerprint(desk: Desk) -> tuple[Any, ...]:
    """All that a reload could have changed."""
    gateway = desk.gateway
    return gateway.settings, gateway.providers, gateway.health, gateway.beside, len(gateway.epochs)


async def audited(desk: Desk) -> list[dict[str, Any]]:
    response = await desk.client.get("/admin/v1/audit?limit=100", headers={"authorization": f"Bearer {ADMIN_KEY}"})
    return [entry for entry in response.json()["data"] if entry["action"] == "settings.reload"]


async def test_a_new_file_holds_for_the_next_request(desk: Desk) -> None:
    assert await desk.served() == ("first", "one")
    response = await desk.reload(routes=ROUTES.replace('"one"', '"uno"'))
    assert response.status_code == 200, response.text
    assert await desk.served() == ("first", "uno")


async def test_it_is_told_what_changed_by_name(desk: Desk) -> None:
    response = await desk.reload(
        providers=f"{PROVIDERS}, {OTHER}",
        routes=f"{ROUTES.replace('one', 'uno')}, {OTHER_ROUTE}",
        plans=TWO_PLANS,
        server="max_requests = 7",
        more='aliases = {"gpt" = "premium"}\npolicy = {rules = []}',
    )
    told = response.json()
    nothing: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}
    assert told["changed"] is True
    assert told["providers"] == nothing | {"added": ["other"]}
    assert told["routes"] == nothing | {"added": ["second"], "changed": ["first"]}
    assert told["plans"] == nothing | {"added": ["small"]}
    assert told["aliases"] == nothing | {"added": ["gpt"]}
    assert told["accounts"] == nothing
    assert len(told["rules"]["removed"]) == 6
    assert told["settings"] == ["server.max_requests"]
    (entry,) = await audited(desk)
    assert entry["actor"] == "env:FLATFEE_ADMIN_KEY"
    assert entry["subject"] == "flatfee.toml"
    assert entry["details"]["routes"] == "+second ~first"
    assert entry["details"]["sha256"] == told["sha256"]


async def test_the_same_file_changes_nothing_and_says_so(desk: Desk) -> None:
    provider = desk.gateway.providers["fake"]
    response = await desk.ask_to_reload()
    assert response.json()["changed"] is False
    assert desk.gateway.providers["fake"] is provider
    (entry,) = await audited(desk)
    assert entry["details"]["changed"] is False


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("not toml", "is not TOML"),
        (text(routes='{name = "first", provider = "nobody", model = "m", tier = "fast"}'), "routes[0].tier"),
        (text(plan="gone"), "accounts[0].plan: there is no 'gone'"),
        (text(server="port_ = 1"), "did you mean 'port'"),
    ],
)
async def test_a_bad_file_changes_nothing_and_is_told_why(
    desk: Desk, caplog: pytest.LogCaptureFixture, written: str, line: str
) -> None:
    before = fingerprint(desk)
    desk.path.write_text(written)
    status, code, lines = problems(await desk.ask_to_reload())
    assert (status, code) == (400, "invalid_request")
    assert all(told.startswith(str(desk.path)) for told in lines)
    assert any(line in told for told in lines)
    assert fingerprint(desk) == before
    assert await audited(desk) == []
    records = [record for record in caplog.records if record.message == "settings.reload_refused"]
    assert [vars(record)["problem"] for record in records] == lines
    assert await desk.served() == ("first", "one")


async def test_of_very_many_mistakes_the_first_are_told(desk: Desk) -> None:
    desk.write(more="\n".join(f"[unknown-{number}]" for number in range(100)))
    _, _, lines = problems(await desk.ask_to_reload())
    assert len(lines) == 21
    assert lines[-1] == "and 80 more"


async def test_a_file_that_is_gone_changes_nothing(desk: Desk) -> None:
    desk.path.unlink()
    status, _, (line,) = problems(await desk.ask_to_reload())
    assert status == 400
    assert "cannot be read" in line


async def test_what_needs_a_restart_is_named_with_both_values_and_nothing_changes(desk: Desk) -> None:
    before = fingerprint(desk)
    desk.path.write_text(
        text(routes=ROUTES.replace("one", "uno"), server='host = "0.0.0.0", durability = "power"').replace(
            "memory://", "sqlite:///other.db"
        )
    )
    status, code, lines = problems(await desk.ask_to_reload())
    assert (status, code) == (400, "invalid_request")
    assert [line.removeprefix(f"{desk.path}: ").split(",")[0] for line in lines] == [
        "server.host: is '127.0.0.1'",
        "server.store: is 'memory://'",
        "server.durability: is 'process'",
    ]
    assert "'sqlite:///other.db' needs a restart" in lines[1]
    assert fingerprint(desk) == before


def test_the_command_line_and_the_environment_override_the_file_as_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text(server='host = "10.0.0.1"'))
    source = Source(path=path, env=ENV | {"FLATFEE_STORE": "sqlite:///from-env.db"}, given={"host": "::1", "port": 9})
    server = source.read().server
    assert (server.host, server.port, server.store) == ("::1", 9, "sqlite:///from-env.db")
    assert server.admin_key is not None
    assert KEY not in repr(source)


async def test_a_gateway_without_a_file_says_that_there_is_nothing_to_read() -> None:
    settings = make_settings()
    settings = settings.model_copy(update={"server": settings.server.with_admin_key(ADMIN_KEY)})
    async with running(settings) as rig:
        response = await rig.client.post("/admin/v1/reload", headers={"authorization": f"Bearer {ADMIN_KEY}"})
    status, code, (line,) = problems(response)
    assert (status, code) == (409, "conflict")
    assert "without a file" in line


async def test_only_an_administrator_may_reload(desk: Desk) -> None:
    before = fingerprint(desk)
    desk.write(server="max_requests = 7")
    assert (await desk.client.post("/admin/v1/reload")).status_code == 403
    assert fingerprint(desk) == before


# What runs


def script(provider: ScriptedProvider, **replies: Reply) -> None:
    """Have a provider answer otherwise from now on."""
    provider.scripts |= ScriptedProvider(**replies).scripts


def half(waits: asyncio.Event) -> Reply:
    return streamed(delta("one "), waits, delta("two"), delta(finish="stop"), usage_event(), DONE)


async def begun(desk: Desk, provider: ScriptedProvider) -> asyncio.Task[httpx.Response]:
    """Begin a stream, and return once its provider is asked."""
    asked = len(provider.asked)
    task = asyncio.create_task(desk.ask(stream=True, workflow=None))
    await until(lambda: len(provider.asked) > asked)
    return task


async def test_a_stream_goes_on_over_a_provider_that_is_gone_and_only_then_is_it_closed(tmp_path: Path) -> None:
    waits = asyncio.Event()
    async with at_desk(tmp_path) as desk:
        (_, old) = desk.made[0]
        script(old, first=half(waits))
        stream = await begun(desk, old)
        response = await desk.reload(providers=OTHER, routes=OTHER_ROUTE)
        assert response.status_code == 200, response.text
        assert await desk.served() == ("second", "two")
        assert not old.closed
        assert not stream.done()
        waits.set()
        done = await stream
        await until(lambda: old.closed)
        *_, last, end = events_of(done.content)
        assert end == "[DONE]"
        assert last["flatfee"]["route"] == "first"
        assert last["flatfee"]["state"] == "settled"
        assert last["flatfee"]["fair_use"]["charged"] == 10 + 4 * 5
        assert len(desk.gateway.epochs) == 1


async def test_a_request_goes_on_to_the_routes_of_its_own_plan(tmp_path: Path) -> None:
    """Its second route is gone from the file by the time the first one fails."""
    waits = asyncio.Event()
    thrifty = '{name = "thrifty", provider = "other", model = "small", tier = "economy"}'
    async with at_desk(tmp_path, providers=f"{PROVIDERS}, {OTHER}", routes=f"{ROUTES}, {OTHER_ROUTE}") as desk:
        (_, old) = desk.made[0]
        script(old, first=Reply(error(500).pieces, 500, before=waits))
        task = asyncio.create_task(desk.served())
        await until(lambda: old.asked)
        assert (await desk.reload(routes=f"{ROUTES}, {thrifty}", providers=f"{PROVIDERS}, {OTHER}")).is_success
        waits.set()
        assert await task == ("second", "two")


class SlowMemory(FailingStore):
    """A store that takes its time to tell where a workflow was."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def last_route(self, caller: Caller, workflow: str) -> str | None:
        self.asked.set()
        await self.go_on.wait()
        return await super().last_route(caller, workflow)


async def test_a_request_is_planned_by_one_configuration(tmp_path: Path) -> None:
    """The other comes while it is planned: plan, rules, routes and providers are those it began with."""
    store = SlowMemory()
    called = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]}
    messages = [{"role": "user", "content": "Go"}, called, {"role": "tool", "tool_call_id": "c", "content": "1"}]
    async with at_desk(tmp_path, store) as desk:
        headers = {"x-flatfee-workflow": "run-1"}
        body = make_body(messages=messages)
        asking = asyncio.create_task(desk.client.post("/v1/chat/completions", json=body, headers=headers))
        await store.asked.wait()
        assert (await desk.reload(providers=OTHER, routes=OTHER_ROUTE)).is_success
        store.go_on.set()
        response = await asking
        assert response.status_code == 200, response.text
        assert response.json()["flatfee"]["route"] == "first"


async def test_what_is_told_of_a_route_that_is_gone_is_kept_nowhere(tmp_path: Path) -> None:
    waits = asyncio.Event()
    async with at_desk(tmp_path) as desk:
        (_, old) = desk.made[0]
        script(old, first=Reply(error(500).pieces, 500, before=waits))
        task = asyncio.create_task(desk.ask())
        await until(lambda: old.asked)
        assert (await desk.reload(providers=OTHER, routes=OTHER_ROUTE)).is_success
        waits.set()
        assert (await task).status_code == 503
        assert desk.gateway.health.down(desk.gateway.monotonic()) == frozenset()
        assert "first" not in desk.gateway.health._histories


async def test_a_provider_that_is_the_same_is_kept_and_another_is_made_anew(desk: Desk) -> None:
    kept = desk.gateway.providers["fake"]
    assert (await desk.reload(providers=f"{PROVIDERS}, {OTHER}")).is_success
    assert desk.gateway.providers["fake"] is kept
    assert (await desk.reload(providers=PROVIDERS.replace("}", ', api_key = "k"}'))).is_success
    assert desk.gateway.providers["fake"] is not kept
    await until(lambda: all(provider.closed for _, provider in desk.made[:2]))


@pytest.mark.parametrize(
    ("parts", "stays"),
    [
        ({"routes": ROUTES.replace("}", ", priority = 2}")}, True),
        ({"routes": ROUTES.replace('"one"', '"uno"')}, False),
        ({"providers": PROVIDERS.replace("}", ', api_key = "k"}')}, False),
        ({"routes": ROUTES.replace('"fake"', '"other"'), "providers": f"{PROVIDERS}, {OTHER}"}, False),
    ],
)
async def test_a_circuit_outlives_what_does_not_concern_it(desk: Desk, parts: dict[str, str], stays: bool) -> None:
    script(desk.made[0][1], first=error(500))
    for _ in range(3):
        await desk.ask()
    assert desk.gateway.health.down(desk.gateway.monotonic()) == {"first"}
    assert (await desk.reload(**parts)).is_success
    assert (desk.gateway.health.down(desk.gateway.monotonic()) == {"first"}) is stays
    assert bool(desk.gateway.routes_health()["first"].recent) is stays


async def test_at_the_end_all_providers_are_closed_also_those_in_use(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        (_, old) = desk.made[0]
        script(old, first=Reply(before=Silence.FOR_EVER))
        task = asyncio.create_task(desk.ask())
        await until(lambda: old.asked)
        assert (await desk.reload(providers=OTHER, routes=OTHER_ROUTE)).is_success
    assert [provider.closed for _, provider in desk.made] == [True, True]
    task.cancel()
    await asyncio.wait([task])


class Stubborn(ScriptedProvider):
    """A provider that cannot be closed."""

    async def close(self) -> None:
        await super().close()
        raise OSError("canary")


async def test_a_provider_that_cannot_be_closed_keeps_nobody_from_anything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left, last, well = Stubborn(), Stubborn(), ScriptedProvider()
    async with at_desk(tmp_path) as desk:
        gateway = desk.gateway
        gateway.providers = {"fake": left}
        assert (await desk.reload(providers=OTHER, routes=OTHER_ROUTE)).is_success
        await until(lambda: "provider.not_closed" in caplog.messages)
        gateway.providers = {"other": last, "more": well, "again": well}
    assert (left.closed, last.closed, well.closed) == (True, True, True)
    assert caplog.messages.count("provider.not_closed") == 2
    assert "canary" not in caplog.text


# Accounts and plans


async def test_accounts_and_keys_of_the_file_are_made_and_ended_as_at_the_start(desk: Desk) -> None:
    docs = '[{name = "docs", keys = [{name = "docs", key_env = "DOCS_KEY"}]}]'
    assert (await desk.reload(projects=docs)).is_success
    assert (await desk.ask()).status_code == 401
    response = await desk.client.get("/v1/usage", headers={"authorization": f"Bearer {ENV['DOCS_KEY']}"})
    assert response.json()["project"] == "docs"


async def test_an_account_moves_to_another_plan_of_the_file_and_the_old_one_may_go(desk: Desk) -> None:
    small = '{name = "small", fair_use = 50000}'
    response = await desk.reload(plans=small, plan="small")
    assert response.json()["plans"] == {"added": ["small"], "removed": ["pro"], "changed": []}
    assert (await desk.client.get("/v1/usage")).json()["plan"] == "small"


async def test_a_plan_that_accounts_have_does_not_vanish(tmp_path: Path) -> None:
    async with at_desk(tmp_path, plans=TWO_PLANS) as desk:
        for number in range(7):
            await desk.store.administer("setup", AddAccount(name=f"guest-{number}", plan="small"))
        before = fingerprint(desk)
        docs = '[{name = "docs", keys = [{name = "docs", key_env = "DOCS_KEY"}]}]'
        status, code, (line,) = problems(await desk.reload(plans=PLANS, projects=docs))
        assert (status, code) == (409, "conflict")
        assert "'small'" in line
        assert "guest-0, guest-1, guest-2, guest-3, guest-4 and others" in line
        assert fingerprint(desk) == before
        assert (await desk.ask()).status_code == 200  # the ledger has not changed, either


async def test_while_the_ledger_is_down_nothing_changes(tmp_path: Path) -> None:
    store = FailingStore()
    async with at_desk(tmp_path, store) as desk:
        before = fingerprint(desk)
        store.down.add("administer")
        status, code, lines = problems(await desk.reload(routes=ROUTES.replace("one", "uno")))
        assert (status, code) == (503, "store_unavailable")
        assert "disk is full" in lines[0]
        assert fingerprint(desk) == before
        store.down.clear()
        assert (await desk.ask_to_reload()).is_success


class MovingStore(FailingStore):
    """A store that lets go of a test between the ledger's change and the gateway's."""

    def __init__(self) -> None:
        super().__init__()
        self.moved, self.go_on = asyncio.Event(), asyncio.Event()
        self.begun = 0

    async def administer(self, actor: str, command: Command[Any]) -> Any:
        self.begun += 1
        result = await super().administer(actor, command)
        if command.action == "settings.reload":
            self.moved.set()
            await self.go_on.wait()
        return result


async def test_a_request_between_the_ledgers_change_and_the_gateways_is_served(tmp_path: Path) -> None:
    store = MovingStore()
    async with at_desk(tmp_path, store) as desk:
        reload = asyncio.create_task(desk.reload(plans='{name = "small", fair_use = 50000}', plan="small"))
        await store.moved.wait()
        assert await desk.served() == ("first", "one")
        store.go_on.set()
        assert (await reload).is_success
        assert await desk.served() == ("first", "one")


async def test_a_request_that_began_under_a_plan_that_is_gone_is_served(tmp_path: Path) -> None:
    """It knows its account's old plan still; the ledger tells it of the new one."""
    source = Source(path=tmp_path / "flatfee.toml", env=ENV)
    source.path.write_text(text())
    async with on_loopback(source.read(), ScriptedProvider()) as served:
        gateway = served.app.gateway
        gateway.reloading = reloader.reloader_of(gateway, source)
        go_on = asyncio.Event()
        asking = asyncio.create_task(_slowly(served, go_on))
        await until(lambda: gateway.active)
        source.path.write_text(text(plans='{name = "small", fair_use = 50000}', plan="small"))
        await gateway.reloading.reload("test")
        go_on.set()
        assert (await asking).startswith(b"HTTP/1.1 200")


async def _slowly(served: Served, go_on: asyncio.Event) -> bytes:
    """Send the head of a request, and its body once a test says so."""
    head, _, body = request().partition(b"\r\n\r\n")
    reader, writer = await served.open(head + b"\r\n\r\n")
    await go_on.wait()
    writer.write(body)
    return await reader.read()


# One after the other


async def test_reloads_at_the_same_time_come_one_after_the_other(desk: Desk) -> None:
    desk.write(server="max_requests = 7")
    answers = await asyncio.gather(*(desk.ask_to_reload() for _ in range(8)))
    assert sorted(answer.json()["changed"] for answer in answers) == [False] * 7 + [True]


async def test_no_reload_begins_before_the_one_before_it_has_ended(tmp_path: Path) -> None:
    store = MovingStore()
    async with at_desk(tmp_path, store) as desk:
        desk.write(server="max_requests = 7")
        both = [asyncio.create_task(desk.ask_to_reload()) for _ in range(2)]
        await store.moved.wait()
        for _ in range(5):
            await asyncio.to_thread(desk.path.read_text)  # longer than the other one would need to come so far
        assert store.begun == 1
        store.go_on.set()
        assert [(await each).json()["changed"] for each in both] == [True, False]


async def test_a_gateway_that_shuts_down_reads_nothing(desk: Desk) -> None:
    assert desk.gateway.reloading is not None
    desk.gateway.draining = True
    with pytest.raises(NotReloaded, match="shutting down"):
        await desk.gateway.reloading.reload("test")


async def test_who_leaves_does_not_take_the_reload_with_it(tmp_path: Path) -> None:
    store = MovingStore()
    async with at_desk(tmp_path, store) as desk:
        desk.write(server="max_requests = 7")
        assert desk.gateway.reloading is not None
        asked = asyncio.create_task(desk.gateway.reloading.reload("test"))
        await store.moved.wait()
        asked.cancel()
        await asyncio.wait([asked])
        store.go_on.set()
        await until(lambda: desk.gateway.settings.server.max_requests == 7)


async def test_of_many_signals_while_one_is_obeyed_one_more_is(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert desk.gateway.reloading is not None
    at_signal = AtSignal(desk.gateway.reloading)
    for _ in range(50):
        at_signal.take()
    await until(lambda: len(reloads(caplog)) >= 1)
    await until(lambda: at_signal._task is not None and at_signal._task.done())
    assert 1 <= len(reloads(caplog)) <= 2
    assert (await audited(desk))[0]["actor"] == "signal"


async def test_a_signal_with_a_bad_file_is_survived_and_the_next_is_obeyed(desk: Desk) -> None:
    assert desk.gateway.reloading is not None
    at_signal = AtSignal(desk.gateway.reloading)
    desk.path.write_text("not toml")
    at_signal.take()
    await until(lambda: at_signal._task is not None and at_signal._task.done())
    desk.write(server="max_requests = 7")
    at_signal.take()
    await until(lambda: desk.gateway.settings.server.max_requests == 7)


class Broken:
    """Who fails at a reload as nobody foresaw, the first time."""

    def __init__(self) -> None:
        self.actors: list[str] = []

    async def reload(self, actor: str) -> Changes:
        self.actors.append(actor)
        if len(self.actors) == 1:
            raise RuntimeError("canary")
        return Changes()


async def test_a_signal_outlives_a_failure_that_nobody_foresaw(caplog: pytest.LogCaptureFixture) -> None:
    broken = Broken()
    at_signal = AtSignal(broken)
    at_signal.take()
    await until(lambda: "settings.reload_failed" in caplog.messages)
    at_signal.take()
    await until(lambda: len(broken.actors) == 2)
    assert "canary" not in caplog.text


async def test_a_hangup_that_came_too_early_is_obeyed_once_it_can_be() -> None:
    asked = Broken()
    asked.actors.append("earlier")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        hangups.hold_back()
        signal.raise_signal(signal.SIGHUP)
        with obeying_hangups(asked):
            await until(lambda: len(asked.actors) == 2)
            signal.raise_signal(signal.SIGHUP)
            await until(lambda: len(asked.actors) == 3)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert asked.actors[1:] == ["signal", "signal"]


def reloads(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.message == "settings.reloaded"]


# A thousand


async def test_a_thousand_reloads_leave_nothing_behind(tmp_path: Path) -> None:
    """While one stream runs through all of them; each changes the provider and the name of its route."""
    waits = asyncio.Event()
    async with at_desk(tmp_path) as desk:
        (_, old) = desk.made[0]
        script(old, first=half(waits))
        stream = await begun(desk, old)
        gateway = desk.gateway
        assert gateway.reloading is not None
        tasks = len(asyncio.all_tasks())
        for number in range(1000):
            provider = gateway.settings.providers[0].model_copy(update={"name": f"p{number}"})
            route = gateway.settings.routes[0].model_copy(update={"name": f"r{number}", "provider": f"p{number}"})
            settings = Settings.model_validate(dict(gateway.settings) | {"providers": (provider,), "routes": (route,)})
            swap = gateway.reloading._side  # type: ignore[attr-defined] # a thousand files would take a minute
            await swap.prepare(settings)
            await swap.switch()
            assert len(gateway.epochs) <= 2
        assert (await desk.served())[0] == "r999"
        assert set(gateway.health._histories) == {"r999"}
        assert set(gateway.health._circuits) <= {"r999"}
        waits.set()
        assert (await stream).status_code == 200
        await until(lambda: sum(provider.closed for _, provider in desk.made) == 1000)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        await until(lambda: not gateway._closing)
        assert len(gateway.epochs) == 1
        assert json.loads((await desk.ask()).content)["flatfee"]["route"] == "r999"
