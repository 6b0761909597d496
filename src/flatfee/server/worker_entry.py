"""What runs in a worker process: the gateway's app, served on sockets that its parent bound for it.

Parent and worker talk over one socket pair. The worker tells that it is ``READY``, or why it is not;
the parent tells it to ``DRAIN`` or to ``STOP``. A worker that is told to end by a signal of its own asks
to ``LEAVE``, and the parent lets it once others serve on the address. The end of the pair is the end of
the other side, however that came: a worker whose parent is gone drains and ends. Another configuration is
written over a second pair (``reload.letters``): it is longer than a word. Starting, counting and
replacing workers is the parent's part, in ``workers``.
"""

from __future__ import annotations

import asyncio
import logging
import select
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Final

from uvicorn.server import HANDLED_SIGNALS

from flatfee.server.app import App, create_app
from flatfee.server.logs import configure_logging
from flatfee.server.reload.crew import InWorker
from flatfee.server.reload.letters import post_office
from flatfee.server.reload.swap import Swap
from flatfee.server.run import GatewayServer, collect_less
from flatfee.server.settings import Settings
from flatfee.server.store.base import StoreDown
from flatfee.server.worker import Worker

log = logging.getLogger("flatfee.server")

READY: Final = b"ready"
DRAIN: Final = b"d"
STOP: Final = b"s"
LEAVE: Final = b"l"
MAX_WORD: Final = 4096
"""What either side says is shorter than this, and sent at once."""

_ANSWER_SECONDS: Final = 1.0
"""A parent that does not say within this time whether a worker may leave is not waited for."""

_ASK_SECONDS: Final = 0.25
"""Who had just connected when its worker left the address gets this long to ask, and is served."""


class WorkerServer(GatewayServer):
    """A gateway's server that listens to its parent.

    A signal of its own lets it go on until it has left the address, if others take what is new there, and
    then drains it. Only its parent can hurry it: a terminal and a service manager signal every process of
    the gateway, so a second signal here may be the first one passed on.
    """

    def __init__(self, app: App, parent: socket.socket, letters: socket.socket | None = None) -> None:
        super().__init__(app, on_ready=self._tell_ready)
        self._parent = parent
        self._letters = letters
        self._sockets: Sequence[socket.socket] = ()
        self._signal: signal.Signals | None = None
        self._leaving: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and from here on obey: signals were held back since before this process began."""
        await super().startup(sockets=sockets)
        self._sockets = sockets or ()
        if self._letters is not None:
            part = InWorker(Swap(self._app.gateway))
            part.post = await self._ends.enter_async_context(post_office(self._letters, part.answer))
            self._app.gateway.reloading = part
        self._parent.setblocking(False)
        asyncio.get_running_loop().add_reader(self._parent, self._hear)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the frame tells nothing
        """Ask the parent to let this worker leave, once however often this one is asked."""
        if self._signal is None and self._loop is not None:
            self._signal = signal.Signals(sig)
            self._loop.call_soon_threadsafe(self._ask_to_leave)

    def _tell_ready(self, host: str, port: int) -> None:  # noqa: ARG002 - the parent bound the address
        collect_less()
        with suppress(ConnectionError):  # that the parent is gone is heard in a moment
            self._parent.sendall(READY)

    def _ask_to_leave(self) -> None:
        with suppress(OSError):  # that the parent is gone is heard in a moment
            self._parent.send(LEAVE)
        asyncio.get_running_loop().call_later(_ANSWER_SECONDS, self.drain)

    def _hear(self) -> None:
        """Take what the parent said, or note that it is gone."""
        try:
            word = self._parent.recv(MAX_WORD)
        except ConnectionError:
            word = b""
        if not word:
            asyncio.get_running_loop().remove_reader(self._parent)
            log.warning("worker.orphaned", extra={"running": self._app.gateway.active})
            self._leave_address()
        if word.endswith(LEAVE):
            self._leaving = asyncio.get_running_loop().create_task(self._leave())
        else:
            self.drain()
        if STOP in word:
            self.should_exit = True

    def drain(self) -> None:
        """Drain, however often it is asked for."""
        gateway = self._app.gateway
        if not gateway.draining:
            told = "worker.draining" if self._signal is None else "server.draining"
            facts = {} if self._signal is None else {"signal": self._signal.name}
            log.info(told, extra={**facts, "running": gateway.active})
            super().drain()

    async def _leave(self) -> None:
        """Accept what is queued, which would be reset, leave the address to the others, and drain."""
        for _ in range(self.config.backlog):  # connections may come faster than they are accepted
            if not _waiting(self._sockets):
                break
            await asyncio.sleep(0)
        self._leave_address()
        await asyncio.sleep(_ASK_SECONDS)
        self.drain()

    def _leave_address(self) -> None:
        """Listen no more: whoever takes the parent's place binds the same address."""
        for server in self.servers:
            server.close()
        for listening in self._sockets:
            listening.close()


def _waiting(sockets: Sequence[socket.socket]) -> bool:
    """Tell whether a connection waits to be accepted."""
    poll = select.poll()
    for listening in sockets:
        if listening.fileno() >= 0:
            poll.register(listening, select.POLLIN)
    return bool(poll.poll(0))


def serve_worker(
    settings: Settings,
    worker: Worker,
    sockets: Sequence[socket.socket],
    parent: socket.socket,
    letters: socket.socket | None = None,
) -> None:
    """Serve as one of several workers, until the parent says otherwise or is gone.

    ``letters`` is where the parent writes of another configuration, if there can be one.
    """
    configure_logging(worker=worker.number)
    try:
        app = create_app(settings, worker=worker)
    except StoreDown as error:
        with suppress(ConnectionError):
            parent.sendall(str(error).encode()[: MAX_WORD - 1])
        sys.exit(1)
    WorkerServer(app, parent, letters).run(list(sockets))
    if worker.meeting is not None:
        # The parent does this, unless it was killed: then the last worker finds the directory empty.
        with suppress(OSError):
            worker.meeting.rmdir()
