"""A scripted gateway: the production gateway, in a thread of this process, that does what a test says.

What it can be told is in modules of their own: ``script``, ``state``, ``journal``, ``verdicts``.
"""

from __future__ import annotations

import random
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from flatfee.server.app import App
from flatfee.server.gateway import Gateway
from flatfee.server.keys import KeyKind, new_key
from flatfee.server.store.memory import MemoryStore
from flatfee.testing.checks.base import Limits
from flatfee.testing.clock import VirtualClock
from flatfee.testing.front import Front, Handler
from flatfee.testing.journal import Journal
from flatfee.testing.loop import LoopThread, Traffic
from flatfee.testing.options import Options
from flatfee.testing.provider import DoubleProvider
from flatfee.testing.script import Script
from flatfee.testing.serving import SocketServer
from flatfee.testing.verdicts import Verdict, judge, settled

_T = TypeVar("_T")


class ScriptedGateway:
    """A running gateway. ``base_url`` and ``api_key`` are what a client needs of it.

    Its methods may be called from any thread but the gateway's own. Make one with ``running_gateway``.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.api_key = new_key(KeyKind.PROJECT)
        self.rules = Script(strict=options.strict)
        self._clock = VirtualClock(options.start)
        self._epoch = self._clock.wall() - self._clock.monotonic()
        self._traffic = Traffic(self._clock, autojump=options.autojump)
        settings = options.settings(self.api_key)
        provider = DoubleProvider(self.rules, self._traffic)
        self._gateway = Gateway(
            settings=settings,
            store=MemoryStore(self._clock.wall, steady=self._clock.monotonic),
            providers={entry.name: provider for entry in settings.providers},
            monotonic=self._clock.monotonic,
            chance=random.Random(options.seed).random,
        )
        self._front = Front(App(self._gateway), self._traffic)
        self._thread = LoopThread(self._traffic, "flatfee-testing")
        self._server = SocketServer(self._front)
        try:
            self.host, self.port = self.run(self._server.open())
        except BaseException:
            self._thread.stop()
            raise

    @property
    def base_url(self) -> str:
        """Where the gateway is: ``http://127.0.0.1:PORT/v1``."""
        return f"http://{self.host}:{self.port}/v1"

    @property
    def env(self) -> dict[str, str]:
        """The environment variables by which SDKs find the gateway and their key."""
        return {
            f"{sdk}_{name}": value
            for sdk in ("FLATFEE", "OPENAI")
            for name, value in (("BASE_URL", self.base_url), ("API_KEY", self.api_key))
        }

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the gateway's event loop, and return what it returns."""
        return self._thread.call(work)

    @property
    def now(self) -> datetime:
        """What time it is for the gateway, in UTC."""
        return datetime.fromtimestamp(self._clock.wall(), UTC)

    def advance(self, by: float | timedelta) -> None:
        """Let time go by at once, in seconds; timers ring on the way, each at its time.

        Leases expire, windows end, circuits cool down, and requests that run meet their limits.

        Raises:
            ValueError: time does not go backwards.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        if not seconds >= 0:
            message = f"advance({by!r}): time only goes forward; give seconds of 0 or more."
            raise ValueError(message)
        self.run(self._advance(seconds))

    async def _advance(self, seconds: float) -> None:
        await self._thread.loop.advance_to(self._clock.monotonic() + seconds)
        await self._gateway.store.sweep()

    def serve_beside(self, name: str, handler: Handler) -> None:
        """Let an ASGI app serve the paths whose first segment is ``name``."""
        self._front.beside[name] = handler

    @property
    def journal(self) -> Journal:
        """What the gateway was asked so far, and what became of it. A copy: ask again for more."""
        self._thread.turn()
        return Journal.copied(self._front.exchanges, self._epoch)

    def verdict(self, **limits: Any) -> Verdict:
        """Judge the client by what it sent so far. The arguments are those of ``Limits``."""
        allowed = Limits(**limits)
        return judge(settled(self.journal, allowed), allowed, active=self._slots())

    def assert_resilient(self, **limits: Any) -> None:
        """Accept a client that broke no rule. The arguments are those of ``Limits``.

        Raises:
            AssertionError: lists every violation, and what was asked.
        """
        self.verdict(**limits).insist()

    def _slots(self) -> frozenset[str] | None:
        """Return the workflows that hold a slot; ``None`` when the gateway is closed."""
        if not self._thread.is_running:
            return None
        return frozenset(lease.id for lease in self.run(self._gateway.store.all_workflows()))

    def close(self) -> None:
        """End the gateway: connections are closed, and nothing of it is left."""
        try:
            self.run(self._server.close())
        finally:
            self._thread.stop()

    def __repr__(self) -> str:
        return f"<ScriptedGateway {self.base_url}>"


def make_gateway(**options: Any) -> ScriptedGateway:
    """Start a gateway that somebody else ends. The options are those of ``Options``."""
    return ScriptedGateway(Options(**options))


@contextmanager
def running_gateway(**options: Any) -> Generator[ScriptedGateway, None, None]:
    """Run a scripted gateway while the block lasts. The options are those of ``Options``."""
    gateway = make_gateway(**options)
    try:
        yield gateway
    finally:
        gateway.close()
