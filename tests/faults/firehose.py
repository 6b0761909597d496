"""A provider in a process of its own that has a great deal to say to everybody, and counts what it got rid of.

``python -m tests.faults.firehose SIZE`` prints its port. A line on standard input lets it print what it has
sent so far; the line ``end`` lets every answer that is under way come to its end. Each answer is numbered
events and ends with their count and checksum (``Listening`` reads them), so that a hole in it is seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import zlib
from typing import Final

from tests.faults import speech

EVENT: Final = 4096
"""Characters of text in one event."""

_SENDS: Final = 65_536
"""Bytes that the system may hold for us on their way: without that, megabytes of each stream would be there."""


def piece(place: int) -> str:
    """Return the text of an event by its place in the answer."""
    return f"{place:08d}".ljust(EVENT, ".")


def end_of(count: int, checksum: int) -> str:
    """Return the text that ends an answer."""
    return f"={count}.{checksum}"


class Firehose:
    """What all answers share."""

    def __init__(self, size: int) -> None:
        self.most = size // EVENT
        self.ending = False
        self.begun = 0
        self.ended = 0
        self.open: set[_Stream] = set()
        self.gone = 0

    def told(self) -> str:
        """Return the figures: ``sent`` is what has left this process."""
        sent = self.gone + sum(stream.sent for stream in self.open)
        return json.dumps({"begun": self.begun, "ended": self.ended, "open": len(self.open), "sent": sent})


class _Stream(asyncio.Protocol):
    """One connection, one answer."""

    def __init__(self, hose: Firehose) -> None:
        self._hose = hose
        self._flows = asyncio.Event()
        self._flows.set()
        self._written = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def sent(self) -> int:
        return self._written - self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=EVENT, low=0)
        self._hose.open.add(self)

    def data_received(self, data: bytes) -> None:
        if self._task is None:
            self._hose.begun += 1
            self._task = asyncio.get_running_loop().create_task(self._answer())

    def pause_writing(self) -> None:
        self._flows.clear()

    def resume_writing(self) -> None:
        self._flows.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hose.open.discard(self)
        self._hose.gone += self._written
        if self._task is not None:
            self._task.cancel()

    async def _answer(self) -> None:
        self._write(speech.head(200, "connection: close", kind=speech.STREAM) + speech.ROLE)
        count = checksum = 0
        while count < self._hose.most and not self._hose.ending:
            text = piece(count)
            count, checksum = count + 1, zlib.crc32(text.encode(), checksum)
            self._write(speech.event(speech.delta({"content": text})))
            await self._flows.wait()
            await asyncio.sleep(0)
        end = speech.event(speech.delta({"content": end_of(count, checksum)}))
        self._write(end + speech.STOP + speech.USAGE + speech.DONE)
        self._hose.ended += 1
        self._transport.close()

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        self._transport.write(data)


class Listening:
    """Takes a gateway's response as its bytes come, and tells whether the answer in it was whole."""

    def __init__(self) -> None:
        self.status = b""
        self.bytes = 0
        self.count = self._checksum = 0
        self._rest = b""
        self._body = b""
        self._in_body = False
        self.ended: str | None = None
        self.done = False

    @property
    def whole(self) -> bool:
        return self.done and self.ended == end_of(self.count, self._checksum)

    def take(self, data: bytes) -> None:
        """Take the next bytes of the connection."""
        self.bytes += len(data)
        self._rest += data
        if not self._in_body:
            head, found, rest = self._rest.partition(b"\r\n\r\n")
            if not found:
                return
            self._in_body, self.status, self._rest = True, head.split(b"\r\n")[0], rest
        while True:
            size, found, rest = self._rest.partition(b"\r\n")
            if not found or len(rest) < int(size, 16) + 2:
                break
            self._body += rest[: int(size, 16)]
            self._rest = rest[int(size, 16) + 2 :]
        *events, self._body = self._body.split(b"\n\n")
        for event in events:
            self._hear(event.removeprefix(b"data: "))

    def _hear(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.done = True
            return
        text = "".join(choice["delta"].get("content") or "" for choice in json.loads(data).get("choices", ()))
        if text.startswith("="):
            self.ended = text
        elif text:
            self.count, self._checksum = self.count + 1, zlib.crc32(text.encode(), self._checksum)


async def main(size: int) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    hose, over = Firehose(size), asyncio.Event()
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENDS)
    server = await loop.create_server(lambda: _Stream(hose), sock=listening, backlog=4096)

    def asked() -> None:
        line = os.read(0, 100)
        hose.ending = hose.ending or b"end" in line
        if line:
            print(hose.told(), flush=True)
        else:
            loop.remove_reader(0)
            over.set()

    loop.add_reader(0, asked)
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
    await over.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
