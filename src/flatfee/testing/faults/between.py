"""Does what an ``Edge`` says, around the gateway's app: it drops, delays and changes what goes to the caller.

What is noted of an exchange is noted outside of it: what the caller got, not what the gateway said.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from flatfee.receipt import Receipt
from flatfee.server.call import Message, Receive, Scope, Send
from flatfee.server.faults import Fault, answer
from flatfee.testing.faults.edge import Edge, Kind
from flatfee.testing.running.exchange import Exchange
from flatfee.testing.running.loop import Traffic, sleep_really
from flatfee.wire import ERRORS, ErrorCode, Header, ReceiptState

BREAK: Final = "flatfee.break"
"""Where a server puts into the scope of a request what breaks its connection: a function without arguments."""

PAGE: Final = b"<html><head><title>%d</title></head><body><h1>%d</h1><hr>proxy</body></html>"

_GZIP: Final = 16 + zlib.MAX_WBITS
_EVENT_END: Final = b"\n\n"

Answers = Callable[[Send], Awaitable[None]]
"""Serves the request, given where its answer goes."""


class Gone(OSError):
    """The caller left, or was cut off."""


@dataclass(slots=True, kw_only=True)
class Line:
    """The line to one caller. ``now`` is the gateway's time of day, in seconds since the epoch.

    ``new_id`` makes the id of a request.
    """

    scope: Scope
    receive: Receive
    send: Send
    exchange: Exchange
    traffic: Traffic
    now: float
    new_id: Callable[[float], str]

    async def breaks(self) -> None:
        """Break the connection.

        Raises:
            Gone: always, once the server has noticed.
        """
        if BREAK not in self.scope:
            message = f"This server cannot break connections: its scope has no {BREAK!r}."
            raise RuntimeError(message)
        self.exchange.cut = True
        self.scope[BREAK]()
        await self.left()
        raise Gone("cut off by the script")

    async def left(self) -> None:
        """Return once the caller is gone."""
        while (await self.receive())["type"] != "http.disconnect":
            continue

    async def wait(self, seconds: float | None) -> None:
        """Let real time go by; ``None``: until the caller is gone.

        Raises:
            Gone: it left meanwhile.
        """
        with self.traffic.holding():
            leaving = asyncio.ensure_future(self.left())
            waiting = [leaving] if seconds is None else [leaving, asyncio.ensure_future(sleep_really(seconds))]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if leaving.done():
                    raise Gone("the caller left")
            finally:
                for each in waiting:
                    each.cancel()

    async def say(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole response."""
        told = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        told.append((b"content-length", b"%d" % len(body)))
        await self.send({"type": "http.response.start", "status": status, "headers": told})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


async def serve(edge: Edge, line: Line, answers: Answers) -> None:
    """Serve one request, with what happens on the way."""
    try:
        await _WAYS[edge.kind](edge, line, answers)
    except Gone:
        return


async def _lost(_: Edge, line: Line, answers: Answers) -> None:
    del answers
    await line.breaks()


async def _page(edge: Edge, line: Line, answers: Answers) -> None:
    if edge.served:
        await answers(_nowhere)
    page = PAGE % (edge.status_code, edge.status_code)
    await line.say(edge.status_code, {"content-type": "text/html", "server": "proxy"}, page)


async def _nowhere(message: Message) -> None:
    del message


async def _error(edge: Edge, line: Line, answers: Answers) -> None:
    del answers
    code = edge.code or ErrorCode.GATEWAY_OVERLOADED
    known = line.new_id(line.now)
    receipt = Receipt.model_validate({"request_id": known, "state": ReceiptState.REFUSED, "created_at": int(line.now)})
    told = answer(Fault(code, edge.message or ERRORS[code].when, retry_after=edge.retry_after), receipt)
    headers = {Header.REQUEST_ID: known, Header.X_REQUEST_ID: known, **told.headers, "content-type": "application/json"}
    await line.say(told.status, headers, msgspec.json.encode(told.envelope))


def _through(make: Callable[[Edge, Line], Send]) -> Callable[[Edge, Line, Answers], Awaitable[None]]:
    """Let the app serve, and what it says go through something."""

    async def served(edge: Edge, line: Line, answers: Answers) -> None:
        handed = _Handed(make(edge, line))
        await answers(handed)
        for message in handed.plain:
            await handed.send(message)

    return served


@dataclass(slots=True)
class _Handed:
    """Takes an answer from the gateway.

    A plain one is out of its hands at once, as on a socket, and sent when the gateway is done; a stream waits for
    what happens to it.
    """

    send: Send
    plain: list[Message] = field(default_factory=list)
    streamed: bool = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.streamed = _is_stream(message)
        if self.streamed:
            await self.send(message)
        else:
            self.plain.append(message)


def _is_stream(head: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in head["headers"])


@dataclass(slots=True)
class _Until:
    """``send`` up to a point, where something happens."""

    edge: Edge
    line: Line
    happens: Callable[[], Awaitable[None]]
    streamed: bool = False
    passed: bool = False
    sent: int = 0
    tail: bytes = b""

    async def __call__(self, message: Message) -> None:
        if self.passed:
            await self.line.send(message)
        elif message["type"] == "http.response.start":
            self.streamed = _is_stream(message)
            if self.edge.after is None and self.edge.after_bytes is None:
                await self._happen()
            await self.line.send(message)
        else:
            await self._body(message)

    async def _body(self, message: Message) -> None:
        body: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        most = self._room(body)
        if most is None and more:
            await self.line.send(message)
            return
        head = body[: self._last(body) if most is None else most]
        await self.line.send({"type": "http.response.body", "body": head, "more_body": True})
        await self._happen()
        await self.line.send({"type": "http.response.body", "body": body[len(head) :], "more_body": more})

    def _last(self, body: bytes) -> int:
        """Return how much of the last part goes through, of an answer that is shorter than was thought."""
        return 0 if self.streamed else len(body) - 1

    def _room(self, body: bytes) -> int | None:
        """Return how much of a part still goes through; ``None``: all of it."""
        if self.edge.after_bytes is not None:
            left = self.edge.after_bytes - self.sent
            self.sent += len(body)
            return left if left < len(body) else None
        if not self.streamed:
            return len(body) // 2 if self.edge.after else 0
        window, offset, at = self.tail + body, len(self.tail), 0
        while self.sent < (self.edge.after or 0):
            end = window.find(_EVENT_END, at)
            if end < 0:
                self.tail = window[max(at, len(window) - 1) :]
                return None
            at = end + len(_EVENT_END)
            self.sent += 1
        return max(0, at - offset)

    async def _happen(self) -> None:
        self.passed = True
        await self.happens()


@dataclass(slots=True)
class _Changed:
    """``send`` with another head."""

    line: Line
    change: Callable[[list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]]

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": self.change(list(message["headers"]))}
        await self.line.send(message)


@dataclass(slots=True)
class _Paced:
    """``send``, each part late."""

    seconds: float
    line: Line

    async def __call__(self, message: Message) -> None:
        await self.line.wait(self.seconds)
        await self.line.send(message)


@dataclass(slots=True)
class _Packed:
    """``send``, compressed as it comes."""

    line: Line
    packer: zlib._Compress = field(default_factory=lambda: zlib.compressobj(wbits=_GZIP))

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*_without(message["headers"], b"content-length"), (b"content-encoding", b"gzip")]
            await self.line.send({**message, "headers": headers})
            return
        more = message.get("more_body", False)
        data = self.packer.compress(message.get("body", b""))
        data += self.packer.flush(zlib.Z_SYNC_FLUSH if more else zlib.Z_FINISH)
        await self.line.send({"type": "http.response.body", "body": data, "more_body": more})


@dataclass(slots=True)
class _Gathered:
    """``send`` of a whole answer, so many ``times``."""

    line: Line
    times: int
    head: Message = field(default_factory=dict)
    body: bytes = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.head = message
            return
        self.body += message.get("body", b"")
        if not message.get("more_body", False):
            await self.line.send({**self.head, "headers": _without(self.head["headers"], b"content-length")})
            await self.line.send({"type": "http.response.body", "body": self.body * self.times, "more_body": False})


def _without(headers: list[tuple[bytes, bytes]], *begins: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if not name.lower().startswith(begins)]


def _stripping(edge: Edge, line: Line) -> Send:
    begins = tuple(name.lower().encode() for name in edge.headers)
    return _Changed(line, lambda headers: _without(headers, *begins))


def _typing(edge: Edge, line: Line) -> Send:
    typed = (b"content-type", edge.content_type.encode("latin-1"))
    return _Changed(line, lambda headers: [*_without(headers, b"content-type"), typed])


_WAYS: Final[Mapping[Kind, Callable[[Edge, Line, Answers], Awaitable[None]]]] = {
    "lost": _lost,
    "cut": _through(lambda edge, line: _Until(edge, line, line.breaks)),
    "stall": _through(lambda edge, line: _Until(edge, line, lambda: line.wait(edge.seconds))),
    "page": _page,
    "error": _error,
    "stripped": _through(_stripping),
    "paced": _through(lambda edge, line: _Paced(edge.seconds or 1.0, line)),
    "packed": _through(lambda _, line: _Packed(line)),
    "twice": _through(lambda _, line: _Gathered(line, 2)),
    "typed": _through(_typing),
    "gathered": _through(lambda _, line: _Gathered(line, 1)),
}
