"""Flapping in real time and on raw sockets: a route is down for a minute, in six ways at once.

``python -m tests.faults.flapping_live`` runs some 90 seconds: a gateway for each way, every
cool-down as it ships, silence cut off after three seconds, and a question every few seconds. What may happen how often
is the same as under virtual time (``flapping``).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from tests.faults.catalogue import CATALOGUE
from tests.faults.outages import COOL_DOWNS, Asked, Down, most_asks, watch
from tests.faults.speech import TEXT
from tests.faults.steps import Seen, Step
from tests.faults.upstream import FaultyUpstream, _Connection
from tests.faults.watched import Watched, watched
from tests.server.fakes import KEY, events_of, make_body, route

DOWN_FROM: Final = 3.0
DOWN_FOR: Final = 60.0
SILENCE: Final = 3.0
"""Seconds for which a silent route is waited for: its ``first_token_timeout`` and ``total_timeout``."""

EVERY: Final = (1.0, 4.0)
"""Seconds between two questions."""

SLACK: Final = 1.0
"""Seconds by which the provider may see a thing later than the gateway, on a busy machine."""

WAYS: Final[Mapping[str, tuple[Down, str]]] = {
    "connections refused": (Down.REFUSED, "healthy"),
    "reset before a byte": (Down.ERROR, "reset-before-a-byte"),
    "500": (Down.ERROR, "http-500"),
    "silent": (Down.SILENT, "silent"),
    "cut in mid-answer": (Down.CUT, "cut-midway"),
    "429 with Retry-After: 30": (Down.BUSY, "429-retry-after-30"),
}
"""How a route is down: what it is to the gateway, and the fault of the catalogue."""


ENDS_KEPT_ONES: Final = "reset-before-a-byte"
"""Its first reset ends a connection that was kept: that tells nothing of the route, and is not counted."""


@dataclass
class Live:
    """One run: when it began, what came, what is wrong."""

    how: Down
    fault: str
    zero: float = field(default_factory=time.monotonic)
    answers: list[tuple[float, int, str, dict[str, Any]]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    asks_while_down: int = 0
    used_again: float | None = None

    def now(self) -> float:
        return time.monotonic() - self.zero

    @property
    def down(self) -> bool:
        return DOWN_FROM <= self.now() < DOWN_FROM + DOWN_FOR

    def play(self, seen: Seen) -> Iterable[Step]:
        """Answer by the clock."""
        seen.fault = self.fault if self.down else "healthy"
        return CATALOGUE[seen.fault](seen)


class _Door:
    """A port of the provider's that can be shut, so that connections are refused, and opened again."""

    def __init__(self, upstream: FaultyUpstream) -> None:
        self._upstream = upstream
        self._port = 0
        self._server: asyncio.Server | None = None

    async def open(self) -> str:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self._upstream), "127.0.0.1", self._port, reuse_address=True
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{self._port}/v1"

    def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._upstream.open):
            connection.abort()


async def live(name: str, seed: int = 1) -> Live:
    """Let a route be down for a minute in one way."""
    run, rng = Live(*WAYS[name]), random.Random(f"{seed}:{name}")
    async with FaultyUpstream() as flapping, FaultyUpstream() as steady:
        flapping.plays("first", then=run.play)
        door = _Door(flapping)
        limits = {"first_token_timeout": SILENCE, "total_timeout": SILENCE}
        routes = [
            {**route("first", priority=1), "provider": "flapping", "model": "first", **limits},
            {**route("second", priority=2), "provider": "steady", "model": "healthy", **limits},
        ]
        upstreams = {"flapping": await door.open(), "steady": steady.url}
        with tempfile.TemporaryDirectory() as folder:
            async with watched(Path(folder), upstreams=upstreams, routes=routes) as gateway:
                run.zero = time.monotonic()
                opening = asyncio.create_task(_shut_for_a_minute(run, door))
                await _ask_now_and_then(run, gateway, rng)
                await opening
        door.shut()
        _judge(run, [_asked(run, seen) for seen in flapping.of("first")])
    return run


async def _shut_for_a_minute(run: Live, door: _Door) -> None:
    if run.how is Down.REFUSED:
        await asyncio.sleep(DOWN_FROM - run.now())
        door.shut()
        await asyncio.sleep(DOWN_FROM + DOWN_FOR - run.now())
        await door.open()


async def _ask_now_and_then(run: Live, gateway: Watched, rng: random.Random) -> None:
    """Ask until the route that was down has answered again, or should have long ago."""
    end = DOWN_FROM + DOWN_FOR + 45.0
    url, headers = f"http://127.0.0.1:{gateway.port}", {"authorization": f"Bearer {KEY}"}
    async with (
        httpx.AsyncClient(base_url=url, headers=headers, timeout=60.0, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):
        while run.now() < end and run.used_again is None:
            group.create_task(_ask(run, client, stream=rng.random() < 0.7))
            await asyncio.sleep(rng.uniform(*EVERY))


async def _ask(run: Live, client: httpx.AsyncClient, *, stream: bool) -> None:
    asked = run.now()
    response = await client.post("/v1/chat/completions", json=make_body(stream=stream))
    if response.headers["content-type"].startswith("text/event-stream"):
        events = events_of(response.content)
        text = "".join(
            choice["delta"].get("content") or ""
            for event in events
            if isinstance(event, dict)
            for choice in event.get("choices", ())
        )
        text += "" if events[-1:] == ["[DONE]"] else " (cut)"
        receipt = next(event["flatfee"] for event in events if isinstance(event, dict) and "flatfee" in event)
    else:
        body = json.loads(response.content)
        receipt = body["flatfee"]
        text = body["choices"][0]["message"]["content"] if response.status_code == 200 else str(body["error"])
    run.answers.append((asked, response.status_code, text, receipt))
    if asked >= DOWN_FROM + DOWN_FOR and receipt.get("route") == "first":
        run.used_again = min(asked, run.used_again or asked)


def _asked(run: Live, seen: Seen) -> Asked:
    ended = seen.gone_at if seen.gone_at is not None else seen.answered_at
    return Asked(
        "first",
        seen.at - run.zero,
        None if seen.fault == "healthy" else run.how,
        seen.at - run.zero,
        None if ended is None else ended - run.zero,
        seen.fault == "healthy",
    )


def _judge(run: Live, asked: list[Asked]) -> None:
    for at, status, text, receipt in run.answers:
        if (status, text) != (200, TEXT):
            run.wrong.append(f"asked at {at:.1f}, got {status}: {text!r}, {receipt}")
    over = DOWN_FROM + DOWN_FOR
    in_vain = [ask for ask in asked if DOWN_FROM <= ask.began < over and not ask.whole]
    run.asks_while_down = len(in_vain)
    if run.fault == ENDS_KEPT_ONES:
        asked = [ask for ask in asked if ask is not in_vain[0]]
        in_vain = in_vain[1:]
    run.wrong += watch(asked, "first", slack=SLACK)[1]
    at_once = int(SILENCE / EVERY[0]) + 1 if run.how is Down.SILENT else 1
    if len(in_vain) > (most := most_asks(DOWN_FOR, at_once)):
        run.wrong.append(f"was asked {len(in_vain)} times while it was down, not {most}")
    late = max((ask.ended or 0.0 for ask in asked if ask.began < over), default=over)
    kept, _ = watch(asked, "first", until=max(over, late), slack=SLACK)
    due = max(over, kept.open_until or 0.0)
    if run.how is Down.REFUSED:
        due = over + COOL_DOWNS[2]  # who is refused is not seen; by then the third cool-down has begun at most
    if run.used_again is None or run.used_again > due + EVERY[1] + SLACK:
        run.wrong.append(f"was up again and free at {due:.1f}, and used at {run.used_again}")


async def _all() -> list[Live]:
    return list(await asyncio.gather(*(live(name) for name in WAYS)))


def main() -> int:
    """Run every way at once; return the exit status."""
    runs = dict(zip(WAYS, asyncio.run(_all()), strict=True))
    print("| down for 60 s | questions | answered whole | asks while down | used again after, s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, run in runs.items():
        whole = sum((status, text) == (200, TEXT) for _, status, text, _ in run.answers)
        asks = "-" if run.how is Down.REFUSED else run.asks_while_down
        again = "-" if run.used_again is None else f"{run.used_again - DOWN_FROM - DOWN_FOR:.1f}"
        print(f"| {name} | {len(run.answers)} | {whole} | {asks} | {again} |")
    for name, run in runs.items():
        for text in run.wrong:
            print(f"{name}: {text}", file=sys.stderr)
    return int(any(run.wrong for run in runs.values()))


if __name__ == "__main__":
    sys.exit(main())
