"""How a scripted gateway is put together, taken apart, and set back. What a test may tell it is not here."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from flatfee.server.app import App
from flatfee.server.gateway import Gateway
from flatfee.server.health import Health
from flatfee.server.ids import request_id
from flatfee.server.kept import KeptAnswers
from flatfee.testing.clients import Clients
from flatfee.testing.inside import Inside
from flatfee.testing.options import Options, first_key
from flatfee.testing.running.clock import VirtualClock, stopped
from flatfee.testing.running.front import Front
from flatfee.testing.running.loop import LoopThread, Traffic
from flatfee.testing.running.provider import DoubleProvider
from flatfee.testing.running.serving import NoServer, SocketServer
from flatfee.testing.running.visits import MemoryServer
from flatfee.testing.scripting.script import Script
from flatfee.testing.state.ledger import DoubleStore
from flatfee.testing.tapes.taping import Taping

if TYPE_CHECKING:
    from flatfee.server.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A gateway that runs, and all that ends with it. ``settings`` are those of the start."""

    options: Options
    settings: Settings
    rules: Script
    taping: Taping
    inside: Inside
    memory: MemoryServer
    server: SocketServer | NoServer
    clients: Clients
    api_key: str
    host: str
    port: int
    closing: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Be as at the start, but for the clock."""
        self.rules.clear()
        self.taping.rewind()
        self.inside.run(self._reset())

    async def _reset(self) -> None:
        inside, gateway = self.inside, self.inside.gateway
        inside.store.restore()
        inside.provider.down.clear()
        inside.front.exchanges.clear()
        gateway.settings = self.settings
        gateway.health = Health()
        gateway.answers = KeptAnswers(gateway.monotonic)
        gateway.chance = dice(self.options)
        gateway.draining = False

    @contextmanager
    def down(self) -> Generator[None, None, None]:
        """Be out of reach while the block lasts: connections are refused, and those that there are cut off."""
        self.inside.run(self._go_down())
        try:
            yield
        finally:
            self.inside.run(self._come_up())

    async def _go_down(self) -> None:
        self.inside.front.is_down = True
        await self.memory.close()
        await self.server.go_down()

    async def _come_up(self) -> None:
        await self.server.come_up()
        self.inside.front.is_down = False

    def close(self) -> None:
        """End clients, requests, connections and the thread. Once it has ended, nothing."""
        with self.closing:
            if not self.inside.thread.is_running:
                return
            try:
                self.clients.close()
                self.inside.run(self._close())
            finally:
                self.inside.thread.stop()

    async def _close(self) -> None:
        self.inside.gateway.draining = True  # requests that are cut off are no crashes
        self.inside.front.is_down = True
        await self.memory.close()
        await self.server.close()


def build(options: Options) -> Built:
    """Start a gateway.

    Raises:
        ValueError: an option is impossible.
        TapeError: a tape cannot be used, or none can be written.
        OSError: the address cannot be listened on.
    """
    settings = options.settings()
    account, project, api_key = first_key(settings)
    clock = VirtualClock(options.start, stopped if options.frozen else time.monotonic)
    taping = Taping.of(options, settings, clock.monotonic)
    traffic = Traffic(clock, autojump=options.autojump and not taping.in_real_time)
    rules = Script(strict=options.strict, routes=[route.name for route in settings.routes], tapes=taping.player)
    provider = DoubleProvider(rules, traffic, taping.real)
    store = DoubleStore(clock)
    gateway = Gateway(
        settings=settings,
        store=store,
        providers={entry.name: provider for entry in settings.providers},
        monotonic=clock.monotonic,
        chance=dice(options),
        new_id=ids(options),
    )
    front = Front(App(gateway), traffic, script=rules)
    server = SocketServer(front) if options.socket else NoServer(front)
    plan = settings.plan(account.plan)
    assert plan is not None  # noqa: S101 - settings name no plan that is not there
    thread = LoopThread(traffic, "flatfee-testing")
    try:
        host, port = thread.call(server.open())
    except BaseException:
        thread.stop()
        raise
    store.keep()
    inside = Inside(
        gateway=gateway,
        store=store,
        provider=provider,
        front=front,
        thread=thread,
        clock=clock,
        account=account.name,
        project=project.name,
        plan=plan,
    )
    memory = MemoryServer(front, thread, set())
    return Built(
        options=options,
        settings=settings,
        rules=rules,
        taping=taping,
        inside=inside,
        memory=memory,
        server=server,
        clients=Clients(memory),
        api_key=api_key,
        host=host,
        port=port,
    )


def dice(options: Options) -> Callable[[], float]:
    """Return chance that is the same for the same seed."""
    return random.Random(options.seed).random


def ids(options: Options) -> Callable[[float], str]:
    """Return what makes the ids of requests: numbers in their order where the same requests are to get the same."""
    if not options.frozen:
        return request_id
    numbers = itertools.count(1)
    return partial(request_id, random_bits=lambda _: next(numbers))
