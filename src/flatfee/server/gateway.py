"""What one process of the gateway holds: settings, store, providers, health, running requests."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from flatfee.server.faults import Fault
from flatfee.server.health import Health
from flatfee.server.ids import request_id
from flatfee.server.kept import KEEP_BYTES, KeptAnswers
from flatfee.server.peers import HEALTH, Held, RoutesHealth
from flatfee.server.providers.base import Provider
from flatfee.server.reload.changes import Reloading
from flatfee.server.reload.epochs import Epoch, Epochs
from flatfee.server.settings import PlanSettings, Settings
from flatfee.server.store.base import Store
from flatfee.server.store.records import Caller, Terms, Ticket
from flatfee.server.windows import Calendar, calendar
from flatfee.server.worker import ALONE, Worker
from flatfee.wire import ErrorCode, Model, ReceiptDetail

log = logging.getLogger("flatfee.server")

LEASE_SECONDS: Final = 60.0
"""A running request's hold on its units and slot; the heartbeat extends it three times as often."""


@dataclass(slots=True)
class Gateway:
    """One process's gateway. ``monotonic`` and ``chance`` are its clock for limits and its dice.

    ``new_id`` makes the id of a request that comes at a moment of the wall clock.
    ``worker`` tells which one it is, where several serve together. ``operator`` names who administers
    it without a key: only for a gateway that no network reaches.

    ``settings``, ``providers`` and ``health`` are others after a reload, which may come at any await: a
    request takes what it needs of them at one moment. ``reloading`` is who reads the configuration again,
    where there is one to read. ``beside`` are the settings that are about to come, or went last: the ledger
    may know of an account's new plan before this process does, and a request of its old one a moment longer.
    """

    settings: Settings
    store: Store
    providers: Mapping[str, Provider]
    worker: Worker = ALONE
    health: Health = field(default_factory=Health)
    monotonic: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    new_id: Callable[[float], str] = request_id
    operator: str | None = None
    running: dict[str, Ticket] = field(default_factory=dict)
    answers: KeptAnswers = field(init=False)
    reloading: Reloading | None = None
    beside: Settings | None = None
    epochs: Epochs = field(default_factory=Epochs)
    active: int = 0
    draining: bool = False
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _unfinished: set[asyncio.Future[None]] = field(default_factory=set)
    _closing: set[asyncio.Future[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Share the memory for kept answers with the other workers."""
        self.answers = KeptAnswers(self.monotonic, self.worker.share(KEEP_BYTES))

    def begin(self) -> Epoch:
        """Count a request that begins; ``end`` is told what this returns, once it has ended."""
        self.active += 1
        self._idle.clear()
        return self.epochs.begin()

    def end(self, epoch: Epoch) -> None:
        """Count a request out."""
        self.active -= 1
        if left := self.epochs.end(epoch):
            self._let_go(left)
        if not self.active:
            self._idle.set()

    async def until_idle(self) -> None:
        """Return once no request is being served."""
        if self.active:
            await self._idle.wait()

    def plan_of(self, caller: Caller) -> PlanSettings:
        """Return the caller's plan.

        Raises:
            Fault: the account's plan is not in the configuration any more.
        """
        plan = self.settings.plan(caller.plan)
        if plan is None and self.beside is not None:
            plan = self.beside.plan(caller.plan)  # if the account has another by now, the ledger says so
        if plan is None:
            raise Fault(
                ErrorCode.PERMISSION_DENIED,
                f"The account's plan {caller.plan!r} is not configured here; tell the operator.",
            )
        return plan

    def adopt(self, settings: Settings, providers: Mapping[str, Provider]) -> None:
        """Serve by other settings from now on; what runs goes on with what it began with.

        A provider that is not among ``providers`` any more is closed once nobody can use it. A route whose
        provider or model is another is well at first; those that are gone are forgotten.
        """
        before = {route.name: route for route in self.settings.routes}
        self.health = self.health.keeping(
            route.name
            for route in settings.routes
            if (was := before.get(route.name)) is not None
            and (was.model, self.providers[was.provider]) == (route.model, providers[route.provider])
        )
        stay = set(map(id, providers.values()))
        left = [provider for provider in _each(self.providers) if id(provider) not in stay]
        self.settings, self.providers, self.beside = settings, providers, self.settings
        self._let_go(self.epochs.replace(left))

    def _let_go(self, providers: Sequence[Provider]) -> None:
        for provider in providers:
            closing = asyncio.ensure_future(_closed(provider))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close_providers(self) -> None:
        """Close every provider, also those that a reload left behind: the gateway ends."""
        async with AsyncExitStack() as ends:  # each is closed, also if this is cancelled meanwhile
            for provider in (*self.epochs.abandon(), *_each(self.providers)):
                ends.push_async_callback(_closed, provider)
            await asyncio.gather(*self._closing)

    @property
    def holder(self) -> str:
        """How the ledger names the process that keeps an answer."""
        return str(self.worker.number)

    def keep_doing(self, work: Coroutine[Any, Any, None]) -> None:
        """Go on with work that nobody waits for any more; that it fails is logged, and no more."""
        task = asyncio.ensure_future(work)
        self._unfinished.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Future[None]) -> None:
        self._unfinished.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("request.left_undone", extra={"error": type(error).__name__})

    def known(self, request_id: str) -> Held:
        """Return what this process knows of a request whose answer may be asked for again."""
        return Held.of(self.answers.get(request_id), running=request_id in self.running)

    def routes_health(self) -> RoutesHealth:
        """Return the health of every configured route, as this process knows it."""
        now = self.monotonic()
        return {route.name: self.health.report(route.name, now) for route in self.settings.routes}

    def told_to_peers(self, question: str) -> Held | RoutesHealth:
        """Return what another worker asks for."""
        return self.routes_health() if question == HEALTH else self.known(question)

    def keeps_figures_only(self, caller: Caller) -> bool:
        """Tell whether the kept receipts of a caller's project are reduced."""
        return (caller.receipts or self.settings.receipts.detail) is ReceiptDetail.REDUCED

    def knows(self, model: str) -> bool:
        """Tell whether a name means a model."""
        return self.settings.meaning(model) is not None

    def resolve(self, model: str) -> Model:
        """Return the model that a name means.

        Raises:
            Fault: ``model_not_found``, listing what exists.
        """
        return resolve(model, self.settings)


def resolve(model: str, settings: Settings) -> Model:
    """Return the model that a name means by the configuration.

    Raises:
        Fault: ``model_not_found``, listing what exists.
    """
    found = settings.meaning(model)
    if found is None:
        known = ", ".join([*Model, *settings.aliases])
        message = f"There is no model {model[:80]!r}; use one of: {known}."
        raise Fault(ErrorCode.MODEL_NOT_FOUND, message, param="model")
    return found


def _each(providers: Mapping[str, Provider]) -> Iterable[Provider]:
    """Return every provider once: one may stand for several."""
    return {id(provider): provider for provider in providers.values()}.values()


async def _closed(provider: Provider) -> None:
    """Close a provider; that it fails is logged, and no more: nobody asks it for anything again."""
    try:
        await provider.close()
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("provider.not_closed", extra={"error": type(error).__name__})


def terms_of(plan: PlanSettings) -> Terms:
    """Return what the store needs to know of a plan."""
    return plan.terms


def calendar_of(caller: Caller, plan: PlanSettings) -> Calendar:
    """Return how the account's time is cut into billing windows."""
    return calendar(plan.window, caller.billing_day)
