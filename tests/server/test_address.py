"""The address of several workers is held by one gateway, from before its workers listen."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.server.fakes import LIMIT

from flatfee.server.settings import ServerSettings
from flatfee.server.workers import NotStarted, _beside, _hold_address


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    """What is to be closed at the end."""
    with ExitStack() as stack:
        yield stack


async def held(ends: ExitStack, port: int = 0) -> socket.socket:
    (found,) = [ends.enter_context(each) for each in await _hold_address(ServerSettings(port=port))]
    return found


async def test_an_address_is_taken_before_a_worker_listens(ends: ExitStack) -> None:
    port = (await held(ends)).getsockname()[1]
    with pytest.raises(NotStarted):
        await held(ends, port)
    with pytest.raises(OSError, match="in use"):
        ends.enter_context(socket.create_server(("127.0.0.1", port)))


async def test_of_two_gateways_that_start_at_once_one_has_the_address(ends: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = await asyncio.gather(held(ends, port), held(ends, port), return_exceptions=True)
    assert [type(each) for each in found if isinstance(each, Exception)] == [NotStarted]


async def test_nobody_is_connected_until_a_worker_listens(ends: ExitStack) -> None:
    address = (await held(ends)).getsockname()
    with pytest.raises(ConnectionRefusedError):
        ends.enter_context(socket.create_connection(address, timeout=LIMIT))


async def test_an_address_is_held_again_while_connections_to_it_end(ends: ExitStack) -> None:
    """A gateway that is started anew need not wait for what the system keeps of the one before."""
    with ExitStack() as before:
        first = await held(before)
        address = first.getsockname()
        listening = before.enter_context(_beside(first))
        listening.listen()
        caller = ends.enter_context(socket.create_connection(address, timeout=LIMIT))
        listening.accept()[0].close()  # who closes first waits
        assert caller.recv(1) == b""
        caller.close()
    assert (await held(ends, address[1])).getsockname() == address
