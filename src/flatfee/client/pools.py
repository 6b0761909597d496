"""Clients of the HTTP library, each used only where it was made: in one process, on one event loop.

Knows no HTTP library: what makes a client is passed in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

    from flatfee.client.retry import Budget

T = TypeVar("T")


class Process:
    """This process. ``forks`` is how many forks after the first import it came to be.

    ``kept`` holds what its parent opened and it must not even drop: what is dropped gives itself back to
    a pool whose lock may be held by a thread that was not forked.
    """

    forks = 0
    kept: list[Any] = []  # noqa: RUF012 - not a default: there is no instance

    @classmethod
    def begin(cls) -> None:
        """Take note that this is a child: what its parent opened is not its own."""
        cls.forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Process.begin)


class ProcessPools:
    """Makes a client when one is first needed, and another one in a child process.

    What a parent made is neither used nor closed by the child, only kept: its sockets are the
    parent's, and its locks may be held by threads that the child does not have.
    """

    def __init__(self, make: Callable[[bool], Any]) -> None:
        self._make = make
        self._clients: dict[tuple[int, bool], Any] = {}

    def current(self, secure: bool) -> Any:
        """Return the client of this process for ``https``, or for plain ``http``."""
        place = (Process.forks, secure)
        client = self._clients.get(place)
        if client is None:  # threads that come here together agree on one; a client without a call holds nothing
            client = self._clients.setdefault(place, self._make(secure))
        return client

    def close(self) -> None:
        """Close what this process opened."""
        for place, client in list(self._clients.items()):
            if place[0] == Process.forks:
                client.close()

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be half gone
            self.close()


class LoopPools:
    """Makes a client for each event loop that needs one; closes it when the loop ends, or when it is dropped.

    An asynchronous generator does both: its event loop knows it, and closes it in time. That holds for
    asyncio and trio, as ``asyncio.run`` and ``trio.run`` run them.
    """

    def __init__(self, make: Callable[[bool], Any]) -> None:
        from asyncio import get_running_loop  # a program without coroutines does without

        self._make = make
        self._asyncio_loop = get_running_loop
        self._clients: dict[tuple[Any, int, bool], tuple[Any, AsyncGenerator[None]]] = {}

    def current(self, secure: bool) -> Any:
        """Return the client of the running event loop for ``https``, or for plain ``http``."""
        place = (self._loop(), Process.forks, secure)
        found = self._clients.get(place)
        return self._begin(place) if found is None or found[0].is_closed else found[0]

    def _begin(self, place: tuple[Any, int, bool]) -> Any:
        for other, (client, _) in list(self._clients.items()):
            if client.is_closed or getattr(other[0], "is_closed", bool)():
                self._clients.pop(other, None)
        client = self._make(place[2])
        keeper = _keep(client)
        with suppress(StopIteration):
            keeper.asend(None).send(None)  # it comes to its yield without a wait
        self._clients[place] = client, keeper
        return client

    async def close(self) -> None:
        """Close the clients of this event loop; others are dropped, and closed by theirs."""
        here = (self._loop(), Process.forks)
        mine = [keeper for place, (_, keeper) in self._clients.items() if place[:2] == here]
        for place in list(self._clients):
            if place[1] == here[1]:
                self._clients.pop(place, None)
        for keeper in mine:
            await keeper.aclose()

    def _loop(self) -> Any:
        try:
            return self._asyncio_loop()
        except RuntimeError:
            return sys.modules["trio"].lowlevel.current_trio_token()


async def _keep(client: Any) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await client.aclose()


async def pause(seconds: float) -> None:
    """Wait, on whichever event loop runs."""
    from anyio import sleep

    await sleep(seconds)


async def within(result: Awaitable[T], budget: Budget) -> T:
    """Await ``result`` for as long as the budget lasts.

    Raises:
        APITimeoutError: it was not there in time.
    """
    from anyio import move_on_after

    with move_on_after(budget.left()):
        return await result
    raise budget.passed()


def mend(client: Any, request: Any) -> None:
    """Free what a cancelled request still holds of its connection pool.

    ``httpcore`` shields its own cleaning up, but a second ``task.cancel()`` of asyncio goes through that
    shield, and a cancellation may meet a request between getting a connection and using it. The connection
    then counts as busy for good (encode/httpcore#1093, encode/httpx#3782). Nothing public tells of it, so
    this looks at the pool itself, and does nothing if it looks different from what is known.
    """
    with suppress(AttributeError, KeyError, ValueError):
        transport = client._transport_for_url(request.url)
        pool = getattr(transport, "_wrapped", transport)._pool  # behind one of ``flatfee.integrations``, if need be
        for waiting in list(pool._requests):
            if waiting.request.extensions is request.extensions:
                pool._requests.remove(waiting)
        used = [each.connection for each in pool._requests]
        lost = [each for each in pool._connections if each not in used and not (each.is_idle() or each.is_closed())]
        for connection in lost:
            pool._connections.remove(connection)
        lost += pool._assign_requests_to_connections()
        if lost:
            _Closing.begin(lost)


class _Closing:
    """Connections on their way out. The event loop keeps weak references to its tasks only."""

    tasks: set[asyncio.Task[None]] = set()  # noqa: RUF012 - not a default: there is no instance

    @classmethod
    def begin(cls, connections: list[Any]) -> None:
        """Close connections in a task of their own, which nobody cancels together with the caller's."""
        from asyncio import get_running_loop

        try:
            loop = get_running_loop()
        except RuntimeError:
            sys.modules["trio"].lowlevel.spawn_system_task(_close, connections)
            return
        task = loop.create_task(_close(connections))
        cls.tasks.add(task)
        task.add_done_callback(cls.tasks.discard)


async def _close(connections: list[Any]) -> None:
    for connection in connections:
        with suppress(Exception):
            await connection.aclose()
