"""The provider of a scripted gateway: it does what the script says, and else what the default model would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final

from flatfee.server.providers.base import Provider, ProviderFailure, Upstream
from flatfee.server.providers.simulated import SimulatedProvider
from flatfee.server.settings import RouteSettings
from flatfee.testing.running.exchange import Exchange, Tried, current
from flatfee.testing.running.loop import Traffic
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.played import Failure, Held, Pause, Piece, Played
from flatfee.testing.scripting.script import Script
from flatfee.wire import AttemptOutcome

_NOBODY: Final = Exchange(number=0, method="", path="", query="", headers={}, arrived=0.0)


class DoubleProvider:
    """Every provider of a scripted gateway. ``real`` are those, by name, that are asked in place of the model."""

    def __init__(self, script: Script, traffic: Traffic, real: Mapping[str, Provider] = MappingProxyType({})) -> None:
        self._script = script
        self._traffic = traffic
        self._real = real
        self._model = SimulatedProvider()
        self.down: set[str] = set()
        """Routes whose provider cannot be reached."""

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[Upstream, None]:
        """Do what the script says for this try; without a rule that matches, what the default model would."""
        exchange = current() or _NOBODY
        tried = Tried(route=route.name, at=self._traffic.clock.monotonic())
        exchange.tries.append(tried)
        if route.name in self.down:
            tried.rule = "down"
            raise ProviderFailure(AttemptOutcome.UNAVAILABLE, "cannot be reached")
        asked = _asked(exchange, route, body, stream=stream)
        chosen = self._script.choose(asked)
        if chosen is None:
            model = self._real.get(route.provider, self._model)
            async with model.send(route, body, stream=stream) as answer:
                yield answer
            return
        tried.rule, played = chosen
        for step in played.before:
            await self._step(step)
        yield _Answer(played, self)

    async def close(self) -> None:
        """Let go of the connections to real providers."""
        for provider in self._real.values():
            await provider.close()

    async def _step(self, step: Pause | Failure | Held) -> None:
        match step:
            case Pause():
                await (asyncio.Event().wait() if step.seconds is None else asyncio.sleep(step.seconds))
            case Failure():
                raise ProviderFailure(step.outcome, step.message, stale=step.stale)
            case Held():
                with self._traffic.holding():
                    await step.gate.passed()

    async def pieces(self, pieces: tuple[Piece, ...]) -> AsyncIterator[bytes]:
        """Yield the bytes of an answer, and do what lies between them."""
        for piece in pieces:
            if isinstance(piece, bytes):
                await asyncio.sleep(0)  # a turn of the event loop, as a network would give
                yield piece
            else:
                await self._step(piece)


def _asked(exchange: Exchange, route: RouteSettings, body: bytes, *, stream: bool) -> Asked:
    return Asked(
        number=exchange.number,
        attempt=len(exchange.tries),
        nth=sum(tried.route == route.name for tried in exchange.tries),
        route=route.name,
        tier=route.tier,
        model=route.model,
        stream=stream,
        upstream=body,
        headers=exchange.headers,
        body=exchange.json,
    )


class _Answer:
    """An ``Upstream`` that plays."""

    def __init__(self, played: Played, provider: DoubleProvider) -> None:
        self._played = played
        self._provider = provider

    @property
    def status(self) -> int:
        return self._played.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._played.headers

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.chunks()])

    def chunks(self) -> AsyncIterator[bytes]:
        return self._provider.pieces(self._played.pieces)
