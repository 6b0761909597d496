"""One run under virtual time: a gateway, a provider with outages, and callers that keep what they got.

Nothing is judged here; see ``flapping``.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from tests.faults.outages import Outage, Outages
from tests.server.fakes import KEY, events_of, make_settings, route
from tests.torture.results import quiet
from tests.torture.virtual import Clocks, VirtualLoop

from flatfee.server.app import App
from flatfee.server.gateway import Gateway
from flatfee.server.store.memory import MemoryStore

EPOCH: Final = 1_793_534_400.0
TOTAL: Final = 10.0
"""``total_timeout`` of the routes: as long as a silent one is waited for, streamed or not."""

_ROUTES: Final = (
    route("first", priority=1, total_timeout=TOTAL),
    route("second", priority=2, total_timeout=TOTAL),
    route("third", priority=3, total_timeout=TOTAL),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one caller got: from when to when, the status, the answer's text where it is whole, the receipt."""

    question: str
    asked: float
    answered: float
    status: int
    text: str | None
    retry_after: int | None
    code: str | None
    receipt: Mapping[str, Any]


@dataclass
class Scene:
    """One run: a gateway, its provider and its callers. ``seen`` in the order of the answers."""

    seed: int
    routes: int
    outages: Sequence[Outage]
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start the clock of the run at 0."""
        self.loop = VirtualLoop()
        self._zero = self.loop.time()
        self.rng = random.Random(self.seed)
        self.provider = Outages(self.now, self.rng.random, self.outages)
        self._count = 0

    def now(self) -> float:
        """Return the seconds since the run began."""
        return self.loop.time() - self._zero

    def play(self, part: Callable[[Scene], Awaitable[None]]) -> Scene:
        """Run to the end."""
        try:
            with quiet():
                self.loop.run_until_complete(self._play(part))
        finally:
            self.loop.close()
        return self

    async def _play(self, part: Callable[[Scene], Awaitable[None]]) -> None:
        clocks = Clocks(self.loop.time, EPOCH)
        settings = make_settings(
            routes=_ROUTES[: self.routes], fair_use=1 << 40, concurrent_workflows=1000, continuation=False
        )
        gateway = Gateway(
            settings=settings,
            store=MemoryStore(clocks.wall, steady=clocks.steady),
            providers={"fake": self.provider},
            monotonic=clocks.steady,
            chance=self.rng.random,
        )
        app = App(gateway)
        async with app.running(), self._client(app) as self.client:
            await part(self)

    def _client(self, app: App) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://gateway", headers=headers, timeout=None
        )

    async def until(self, moment: float) -> None:
        """Wait for a moment of the run."""
        await asyncio.sleep(moment - self.now())

    async def ask(self, *, stream: bool) -> Seen:
        """Ask one question, and keep what came."""
        self._count += 1
        question, asked = f"q{self._count}", self.now()
        body = {"model": "premium", "messages": [{"role": "user", "content": question}], "stream": stream}
        response = await self.client.post("/v1/chat/completions", json=body)
        streamed = response.headers["content-type"].startswith("text/event-stream")
        told = _streamed(response.content) if streamed else json.loads(response.content)
        retry_after = response.headers.get("retry-after")
        seen = Seen(
            question=question,
            asked=asked,
            answered=self.now(),
            status=response.status_code,
            text=_text(told),
            retry_after=None if retry_after is None else int(retry_after),
            code=told.get("error", {}).get("code"),
            receipt=told.get("flatfee", {}),
        )
        self.seen.append(seen)
        return seen

    async def ask_now_and_then(self, until: float, shortest: float, longest: float) -> None:
        """Ask a question every few seconds, without waiting for the answer of the one before."""
        async with asyncio.TaskGroup() as group:
            while self.now() < until:
                group.create_task(self.ask(stream=self.rng.random() < 0.7))
                await asyncio.sleep(self.rng.uniform(shortest, longest))


def _streamed(body: bytes) -> dict[str, Any]:
    """Put a stream together into one object: ``words``, and whatever else its events have."""
    events = events_of(body)
    told: dict[str, Any] = {"words": [], "done": events[-1:] == ["[DONE]"]}
    for event in events:
        if isinstance(event, dict):
            told |= {name: event[name] for name in ("flatfee", "error") if name in event}
            for choice in event.get("choices", ()):
                told["words"].append(choice["delta"].get("content", ""))
                told["finish"] = choice["finish_reason"]
    return told


def _text(told: Mapping[str, Any]) -> str | None:
    """Return the text of an answer that says of itself that it is whole."""
    if "error" in told:
        return None
    if "words" in told:
        return "".join(told["words"]) if told["done"] and told["finish"] else None
    return str(told["choices"][0]["message"]["content"])
