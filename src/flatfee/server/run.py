"""Runs the app on uvicorn, and ends it well: what runs is finished, what is new is told 503."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from types import FrameType
from typing import Final

import uvicorn

from flatfee.server.app import App
from flatfee.server.http.connection import GuardedConnection
from flatfee.server.reload.changes import Reloading
from flatfee.server.reload.reloader import AtSignal

log = logging.getLogger("flatfee.server")

_KEEP_ALIVE_SECONDS: Final = 75
CANCEL_SECONDS: Final = 2
"""After the grace, or at a second signal, what still runs gets this long before it is cancelled and settled."""


class GatewayServer(uvicorn.Server):
    """A uvicorn server that drains before it stops.

    At the first signal new requests get 503 while those that run are finished, for as long as
    ``shutdown_grace`` says; a second signal ends everything at once. ``SIGHUP`` has the configuration
    read again. ``on_ready`` is called with the bound address once requests are accepted.
    """

    def __init__(self, app: App, *, on_ready: Callable[[str, int], None] | None = None) -> None:
        server = app.gateway.settings.server
        config = uvicorn.Config(
            app,
            host=server.host,
            port=server.port,
            loop="uvloop",
            http=GuardedConnection,
            ws="none",
            interface="asgi3",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=CANCEL_SECONDS,
            backlog=2048,
        )
        super().__init__(config)
        self._app = app
        self._on_ready = on_ready
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends = AsyncExitStack()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell the address: port 0 means that the system chose one."""
        await super().startup(sockets=sockets)
        self._loop = asyncio.get_running_loop()
        reloading = self._app.gateway.reloading
        if reloading is not None and threading.current_thread() is threading.main_thread():
            self._ends.enter_context(obeying_hangups(reloading))
        if not self.should_exit and self._on_ready is not None:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_ready(host, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, and hear of no reload any more."""
        await super().shutdown(sockets=sockets)
        await self._ends.aclose()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, stop at once at the second."""
        if self._app.gateway.draining or self._loop is None:
            super().handle_exit(sig, frame)
            return
        log.info("server.draining", extra={"signal": signal.Signals(sig).name, "running": self._app.gateway.active})
        self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Refuse new requests, and stop once those that run have ended."""
        self._app.gateway.draining = True
        self._draining = asyncio.get_running_loop().create_task(self._stop_when_idle())

    async def _stop_when_idle(self) -> None:
        gateway = self._app.gateway
        with suppress(TimeoutError):
            async with asyncio.timeout(gateway.settings.server.shutdown_grace):
                await gateway.until_idle()
        self.should_exit = True


@contextmanager
def obeying_hangups(reloading: Reloading) -> Generator[None]:
    """Have the configuration read again at each ``SIGHUP`` while the block lasts, and at one that was held back."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, AtSignal(reloading).take)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        loop.remove_signal_handler(signal.SIGHUP)


def collect_less() -> None:
    """Let the garbage collector pass over what was made at start, and come less often.

    What a request makes is freed by reference count; full collections only stopped requests
    (docs/decisions/0012).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def run(app: App, *, on_ready: Callable[[str, int], None] | None = None) -> None:
    """Serve until a signal ends it, and return once everything that ran has ended.

    The process is the gateway's own: its garbage collector is set for it.
    """

    def ready(host: str, port: int) -> None:
        collect_less()
        if on_ready is not None:
            on_ready(host, port)

    GatewayServer(app, on_ready=ready).run()
