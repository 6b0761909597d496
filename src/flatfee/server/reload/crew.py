"""Several workers that change to another configuration together: the first process's part, and a worker's.

Each worker makes what it needs and confirms, then the ledger is changed, then each serves by it and confirms.
So a worker that cannot, or does not answer, means that nothing changes. After the ledger there is no way back:
whoever is late by then, or was started meanwhile, is brought to the new settings; whoever dies is replaced by
one that begins with them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from flatfee.server.app import open_store
from flatfee.server.reload.changes import Changes, NotReloaded, Reloading
from flatfee.server.reload.letters import Gone, Post, post_office
from flatfee.server.reload.swap import Swap
from flatfee.server.settings import Settings
from flatfee.server.store.base import Store
from flatfee.wire import ErrorCode

log = logging.getLogger("flatfee.server")

CONFIRM_SECONDS: Final = 15.0
"""A worker gets so long to confirm; one that is just being started needs a few seconds of it."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """To a worker: make what these settings need."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Switch:
    """To a worker: serve by what was prepared, or by these settings: it was started after that, or is late."""

    settings: Settings | None = None


@dataclass(frozen=True, slots=True)
class Forget:
    """To a worker: go on as before."""


@dataclass(frozen=True, slots=True)
class Reload:
    """To the first process: read the configuration again, and answer the ``Changes``."""

    actor: str


@dataclass(slots=True, eq=False)
class _Hand:
    """One worker's life: what it serves by, and what it was prepared for."""

    number: int
    post: Post
    settings: Settings
    prepared: Settings | None = None

    async def prepare(self, settings: Settings) -> None:
        """Prepare it. One that is gone needs nothing any more: another takes its place.

        Raises:
            NotReloaded: it cannot, or does not answer.
        """
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                await self.post.ask(Prepare(settings))
        except Gone:
            return
        except TimeoutError as error:
            line = f"Worker {self.number} did not answer within {CONFIRM_SECONDS:g} s; try again."
            raise NotReloaded(ErrorCode.GATEWAY_OVERLOADED, [line]) from error
        self.prepared = settings

    async def bring(self, settings: Settings) -> None:
        """Have it serve by these settings: now, or once it gets to its letters."""
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                await self.post.ask(Switch(None if self.prepared is settings else settings))
        except Gone:
            pass
        except (NotReloaded, TimeoutError) as error:
            log.error("worker.behind", extra={"worker": self.number, "error": type(error).__name__})  # noqa: TRY400 - told
        self.settings, self.prepared = settings, None

    async def forget(self) -> None:
        """Have it forget what it was prepared for; one that did not confirm is overwritten by the next letter."""
        if self.prepared is None:
            return
        self.prepared = None
        with suppress(Gone, NotReloaded, TimeoutError):
            async with asyncio.timeout(CONFIRM_SECONDS):
                await self.post.ask(Forget())


class Crew:
    """The workers, for who reloads. ``settings`` are what they serve by, and what a new one is started with."""

    def __init__(self, settings: Settings, is_ending: Callable[[], bool]) -> None:
        self.settings = settings
        self._is_ending = is_ending
        self._hands: set[_Hand] = set()
        self._coming: Settings | None = None

    @property
    def ending(self) -> bool:
        """Whether all workers are told to end."""
        return self._is_ending()

    @asynccontextmanager
    async def aboard(
        self, number: int, reloading: Reloading | None
    ) -> AsyncGenerator[tuple[Settings, socket.socket | None]]:
        """Count in a worker that is to be started at once, for as long as it lives.

        Yield what to start it with: settings, and its end of the pair for letters, which whoever starts it closes
        here. Without ``reloading`` there are no letters.
        """
        if reloading is None:
            yield self.settings, None
            return

        async def answer(question: object) -> object:
            assert isinstance(question, Reload)  # noqa: S101 - workers ask nothing else
            return await reloading.reload(question.actor)

        ours, theirs = socket.socketpair()
        with theirs:
            async with post_office(ours, answer) as post:
                hand = _Hand(number, post, self.settings)  # and nothing is awaited until it is counted
                self._hands.add(hand)
                try:
                    yield hand.settings, theirs
                finally:
                    self._hands.discard(hand)

    @asynccontextmanager
    async def ledger(self) -> AsyncGenerator[Store]:
        """Yield the ledger, opened for this once: the first process serves nothing."""
        store = open_store(self.settings.server)
        try:
            yield store
        finally:
            await store.close()

    async def prepare(self, settings: Settings) -> None:
        """Prepare every worker.

        Raises:
            NotReloaded: one cannot, or does not answer; then all have forgotten it.
        """
        told = await asyncio.gather(*(hand.prepare(settings) for hand in self._hands), return_exceptions=True)
        for failure in told:
            if isinstance(failure, BaseException):
                await self.forget()
                raise failure
        self._coming = settings

    async def switch(self) -> None:
        """Have every worker serve by what was prepared, those too that were started meanwhile."""
        assert self._coming is not None  # noqa: S101 - whoever switches has prepared it
        self.settings = settings = self._coming
        while behind := [hand for hand in self._hands if hand.settings is not settings]:
            await asyncio.gather(*(hand.bring(settings) for hand in behind))

    async def forget(self) -> None:
        """Have every worker forget what was prepared."""
        self._coming = None
        await asyncio.gather(*(hand.forget() for hand in self._hands))


class InWorker:
    """A worker's part: it does what the first process writes, and passes on what an administrator asks of it."""

    def __init__(self, swap: Swap) -> None:
        self._swap = swap
        self.post: Post | None = None

    async def answer(self, question: object) -> None:
        """Do what a letter says."""
        match question:
            case Prepare(settings):
                await self._swap.prepare(settings)
            case Switch(settings):
                if settings is not None:
                    await self._swap.prepare(settings)
                await self._swap.switch()
                log.info("worker.reloaded")
            case Forget():
                await self._swap.forget()
            case _:
                raise TypeError(type(question).__name__)

    async def reload(self, actor: str) -> Changes:
        """Have the first process reload all workers.

        Raises:
            NotReloaded: it cannot, and nothing has changed; or it is gone.
        """
        try:
            if self.post is None:
                raise Gone
            changes: Changes = await self.post.ask(Reload(actor))
        except Gone as error:
            line = "The gateway's first process is gone: its workers end."
            raise NotReloaded(ErrorCode.GATEWAY_OVERLOADED, [line]) from error
        return changes
