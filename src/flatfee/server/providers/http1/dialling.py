"""How a connection to a provider comes about: its name is looked up, its addresses are tried, TLS is agreed on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Any, Final, TypeAlias, TypeVar

from flatfee.server.providers.http1.target import Origin

RECEIVE_BUFFER: Final = 64 * 1024
"""Bytes that the system keeps for a connection; left alone, it keeps megabytes of what nobody reads."""

STAGGER: Final = 0.25
"""Seconds after which the next address is tried while one is silent (RFC 8305, section 5)."""

FRESH: Final = 10.0
"""Seconds for which a look-up is believed."""

_Address: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
_AProtocol = TypeVar("_AProtocol", bound=asyncio.BaseProtocol)


@lru_cache(maxsize=1)
def trust() -> ssl.SSLContext:
    """Return whom the system trusts; reading its list takes tens of milliseconds, so it is read once."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialler:
    """Makes connections to one server. One look-up of its name serves all who ask meanwhile."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._trust = trust() if origin.tls else None
        self._found: asyncio.Task[Sequence[_Address]] | None = None
        self._stale_at = 0.0

    async def dial(self, make: Callable[[], _AProtocol]) -> _AProtocol:
        """Return a protocol that is connected; who has no patience cancels it.

        Raises:
            ssl.SSLError: the server cannot be trusted, or speaks no TLS.
            OSError: it is not found, or cannot be reached.
        """
        loop = asyncio.get_running_loop()
        origin = self._origin
        addresses = await self._addresses(loop)
        try:
            connected = await _reach(loop, addresses)
        except OSError:
            self._found = None  # it may have moved
            raise
        name = origin.host if origin.tls else None
        _, protocol = await loop.create_connection(make, sock=connected, ssl=self._trust, server_hostname=name)
        return protocol

    async def _addresses(self, loop: asyncio.AbstractEventLoop) -> Sequence[_Address]:
        host, port = self._origin.host, self._origin.port
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (socket.gaierror, UnicodeError):
            pass  # it is a name
        # A look-up cannot be ended, and the system does few at once: one that hangs is not joined by others.
        if self._found is None or (self._found.done() and loop.time() >= self._stale_at):
            self._found = loop.create_task(_look_up(loop, host, port))
            self._found.add_done_callback(self._forget_failure)
            self._stale_at = loop.time() + FRESH
        return await asyncio.shield(self._found)

    def _forget_failure(self, looked_up: asyncio.Task[Sequence[_Address]]) -> None:
        """Let the next who asks look again, even where nobody waits any more."""
        if self._found is looked_up and (looked_up.cancelled() or looked_up.exception() is not None):
            self._found = None


async def _look_up(loop: asyncio.AbstractEventLoop, host: str, port: int) -> Sequence[_Address]:
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError("this cannot be a host's name") from error
    return _in_turn(found)


def _in_turn(found: Sequence[_Address]) -> Sequence[_Address]:
    """Sort addresses so that the families take turns, the system's favourite first."""
    if not found:
        raise OSError("the host has no address")
    first = [address for address in found if address[0] == found[0][0]]
    others = [address for address in found if address[0] != found[0][0]]
    return [address for address in chain.from_iterable(zip_longest(first, others)) if address is not None]


async def _reach(loop: asyncio.AbstractEventLoop, addresses: Sequence[_Address]) -> socket.socket:
    """Return a socket that is connected to the first address that answers."""
    if len(addresses) == 1:
        return await _connect(loop, addresses[0])
    error: BaseException | None = None
    trying: set[asyncio.Task[socket.socket]] = set()
    try:
        for left in range(len(addresses) - 1, -1, -1):
            trying.add(loop.create_task(_connect(loop, addresses[-1 - left])))
            patience = STAGGER if left else None
            while trying:
                done, _ = await asyncio.wait(trying, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None:
                        trying.discard(task)
                        return task.result()
                    error = error or task.exception()
                trying -= done
                if left:
                    break
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_close)
    raise error or OSError("no address answers")


def _close(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect(loop: asyncio.AbstractEventLoop, address: _Address) -> socket.socket:
    family, kind, protocol, _, where = address
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        await loop.sock_connect(made, where)
    except BaseException:
        made.close()
        raise
    return made
