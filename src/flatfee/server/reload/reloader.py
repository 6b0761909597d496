"""Reading the configuration again: all of it holds from one moment on, or nothing has changed.

The order is that of what can fail. The file is read and checked; each process makes what it needs; the ledger
takes the file's accounts, and the entry of the audit log, in one transaction; then all serve by it, which
cannot fail. Reloads come one after the other.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from flatfee.server.configuration import SettingsError
from flatfee.server.filed import filed_accounts
from flatfee.server.gateway import Gateway
from flatfee.server.reload.changes import Changes, NotReloaded, Reloading, changes_between, cut, need_restart
from flatfee.server.reload.source import Source
from flatfee.server.reload.swap import Swap
from flatfee.server.settings import Settings
from flatfee.server.store.accounts import Denied, Scalar
from flatfee.server.store.base import Store, StoreDown
from flatfee.server.store.file_commands import ReloadSettings
from flatfee.wire import ErrorCode

log = logging.getLogger("flatfee.server")

SIGNAL: Final = "signal"
"""Who reloads by ``SIGHUP``, as the audit log names it."""

_NAMES_TOLD: Final = 200
"""Characters of names that the log and the audit log tell of one list."""


class Side(Protocol):
    """What serves: one process (``Swap``), or several (``Crew``)."""

    @property
    def settings(self) -> Settings:
        """What it serves by."""
        ...

    @property
    def ending(self) -> bool:
        """Whether it is shutting down."""
        ...

    def ledger(self) -> AbstractAsyncContextManager[Store]:
        """Yield the ledger.

        Raises:
            StoreDown: it cannot be opened.
        """
        ...

    async def prepare(self, settings: Settings) -> None:
        """Make what these settings need.

        Raises:
            NotReloaded: somebody cannot.
        """
        ...

    async def switch(self) -> None:
        """Serve by what was prepared."""
        ...

    async def forget(self) -> None:
        """Forget what was prepared."""
        ...


class Reloader:
    """Reads a gateway's configuration again, when asked."""

    def __init__(self, source: Source, side: Side) -> None:
        self._source = source
        self._side = side
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[Changes]] = set()

    async def reload(self, actor: str) -> Changes:
        """Read the file, and serve by it once this returns.

        Who is cancelled meanwhile does not take the reload with it: it is done whole, or not at all.

        Raises:
            NotReloaded: the file, or the moment, is not right for it; nothing has changed.
        """
        task = asyncio.create_task(self._in_turn(actor))
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Changes]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # which was told, in the log at least

    async def _in_turn(self, actor: str) -> Changes:
        async with self._turn:
            try:
                changes = await self._reload(actor)
            except NotReloaded as refused:
                for problem in refused.told():
                    facts = {"actor": actor, "code": str(refused.code), "problem": problem}
                    log.error("settings.reload_refused", extra=facts)  # noqa: TRY400 - the lines say it all
                raise
        log.info("settings.reloaded", extra={"actor": actor, **summary(changes)})
        return changes

    async def _reload(self, actor: str) -> Changes:
        if self._side.ending:
            raise NotReloaded(ErrorCode.GATEWAY_OVERLOADED, ["The gateway is shutting down: nothing is read again."])
        try:
            after, digest = await asyncio.to_thread(self._source.read_with_digest)
        except SettingsError as error:
            lines = str(error).splitlines()
            raise NotReloaded(ErrorCode.INVALID_REQUEST, lines) from error
        before = self._side.settings
        if problems := need_restart(before, after):
            lines = [f"{self._source.path}: {problem}" for problem in problems]
            raise NotReloaded(ErrorCode.INVALID_REQUEST, lines)
        changes = changes_between(before, after, digest)
        await self._side.prepare(after)
        try:
            await self._enter(actor, after, changes)
        except BaseException:
            await self._side.forget()
            raise
        await self._side.switch()
        return changes

    async def _enter(self, actor: str, settings: Settings, changes: Changes) -> None:
        """Bring the file's accounts, and who did it, into the ledger."""
        command = ReloadSettings(
            accounts=filed_accounts(settings),
            plans_gone=changes.plans.removed,
            file=self._source.path.name,
            details={**summary(changes), "sha256": changes.digest},
        )
        try:
            async with self._side.ledger() as store:
                await store.administer(actor, command)
        except Denied as error:
            raise NotReloaded(ErrorCode.CONFLICT, [f"{self._source.path}: {error}"]) from error
        except StoreDown as error:
            raise NotReloaded(ErrorCode.STORE_UNAVAILABLE, [f"The ledger cannot be written: {error}"]) from error


def summary(changes: Changes) -> dict[str, Scalar]:
    """Return what changed as the log tells it: a word for each list, such as ``routes="+new -old ~other"``."""
    told: dict[str, Scalar] = {}
    for name, difference in changes.lists():
        signs = (("+", difference.added), ("-", difference.removed), ("~", difference.changed))
        if words := [sign + entry for sign, entries in signs for entry in entries]:
            told[name] = cut(" ".join(words), _NAMES_TOLD)
    if changes.settings:
        told["settings"] = cut(" ".join(changes.settings), _NAMES_TOLD)
    return told or {"changed": False}


class AtSignal:
    """Reloads when a signal says so; of many that come while one is obeyed, one more is."""

    def __init__(self, reloading: Reloading) -> None:
        self._reloading = reloading
        self._asked = False
        self._task: asyncio.Task[None] | None = None

    def take(self) -> None:
        """Take note of a signal, in the event loop."""
        self._asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._obey())

    async def _obey(self) -> None:
        while self._asked:
            self._asked = False
            try:
                await self._reloading.reload(SIGNAL)
            except NotReloaded:
                continue  # which was logged, with the reason
            except Exception as error:  # noqa: BLE001 - nobody else would hear of it, and the next signal is to be obeyed
                log.error("settings.reload_failed", extra={"error": type(error).__name__})  # noqa: TRY400 - it may quote


def reloader_of(gateway: Gateway, source: Source) -> Reloader:
    """Return what reads the configuration of a gateway that is one process."""
    return Reloader(source, Swap(gateway))
