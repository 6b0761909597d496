"""Ways to break a gateway, each as a careless change might: what a proof does not see of these, it does not prove."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

import aiohttp

from flatfee.server import app, pipeline, routes
from flatfee.server.answers import RelayedStream
from flatfee.server.call import Call
from flatfee.server.faults import CallerGone
from flatfee.server.gateway import Gateway
from flatfee.server.stages.settle import Bill

_kept: list[Any] = []


def _put(target: Any, name: str, value: Any) -> None:
    mock.patch.object(target, name, value).start()


def forget_who_left() -> None:
    """Settle nothing for a caller that has left: its units and its slot stay with it."""

    @asynccontextmanager
    async def settled(call: Call, bill: Bill, gateway: Gateway) -> AsyncGenerator[None, None]:
        gateway.running[bill.ticket.request_id] = bill.ticket
        try:
            yield
        except CallerGone:
            raise
        except BaseException:
            await bill.settle()
            del gateway.running[bill.ticket.request_id]
            raise
        await bill.settle()
        del gateway.running[bill.ticket.request_id]

    _put(pipeline, "_settled_on_every_way_out", settled)


def keep_responses_open() -> None:
    """Never close an upstream response that was not read to its end."""

    def close(response: aiohttp.ClientResponse) -> None:
        _kept.append(response)

    _put(aiohttp.ClientResponse, "close", close)


def take_a_cut_for_an_end() -> None:
    """Take every end of an upstream's bytes for the end of the answer."""
    _put(RelayedStream, "whole", property(lambda self: self.started))


def leave_a_task() -> None:
    """Leave a task behind with each request."""

    def find(method: str, path: str) -> Any:
        _kept.append(asyncio.ensure_future(asyncio.sleep(3600)))
        return routes.find(method, path)

    _put(app, "find", find)


def leave_a_file() -> None:
    """Leave a file open with each request."""

    def find(method: str, path: str) -> Any:
        _kept.append(Path("/dev/null").open())  # noqa: SIM115 - this is what is wrong with it
        return routes.find(method, path)

    _put(app, "find", find)


def keep_what_was_said() -> None:
    """Keep some 200 kB of memory with each request."""

    def find(method: str, path: str) -> Any:
        _kept.append(bytearray(b"x" * 200_000))
        return routes.find(method, path)

    _put(app, "find", find)


def read_on() -> None:
    """Write to callers without waiting for them."""
    write = Call.write
    _put(Call, "write", lambda self, data: _later(write(self, data)))


async def _later(work: Any) -> None:
    _kept.append(asyncio.ensure_future(work))
    await asyncio.sleep(0)


BREAKS: Final[Mapping[str, Callable[[], None]]] = {
    "slot": forget_who_left,
    "response": keep_responses_open,
    "cut": take_a_cut_for_an_end,
    "task": leave_a_task,
    "file": leave_a_file,
    "memory": keep_what_was_said,
    "backpressure": read_on,
}
