"""Several worker processes that serve one gateway: started, replaced when they die, ended together.

The parent holds the address and serves nothing itself, so that nothing a request does can end it. Each
worker has a socket of its own on that address (``SO_REUSEPORT``), and the system shares connections out.
What a worker does is in ``worker_entry``; what workers share is the ledger's file
(docs/decisions/0014).
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

from flatfee.server.app import open_store
from flatfee.server.reload.crew import Crew
from flatfee.server.reload.reloader import Reloader
from flatfee.server.reload.source import Source
from flatfee.server.run import CANCEL_SECONDS, obeying_hangups
from flatfee.server.settings import ServerSettings, Settings
from flatfee.server.worker import Worker
from flatfee.server.worker_entry import DRAIN, LEAVE, MAX_WORD, READY, STOP, serve_worker

log = logging.getLogger("flatfee.server")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_SETTLED_SECONDS: Final = 30.0
"""A worker that lived this long did not die at once."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_END_SECONDS: Final = 10.0
"""What a worker needs to end, beyond the time its requests are given; then it is killed."""

_LONGEST_FOLDER: Final = 70
"""Bytes of a path in which a meeting place is made: a socket's path may have about a hundred in all."""

_spawn = multiprocessing.get_context("spawn")


class NotStarted(Exception):
    """The workers do not serve. The message says why if a worker told, the cause if the system did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Life:
    """How a worker lived: ``served`` if it was ever ready, else ``reason`` is what it said, if anything."""

    pid: int | None
    how: str
    seconds: float
    served: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """A worker's process, and the parent's end of the pair that they talk over."""

    process: SpawnProcess
    pair: socket.socket

    def tell(self, word: bytes) -> None:
        with suppress(OSError):  # it is gone, and its end is heard of where it is waited for
            self.pair.send(word)

    async def hear(self) -> bytes:
        """Return what the worker says next; nothing once it has ended."""
        try:
            return await asyncio.get_running_loop().sock_recv(self.pair, MAX_WORD)
        except ConnectionError:
            return b""


def pause_before(deaths: int) -> float:
    """Return how many seconds to wait after so many early deaths in a row: none for the first, then ever more."""
    return 0.0 if deaths <= 1 else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(deaths - 2, 16))


def run_workers(
    settings: Settings, count: int, *, source: Source | None = None, on_ready: Callable[[str, int], None]
) -> None:
    """Serve with ``count`` workers until a signal ends it, and return once all of them have ended.

    ``source`` is where the settings can be read again while they serve, at ``SIGHUP`` or when an
    administrator asks.
    ``on_ready`` is called with the bound address once every worker accepts requests. The first
    signal drains all workers, the second ends them at once, as with one process.

    Raises:
        StoreDown: the store cannot be opened.
        NotStarted: the address cannot be listened on, or a worker cannot start.
    """
    hurried = asyncio.run(_run(settings, count, source, on_ready))
    if hurried is not None:
        signal.raise_signal(hurried)


async def _run(
    settings: Settings, count: int, source: Source | None, on_ready: Callable[[str, int], None]
) -> signal.Signals | None:
    await _open_once(settings.server)
    with ExitStack() as ends:
        held = await _hold_address(settings.server)
        for bound in held:
            ends.enter_context(bound)
        meeting = ends.enter_context(_meeting_place())
        supervisor = Supervisor(settings, count, held=held, meeting=Path(meeting), source=source, on_ready=on_ready)
        loop = asyncio.get_running_loop()
        if supervisor.reloader is not None:
            ends.enter_context(obeying_hangups(supervisor.reloader))
        for number in _SIGNALS:
            loop.add_signal_handler(number, supervisor.take, number)
            ends.callback(loop.remove_signal_handler, number)
        await supervisor.run()
    return supervisor.hurried


def _meeting_place() -> tempfile.TemporaryDirectory[str]:
    """Make a directory that nobody else may enter, with a path that leaves room for the names of sockets."""
    usual = tempfile.gettempdir()
    where = usual if len(os.fsencode(usual)) <= _LONGEST_FOLDER else "/tmp"  # noqa: S108 - a fresh name, and ours alone
    return tempfile.TemporaryDirectory(prefix="flatfee-", dir=where, ignore_cleanup_errors=True)


async def _open_once(server: ServerSettings) -> None:
    """Bring the store up to date before several open it, and say once if it cannot be used."""
    await open_store(server).close()


async def _hold_address(server: ServerSettings) -> Sequence[socket.socket]:
    """Bind what one process would, every address of the host's name, without listening.

    First it is listened on for a moment as if by one process alone: an address that another gateway
    has, or takes at the same moment, is an error. Only then may workers bind it as well.
    """
    with ExitStack() as moment, ExitStack() as on_failure:
        try:
            bound = await asyncio.get_running_loop().create_server(
                asyncio.Protocol, server.host, server.port, start_serving=False
            )
            alone = [moment.enter_context(each.dup()) for each in bound.sockets]
            bound.close()
            held = [on_failure.enter_context(_held_beside(each)) for each in alone]
        except OSError as error:
            raise NotStarted("") from error
        on_failure.pop_all()
    return held


def _held_beside(alone: socket.socket) -> socket.socket:
    """Return another socket on an address that was bound for one process alone, which keeps it for our workers."""
    alone.listen()  # if somebody else bound it as well, when nobody listened yet, one of both ends here
    alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held = _beside(alone)
    # With this, Linux would let anybody bind the address as long as no worker listens.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return held


def _beside(held: socket.socket) -> socket.socket:
    """Return another socket on the address of ``held``, for one worker to listen on."""
    beside = socket.socket(held.family, held.type, held.proto)
    try:
        beside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        beside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if held.family == socket.AF_INET6:
            beside.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        beside.bind(held.getsockname())
    except OSError:
        beside.close()
        raise
    return beside


class Supervisor:
    """Keeps ``count`` workers alive until it is told to end them."""

    def __init__(
        self,
        settings: Settings,
        count: int,
        *,
        held: Sequence[socket.socket],
        meeting: Path,
        on_ready: Callable[[str, int], None],
        source: Source | None = None,
    ) -> None:
        self._held = held
        self._address = held[0].getsockname()[:2]
        self._workers = [Worker(number, count, meeting) for number in range(count)]
        self._on_ready: Callable[[str, int], None] | None = on_ready
        self._children: dict[int, _Child] = {}
        self._serving: set[int] = set()
        self._leaving: set[int] = set()  # asked to leave the address while nobody else served there
        self._ending = asyncio.Event()
        self._crew = Crew(settings, self._ending.is_set)
        self.reloader = Reloader(source, self._crew) if source is not None else None
        """Who reads the configuration again; ``None`` where there is none to read."""
        self._failure: NotStarted | None = None
        self.hurried: signal.Signals | None = None
        """The second signal, if there was one."""

    async def run(self) -> None:
        """Return once every worker has ended for good.

        Raises:
            NotStarted: a worker could not start, and so the others were ended.
        """
        await asyncio.gather(*(self._keep(worker) for worker in self._workers))
        if self._failure is not None:
            raise self._failure

    def take(self, number: signal.Signals) -> None:
        """Obey a signal: the first drains every worker, the second ends them at once."""
        if not self._ending.is_set():
            log.info("server.draining", extra={"signal": number.name, "workers": len(self._children)})
            self._end(DRAIN, self._crew.settings.server.shutdown_grace)
        elif self.hurried is None:
            self.hurried = number
            self._end(STOP, 0.0)

    def _end(self, word: bytes, grace: float) -> None:
        """Tell all workers, and kill those that have not ended when all they may take is over."""
        self._ending.set()
        for child in self._children.values():
            child.tell(word)
        asyncio.get_running_loop().call_later(grace + CANCEL_SECONDS + _END_SECONDS, self._kill)

    def _kill(self) -> None:
        for number, child in self._children.items():
            log.error("worker.killed", extra={"worker": number, "pid": child.process.pid})
            child.process.kill()

    async def _keep(self, worker: Worker) -> None:
        """Run a worker, and another in its place whenever it dies."""
        deaths = 0
        while not self._ending.is_set():
            life = await self._live(worker)
            facts = {"worker": worker.number, "pid": life.pid, "how": life.how}
            if life.reason:
                facts["reason"] = life.reason
            if self._ending.is_set():
                log.info("worker.ended", extra=facts)
                return
            if not life.served and (self._on_ready is not None or not self._serving):
                log.error("worker.not_started", extra=facts)
                self._failure = NotStarted(f"Worker {worker.number}: {life.reason}." if life.reason else "")
                self._end(DRAIN, self._crew.settings.server.shutdown_grace)
                return
            deaths = 1 if life.seconds >= _SETTLED_SECONDS else deaths + 1
            pause = pause_before(deaths)
            log.error("worker.died", extra={**facts, "restart_in": pause})
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)

    async def _live(self, worker: Worker) -> _Life:
        """Start a worker and return once it has ended."""
        began = time.monotonic()
        async with AsyncExitStack() as ends:
            try:
                aboard = await ends.enter_async_context(self._crew.aboard(worker.number, self.reloader))
                child = self._start(worker, *aboard)
            except OSError as error:  # such as no memory for another process
                return _Life(pid=None, how=f"{error.strerror}", seconds=0.0, reason=str(error))
            ends.enter_context(child.pair)
            word = await child.hear()
            served = word.startswith(READY)
            if served:
                self._note_ready(worker, child)
                await self._listen(worker, child, word.removeprefix(READY))
            await asyncio.to_thread(child.process.join)
        del self._children[worker.number]
        return _Life(
            pid=child.process.pid,
            how=_how(child.process.exitcode),
            seconds=time.monotonic() - began,
            served=served,
            reason="" if served else word.decode(errors="replace"),
        )

    async def _listen(self, worker: Worker, child: _Child, word: bytes) -> None:
        """Listen to a worker that serves until it has ended. ``word``: what it said since it was ready."""
        while word or (word := await child.hear()):
            if word.startswith(LEAVE):
                self._serving.discard(worker.number)
                self._leaving.add(worker.number)
                self._let_leave()
            word = b""
        self._serving.discard(worker.number)
        self._leaving.discard(worker.number)

    def _let_leave(self) -> None:
        """Let workers leave the address that want to, if another serves there; else they refuse what is new."""
        word = LEAVE if self._serving and not self._ending.is_set() else DRAIN
        for number in self._leaving:
            self._children[number].tell(word)
        if word == LEAVE:
            self._leaving.clear()

    def _start(self, worker: Worker, settings: Settings, letters: socket.socket | None) -> _Child:
        """Start a worker's process. Its settings, secrets among them, go through a pipe: no file, no command line."""
        with ExitStack() as on_failure, ExitStack() as given:
            ours, theirs = socket.socketpair()
            on_failure.enter_context(ours).setblocking(False)
            given.enter_context(theirs)
            listening = [given.enter_context(_beside(held)) for held in self._held]
            if letters is not None:
                given.enter_context(letters)
            told = (settings, worker, listening, theirs, letters)
            process = _spawn.Process(target=serve_worker, args=told, daemon=True)
            with _signals_held_back():
                process.start()
            on_failure.pop_all()
        self._children[worker.number] = child = _Child(process=process, pair=ours)
        return child

    def _note_ready(self, worker: Worker, child: _Child) -> None:
        log.info("worker.ready", extra={"worker": worker.number, "pid": child.process.pid})
        self._serving.add(worker.number)
        self._let_leave()
        tell = self._on_ready
        if tell is not None and len(self._serving) == len(self._workers) and not self._ending.is_set():
            self._on_ready = None
            tell(*self._address)


@contextmanager
def _signals_held_back() -> Generator[None, None, None]:
    """Start a process that a signal cannot end before it knows how to end well: it inherits what is held back."""
    resource_tracker.ensure_running()  # which every process of ours shares, and whose start lets signals go again
    # A hangup is the parent's to obey: its workers never hear one, also where a terminal tells every process.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_SIGNALS, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit {code}"
