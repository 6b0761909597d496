"""A gateway that ends leaves no caller behind, whatever its connection was at."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from flatfee.testing import running_gateway


@pytest.mark.parametrize("turns", range(6))
def test_connection_that_was_just_made_ends_with_the_gateway(turns: int) -> None:
    """``turns`` of the event loop lie between the caller's connect and the end."""
    with running_gateway() as gateway:

        async def connect_and_end() -> socket.socket:
            caller = socket.create_connection((gateway.host, gateway.port), timeout=30)
            for _ in range(turns):
                await asyncio.sleep(0)
            await gateway._built.server.close()
            return caller

        caller = gateway.run(connect_and_end())
    with caller, contextlib.suppress(ConnectionResetError):
        assert caller.recv(1) == b""
