"""A thousand callers that read a little and stop, while the provider has megabytes for each.

``python -m tests.faults.slow_readers`` runs it at length. The gateway is the real one, in a process of its
own; the provider is in another. The gateway must stop reading where its callers stop, so that its memory is
bounded by streams and not by what the provider would like to say, and stands still. Then a few callers read
all of it; half of the rest read on, to an end that the provider then makes, and the other half leave.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.faults.firehose import Listening
from tests.faults.watched import PLAN, ROOT, Watched, child_environment, line_of, watched
from tests.server.fakes import KEY, make_body, route

SIZE: Final = 20 * 1024 * 1024
"""Bytes that the provider has for each caller."""

READS: Final = 8192
"""Bytes that a caller reads before it stops."""

PER_STREAM: Final = 512 * 1024
"""Bytes by which one stream may enlarge the gateway, what it remembers of the answer included."""

FLAT: Final = 8 * 1024 * 1024
"""Bytes by which the gateway may change while nobody reads."""

STILL: Final = 12.0
"""Seconds for which nobody reads. A caller that takes nothing for a minute is taken for gone."""

CLEANED_UP: Final = 10.0
"""Seconds after which nothing may be left of callers that have gone: a second, and what a busy machine adds."""

PATIENCE: Final = 300.0


@dataclass
class Figures:
    """What was measured; memory in bytes, times in seconds."""

    streams: int
    empty: int = 0
    plateau: int = 0
    later: int = 0
    at_the_end: int = 0
    sent: int = 0
    sent_later: int = 0
    whole: int = 0
    cleaned_up: float = 0.0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class _Caller:
    """One caller on a raw socket, with a small window of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.heard = Listening()

    async def begin(self) -> None:
        """Ask, and read a little."""
        bare = socket.socket()
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        bare.setblocking(False)
        await asyncio.get_running_loop().sock_connect(bare, ("127.0.0.1", self._port))
        self._reader, self._writer = await asyncio.open_connection(sock=bare, limit=READS)
        body = json.dumps(make_body(stream=True)).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n"
            f"authorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        while self.heard.bytes < READS and (data := await self._reader.read(READS)):
            self.heard.take(data)

    async def go_on(self) -> None:
        """Read to the end."""
        while data := await self._reader.read(65_536):
            self.heard.take(data)
        self.leave()

    def leave(self) -> None:
        self._writer.transport.abort()


class _Provider:
    """The handle on the provider's process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}/v1"

    async def ask(self, what: str = "figures") -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(what.encode() + b"\n")
        return await line_of(self._process)


@asynccontextmanager
async def _provider(size: int) -> AsyncGenerator[_Provider, None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.firehose", str(size)),
        cwd=ROOT,
        env=child_environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield _Provider(process, (await line_of(process))["port"])
    finally:
        process.kill()
        await process.wait()


async def slow_readers(
    streams: int, folder: Path, *, size: int = SIZE, still: float = STILL, broken: Sequence[str] = ()
) -> Figures:
    """Open ``streams`` of them, and measure."""
    figures, started = Figures(streams), time.monotonic()
    limits = {"first_token_timeout": 120.0, "idle_timeout": 300.0, "total_timeout": 900.0}
    routes = [
        {**route(name, priority=place), "provider": "hose", **limits} for place, name in enumerate(("first", "second"))
    ]
    async with (
        asyncio.timeout(PATIENCE),
        _provider(size) as provider,
        watched(
            folder,
            upstreams={"hose": provider.url},
            routes=routes,
            plan={**PLAN, "requests_per_minute": None},
            server={"max_requests": streams + 10},
            broken=broken,
        ) as gateway,
    ):
        figures.empty = gateway.resident()
        callers = [_Caller(gateway.port) for _ in range(streams)]
        for start in range(0, streams, 50):
            await asyncio.gather(*(caller.begin() for caller in callers[start : start + 50]))
        await _stand_still(figures, gateway, provider, still)
        await _go_on_or_leave(figures, gateway, provider, callers)
        figures.at_the_end = gateway.resident()
    figures.seconds = time.monotonic() - started
    _judge(figures, size)
    return figures


async def _stand_still(figures: Figures, gateway: Watched, provider: _Provider, still: float) -> None:
    """Wait until nothing moves any more, and then see that nothing does."""
    before = -1
    while (told := await provider.ask())["sent"] != before:
        before = told["sent"]
        await asyncio.sleep(1.0)
    figures.plateau, figures.sent = gateway.resident(), told["sent"]
    held = await gateway.inside()
    if (held["active"], told["open"]) != (figures.streams, figures.streams):
        figures.wrong.append(f"the gateway serves {held['active']} requests, and the provider {told['open']}")
    await asyncio.sleep(still)
    figures.later, figures.sent_later = gateway.resident(), (await provider.ask())["sent"]


async def _go_on_or_leave(figures: Figures, gateway: Watched, provider: _Provider, callers: Sequence[_Caller]) -> None:
    """Let a few read everything, half of the others leave, and the rest read to an end that is made for them."""
    half = len(callers) // 2
    staying, leaving = callers[:half], callers[half:]
    await asyncio.gather(*(caller.go_on() for caller in staying[:5]))
    for caller in leaving:
        caller.leave()
    left = time.monotonic()
    while (await gateway.inside())["active"] > half - 5 and time.monotonic() < left + CLEANED_UP:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.05)
    figures.cleaned_up = time.monotonic() - left
    open_still = (await provider.ask())["open"]
    if open_still > half - 5:
        figures.wrong.append(f"{open_still - half + 5} streams of callers that left are open at the provider")
    await provider.ask("end")
    await asyncio.gather(*(caller.go_on() for caller in staying[5:]))
    figures.whole = sum(caller.heard.whole for caller in staying)
    while (held := await gateway.inside())["active"] and time.monotonic() < left + PATIENCE / 2:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.1)
    figures.wrong += [
        f"at the end the gateway holds {held[name]} {name}" for name in ("running", "active", "acquired") if held[name]
    ]


def _judge(figures: Figures, size: int) -> None:
    wrong, streams = figures.wrong, figures.streams
    each = (figures.plateau - figures.empty) / streams
    if each > PER_STREAM:
        wrong.append(f"each stream takes {each / 1024:.0f} kB of memory")
    if abs(figures.later - figures.plateau) > FLAT:
        wrong.append(f"while nobody read, the gateway went from {figures.plateau} to {figures.later} bytes")
    if figures.sent_later != figures.sent:
        wrong.append(f"while nobody read, the provider sent {figures.sent_later - figures.sent} bytes")
    if figures.sent > streams * size // 2:
        wrong.append(f"nobody read, and the provider got rid of {figures.sent} bytes of {streams * size}")
    if figures.whole != streams // 2:
        wrong.append(f"{figures.whole} of {streams // 2} callers that read on got whole answers")
    if figures.cleaned_up >= CLEANED_UP:
        wrong.append(f"callers that left were not cleaned up within {CLEANED_UP:.0f} s")


def report(figures: Figures) -> str:
    """Return the figures as a table in Markdown."""
    streams = figures.streams
    rows = [
        ("streams", f"{streams:,}"),
        ("resident before, MB", f"{figures.empty / 1e6:.0f}"),
        ("… when all had stopped", f"{figures.plateau / 1e6:.0f}"),
        ("… some seconds later", f"{figures.later / 1e6:.0f}"),
        ("… after the last answer", f"{figures.at_the_end / 1e6:.0f}"),
        ("memory for each stream, kB", f"{(figures.plateau - figures.empty) / streams / 1024:.0f}"),
        ("sent by the provider for each stream, kB", f"{figures.sent / streams / 1024:.0f}"),
        ("sent while nobody read, bytes", f"{figures.sent_later - figures.sent:,}"),
        ("whole answers of those who read on", f"{figures.whole:,} of {streams // 2:,}"),
        ("seconds until those who left were gone", f"{figures.cleaned_up:.1f}"),
        ("seconds in all", f"{figures.seconds:.0f}"),
        ("violations", f"{len(figures.wrong)}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(
        ["| slow readers | |", "| --- | ---: |", *(f"| {name:<{width}} | {value} |" for name, value in rows)]
    )


def run_slow_readers(streams: int, *, size: int = SIZE, still: float = STILL, broken: Sequence[str] = ()) -> Figures:
    """Run it in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(slow_readers(streams, Path(folder), size=size, still=still, broken=broken))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it at length; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.slow_readers", description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument(
        "--break", dest="broken", action="append", default=[], help="break the gateway in a way of tests.faults.broken"
    )
    asked = parser.parse_args(arguments)
    figures = run_slow_readers(asked.streams, broken=asked.broken)
    print(report(figures))
    for text in figures.wrong:
        print(text, file=sys.stderr)
    return int(bool(figures.wrong))


if __name__ == "__main__":
    sys.exit(main())
