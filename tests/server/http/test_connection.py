"""One connection on a transport that only notes what happens to it; real sockets are in ``tests/server/abuse``."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
import uvicorn
from tests.server.fakes import make_settings, until
from uvicorn.server import ServerState

from flatfee.server.call import Receive, Scope, Send
from flatfee.server.http.connection import READ_AHEAD, GuardedConnection


class Wire:
    """The transport."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reading = True
        self.closing = False
        self.eof = False
        self.socket = MagicMock(spec=socket.socket, family=None)

    def get_extra_info(self, name: str) -> Any:
        return self.socket if name == "socket" else None

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write(self, data: bytes) -> None:
        assert not self.eof
        self.written.append(data)

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.closing = True


class App:
    """Answers a request once its gate is open; ``crashes`` instead if it is told to."""

    def __init__(self) -> None:
        self.gateway = SimpleNamespace(settings=make_settings())
        self.gates: list[asyncio.Event] = []
        self.crashes = False
        self.gone: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.gates.append(gate := asyncio.Event())
        when_gone: Callable[[Callable[[], object]], bool] = scope["extensions"]["flatfee.when_gone"]
        assert when_gone(lambda: self.gone.append(scope["path"]))
        await gate.wait()
        if self.crashes:
            raise ZeroDivisionError
        while (await receive())["more_body"]:
            continue
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def connection(app: App) -> GuardedConnection:
    return made(app, GuardedConnection)


def made(app: App, kind: type[GuardedConnection]) -> GuardedConnection:
    config = uvicorn.Config(cast("Any", app), lifespan="off", log_config=None, proxy_headers=False, interface="asgi3")
    config.load()
    connection = kind(config, ServerState(), {})
    connection.connection_made(cast("asyncio.Transport", Wire()))
    return connection


def ask(path: str, size: int = 0) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n".encode() + b"x" * size


def wire(connection: GuardedConnection) -> Wire:
    return cast("Wire", connection.transport)


async def test_requests_sent_ahead_are_read_while_their_bodies_are_small(
    connection: GuardedConnection, app: App
) -> None:
    connection.data_received(ask("/1", 10) + ask("/2", 10))
    await until(lambda: app.gates)
    assert wire(connection).reading
    connection.connection_lost(None)
    assert app.gone == ["/1"]
    app.gates[0].set()
    await until(lambda: not connection.tasks)
    assert wire(connection).written == []


async def test_bodies_are_bounded_in_sum_and_read_on_once_they_are_taken(
    connection: GuardedConnection, app: App
) -> None:
    connection.data_received(ask("/1", READ_AHEAD // 2) + ask("/2", READ_AHEAD // 2))
    assert wire(connection).reading
    connection.data_received(ask("/3", 1))
    assert not wire(connection).reading
    await until(lambda: app.gates)
    app.gates[0].set()
    await until(lambda: len(app.gates) == 2)
    assert wire(connection).reading
    assert len(wire(connection).written) == 1
    for nth in (1, 2):
        await until(lambda nth=nth: len(app.gates) > nth)  # type: ignore[misc]  # bound as it is now
        app.gates[nth].set()
    await until(lambda: len(wire(connection).written) == 3)
    assert connection._held == 0
    connection.connection_lost(None)


async def test_a_body_that_is_answered_before_it_is_taken_counts_no_more(
    connection: GuardedConnection, app: App
) -> None:
    async def hasty(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    connection._app = hasty
    connection.data_received(ask("/1", READ_AHEAD + 1))
    assert not wire(connection).reading
    await until(lambda: wire(connection).written)
    assert wire(connection).reading
    assert connection._held == 0
    connection.connection_lost(None)


async def test_an_app_that_crashes_before_it_answers_is_logged_and_told_once(
    connection: GuardedConnection, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.crashes = True
    connection.data_received(ask("/1") + ask("/2"))
    await until(lambda: app.gates)
    app.gates[0].set()
    await until(lambda: not connection.tasks)
    (told,) = wire(connection).written
    assert told.startswith(b"HTTP/1.1 500 ")
    assert b"connection: close" in told
    assert wire(connection).closing
    assert "ZeroDivisionError" in caplog.text
    connection.connection_lost(None)


async def test_an_app_that_crashes_behind_its_answer_leaves_the_next_request_alone(
    connection: GuardedConnection, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async def crashing(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        if scope["path"] == "/1":
            raise ZeroDivisionError

    connection._app = crashing
    connection.data_received(ask("/1") + ask("/2"))
    for nth in range(2):
        await until(lambda nth=nth: len(app.gates) > nth)  # type: ignore[misc]  # bound as it is now
        app.gates[nth].set()
    await until(lambda: not connection.tasks)
    assert [told[:13] for told in wire(connection).written] == [b"HTTP/1.1 200 "] * 2
    assert not wire(connection).closing
    assert "ZeroDivisionError" in caplog.text
    connection.connection_lost(None)


async def test_who_does_not_read_the_answer_of_an_app_that_crashes_is_looked_at(
    connection: GuardedConnection, app: App
) -> None:
    app.crashes = True
    connection.data_received(ask("/1"))
    await until(lambda: app.gates)
    app.gates[0].set()
    await until(lambda: not connection.tasks)
    assert connection.departure._timer is not None
    connection.connection_lost(None)


async def test_a_connection_that_is_lost_is_held_by_nobody(connection: GuardedConnection, app: App) -> None:
    connection.data_received(ask("/1"))
    await until(lambda: app.gates)
    connection.connection_lost(None)
    app.gates[0].set()
    await until(lambda: not connection.tasks)
    assert (connection._serving, connection._reader.last, connection.arrival._over) == (None, None, None)
    assert connection not in connection._state.connections


class Watched(GuardedConnection):
    """A connection of which one can see whether it is still held."""

    __slots__ = ("__weakref__",)


async def served_and_lost(app: App) -> weakref.ref[GuardedConnection]:
    connection = made(app, Watched)
    connection.data_received(ask("/1"))
    await until(lambda: app.gates)
    app.gates[0].set()
    await until(lambda: not connection.tasks)
    connection.connection_lost(None)
    return weakref.ref(connection)


async def test_a_connection_that_is_lost_does_not_wait_for_the_garbage_collector(app: App) -> None:
    gc.disable()
    try:
        left = await served_and_lost(app)
        assert left() is None
    finally:
        gc.enable()
