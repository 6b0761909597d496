"""The gateway with a stop-watch around each of its stages: ``flatfee serve`` in a process that wraps them first.

The gateway itself knows nothing of it. A stage's time is CPU time of the event loop's thread while the stage runs
and no stage inside it does: what a coroutine waits for is not counted. ``GET /`` on the port that ``--told`` names
returns what was gathered since the last time as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib
import inspect
import json
import sys
import threading
import time
import types
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final

STAGES: Final = (
    ("serve (what is between stages)", "flatfee.server.pipeline", "serve"),
    ("read a request", "flatfee.server.http.connection", "GuardedConnection.data_received"),
    ("dispatch and guards", "flatfee.server.app", "App._http"),
    ("write the answer", "flatfee.server.call", "Call._put"),
    ("authenticate", "flatfee.server.pipeline", "authenticate"),
    ("read the body", "flatfee.server.call", "Call.body"),
    ("read the question", "flatfee.server.pipeline", "read_ask"),
    ("plan", "flatfee.server.pipeline", "plan_request"),
    ("reserve (event loop)", "flatfee.server.store.sqlite", "SqliteStore.reserve"),
    ("dispatch to the ledger (event loop)", "flatfee.server.store.sqlite", "SqliteStore.dispatch"),
    ("settle (event loop)", "flatfee.server.store.sqlite", "SqliteStore.settle"),
    ("receipt and charge", "flatfee.server.stages.settle", "Bill.settle"),
    ("relay", "flatfee.server.pipeline", "relay"),
    ("ask the provider", "flatfee.server.providers.http", "_Request.__aenter__"),
    ("let go of the provider", "flatfee.server.providers.http", "_Request.__aexit__"),
    ("read the provider's answer", "flatfee.server.providers.http", "HttpAnswer.read"),
    ("read the provider's stream", "flatfee.server.providers.http", "HttpAnswer.chunks"),
    ("read an answer", "flatfee.server.stages.passing", "read_completion"),
    ("read events", "flatfee.server.answers.stream", "RelayedStream.feed"),
)
"""What is told → where it is. A name that is not there any more is told as absent, and its time is in what holds it.

``serve`` comes first: it has to be wrapped before the table of paths takes it.
"""

PROVIDERS_BYTES: Final = "parse what the provider sends"


class Watch:
    """What each stage took: a stack of stages that run, the last of which is charged."""

    def __init__(self, clock: Callable[[], int] = time.thread_time_ns) -> None:
        self._clock = clock
        self._stack: list[str] = []
        self._since = 0
        self.spent: dict[str, int] = {}
        self.entries: dict[str, int] = {}

    def enter(self, stage: str) -> None:
        """Charge the stage outside until now, and this one from now on."""
        now = self._clock()
        if self._stack:
            self._charge(self._stack[-1], now)
        self._stack.append(stage)
        self.entries[stage] = self.entries.get(stage, 0) + 1
        self._since = now

    def leave(self) -> None:
        """Charge the stage until now, and the one outside it from now on."""
        now = self._clock()
        self._charge(self._stack.pop(), now)
        self._since = now

    def _charge(self, stage: str, now: int) -> None:
        self.spent[stage] = self.spent.get(stage, 0) + now - self._since

    def take(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return nanoseconds and entries by stage, and begin anew."""
        taken = self.spent, self.entries
        self.spent, self.entries = {}, {}
        return taken


class _Watched:
    """An awaitable that is charged while it runs, not while it waits."""

    def __init__(self, watch: Watch, stage: str, inner: Any) -> None:
        self._watch, self._stage, self._inner = watch, stage, inner.__await__()

    def __await__(self) -> Generator[Any, Any, Any]:
        watch, stage, inner = self._watch, self._stage, self._inner
        sent: Any = None
        thrown: BaseException | None = None
        while True:
            watch.enter(stage)
            try:
                awaited = inner.send(sent) if thrown is None else inner.throw(thrown)
            except StopIteration as done:
                return done.value
            finally:
                watch.leave()
            thrown = None
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 - a cancellation is passed in as well
                thrown = error


def watched(watch: Watch, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the same kind (plain, async, asynchronous generator or context) that is charged."""
    context = inspect.unwrap(function)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def asynchronous(*args: Any, **named: Any) -> Any:
            return await _Watched(watch, stage, function(*args, **named))

        return asynchronous
    if inspect.isasyncgenfunction(context):
        kind = _Context if context is not function else _Generator
        return functools.wraps(function)(lambda *args, **named: kind(watch, stage, function(*args, **named)))

    @functools.wraps(function)
    def plain(*args: Any, **named: Any) -> Any:
        watch.enter(stage)
        try:
            return function(*args, **named)
        finally:
            watch.leave()

    return plain


class _Generator:
    """An asynchronous generator that is charged."""

    def __init__(self, watch: Watch, stage: str, inner: Any) -> None:
        self._watch, self._stage, self._inner = watch, stage, inner

    def __aiter__(self) -> _Generator:
        return self

    async def __anext__(self) -> Any:
        return await _Watched(self._watch, self._stage, self._inner.__anext__())

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Context:
    """An asynchronous context that is charged for its beginning and its end."""

    def __init__(self, watch: Watch, stage: str, inner: Any) -> None:
        self._watch, self._stage, self._inner = watch, stage, inner

    async def __aenter__(self) -> Any:
        return await _Watched(self._watch, self._stage, self._inner.__aenter__())

    async def __aexit__(self, *failure: object) -> Any:
        return await _Watched(self._watch, self._stage, self._inner.__aexit__(*failure))


def wrap(watch: Watch) -> list[str]:
    """Put the watch around every stage; return those that are not there."""
    absent = []
    for stage, module, name in STAGES:
        try:
            owner: Any = importlib.import_module(module)
            *path, last = name.split(".")
            for part in path:
                owner = getattr(owner, part)
            setattr(owner, last, watched(watch, stage, getattr(owner, last)))
        except (ImportError, AttributeError):
            absent.append(stage)
    return absent


def wrap_providers_bytes(watch: Watch) -> None:
    """Charge what reads the bytes of a provider, whoever that is: the protocol of each connection that is opened."""
    import uvloop

    known: set[type] = set()
    connect: Any = uvloop.Loop.create_connection

    async def connecting(loop: Any, factory: Callable[[], Any], *args: Any, **named: Any) -> Any:
        def make() -> Any:
            protocol = factory()
            kind: Any = type(protocol)
            if kind not in known:
                known.add(kind)
                reads = "buffer_updated" if issubclass(kind, asyncio.BufferedProtocol) else "data_received"
                setattr(kind, reads, watched(watch, PROVIDERS_BYTES, getattr(kind, reads)))
            return protocol

        return await connect(loop, make, *args, **named)

    watching: Any = type("Watching", (uvloop.Loop,), {"create_connection": connecting})
    # Whoever makes a loop makes this one.
    setattr(uvloop, "new_event_loop", watching)  # noqa: B010 - for type checkers it is no function of that type
    setattr(uvloop, "Loop", watching)  # noqa: B010


@types.coroutine
def _moment() -> Generator[None, Any, None]:
    yield


def toll() -> float:
    """Return the nanoseconds that it costs to watch a coroutine for each time that it runs on: it is left once."""
    calls = 2000

    async def waiting() -> None:
        await _moment()

    async def often(function: Callable[[], Any]) -> None:
        for _ in range(calls):
            await function()

    def taken(function: Callable[[], Any]) -> int:
        begun, running = time.thread_time_ns(), often(function).__await__()
        for _ in running:
            pass
        return time.thread_time_ns() - begun

    guarded = watched(Watch(), "waiting", waiting)
    return min(taken(guarded) - taken(waiting) for _ in range(9)) / (2 * calls)


def tell_on(port: int, watch: Watch, absent: list[str]) -> None:
    """Answer on ``port`` with what was gathered, from a thread of its own that sleeps otherwise."""
    main, cost = time.pthread_getcpuclockid(threading.get_ident()), toll()

    class Telling(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            spent, entries = watch.take()
            body = json.dumps(
                {
                    "spent": spent,
                    "entries": entries,
                    "absent": absent,
                    "toll": cost,
                    "loop": time.clock_gettime_ns(main),
                    "process": time.process_time_ns(),
                }
            ).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", port), Telling)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 60.0}, daemon=True).start()


def main() -> None:
    """Serve; what is not of this command is for ``flatfee serve``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--told", type=int, required=True)
    parser.add_argument("--plain", action="store_true", help="watch no stage: tell CPU time only")
    options, rest = parser.parse_known_args()
    watch = Watch()
    absent: list[str] = []
    if not options.plain:
        wrap_providers_bytes(watch)
        absent = wrap(watch)
    tell_on(options.told, watch, absent)
    sys.argv = ["flatfee", "serve", *rest]
    from flatfee.cli import main as serve

    serve()


if __name__ == "__main__":
    main()
