"""Ways to break a gateway, each as a careless change might: what a proof does not see of these, it does not prove."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

from flatfee.server import pipeline
from flatfee.server.answers.joint import Joint
from flatfee.server.answers.stream import RelayedStream
from flatfee.server.app import App
from flatfee.server.call import Call, Receive, Scope, Send
from flatfee.server.faults import CallerGone
from flatfee.server.gateway import Gateway
from flatfee.server.providers.http1.connection import Connection
from flatfee.server.stages.settle import Bill

_kept: list[Any] = []


def _put(target: Any, name: str, value: Any) -> None:
    mock.patch.object(target, name, value).start()


def forget_who_left() -> None:
    """Settle nothing for a caller that has left: its units and its slot stay with it."""
    relayed, settled = pipeline._relayed, pipeline._settled

    async def unless_gone(call: Call, bill: Bill, gateway: Gateway) -> None:
        if not isinstance(sys.exc_info()[1], CallerGone):
            await settled(call, bill, gateway)

    async def remembered(admitted: Any, ask: Any, deadline: Any, call: Call, gateway: Gateway) -> None:
        try:
            await relayed(admitted, ask, deadline, call, gateway)
        except CallerGone:
            gateway.running[admitted.ticket.request_id] = admitted.ticket
            raise

    _put(pipeline, "_settled", unless_gone)
    _put(pipeline, "_relayed", remembered)


def keep_responses_open() -> None:
    """Never close an upstream response that was not read to its end."""
    _put(Connection, "drop", lambda connection: _kept.append(connection))  # noqa: PLW0108 - a method must be bound


def take_a_cut_for_an_end() -> None:
    """Take every end of an upstream's bytes for the end of the answer."""
    _put(RelayedStream, "whole", property(lambda self: bool(self.tokens)))


def let_both_texts_through() -> None:
    """Pass on what another route says from its beginning, although the caller has half of an answer."""
    _put(Joint, "_rest", lambda self, content, others, finishes: content)


def leave_a_task() -> None:
    """Leave a task behind with each request."""
    _with_each_request(lambda: asyncio.ensure_future(asyncio.sleep(3600)))


def leave_a_file() -> None:
    """Leave a file open with each request."""
    _with_each_request(Path("/dev/null").open)


def keep_what_was_said() -> None:
    """Keep a megabyte of memory with each request."""
    _with_each_request(lambda: bytearray(b"x" * 1_000_000))


def _with_each_request(make: Callable[[], Any]) -> None:
    serve = App._http

    async def served(app: App, scope: Scope, receive: Receive, send: Send) -> None:
        _kept.append(make())
        await serve(app, scope, receive, send)

    _put(App, "_http", served)


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
    "joint": let_both_texts_through,
    "task": leave_a_task,
    "file": leave_a_file,
    "memory": keep_what_was_said,
    "backpressure": read_on,
}
