"""The connections to one server that are kept for the next request; the last that came back goes out first."""

from __future__ import annotations

import asyncio
from typing import Final

from flatfee.server.providers.http1.connection import READ_AT_ONCE, Connection
from flatfee.server.providers.http1.dialling import Dialler
from flatfee.server.providers.http1.target import Origin

IDLE_SECONDS: Final = 30.0
"""A connection that waits for a request for longer is closed; most servers give it a minute or more."""


class Pool:
    """Connections to one server. It has one timer, while any of them is idle."""

    def __init__(self, origin: Origin, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._dialler = Dialler(origin)
        self._buffer = memoryview(bytearray(READ_AT_ONCE))
        self._idle_seconds = idle_seconds
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def kept(self) -> Connection | None:
        """Return a connection that waits for a request, if one does."""
        while self._idle:
            connection = self._idle.pop()
            if connection.ready():
                return connection
            connection.drop()
        return None

    async def made(self) -> Connection:
        """Return a new connection.

        Raises:
            OSError: it does not come about; ``ssl.SSLError`` where the server cannot be trusted.
        """
        loop = asyncio.get_running_loop()
        connection = await self._dialler.dial(lambda: Connection(loop, self._buffer, self._forget))
        if not connection.lost:
            self._all.add(connection)
        return connection

    def take_back(self, connection: Connection) -> None:
        """End the request on a connection, and keep it if it can be used again."""
        if not connection.finish():
            return
        if self._closed:
            connection.drop()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.append(connection)
        if self._timer is None:
            self._timer = loop.call_later(self._idle_seconds, self._sweep)

    def close(self) -> None:
        """Drop every connection, those under way too; none is kept from now on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._idle.clear()
        for connection in tuple(self._all):
            connection.drop()

    def _sweep(self) -> None:
        """Drop what was idle for too long; who waits longest stands first."""
        loop = asyncio.get_running_loop()
        until = loop.time() - self._idle_seconds
        while self._idle and self._idle[0].idle_since <= until:
            self._idle.pop(0).drop()
        self._timer = loop.call_at(self._idle[0].idle_since + self._idle_seconds, self._sweep) if self._idle else None

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        if not connection.busy and connection in self._idle:
            self._idle.remove(connection)
