"""Which connection a request goes over, on a server that counts them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from tests.server.fakes import completion, until
from tests.server.fakes_upstream import Upstream, say, upstream, whole

from flatfee.server.providers.http1.connection import Broken, Connection
from flatfee.server.providers.http1.pool import Pool
from flatfee.server.providers.http1.target import Origin

HEAD = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n"


@asynccontextmanager
async def pool_and_server(idle_seconds: float = 30.0) -> AsyncGenerator[tuple[Pool, Upstream], None]:
    async with upstream(whole(completion())) as fake:
        pool = Pool(Origin(host="127.0.0.1", port=fake.port, tls=False), idle_seconds=idle_seconds)
        try:
            yield pool, fake
        finally:
            pool.close()


async def answered(pool: Pool, count: int) -> list[Connection]:
    """Return as many connections, each with a whole answer."""
    connections = [await pool.made() for _ in range(count)]
    for connection in connections:
        await connection.ask(HEAD, b"{}")
        while await connection.take():
            pass
    return connections


async def test_the_last_that_came_back_goes_out_first() -> None:
    async with pool_and_server() as (pool, _):
        first, second = await answered(pool, 2)
        for connection in (first, second):
            pool.take_back(connection)
        assert [pool.kept(), pool.kept(), pool.kept()] == [second, first, None]


async def test_what_is_idle_for_too_long_is_dropped() -> None:
    async with pool_and_server(idle_seconds=0.05) as (pool, fake):
        for connection in await answered(pool, 3):
            pool.take_back(connection)
        await until(lambda: fake.ended == 3)
        assert pool.kept() is None
        for connection in await answered(pool, 1):  # and again, by another timer
            pool.take_back(connection)
        await until(lambda: fake.ended == 4)


async def test_what_is_used_is_not_dropped_with_the_idle() -> None:
    async with pool_and_server(idle_seconds=0.05) as (pool, fake):
        idle, used = await answered(pool, 2)
        pool.take_back(idle)
        await until(lambda: fake.ended == 1)
        assert (idle.lost, used.lost) == (True, False)


async def test_what_its_server_closed_is_not_given_out() -> None:
    async with pool_and_server() as (pool, fake):
        (connection,) = await answered(pool, 1)
        pool.take_back(connection)
        connection.eof_received()
        assert pool.kept() is None
        await until(lambda: fake.ended == 1)


@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"x", b""])
async def test_what_came_unasked_is_no_answer_to_the_next_request(more: bytes) -> None:
    async with pool_and_server() as (pool, fake):
        (connection,) = await answered(pool, 1)
        pool.take_back(connection)
        (writer,) = fake.writers
        if more:  # it arrives at once, and the loop has no turn to tell of it
            os.write(writer.get_extra_info("socket").fileno(), more)
        else:
            writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        assert pool.kept() is None
        assert connection.lost


async def test_an_answer_without_a_length_is_broken_off_by_a_pool_that_closes() -> None:
    async with upstream(say(b"HTTP/1.1 200 OK\r\n\r\nhalf")) as fake:
        pool = Pool(Origin(host="127.0.0.1", port=fake.port, tls=False))
        connection = await pool.made()
        await connection.ask(HEAD, b"{}")
        assert await connection.take() == b"half"
        pool.close()
        with pytest.raises(Broken):
            await connection.take()


async def test_a_closed_pool_ends_what_is_under_way_and_keeps_nothing() -> None:
    async with pool_and_server() as (pool, fake):
        idle, used = await answered(pool, 2)
        pool.take_back(idle)
        waiting = await pool.made()
        waiting.busy = True
        taking = asyncio.ensure_future(waiting.take())
        await asyncio.sleep(0)
        pool.close()
        with pytest.raises(Broken):
            await taking
        pool.take_back(used)
        (late,) = await answered(pool, 1)
        pool.take_back(late)
        assert pool.kept() is None
        await until(lambda: fake.ended == fake.connections == 4)


async def test_a_connection_that_is_lost_is_forgotten() -> None:
    async with pool_and_server() as (pool, fake):
        for connection in await answered(pool, 3):
            pool.take_back(connection)
            connection.drop()
        await until(lambda: fake.ended == 3)
        await until(lambda: not pool._all)
        assert not pool._idle
