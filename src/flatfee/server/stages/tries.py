"""One try of one route: what it has to work with, its limits, and how it is noted. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flatfee.server.answers.joint import Half, Joint
from flatfee.server.answers.stream import RelayedStream
from flatfee.server.ask import Ask
from flatfee.server.bodies import body_after, body_for
from flatfee.server.call import Call
from flatfee.server.faults import deadline_passed
from flatfee.server.gateway import Gateway
from flatfee.server.health import Health
from flatfee.server.meter import Meter
from flatfee.server.patience import in_time
from flatfee.server.providers.base import Provider
from flatfee.server.settings import RouteSettings, Settings
from flatfee.server.stages.settle import Bill
from flatfee.wire import AttemptOutcome, Tier

FIRST_TOKEN_WITH_OTHERS: Final = 10.0
FIRST_TOKEN_ALONE: Final = 60.0
SHARE_OF_THE_DEADLINE: Final = 2 / 3
"""A route that has said nothing after so much of the caller's time is left, while another can still answer."""

_CLOCK_SLACK: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to relay: a request, the routes in order, and what they were planned with.

    A reload of the configuration does not reach it: a request ends with the providers that it began with.
    ``compacted`` is the request for economy, if it differs.
    """

    ask: Ask
    routes: Sequence[RouteSettings]
    settings: Settings
    providers: Mapping[str, Provider]
    health: Health
    compacted: Ask | None = None

    def ask_for(self, route: RouteSettings) -> Ask:
        """Return the request as a route is asked it."""
        return self.compacted if self.compacted is not None and route.tier is Tier.ECONOMY else self.ask


def first_token_limit(route: RouteSettings, *, alone: bool) -> float:
    """Return the seconds that a route gets for the first token of a stream."""
    return route.first_token_timeout or (FIRST_TOKEN_ALONE if alone else FIRST_TOKEN_WITH_OTHERS)


@dataclass(slots=True, kw_only=True)
class Try:
    """One try of a route. ``half`` is what the caller has already, from a route that failed half-way.

    ``ask`` is the request, as this route is asked it; ``health`` that of the routes, which hears how this ended;
    ``meter`` the request's, for all its tries. ``status`` is the provider's, once it has answered; ``relayed``
    the stream that came of it, if one came. ``forwarded`` is set once the caller got something of it, ``unread``
    once that may not be all of it. ``first_token`` is when that came, by the gateway's monotonic clock.
    ``opening`` is what the route's circuit let it through by.
    """

    job: Job
    route: RouteSettings
    call: Call
    bill: Bill
    gateway: Gateway
    half: Half | None = None
    started: float = 0.0
    status: int | None = None
    first_token: float | None = None
    relayed: RelayedStream | None = None
    forwarded: bool = False
    unread: bool = False
    opening: int = 0
    ask: Ask = field(init=False)
    health: Health = field(init=False)
    meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        self.ask = self.job.ask_for(self.route)
        self.health = self.job.health
        self.meter = self.bill.meter

    @property
    def others_follow(self) -> bool:
        """Whether another route could go on where this one fails."""
        return self.route is not self.job.routes[-1]

    @property
    def prefilled(self) -> bool:
        """Whether the route is given what the caller has, to go on from there."""
        return self.half is not None and self.route.prefill and self.ask.may_be_prefilled

    def joint(self) -> Joint | None:
        """Return what fits the answer to what the caller has, if it has something."""
        if self.half is None:
            return None
        return Joint(self.half, prefilled=self.prefilled, remember=self.others_follow)

    def body(self) -> bytes:
        """Return the body that is sent upstream."""
        dialect = self.job.settings.dialect(self.route.provider)
        if self.half is not None and self.prefilled:
            return body_after(self.ask, self.route.model, self.half.text, dialect)
        return body_for(self.ask, self.route.model, dialect)

    def admitted(self) -> bool:
        """Ask the route's circuit to let it through; whoever is let through tells the circuit how it ended."""
        opening = self.health.admits(self.route.name, self.gateway.monotonic())
        self.opening = opening or 0
        return opening is not None

    def begin(self) -> None:
        """Note that the route is asked from now on."""
        self.started = self.gateway.monotonic()
        self.status = self.first_token = self.relayed = None
        self.meter.begin(self.route)

    def end(self, outcome: AttemptOutcome) -> None:
        """Note how it ended, for the receipt and for the route's health."""
        gateway, first = self.gateway, self.first_token
        taken = gateway.monotonic() - self.started
        to_first = first - self.started if first is not None else None
        attempt = self.meter.tried(self.route, outcome, self.status, taken, to_first)
        self.health.noted(self.route.name, attempt, gateway.store.now())

    def left(self) -> float:
        """Return the seconds this try may take in all.

        Raises:
            Fault: ``deadline_exceeded``.
        """
        if self.bill.deadline is None:
            return self.route.total_timeout
        left = self.bill.deadline - self.gateway.monotonic()
        if left <= 0:
            raise deadline_passed()
        return min(left, self.route.total_timeout)

    def late(self) -> bool:
        """Tell whether the caller's deadline has passed. Timers may ring a moment before their time."""
        return self.bill.deadline is not None and self.gateway.monotonic() > self.bill.deadline - _CLOCK_SLACK

    def first_token_limit(self) -> float:
        """Return the seconds until the first token must be there. A plain answer comes all at once."""
        if not self.ask.stream:
            return self.route.total_timeout
        return first_token_limit(self.route, alone=not self._another_can())

    def _another_can(self) -> bool:
        """Tell whether another route could answer after this one: one behind it, that is not passed over now."""
        health, now = self.health, self.gateway.monotonic()
        behind = self.job.routes[self.job.routes.index(self.route) + 1 :]
        return any(not health.opens_in(route.name, now) for route in behind)

    def hurry(self) -> float | None:
        """Return the seconds after which a silent route is left, so that another has time before the deadline.

        ``None`` where its own limit comes first: only that tells of the route.
        """
        if self.bill.deadline is None or not (self.ask.stream and self._another_can()):
            return None
        share = (self.bill.deadline - self.gateway.monotonic()) * SHARE_OF_THE_DEADLINE
        return share if share < min(self.first_token_limit(), self.route.total_timeout) else None

    async def dispatch(self) -> None:
        """Have the ledger mark that money is about to be spent, once for all tries.

        Raises:
            Fault: ``deadline_exceeded``: it did not say so while the caller waited.
            StoreDown: it cannot be written.
        """
        if self.meter.dispatched:
            return
        # From here on the mark may stand in the ledger, even if we never hear that it does.
        self.meter.dispatched = True
        left = self.left() if self.bill.deadline is not None else None
        try:
            await in_time(self.gateway.store.dispatch(self.bill.ticket), left, self.gateway.keep_doing)
        except TimeoutError as error:
            raise deadline_passed() from error
