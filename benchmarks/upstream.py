"""The fake upstream: an OpenAI-compatible server that answers the same bytes every time.

A raw asyncio protocol, so that it costs far less than what is measured in front of it. It reads
just enough HTTP to find a request's end; everything it says stands in ``traffic``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass
from typing import Any, cast

import uvloop

from benchmarks import traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Complete responses, ready to write. ``paced`` holds one chunk for each event."""

    plain: bytes
    stream_head: bytes
    at_once: bytes
    paced: tuple[bytes, ...]
    idle: bytes

    @classmethod
    def prepare(cls, *, receipt: bool) -> Answers:
        """Render every answer once; ``receipt`` makes them look like a gateway's."""
        body = traffic.completion(receipt=receipt)
        extra = "".join(f"{name}: {value}\r\n" for name, value in traffic.RECEIPT_HEADERS.items()) if receipt else ""
        head = f"HTTP/1.1 200 OK\r\n{extra}"
        plain_head = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        stream_head = f"{head}content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        chunks = [_chunk(event) for event in traffic.stream_events(receipt=receipt)]
        paced = (*chunks[:-1], chunks[-1] + b"0\r\n\r\n")
        return cls(
            plain=plain_head.encode() + body,
            stream_head=stream_head,
            at_once=stream_head + b"".join(paced),
            paced=paced,
            idle=b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        )


class Upstream(asyncio.Protocol):
    """One connection: answers requests one after the other. ``gap``: seconds between the events of any stream."""

    def __init__(self, answers: Answers, gap: float | None = None) -> None:
        self._answers = answers
        self._gap = gap
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports have no common base

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Stop writing."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a request is whole."""
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._buffer[:head_end])
        end = head_end + 4 + _content_length(head)
        if len(self._buffer) < end:
            return
        body = bytes(self._buffer[head_end + 4 : end])
        del self._buffer[:end]
        self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if self._transport is None:
            return
        if not head.startswith(b"POST"):
            self._transport.write(self._answers.idle)
            return
        ask: dict[str, Any] = json.loads(body)
        if not ask.get("stream"):
            self._transport.write(self._answers.plain)
        elif self._gap is not None or ask.get("user") == "per_event":
            self._transport.write(self._answers.stream_head)
            self._write_event(0)
        else:
            self._transport.write(self._answers.at_once)

    def _write_event(self, index: int) -> None:
        """Write one event, then let every other connection have its turn, or the gap pass."""
        if self._transport is None:
            return
        self._transport.write(self._answers.paced[index])
        if index + 1 == len(self._answers.paced):
            return
        loop = asyncio.get_running_loop()
        if not self._gap:
            loop.call_soon(self._write_event, index + 1)
        else:
            loop.call_later(self._gap, self._write_event, index + 1)


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    return int(lower[at + 17 :].split(b"\r\n", 1)[0])


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def serve(port: int, *, receipt: bool, gap: float | None = None) -> None:
    """Answer on ``port`` until the process ends."""
    answers = Answers.prepare(receipt=receipt)
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(answers, gap), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Run as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--receipt", action="store_true", help="answer like a gateway: receipt in headers and body")
    parser.add_argument("--gap", type=float, help="seconds between the events of any stream; 0 for one event a turn")
    options = parser.parse_args()
    uvloop.run(serve(options.port, receipt=options.receipt, gap=options.gap))


if __name__ == "__main__":
    main()
