"""A provider on raw sockets that answers by script, and notes what it saw of the gateway.

Nothing here knows HTTP beyond finding the end of a request. What is answered is told by the
request's ``model``: the name of an entry of the catalogue, or one that a test gave a sequence::

    async with FaultyUpstream() as upstream:
        upstream.plays("flaky", "http-500", "reset-before-a-byte", then="healthy")
        ...                                # a route with base_url=upstream.url, model="flaky"
        upstream.of("flaky")               # every try that arrived, in order

``upstream.refusing`` and ``upstream.deaf`` are base URLs where nobody listens, and where nobody
takes the connection. ``upstream.trap`` counts connections to where redirects point: never any.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tests.faults.catalogue import CATALOGUE, unknown_model
from tests.faults.steps import Ending, Pause, Script, Seen, Step

HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class FaultyUpstream:
    """An OpenAI-compatible provider on a free port of loopback. ``seen`` is every try, in order."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        """Connections ever taken; ``open`` are those that are there now."""
        self.open: set[_Connection] = set()
        self.trap = 0
        self.url = self.trap_url = self.refusing = self.deaf = ""
        self.errors: list[BaseException] = []
        """What went wrong in this provider itself: nothing, or the test means nothing."""
        self._plays: dict[str, _Play] = {}
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []

    def plays(self, model: str, *faults: str | Script, then: str | Script = "healthy") -> None:
        """Let the next requests for a model meet one fault each, and ``then`` for ever after."""
        self._plays[model] = _Play(deque(faults), then)

    def of(self, model: str) -> list[Seen]:
        """Return the tries of one model, in order."""
        return [seen for seen in self.seen if seen.model == model]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0))
        self._servers.append(await loop.create_server(lambda: _Trap(self), "127.0.0.1", 0))
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        self.url, self.trap_url = (f"http://127.0.0.1:{port}/v1" for port in ports)
        self.refusing = self._nobody()
        self.deaf = await self._nobody_who_accepts()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for connection in list(self.open):
            connection.abort()
        for server in self._servers:
            await server.wait_closed()
        for each in self._sockets:
            each.close()
        if self.errors and error is None:
            raise ExceptionGroup("the upstream itself failed", [e for e in self.errors if isinstance(e, Exception)])

    def script_of(self, model: str) -> tuple[str, Script]:
        """Return what the next request for a model meets, and its name."""
        play = self._plays.get(model)
        what = play.next() if play is not None else model
        if not isinstance(what, str):
            return getattr(what, "__name__", "script"), what
        return what, CATALOGUE.get(what, unknown_model)

    def _nobody(self) -> str:
        """Hold a port without listening, so that who connects to it is refused."""
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        self._sockets.append(bound)
        return f"http://127.0.0.1:{bound.getsockname()[1]}/v1"

    async def _nobody_who_accepts(self) -> str:
        """Listen, with a queue that is full already: on Linux the next connection waits for an answer."""
        url = self._nobody()
        listening = self._sockets[-1]
        listening.listen(0)
        for _ in range(2):
            filling = socket.socket()
            filling.setblocking(False)
            self._sockets.append(filling)
            with suppress(BlockingIOError):
                filling.connect(listening.getsockname())
        await asyncio.sleep(0)
        return url


@dataclass(slots=True)
class _Play:
    faults: deque[str | Script]
    then: str | Script

    def next(self) -> str | Script:
        return self.faults.popleft() if self.faults else self.then


class _Trap(asyncio.Protocol):
    """Where redirects point. Nobody may come."""

    def __init__(self, upstream: FaultyUpstream) -> None:
        self._upstream = upstream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._upstream.trap += 1
        transport.close()


class _Connection(asyncio.Protocol):
    """One connection: reads requests, runs their scripts one after the other, notes its end."""

    def __init__(self, upstream: FaultyUpstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self._news = asyncio.Event()
        self._flows = asyncio.Event()
        self._flows.set()
        self._gone = asyncio.Event()
        self._closing = False
        self._current: Seen | None = None
        self._count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._upstream.connections += 1
        self._upstream.open.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())
        self._task.add_done_callback(self._served)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._news.set()

    def pause_writing(self) -> None:
        self._flows.clear()

    def resume_writing(self) -> None:
        self._flows.set()

    def connection_lost(self, exc: Exception | None) -> None:
        now = asyncio.get_running_loop().time()
        if self._current is not None and not self._closing:
            self._current.gone_at = now
        self._upstream.open.discard(self)
        self._gone.set()
        self._task.cancel()

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def _served(self, task: asyncio.Task[None]) -> None:
        if self._current is not None:
            self._current.over.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._upstream.errors.append(error)
            self.abort()

    async def _serve(self) -> None:
        while True:
            seen, script = await self._request()
            self._current = seen
            for step in script(seen):
                await self._do(step, seen)
                if self._closing:
                    break
            seen.answered_at = asyncio.get_running_loop().time()
            seen.over.set()
            self._current = None
            if self._closing:
                return

    async def _request(self) -> tuple[Seen, Script]:
        while HEAD_END not in self._buffer:
            await self._more()
        head, _, self._buffer = self._buffer.partition(HEAD_END)
        length = int(found[1]) if (found := _LENGTH.search(head)) else 0
        while len(self._buffer) < length:
            await self._more()
        raw, self._buffer = self._buffer[:length], self._buffer[length:]
        body = json.loads(raw)
        self._count += 1
        fault, script = self._upstream.script_of(body["model"])
        seen = Seen(
            model=body["model"],
            at=asyncio.get_running_loop().time(),
            head=head,
            body=body,
            nth=self._count,
            fault=fault,
            trap=self._upstream.trap_url,
        )
        self._upstream.seen.append(seen)
        return seen, script

    async def _more(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _do(self, step: Step, seen: Seen) -> None:
        match step:
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case asyncio.Event():
                await step.wait()
            case Ending.SILENCE:
                await self._gone.wait()
            case Ending.FIN:
                self._closing = True
                self._transport.close()
            case Ending.RESET:
                raw = self._transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.abort()
            case bytes():
                self._transport.write(step)
                await self._flows.wait()
                seen.taken += len(step)
                # A turn of the loop, so that each step is a packet of its own.
                await asyncio.sleep(0)
