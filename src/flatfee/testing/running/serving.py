"""Where a scripted gateway is reached: on a socket, by uvicorn as in production, or nowhere but in memory."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, cast

from flatfee.server.app import App
from flatfee.server.call import Scope
from flatfee.server.http.connection import GuardedConnection
from flatfee.server.http.exchange import Exchange
from flatfee.server.http.timer import Later, Now, Timer
from flatfee.server.run import GatewayServer
from flatfee.testing.faults.between import BREAK
from flatfee.testing.running.exchange import HANGS_UP
from flatfee.testing.running.front import Front
from flatfee.testing.running.loop import RealTimer, VirtualLoop

_FOR_GOOD: Final = 10**9
"""Seconds that an idle connection is kept: time that is skipped must not close those of a client under test."""


class PatientConnection(GuardedConnection):
    """A connection whose caller has real time to send and to read, and that a script may break.

    Time that is skipped makes nobody late.
    """

    _scope: Scope | None = None
    """Of the request that is served."""

    def _time(self) -> tuple[Later, Now]:
        def later(seconds: float, call: Callable[[], object]) -> Timer:
            return RealTimer(cast("VirtualLoop", self._loop), seconds, call)

        return later, time.monotonic

    def _begin(self, exchange: Exchange, scope: Scope) -> None:
        """Begin a request, and tell how to break off."""
        scope[BREAK] = self.transport.close
        self._scope = scope
        super()._begin(exchange, scope)

    def eof_received(self) -> bool:
        """Hear that the caller sends no more, and tell when: the gateway may be done with its request much later."""
        if self._scope is not None and HANGS_UP in self._scope:
            self._scope[HANGS_UP]()
        return super().eof_received()


_TURNS_TO_CONNECT: Final = 3
"""Turns of the event loop from a connection that is accepted to one that the server knows."""


class SocketServer(GatewayServer):
    """Serves a ``Front`` on the running event loop, from ``open`` to ``close``, but for where it is ``down``."""

    def __init__(self, front: Front) -> None:
        super().__init__(cast("App", front))
        self.config.timeout_keep_alive = _FOR_GOOD
        self.config.http = PatientConnection
        self._place: socket.socket | None = None

    async def open(self) -> tuple[str, int]:
        """Listen, and return host and port.

        Raises:
            OSError: the address cannot be listened on.
        """
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        try:
            await self.startup()
        except SystemExit as error:
            raise OSError(f"cannot listen on {self.config.host}:{self.config.port}") from error.__context__
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return host, port

    async def go_down(self) -> None:
        """Refuse connections, and cut off those that there are. The port stays ours."""
        if self._place is None:
            address = self.servers[0].sockets[0].getsockname()
            await self._cut_off()
            self._place = socket.socket()
            self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._place.bind(address)

    async def come_up(self) -> None:
        """Take connections again, where they were taken before."""
        if self._place is not None:
            made = partial(
                PatientConnection, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            place, self._place = self._place, None
            self.servers = [await asyncio.get_running_loop().create_server(made, sock=place)]

    async def _cut_off(self) -> None:
        loop = asyncio.get_running_loop()
        for listening in [each for server in self.servers for each in server.sockets]:
            loop.remove_reader(listening.fileno())
        # What was accepted becomes a connection first: a closed server would drop it, and leave it open for good.
        for _ in range(_TURNS_TO_CONNECT):
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def close(self) -> None:
        """Stop listening and close every connection; whoever is being served is cut off."""
        await self._cut_off()
        if self._place is not None:
            self._place.close()
        await asyncio.sleep(0)  # connections tell their requests that the caller is gone
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.lifespan.shutdown()


class NoServer:
    """Lets a ``Front`` live without a socket: requests come to it in memory."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._ends = AsyncExitStack()

    async def open(self) -> tuple[str, int]:
        """Start, and return a host and a port that are nowhere."""
        await self._ends.enter_async_context(self._front.app.running())
        return "gateway", 80

    async def go_down(self) -> None:
        """There is no socket to close."""

    async def come_up(self) -> None:
        """There is no socket to open."""

    async def close(self) -> None:
        """End."""
        await self._ends.aclose()
