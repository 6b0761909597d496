"""One connection, on a transport that notes what is asked of it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from flatfee.server.providers.http1.connection import AT_ONCE, READ_AHEAD, READ_AT_ONCE, Broken, Connection
from flatfee.server.providers.http1.incoming import Incoming

HEAD = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n"
T = TypeVar("T")


class FakeTransport(asyncio.Transport):
    """Takes everything, sends it when told to."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self.written = bytearray()
        self.unsent = 0
        self.slow = False
        self._reading = True
        self.aborted = False
        connection.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.aborted
        self.written += data
        if self.slow:
            self.unsent += len(data)
            if self.unsent > AT_ONCE:
                self._connection.pause_writing()

    def sent(self) -> None:
        """Send what was written."""
        self.unsent = 0
        self._connection.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        assert (self._reading, self.aborted) == (True, False)
        self._reading = False

    def resume_reading(self) -> None:
        assert (self._reading, self.aborted) == (False, False)
        self._reading = True

    def abort(self) -> None:
        self.aborted = True


def receive(connection: Connection, data: bytes) -> None:
    """Let bytes come as a loop does."""
    while data:
        part, data = data[:READ_AT_ONCE], data[READ_AT_ONCE:]
        connection.get_buffer(-1)[: len(part)] = part
        connection.buffer_updated(len(part))


def made() -> tuple[Connection, FakeTransport]:
    connection = Connection(asyncio.get_running_loop(), memoryview(bytearray(READ_AT_ONCE)), lambda _: None)
    return connection, FakeTransport(connection)


async def begun(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Let it run until it waits."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    return task


async def asked(answer: bytes = OK) -> tuple[Connection, FakeTransport]:
    """Return a connection whose request was answered so far."""
    connection, transport = made()
    asking = await begun(connection.ask(HEAD, b"{}"))
    receive(connection, answer)
    await asking
    return connection, transport


async def test_a_request_is_one_write() -> None:
    connection, transport = await asked(OK + b"hello")
    assert bytes(transport.written) == HEAD + b"{}"
    assert (connection.answer.status, await connection.take(), await connection.take()) == (200, b"hello", b"")


async def test_an_answer_that_is_there_is_read_without_a_turn_of_the_loop() -> None:
    connection, _ = await asked(OK + b"hello")
    with pytest.raises(StopIteration) as ended:
        connection.take().send(None)
    assert ended.value.value == b"hello"


async def test_a_whole_answer_frees_the_connection() -> None:
    connection, transport = await asked(OK + b"hello")
    assert connection.finish()
    assert not transport.aborted


async def test_half_an_answer_drops_it() -> None:
    connection, transport = await asked(OK + b"hell")
    assert not connection.finish()
    assert (transport.aborted, connection.lost) == (True, True)


async def test_a_whole_answer_to_half_a_request_drops_it() -> None:
    connection, transport = made()
    transport.slow = True
    asking = await begun(connection.ask(HEAD, b"x" * 10 * AT_ONCE))
    receive(connection, OK + b"hello")
    await asking
    assert await connection.take() == b"hello"
    assert not connection.finish()
    assert transport.aborted


async def test_a_request_that_is_not_yet_sent_when_its_answer_is_whole_drops_it() -> None:
    connection, transport = made()
    transport.slow = True
    asking = await begun(connection.ask(HEAD, b"{}"))
    receive(connection, OK + b"hello")
    await asking
    assert not connection.finish()


@pytest.mark.parametrize("more", [b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"])
async def test_bytes_behind_an_answer_drop_it(more: bytes) -> None:
    connection, transport = await asked(OK + b"hello")
    receive(connection, more)
    assert transport.aborted
    assert await connection.take() == b"hello"
    assert not connection.finish()


async def test_bytes_that_nobody_asked_for_drop_it() -> None:
    connection, transport = await asked(OK + b"hello")
    assert connection.finish()
    receive(connection, b"HTTP/1.1 200 OK\r\n")
    assert (transport.aborted, connection.lost) == (True, True)


async def test_who_answers_before_the_first_question_is_dropped() -> None:
    connection, transport = made()
    receive(connection, OK + b"evil!")
    assert transport.aborted
    with pytest.raises(Broken):
        await connection.ask(HEAD, b"{}")


async def test_what_is_no_http_drops_it_at_once() -> None:
    connection, transport = made()
    asking = await begun(connection.ask(HEAD, b"{}"))
    receive(connection, b"SSH-2.0\r\n")
    with pytest.raises(Broken, match="is no HTTP"):
        await asking
    assert transport.aborted


async def test_nothing_more_is_read_for_a_reader_that_waits() -> None:
    connection, transport = await asked(ENDLESS)
    receive(connection, b"x" * (READ_AHEAD - len(ENDLESS)))
    assert transport.is_reading()
    receive(connection, b"x")
    assert not transport.is_reading()
    receive(connection, b"x")  # was on its way
    assert len(await connection.take()) == READ_AHEAD - len(ENDLESS) + 2
    assert not transport.is_reading()  # until what was taken is used up
    taking = await begun(connection.take())
    assert transport.is_reading()
    receive(connection, b"y")
    assert await taking == b"y"


async def test_the_last_bytes_of_an_answer_stop_nothing() -> None:
    size = READ_AT_ONCE - 100
    connection, transport = await asked(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
    assert transport.is_reading()
    assert connection.finish()


async def test_a_kept_connection_is_read_however_its_last_answer_came() -> None:
    size = READ_AHEAD + 1
    connection, transport = await asked(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (size + 1))
    receive(connection, b"x" * size)
    receive(connection, b"x")  # was on its way
    assert connection.finish()
    assert transport.is_reading()


async def test_a_long_head_is_read_on() -> None:
    connection, transport = made()
    asking = await begun(connection.ask(HEAD, b"{}"))
    receive(connection, b"HTTP/1.1 200 OK\r\nx: " + b"x" * (READ_AHEAD + 1))
    assert transport.is_reading()
    receive(connection, b"\r\ncontent-length: 0\r\n\r\n")
    await asking


async def test_a_large_body_is_written_as_it_is_sent() -> None:
    connection, transport = made()
    transport.slow = True
    body = bytes(range(256)) * (AT_ONCE // 256) * 20
    asking = await begun(connection.ask(HEAD, body))
    turns, most = 0, 0
    while len(transport.written) < len(HEAD) + len(body):
        turns, most = turns + 1, max(most, transport.unsent)
        transport.sent()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    receive(connection, OK + b"hello")
    await asking
    assert bytes(transport.written) == HEAD + body
    assert turns > 5
    assert most <= 3 * AT_ONCE


async def test_who_answers_early_gets_the_rest_of_the_request() -> None:
    connection, transport = made()
    transport.slow = True
    body = b"x" * 10 * AT_ONCE
    asking = await begun(connection.ask(HEAD, body))
    assert len(transport.written) < len(body)
    receive(connection, OK)
    await asking
    assert bytes(transport.written) == HEAD + body


async def test_a_request_that_nobody_reads_ends_with_its_connection() -> None:
    connection, transport = made()
    transport.slow = True
    asking = await begun(connection.ask(HEAD, b"x" * 10 * AT_ONCE))
    connection.connection_lost(ConnectionResetError())
    with pytest.raises(Broken, match="the connection ended"):
        await asking
    assert not connection.answer.heard


async def test_an_end_before_the_request_is_an_end_of_its_answer() -> None:
    connection, _ = made()
    connection.connection_lost(None)
    with pytest.raises(Broken, match="the connection ended"):
        await connection.ask(HEAD, b"{}")
    assert not connection.answer.heard


@pytest.mark.parametrize("cleanly", [True, False])
async def test_an_end_within_an_answer_is_told_after_what_came(cleanly: bool) -> None:
    connection, _ = await asked(OK + b"hell")
    if cleanly:
        connection.eof_received()
    connection.connection_lost(None if cleanly else ConnectionResetError())
    assert await connection.take() == b"hell"
    with pytest.raises(Broken, match="the connection ended"):
        await connection.take()
    assert not connection.finish()


async def test_an_end_wakes_who_waits_for_an_answer() -> None:
    connection, transport = await asked(b"HTTP/1.1 200 OK\r\n\r\n")
    taking = await begun(connection.take())
    connection.eof_received()
    assert await taking == b""
    assert transport.aborted  # what was not sent would otherwise be waited for
    assert not connection.finish()


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    connection, _ = await asked(ENDLESS)
    taking = await begun(connection.take())
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    receive(connection, b"x")
    assert await connection.take() == b"x"


class WatchedConnection(Connection):
    """A connection of which it can be seen that it is gone."""

    __slots__ = ("__weakref__",)


class WatchedIncoming(Incoming):
    """The same of what it reads."""

    __slots__ = ("__weakref__",)


async def test_a_lost_connection_needs_no_collector() -> None:
    connection = WatchedConnection(asyncio.get_running_loop(), memoryview(bytearray(READ_AT_ONCE)), lambda _: None)
    connection.answer = answer = WatchedIncoming()
    gone = weakref.ref(connection), weakref.ref(answer)
    transport = FakeTransport(connection)
    receive(connection, OK + b"hello")
    gc.disable()
    try:
        connection.connection_lost(None)
        del transport, connection, answer
        assert [what() for what in gone] == [None, None]
    finally:
        gc.enable()
