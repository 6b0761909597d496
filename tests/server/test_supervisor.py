"""What a parent decides about its workers, with workers that are scripted; and the start of a worker itself."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import signal
import socket
import stat
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from tests.server.fakes import KEY, LIMIT, make_settings, until

from flatfee.server import worker_entry, workers
from flatfee.server.settings import ServerSettings, Settings
from flatfee.server.store.base import StoreDown
from flatfee.server.worker import ALONE, Worker
from flatfee.server.workers import NotStarted, Supervisor, _beside, _Child, _hold_address, pause_before, run_workers


class FakeProcess:
    """A worker that is its end of the pair: what it says, and the code it ends with once that is closed."""

    def __init__(self, pid: int, pair: socket.socket) -> None:
        self.pid = pid
        self.pair = pair
        self.exitcode = 0

    def say(self, word: bytes) -> None:
        self.pair.sendall(word)

    def heard(self) -> bytes:
        return self.pair.recv(64)

    def end(self, code: int = 0) -> None:
        self.exitcode = code
        self.pair.close()

    def kill(self) -> None:
        self.end(-signal.SIGKILL)

    def join(self) -> None:
        """It has ended when its pair is closed."""


class Scripted(Supervisor):
    """A supervisor whose workers do nothing by themselves; ``lives`` holds each that was started."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.lives: list[FakeProcess] = []
        self.out_of: OSError | None = None

    def _start(self, worker: Worker, settings: Settings, letters: socket.socket | None) -> _Child:
        if self.out_of is not None:
            raise self.out_of
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(LIMIT)
        process = FakeProcess(100 + len(self.lives), theirs)
        self.lives.append(process)
        self._children[worker.number] = child = _Child(process=cast("Any", process), pair=ours)
        return child


@asynccontextmanager
async def supervising(count: int = 2, **server: Any) -> AsyncGenerator[tuple[Scripted, asyncio.Task[None], list[Any]]]:
    """A supervisor at work: itself, its task, and the addresses that it told as ready."""
    told: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        supervisor = Scripted(
            make_settings(server=server),
            count,
            held=[listening],
            meeting=Path("/nowhere"),
            on_ready=lambda *address: told.append(address),
        )
        task = asyncio.create_task(supervisor.run())
        try:
            yield supervisor, task, told
        finally:
            for life in supervisor.lives:
                life.pair.close()
            if not task.done():
                task.cancel()
            await asyncio.wait([task])


@asynccontextmanager
async def serving(
    caplog: pytest.LogCaptureFixture, **server: Any
) -> AsyncGenerator[tuple[Scripted, asyncio.Task[None]]]:
    """Two workers that are ready."""
    caplog.set_level("INFO")
    async with supervising(**server) as (supervisor, task, told):
        await started(supervisor, 2)
        for life in supervisor.lives:
            life.say(worker_entry.READY)
        await until(lambda: told)
        yield supervisor, task


async def started(supervisor: Scripted, count: int) -> None:
    """Return once so many workers were started in all."""
    await until(lambda: len(supervisor.lives) == count)


def facts(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.message == event]


async def test_the_address_is_told_once_and_only_when_every_worker_is_ready() -> None:
    async with supervising() as (supervisor, _, told):
        await started(supervisor, 2)
        supervisor.lives[0].say(worker_entry.READY)
        await until(lambda: supervisor._serving)
        assert told == []
        supervisor.lives[1].say(worker_entry.READY)
        await until(lambda: told)
        supervisor.lives[0].end(1)
        await started(supervisor, 3)
        supervisor.lives[2].say(worker_entry.READY)
        await until(lambda: len(supervisor._serving) == 2)
    assert len(told) == 1
    assert told[0][0] == "127.0.0.1"


async def test_a_worker_that_cannot_start_ends_all_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    async with supervising() as (supervisor, task, told):
        await started(supervisor, 2)
        supervisor.lives[0].say(worker_entry.READY)
        supervisor.lives[1].say(b"the store is gone")
        supervisor.lives[1].end(1)
        await until(lambda: "worker.not_started" in caplog.messages)
        assert supervisor.lives[0].heard() == worker_entry.DRAIN
        supervisor.lives[0].end()
        with pytest.raises(NotStarted, match=r"^Worker 1: the store is gone\.$"):
            await task
    assert told == []
    assert len(supervisor.lives) == 2


async def test_a_worker_may_leave_the_address_while_another_serves_there(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(caplog) as (supervisor, _):
        one, other = supervisor.lives
        one.say(worker_entry.LEAVE)
        assert await asyncio.to_thread(one.heard) == worker_entry.LEAVE
        other.say(worker_entry.LEAVE)
        assert await asyncio.to_thread(other.heard) == worker_entry.DRAIN
        one.end()
        await started(supervisor, 3)
        supervisor.lives[2].say(worker_entry.READY)
        assert await asyncio.to_thread(other.heard) == worker_entry.LEAVE


async def test_a_worker_that_asks_to_leave_as_soon_as_it_is_ready_is_heard() -> None:
    async with supervising() as (supervisor, _, _told):
        await started(supervisor, 2)
        supervisor.lives[0].say(worker_entry.READY + worker_entry.LEAVE)
        assert await asyncio.to_thread(supervisor.lives[0].heard) == worker_entry.DRAIN


async def test_who_asks_to_leave_while_all_end_is_told_to_drain(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(caplog) as (supervisor, _):
        supervisor.take(signal.SIGTERM)
        supervisor.lives[0].say(worker_entry.LEAVE)
        told = b""
        while len(told) < 2:
            told += await asyncio.to_thread(supervisor.lives[0].heard)
        assert told == 2 * worker_entry.DRAIN


async def test_a_system_without_room_for_a_worker_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with supervising() as (supervisor, task, _):
        supervisor.out_of = OSError(11, "Resource temporarily unavailable")
        with pytest.raises(NotStarted, match="Resource temporarily unavailable"):
            await task
    assert facts(caplog, "worker.not_started")[0]["pid"] is None


async def test_a_worker_that_dies_again_at_once_waits_ever_longer_and_never_ends_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_FIRST_PAUSE", 0.001)
    async with serving(caplog) as (supervisor, task):
        for number in range(4):
            supervisor.lives[-1].end(-signal.SIGKILL)
            await started(supervisor, 3 + number)
        assert not task.done()
    died = facts(caplog, "worker.died")
    assert [life["restart_in"] for life in died] == [0.0, 0.001, 0.002, 0.004]
    assert {(life["worker"], life["how"]) for life in died} == {(1, "SIGKILL")}


async def test_what_a_replacement_said_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(caplog) as (supervisor, _):
        supervisor.lives[1].end(1)
        await started(supervisor, 3)
        supervisor.lives[2].say(b"the disk is full")
        supervisor.lives[2].end(1)
        await until(lambda: len(facts(caplog, "worker.died")) == 2)
    assert facts(caplog, "worker.died")[1]["reason"] == "the disk is full"


async def test_a_worker_that_lived_long_does_not_count_as_dying_at_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_SETTLED_SECONDS", 0.0)
    async with serving(caplog) as (supervisor, _):
        for number in range(3):
            supervisor.lives[-1].end(1)
            await started(supervisor, 3 + number)
    assert [life["restart_in"] for life in facts(caplog, "worker.died")] == [0.0, 0.0, 0.0]


async def test_when_nobody_serves_and_the_next_cannot_start_all_ends(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(caplog) as (supervisor, task):
        for life in supervisor.lives[:2]:
            life.end(1)
        await started(supervisor, 4)
        for life in supervisor.lives[2:]:
            life.end(1)
        with pytest.raises(NotStarted):
            await task


async def test_a_signal_is_passed_on_and_the_second_in_its_turn(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(caplog) as (supervisor, task):
        supervisor.take(signal.SIGTERM)
        assert [life.heard() for life in supervisor.lives] == [worker_entry.DRAIN] * 2
        supervisor.lives[0].end()
        supervisor.take(signal.SIGINT)
        supervisor.take(signal.SIGINT)
        assert supervisor.lives[1].heard() == worker_entry.STOP
        supervisor.lives[1].end()
        await task
    assert supervisor.hurried is signal.SIGINT
    assert len(supervisor.lives) == 2


async def test_a_signal_ends_a_pause(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(workers, "_LONGEST_PAUSE", 1000.0)
    async with serving(caplog) as (supervisor, task):
        supervisor.lives[1].end(1)
        await started(supervisor, 3)
        supervisor.lives[2].end(1)
        await until(lambda: len(facts(caplog, "worker.died")) == 2)
        supervisor.take(signal.SIGTERM)
        supervisor.lives[0].end()
        async with asyncio.timeout(LIMIT):
            await task
    assert supervisor.hurried is None


async def test_a_worker_that_does_not_end_is_killed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_END_SECONDS", 0.0)
    monkeypatch.setattr(workers, "CANCEL_SECONDS", 0)
    async with serving(caplog, shutdown_grace=0.01) as (supervisor, task):
        supervisor.lives[0].end()
        await started(supervisor, 3)
        supervisor.take(signal.SIGTERM)
        async with asyncio.timeout(LIMIT):
            await task
    assert {life["worker"] for life in facts(caplog, "worker.killed")} == {0, 1}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_workers_bind_the_address_that_the_parent_holds_and_share_its_connections(host: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    with ExitStack() as ends:
        (held,) = [ends.enter_context(each) for each in await _hold_address(ServerSettings(host=host, port=0))]
        listening = [ends.enter_context(_beside(held)) for _ in range(2)]
        for each in listening:
            each.listen(64)
        for _ in range(32):
            ends.enter_context(socket.create_connection(held.getsockname()[:2], timeout=LIMIT))
        accepted = [len(list(_accepted(each, ends))) for each in listening]
    assert sum(accepted) == 32
    assert 0 not in accepted


async def test_an_address_where_workers_listen_is_taken() -> None:
    with ExitStack() as ends:
        (held,) = [ends.enter_context(each) for each in await _hold_address(ServerSettings(port=0))]
        worker = ends.enter_context(_beside(held))
        worker.listen()
        with pytest.raises(NotStarted) as refused:
            await _hold_address(ServerSettings(port=held.getsockname()[1]))
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno == errno.EADDRINUSE


def test_an_address_that_another_has_cannot_be_bound_by_a_worker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as others, pytest.raises(OSError, match="in use"):
        _beside(others)


def _accepted(listening: socket.socket, ends: ExitStack) -> Iterator[socket.socket]:
    listening.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            yield ends.enter_context(listening.accept()[0])


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("depth", [0, 100])
def test_the_meeting_place_has_room_for_the_name_of_a_socket(
    depth: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / ("x" * depth) if depth else Path("/tmp")
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with workers._meeting_place() as place, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{place}/63.answers")
        assert stat.S_IMODE(Path(place).stat().st_mode) == 0o700


def test_pauses_grow_to_a_bound() -> None:
    assert [pause_before(deaths) for deaths in range(1, 6)] == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert pause_before(10_000) == 30.0


def test_a_limit_of_the_gateway_is_shared_out_and_rounded_up() -> None:
    assert ALONE.share(1000) == 1000
    assert Worker(2, 3).share(1000) == 334
    assert Worker(0, 8).share(1) == 1


def test_settings_keep_their_secrets_on_the_way_to_a_worker() -> None:
    settings = make_settings()
    arrived: Settings = pickle.loads(pickle.dumps(settings))
    assert arrived == settings
    assert arrived.accounts[0].projects[0].keys[0].secret.get_secret_value() == KEY


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("parent", ["hears", "is gone"])
def test_a_worker_tells_why_it_cannot_open_the_store(
    parent: str, pair: Sequence[socket.socket], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker_entry, "configure_logging", lambda worker: None)
    ours, theirs = pair
    if parent == "is gone":
        ours.close()
    with pytest.raises(SystemExit) as ended:
        worker_entry.serve_worker(_without_store(tmp_path), Worker(0, 2), [], theirs)
    assert ended.value.code == 1
    if parent == "hears":
        assert ours.recv(4096).startswith(f"the store {tmp_path}/missing/ledger.db cannot be opened".encode())


def test_a_store_that_cannot_be_opened_is_told_before_any_worker_starts(tmp_path: Path) -> None:
    with pytest.raises(StoreDown, match="missing"):
        run_workers(_without_store(tmp_path), 2, on_ready=lambda *_: None)


@pytest.mark.processes
def test_a_process_that_cannot_open_the_store_is_heard_by_its_parent(tmp_path: Path) -> None:
    """With processes as they are: the store went away after the parent had looked."""

    async def supervise() -> None:
        settings = _without_store(tmp_path)
        with ExitStack() as ends:
            held = [ends.enter_context(each) for each in await _hold_address(settings.server)]
            supervisor = Supervisor(settings, 2, held=held, meeting=tmp_path, on_ready=lambda *_: None)
            async with asyncio.timeout(6 * LIMIT):
                await supervisor.run()

    with pytest.raises(NotStarted, match=r"Worker [01]: the store .*missing.* cannot be opened"):
        asyncio.run(supervise())


@pytest.mark.processes
def test_a_signal_that_comes_while_processes_start_ends_them_well(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """It is held back until the worker can drain; by itself a process would die of it."""
    caplog.set_level("INFO")

    async def supervise() -> None:
        server = ServerSettings(store=f"sqlite:///{tmp_path}/ledger.db", port=0)
        settings = make_settings().model_copy(update={"server": server})
        with ExitStack() as ends:
            held = [ends.enter_context(each) for each in await _hold_address(server)]
            supervisor = Supervisor(settings, 2, held=held, meeting=tmp_path, on_ready=lambda *_: None)
            task = asyncio.create_task(supervisor.run())
            await until(lambda: len(supervisor._children) == 2)
            for child in supervisor._children.values():
                os.kill(child.process.pid or 0, signal.SIGTERM)
            supervisor.take(signal.SIGTERM)
            async with asyncio.timeout(6 * LIMIT):
                await task

    asyncio.run(supervise())
    assert [life["how"] for life in facts(caplog, "worker.ended")] == ["exit 0", "exit 0"]


def _without_store(folder: Path) -> Settings:
    store = f"sqlite:///{folder}/missing/ledger.db"
    return make_settings().model_copy(update={"server": ServerSettings(store=store, port=0)})
