"""The load generator: N keep-alive connections, each asking again as soon as it is answered.

A closed loop on raw asyncio protocols. Every answer is checked; one wrong answer spoils the run.
It reads the HTTP that our own servers write (a length, or chunks), not HTTP at large.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from dataclasses import asdict, dataclass, field
from typing import Final, cast, get_args
from urllib.parse import urlsplit

import uvloop

from benchmarks import traffic
from benchmarks.stats import percentile

KEY_ENV: Final = "FLATFEE_BENCH_KEY"
NONE_YET: Final = "no answer within"
"""How a run complains whose answers were too slow, not wrong."""
_LINGER_SECONDS: Final = 10.0
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_PLAIN_END: Final = b"\r\n\r\n"
_FIRST_CONTENT: Final = traffic.MARKER.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to send where, and when to stop: at ``seconds`` or ``max_requests``, whichever is first."""

    host: str
    port: int
    shape: traffic.Shape
    pace: traffic.Pace
    connections: int
    seconds: float
    warmup: float
    max_requests: int
    receipt: bool
    key: str
    path: str = ""
    model: str = "auto"
    header: tuple[str, ...] = ()
    events: int = traffic.STREAM_EVENTS
    prompt_bytes: int = 0

    def request(self) -> bytes:
        """Render the request, the same bytes every time."""
        body = traffic.request_body(self.shape, self.pace, model=self.model, prompt_bytes=self.prompt_bytes)
        more = "".join(f"{line}\r\n" for line in self.header)
        head = (
            f"POST {self.path}/v1/chat/completions HTTP/1.1\r\n"
            f"host: {self.host}:{self.port}\r\n"
            f"authorization: Bearer {self.key}\r\n"
            "content-type: application/json\r\n"
            f"{more}content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run saw. ``requests`` is what was counted, ``answered`` includes the warm-up.

    The first byte may be a head that a server sends ahead; the first event is the first that a caller can use.
    """

    requests: int
    answered: int
    failures: int
    complaints: tuple[str, ...]
    per_second: float
    events_per_second: float
    p50_ms: float
    p99_ms: float
    first_byte_p50_ms: float
    first_event_p50_ms: float
    first_event_p99_ms: float


@dataclass(slots=True)
class Tally:
    """The counts of one run, shared by its connections."""

    order: Order
    opened: float
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    first_events: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    answered: int = 0
    ended: float = 0.0

    @property
    def full(self) -> bool:
        """Whether no further request may be sent: one wrong answer is enough to end a run."""
        if self.complaints or len(self.latencies) >= self.order.max_requests:
            return True
        return time.perf_counter() >= self.closes

    @property
    def closes(self) -> float:
        """When the counting ends."""
        return self.opened + self.order.warmup + self.order.seconds

    def count(self, sent: float, first: float, event: float, complaint: str | None) -> None:
        """Record one answer. Answers of the warm-up, and those after the end, are checked only."""
        now = time.perf_counter()
        self.answered += 1
        if complaint is not None:
            self.complaints.append(complaint)
        elif self.opened + self.order.warmup <= now <= self.closes and len(self.latencies) < self.order.max_requests:
            self.latencies.append(now - sent)
            self.first_bytes.append(first - sent)
            self.first_events.append(event - sent)
            self.ended = now

    def figures(self) -> Figures:
        """Sum up. A run cut short by its count ends with its last answer, one cut by time at that time."""
        begun = self.opened + self.order.warmup
        counted = len(self.latencies)
        ended = self.ended if counted >= self.order.max_requests else self.closes
        if not counted and not self.complaints:
            self.complaints.append(f"{NONE_YET} {self.order.seconds} s")
        rate = counted / (ended - begun) if counted else 0.0
        ordered, firsts = sorted(self.latencies) or [0.0], sorted(self.first_bytes) or [0.0]
        events = sorted(self.first_events) or [0.0]
        return Figures(
            requests=counted,
            answered=self.answered,
            failures=len(self.complaints),
            complaints=tuple(sorted(set(self.complaints)))[:5],
            per_second=rate,
            events_per_second=rate * self.order.events if self.order.shape == "stream" else 0.0,
            p50_ms=percentile(ordered, 0.50) * 1e3,
            p99_ms=percentile(ordered, 0.99) * 1e3,
            first_byte_p50_ms=percentile(firsts, 0.50) * 1e3,
            first_event_p50_ms=percentile(events, 0.50) * 1e3,
            first_event_p99_ms=percentile(events, 0.99) * 1e3,
        )


class Caller(asyncio.Protocol):
    """One connection. ``done`` resolves when it has stopped for good."""

    def __init__(self, tally: Tally, request: bytes) -> None:
        self._tally = tally
        self._request = request
        self._buffer = bytearray()
        self._head_end = 0
        self._length: int | None = None
        self._sent = 0.0
        self._first = 0.0
        self._event = 0.0
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at once."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports have no common base
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Count an answer that never came."""
        if not self.done.done():
            self._tally.count(
                self._sent, self._first, self._event, "the connection was closed before the answer was whole"
            )
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Gather one answer; ask again when it is whole."""
        buffer = self._buffer
        if not buffer:
            self._first = time.perf_counter()
        buffer += data
        if not self._head_end and not self._read_head():
            return
        if not self._event and len(buffer) > self._head_end and _FIRST_CONTENT in buffer:
            self._event = time.perf_counter()
        if self._whole():
            self._tally.count(self._sent, self._first, self._event, self._complaint())
            self._ask()

    def _read_head(self) -> bool:
        end = self._buffer.find(_PLAIN_END)
        if end < 0:
            return False
        self._head_end = end + len(_PLAIN_END)
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"\r\ncontent-length:")
        self._length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else None
        return True

    def _whole(self) -> bool:
        if self._length is None:
            return self._buffer.endswith(_LAST_CHUNK)
        return len(self._buffer) >= self._head_end + self._length

    def _complaint(self) -> str | None:
        status = bytes(self._buffer[9:12])
        if status != b"200":
            return f"status {status.decode(errors='replace')} where 200 was expected"
        rest = bytes(self._buffer[self._head_end :])
        body = rest if self._length is not None else dechunk(rest)
        order = self._tally.order
        return traffic.complaint_about(order.shape, body, receipt=order.receipt, expected=order.events)

    def _ask(self) -> None:
        if self._transport is None or self.done.done():
            return
        if self._tally.full:
            self.done.set_result(None)
            self._transport.close()
            return
        self._buffer, self._head_end, self._length, self._event = bytearray(), 0, None, 0.0
        self._sent = time.perf_counter()
        self._transport.write(self._request)


def dechunk(data: bytes) -> bytes:
    """Return the content of a whole body in HTTP's chunked coding."""
    parts: list[bytes] = []
    at = 0
    while True:
        line_end = data.index(b"\r\n", at)
        size = int(data[at:line_end], 16)
        if not size:
            return b"".join(parts)
        at = line_end + 2 + size
        parts.append(data[line_end + 2 : at])
        at += 2


async def drive(order: Order) -> Figures:
    """Run one order to its end. An answer that stays away for long after it counts as a failure."""
    loop = asyncio.get_running_loop()
    tally, request = Tally(order=order, opened=time.perf_counter()), order.request()
    opening = [
        loop.create_connection(lambda: Caller(tally, request), order.host, order.port) for _ in range(order.connections)
    ]
    callers = [caller for _, caller in await asyncio.gather(*opening)]
    limit = order.warmup + order.seconds + _LINGER_SECONDS
    _, waiting = await asyncio.wait([caller.done for caller in callers], timeout=limit)
    tally.complaints += ["no whole answer long after the end"] * len(waiting)
    return tally.figures()


def main() -> None:
    """Run as a process of its own; the figures go to standard output as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="base URL, up to /v1")
    parser.add_argument("--shape", choices=get_args(traffic.Shape), default="plain")
    parser.add_argument("--pace", choices=get_args(traffic.Pace), default="at_once")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--warmup", type=float, default=0.3)
    parser.add_argument("--max-requests", type=int, default=1_000_000)
    parser.add_argument("--receipt", action="store_true", help="an answer without a receipt is wrong")
    parser.add_argument("--model", default="auto")
    parser.add_argument("--header", action="append", default=[], help="one more header line; as often as needed")
    parser.add_argument("--events", type=int, default=traffic.STREAM_EVENTS, help="in a whole stream")
    parser.add_argument("--prompt-bytes", type=int, default=0, help="0 for the ordinary short prompt")
    options = vars(parser.parse_args())
    url, options["header"] = urlsplit(options.pop("url")), tuple(options["header"])
    key = os.environ.get(KEY_ENV, "none")
    order = Order(host=url.hostname or "127.0.0.1", port=url.port or 80, path=url.path, key=key, **options)
    print(json.dumps(asdict(uvloop.run(drive(order)))))


if __name__ == "__main__":
    main()
