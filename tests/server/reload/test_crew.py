"""Workers that change together: scripted ones, on the other ends of the pairs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.server.fakes import LIMIT, ScriptedProvider, make_settings, until

from flatfee.server.gateway import Gateway
from flatfee.server.reload import crew
from flatfee.server.reload.changes import Changes, NotReloaded
from flatfee.server.reload.crew import Crew, InWorker, Prepare, Switch
from flatfee.server.reload.letters import Post, post_office
from flatfee.server.reload.swap import Swap
from flatfee.server.settings import Settings
from flatfee.server.store.memory import MemoryStore
from flatfee.wire import ErrorCode

BEFORE, AFTER = make_settings(), make_settings(server={"max_requests": 7})


class Asked:
    """Who reads the configuration again, for workers that ask."""

    def __init__(self) -> None:
        self.actors: list[str] = []

    async def reload(self, actor: str) -> Changes:
        self.actors.append(actor)
        return Changes(settings=("server.max_requests",))


class FakeWorker:
    """A worker: what it heard, and the settings it serves by. ``refuses`` and ``sleeps`` at what is prepared."""

    def __init__(self, *, refuses: bool = False, sleeps: bool = False) -> None:
        self.heard: list[str] = []
        self.serves: Settings = BEFORE
        self.prepared: Settings | None = None
        self.refuses = refuses
        self.sleeps = sleeps
        self.wakes = asyncio.Event()
        self.post: Post
        self.ends: AsyncExitStack

    async def answer(self, letter: object) -> None:
        if isinstance(letter, Prepare):
            if self.sleeps:
                await self.wakes.wait()
            if self.refuses:
                raise NotReloaded(ErrorCode.GATEWAY_OVERLOADED, ["no room"])
            self.prepared = letter.settings
        elif isinstance(letter, Switch):
            if self.sleeps:
                await self.wakes.wait()
            serves = letter.settings or self.prepared
            assert serves is not None
            self.serves = serves
        self.heard.append(type(letter).__name__)


class Rig:
    def __init__(self, ends: AsyncExitStack) -> None:
        self.crew = Crew(BEFORE, lambda: False)
        self.asked = Asked()
        self._ends = ends
        self._number = 0

    async def start(self, worker: FakeWorker) -> FakeWorker:
        """Start a worker with the settings of the moment."""
        worker.ends = await self._ends.enter_async_context(AsyncExitStack())
        aboard = await worker.ends.enter_async_context(self.crew.aboard(self._number, self.asked))
        worker.serves, theirs = aboard
        assert theirs is not None
        worker.post = await worker.ends.enter_async_context(post_office(theirs.dup(), worker.answer))
        theirs.close()  # as whoever starts a process
        self._number += 1
        return worker


@asynccontextmanager
async def rig() -> AsyncGenerator[Rig]:
    async with AsyncExitStack() as ends:
        yield Rig(ends)


async def test_all_prepare_before_any_serves_by_it() -> None:
    async with rig() as made:
        workers = [await made.start(FakeWorker()) for _ in range(3)]
        await made.crew.prepare(AFTER)
        assert [worker.heard for worker in workers] == [["Prepare"]] * 3
        assert {id(worker.serves) for worker in workers} == {id(BEFORE)}
        await made.crew.switch()
        assert all(worker.serves == AFTER for worker in workers)
        assert made.crew.settings is AFTER


async def test_if_one_cannot_all_forget() -> None:
    async with rig() as made:
        able, unable = await made.start(FakeWorker()), await made.start(FakeWorker(refuses=True))
        with pytest.raises(NotReloaded, match="no room"):
            await made.crew.prepare(AFTER)
        assert able.heard == ["Prepare", "Forget"]
        assert unable.heard == []
        assert made.crew.settings is BEFORE


async def test_if_one_does_not_answer_all_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "CONFIRM_SECONDS", 0.05)
    async with rig() as made:
        able = await made.start(FakeWorker())
        await made.start(FakeWorker(sleeps=True))
        with pytest.raises(NotReloaded, match="Worker 1 did not answer"):
            await made.crew.prepare(AFTER)
        assert able.heard == ["Prepare", "Forget"]


async def test_one_that_dies_meanwhile_stops_nobody() -> None:
    async with rig() as made:
        able, dying = await made.start(FakeWorker()), await made.start(FakeWorker(sleeps=True))
        preparing = asyncio.create_task(made.crew.prepare(AFTER))
        await until(lambda: able.heard)
        await dying.ends.aclose()
        async with asyncio.timeout(LIMIT):
            await preparing
            await made.crew.switch()
        assert able.serves == AFTER


async def test_one_that_is_started_meanwhile_is_brought_to_it() -> None:
    """It begins with the old settings, after all others were prepared."""
    async with rig() as made:
        first = await made.start(FakeWorker())
        await made.crew.prepare(AFTER)
        late = await made.start(FakeWorker())
        await made.crew.switch()
        assert (first.serves, late.serves) == (AFTER, AFTER)
        assert late.heard == ["Switch"]
        assert (await made.start(FakeWorker())).serves is AFTER


async def test_one_that_is_counted_in_while_nobody_else_works_is_not_left_behind() -> None:
    """All have just died, and the settings change while the first is counted in again."""
    async with rig() as made:
        await made.crew.prepare(AFTER)
        starting = asyncio.create_task(made.start(FakeWorker()))
        await asyncio.sleep(0)  # it has begun, and waits for its pair
        await made.crew.switch()
        worker = await starting
        assert worker.serves is AFTER


async def test_after_the_ledger_one_that_is_late_is_told_of_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig() as made:
        able, other = await made.start(FakeWorker()), await made.start(FakeWorker())
        await made.crew.prepare(AFTER)
        late = await made.start(FakeWorker(sleeps=True))
        monkeypatch.setattr(crew, "CONFIRM_SECONDS", 0.05)
        async with asyncio.timeout(LIMIT):
            await made.crew.switch()
        assert able.serves == other.serves == AFTER
        assert [record.message for record in caplog.records] == ["worker.behind"]
        late.wakes.set()
        await until(lambda: late.serves == AFTER)  # it gets to its letters, and nobody need ask again


async def test_what_was_prepared_is_forgotten_when_the_ledger_refuses() -> None:
    async with rig() as made:
        worker = await made.start(FakeWorker())
        await made.crew.prepare(AFTER)
        await made.crew.forget()
        assert worker.heard == ["Prepare", "Forget"]
        assert made.crew.settings is BEFORE


async def test_the_first_process_opens_the_ledger_for_a_reload(tmp_path: Path) -> None:
    settings = make_settings(server={"store": f"sqlite:///{tmp_path}/ledger.db"})
    async with Crew(settings, lambda: False).ledger() as store:
        await store.ready()


async def test_a_worker_asks_the_first_process_and_a_worker_alone_is_told() -> None:
    gateway = Gateway(settings=BEFORE, store=MemoryStore(), providers={})
    part = InWorker(Swap(gateway))
    with pytest.raises(NotReloaded, match="first process is gone"):
        await part.reload("key_1")
    async with rig() as made:
        worker = await made.start(FakeWorker())
        part.post = worker.post
        assert (await part.reload("key_1")).settings == ("server.max_requests",)
        assert made.asked.actors == ["key_1"]


def _its_own(theirs: socket.socket | None) -> socket.socket:
    assert theirs is not None
    return theirs.dup()


def served_by(gateway: Gateway) -> tuple[Settings | None, Settings]:
    """Return the settings beside, and those that hold."""
    return gateway.beside, gateway.settings


async def test_a_worker_serves_by_what_it_is_written() -> None:
    provider = ScriptedProvider()
    gateway = Gateway(settings=BEFORE, store=MemoryStore(), providers={"fake": provider})
    part = InWorker(Swap(gateway))
    crew = Crew(BEFORE, lambda: False)
    async with crew.aboard(0, Asked()) as (_, theirs), post_office(_its_own(theirs), part.answer):
        await crew.prepare(AFTER)
        assert served_by(gateway) == (AFTER, BEFORE)
        await crew.forget()
        assert served_by(gateway) == (None, BEFORE)

        await crew.prepare(AFTER)
        await crew.switch()
        assert served_by(gateway) == (BEFORE, AFTER)
        assert gateway.providers["fake"] is provider
