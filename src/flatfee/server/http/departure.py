"""The way out of a connection: how much may wait for its caller, and whether what waits leaves. No requests."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Final

from flatfee.server.http.timer import Later, Timer

log = logging.getLogger("flatfee.server")

WRITE_SECONDS: Final = 60.0
"""A caller that takes no byte for this long, while bytes wait for it, is gone."""

WRITE_AHEAD: Final = 16 * 1024
"""So many bytes may wait for a caller before no more are taken from its provider."""

UNSENT: Final = 16 * 1024
"""Bytes that the system keeps for a connection besides; left alone, it keeps megabytes for who does not read, and
takes more in steps so large that a slow reader seems to have stopped."""

LOOKS: Final = 4
"""How often within ``WRITE_SECONDS`` it is looked whether bytes leave."""

NOTSENT_LOWAT: Final[int | None] = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS have it


class Departure:
    """Bounds what waits for a caller in bytes and in time. Its timer runs only while something does."""

    __slots__ = ("_later", "_looks_left", "_room", "_timer", "_transport", "_unsent", "paused")

    def __init__(self, transport: asyncio.Transport, later: Later) -> None:
        self._transport = transport
        self._later = later
        self._timer: Timer | None = None
        self._unsent = 0
        self._looks_left = LOOKS
        self._room: asyncio.Event | None = None
        self.paused = False
        transport.set_write_buffer_limits(high=WRITE_AHEAD)
        connected: socket.socket = transport.get_extra_info("socket")
        if NOTSENT_LOWAT is not None:
            with suppress(OSError):  # it may have ended already
                connected.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT)

    async def room(self) -> None:
        """Return once so much has left that more may be written."""
        while self.paused:
            if self._room is None:
                self._room = asyncio.Event()
            await self._room.wait()

    def pause(self) -> None:
        """Have nothing more written, and see whether the caller reads."""
        self.paused = True
        self.look_out()

    def resume(self) -> None:
        """Let more be written. At a connection's end the last bytes must leave as well."""
        if not self._transport.is_closing():
            self._stop_looking()
        self._make_room()

    def end(self) -> None:
        """Look no more, and let nobody wait."""
        self._stop_looking()
        self._make_room()

    def look_out(self) -> None:
        """See that what waits leaves: who does not take it in time is cut off."""
        self._stop_looking()
        self._unsent = self._transport.get_write_buffer_size()
        self._looks_left = LOOKS
        self._timer = self._later(WRITE_SECONDS / LOOKS, self._look)

    def _look(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        self._looks_left = LOOKS if unsent < self._unsent else self._looks_left - 1
        self._unsent = unsent
        if self._looks_left:
            self._timer = self._later(WRITE_SECONDS / LOOKS, self._look)
            return
        log.info("connection.not_read", extra={"unsent": unsent})
        self._transport.abort()

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make_room(self) -> None:
        self.paused = False
        if self._room is not None:
            self._room.set()
            self._room = None
