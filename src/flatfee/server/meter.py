"""The meter of one request: what was tried, delivered and used. The pipeline's only mutable value."""

from __future__ import annotations

from dataclasses import dataclass, field

from flatfee.receipt import Compaction
from flatfee.server.settings import RouteSettings
from flatfee.server.statement import NotedAttempt, UsedTokens
from flatfee.wire import AttemptOutcome, Reason, Tier

_LEFT_BECAUSE: dict[AttemptOutcome, Reason] = {
    AttemptOutcome.TIMEOUT: Reason.PROVIDER_TIMEOUT,
    AttemptOutcome.ERROR: Reason.PROVIDER_ERROR,
    AttemptOutcome.RATE_LIMITED: Reason.PROVIDER_RATE_LIMITED,
    AttemptOutcome.UNAVAILABLE: Reason.PROVIDER_UNAVAILABLE,
    AttemptOutcome.CONTEXT_OVERFLOW: Reason.CONTEXT_OVERFLOW,
    AttemptOutcome.REFUSED: Reason.PROVIDER_ERROR,
}


@dataclass(slots=True)
class Meter:
    """Facts of one request as they become known.

    ``trying`` is the route being asked, ``route`` the one that answers, from its first token on;
    ``usage`` is what the provider told, ``delivered`` the bytes of output that were read from it.
    ``dispatched`` is set once the ledger was asked to mark that money is about to be spent.
    ``whole`` is set once the answer is complete, ``broken`` once its provider failed midway.
    ``compaction`` is what economy routes are spared of the request.
    """

    attempts: list[NotedAttempt] = field(default_factory=list)
    trying: RouteSettings | None = None
    route: RouteSettings | None = None
    usage: UsedTokens | None = None
    delivered: int = 0
    dispatched: bool = False
    whole: bool = False
    broken: bool = False
    compaction: Compaction | None = None

    def begin(self, route: RouteSettings) -> None:
        """Note that a route is asked now: what another one said is not charged any more."""
        self.trying, self.usage, self.delivered = route, None, 0

    def tried(
        self,
        route: RouteSettings,
        outcome: AttemptOutcome,
        status: int | None,
        seconds: float,
        first_token: float | None = None,
    ) -> NotedAttempt:
        """Note one try of a route, and return it. ``first_token`` is in seconds after its begin."""
        attempt = NotedAttempt(
            route=route.name,
            outcome=outcome,
            status=status,
            duration_ms=int(seconds * 1000),
            first_token_ms=int(first_token * 1000) if first_token is not None else None,
        )
        self.attempts.append(attempt)
        return attempt

    def answering(self, route: RouteSettings) -> None:
        """Note that a route answers: what it says is charged, and nothing that another said before."""
        self.route, self.broken = route, False

    def broke_off(self, route: RouteSettings, usage: UsedTokens | None, delivered: int, *, charged: bool) -> None:
        """Note that the answer ends half-way. What its provider did not finish is not charged."""
        self.trying, self.route, self.usage, self.delivered = None, route, usage, delivered
        self.broken = not charged

    @property
    def left_first_because(self) -> Reason | None:
        """Why the first choice was left for another route; ``None`` while it was not."""
        first = self.attempts[0] if self.attempts else None
        if first is None:
            return None
        last = self.route.name if self.route is not None else self.attempts[-1].route
        if last == first.route:
            return None
        return _LEFT_BECAUSE.get(first.outcome)

    @property
    def left_out(self) -> Compaction | None:
        """What the route that answers was spared of the request."""
        return self.compaction if self.route is not None and self.route.tier is Tier.ECONOMY else None

    def attempt_number(self) -> int:
        """Return how many tries were made, the running one included."""
        answered = bool(self.attempts) and self.attempts[-1].outcome is AttemptOutcome.OK
        return len(self.attempts) + (0 if answered else 1)

    def caller_left(self) -> None:
        """Note that the caller left: the route being asked is charged, for what was heard of it."""
        if not self.whole and self.trying is not None:
            self.answering(self.trying)
