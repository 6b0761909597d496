"""A provider that does what a measure asks of it: answer, stream at a pace, hold a stream open, or never stop.

The ``user`` of a request says which, as a :class:`Manner`; gateways pass it through unread. Raw asyncio, so that it
costs far less than what is measured in front of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass
from typing import Any, Literal, cast

import uvloop

from benchmarks import traffic

Kind = Literal["events", "held", "flood"]

HELD_EVENTS = 8
"""So many events come before a held stream falls silent."""

_FLOOD_EVENTS = 1000
"""Events of one piece of a flood: about 230 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How to stream: ``count`` events with ``pause`` milliseconds between, each in a packet of its own.

    Then comes the end (``events``) or silence (``held``). A ``flood`` goes on for as long as somebody takes it.
    """

    kind: Kind
    count: int = traffic.STREAM_EVENTS
    pause: float = 0.0

    def told(self) -> str:
        """Return it as the ``user`` of a request."""
        return f"{self.kind}:{self.count}:{self.pause}"

    @classmethod
    def read(cls, told: str) -> Manner:
        """Read what :meth:`told` wrote."""
        kind, count, pause = told.split(":")
        return cls(kind=cast("Kind", kind), count=int(count), pause=float(pause))


def request_body(manner: Manner | None) -> bytes:
    """Return the JSON of a request; ``None``: a plain one."""
    fields = traffic.request_fields("plain" if manner is None else "stream", "at_once")
    if manner is not None:
        fields["user"] = manner.told()
    return json.dumps(fields, separators=(",", ":")).encode()


class Answering(asyncio.Protocol):
    """One connection: answers requests one after the other."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._paused: asyncio.Event = asyncio.Event()
        self._paused.set()
        self._speaking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports have no common base

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Stop writing."""
        self._transport = None
        self._paused.set()

    def pause_writing(self) -> None:
        """Wait for the reader."""
        self._paused.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._paused.set()

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a request is whole."""
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._buffer[:head_end]).lower()
        end = head_end + 4 + _content_length(head)
        if len(self._buffer) < end:
            return
        body = bytes(self._buffer[head_end + 4 : end])
        del self._buffer[:end]
        if self._transport is not None:
            self._answer(self._transport, head, body)

    def _answer(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        if not head.startswith(b"post"):
            transport.write(self._answers.idle)
            return
        ask: dict[str, Any] = json.loads(body)
        if not ask.get("stream"):
            transport.write(self._answers.plain)
            return
        transport.write(self._answers.head)
        manner = Manner.read(ask["user"])
        if manner.kind == "flood":
            self._speaking = self._loop.create_task(self._flood())
        else:
            self._say(manner, manner.count)

    def _say(self, manner: Manner, left: int) -> None:
        """Write one event, then let every other connection have its turn."""
        if self._transport is None:
            return
        if left <= len(self._answers.ending) and manner.kind == "events":
            self._transport.write(self._answers.ending[-left])
        else:
            self._transport.write(self._answers.event)
        if left > 1 and manner.pause:
            self._loop.call_later(manner.pause / 1e3, self._say, manner, left - 1)
        elif left > 1:
            self._loop.call_soon(self._say, manner, left - 1)

    async def _flood(self) -> None:
        while self._transport is not None:
            await self._paused.wait()
            if self._transport is not None:
                self._transport.write(self._answers.event * _FLOOD_EVENTS)
            await asyncio.sleep(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What is said, ready to write. ``ending`` are the last events of a stream, the end of its body included."""

    plain: bytes
    head: bytes
    event: bytes
    ending: tuple[bytes, ...]
    idle: bytes

    @classmethod
    def prepare(cls) -> Answers:
        """Render every answer once."""
        body = traffic.completion()
        json_head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
        chunks = [_chunk(event) for event in traffic.stream_events()]
        return cls(
            plain=f"{json_head}{len(body)}\r\n\r\n".encode() + body,
            head=b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            event=chunks[0],
            ending=(*chunks[-3:-1], chunks[-1] + b"0\r\n\r\n"),
            idle=f"{json_head}2\r\n\r\n{{}}".encode(),
        )


def _content_length(head: bytes) -> int:
    at = head.find(b"\r\ncontent-length:")
    return int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def serve(port: int) -> None:
    """Answer on ``port`` until the process ends."""
    answers = Answers.prepare()
    server = await asyncio.get_running_loop().create_server(lambda: Answering(answers), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Run as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
