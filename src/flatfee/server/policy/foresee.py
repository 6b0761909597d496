"""What a plan would come to: the route that is asked first, and what follows when that fails. Pure.

It tells ahead what the relay (``stages/``) does, for the dry run and for an operator's table of cases. Which of
the plan's choices the ledger grants is the ledger's to say, and comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flatfee.server.policy.plan import Choice, RoutePlan, holds, lacks, price
from flatfee.server.settings import PlanSettings, PolicySettings, RouteSettings
from flatfee.server.store.records import Purse
from flatfee.wire import ErrorCode, Lane, Reason, Tier

NOBODY: Final[AbstractSet[str]] = frozenset()


class Failure(StrEnum):
    """What may go wrong with the first route, or with the allowance that pays for it."""

    PROVIDER_TIMEOUT = "provider_timeout"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    CONTEXT_OVERFLOW = "context_overflow"
    CONTENT_REFUSED = "content_refused"
    FAIR_USE_EXHAUSTED = "fair_use_exhausted"


_TRIED_AGAIN: Final[Mapping[Failure, bool]] = {
    Failure.PROVIDER_TIMEOUT: False,
    Failure.PROVIDER_ERROR: True,
    Failure.PROVIDER_RATE_LIMITED: True,
    Failure.PROVIDER_UNAVAILABLE: True,
    Failure.CONTEXT_OVERFLOW: False,
    Failure.CONTENT_REFUSED: False,
}
"""A provider's failure → whether the same route is tried once more, as ``stages/failures.py`` has it for the usual
case. A status that no second try cures (401, 403, 404), or a long ``Retry-After``, sends on to the next at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One route in the order in which they are asked.

    ``units`` is what its answer would be charged by the estimate. ``share`` is the chance that this route
    comes at this place, where routes of equal priority are drawn by weight; ``None`` where nothing is drawn.
    """

    route: RouteSettings
    lane: Lane
    units: int
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """What one failure of the first route leads to.

    ``again``: the same route is tried once more before it is left. ``next`` is the route that is asked then, on
    ``lane`` and for ``reason``; all three are ``None`` where none is. ``then_error`` is the error if those that
    follow fail in the same way, or if none follows; ``None`` where a provider's own error passes through.
    """

    failure: Failure
    again: bool
    next: str | None
    lane: Lane | None
    reason: Reason | None
    then_error: ErrorCode | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A configured route that this request does not take, and why."""

    route: RouteSettings
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What would happen to a request. Tokens are estimates; ``units`` is what would be held back for it.

    ``output_tokens`` is what is reckoned for the answer: what was asked for, but no more than the plan reserves.

    ``skipped`` are routes of its chain whose circuits are open. Where that is all of them, ``error`` is what the
    caller would get, and ``first`` is the route that would be asked once its circuit lets it through.
    """

    lane: Lane
    reason: Reason
    first: Place
    then: tuple[Place, ...]
    prompt_tokens: int
    output_tokens: int
    units: int
    skipped: tuple[RouteSettings, ...]
    on_failure: tuple[Consequence, ...]
    error: ErrorCode | None = None


def foresee(
    plan: RoutePlan,
    terms: PlanSettings,
    granted: int,
    when_spent: int | None,
    down: AbstractSet[str],
    last_chance: AbstractSet[str] = NOBODY,
) -> Foresight:
    """Tell what a planned request would come to.

    ``granted`` and ``when_spent`` are indices of the plan's choices: what the ledger grants now, and what it would
    grant if the allowance that pays for that were spent (``None``: nothing). Routes that are ``down`` are passed
    over; those on their ``last_chance`` are left after one failure, since that opens their circuit.
    """
    choice = plan.choices[granted]
    up = [route for route in choice.routes if route.name not in down]
    lane, reason = _lane(choice, up)
    places = tuple(_places(plan, terms, choice, up or choice.routes, lane))
    return Foresight(
        lane=lane,
        reason=reason,
        first=places[0],
        then=places[1:],
        prompt_tokens=plan.facts.prompt_tokens,
        output_tokens=plan.output_tokens,
        units=choice.offer.units,
        skipped=tuple(route for route in choice.routes if route.name in down),
        on_failure=tuple(_consequences(plan, granted, when_spent, down, last_chance)) if up else (),
        error=None if up else _nobody_answers(choice),
    )


def _lane(choice: Choice, up: Sequence[RouteSettings]) -> tuple[Lane, Reason]:
    """Return the lane on which the first route that is up would answer, and why."""
    if up and up[0] is not choice.routes[0]:
        return Lane.FALLBACK, Reason.PROVIDER_UNAVAILABLE
    return choice.offer.lane, choice.offer.reason


def _places(
    plan: RoutePlan, terms: PlanSettings, choice: Choice, routes: Sequence[RouteSettings], lane: Lane
) -> Iterator[Place]:
    for index, route in enumerate(routes):
        equals = [other.weight for other in routes[index:] if _drawn_together(route, other)]
        stays = index == 0 and route.name == plan.facts.tool_loop_route
        yield Place(
            route=route,
            lane=lane if index == 0 else Lane.FALLBACK,
            units=price(choice.offer, terms, route, route.tokens(plan.facts.prompt_tokens), plan.output_tokens),
            share=None if stays or len(equals) < 2 else route.weight / sum(equals),
        )


def _drawn_together(one: RouteSettings, other: RouteSettings) -> bool:
    return (one.tier, one.priority) == (other.tier, other.priority)


def _consequences(
    plan: RoutePlan,
    granted: int,
    when_spent: int | None,
    down: AbstractSet[str],
    last_chance: AbstractSet[str],
) -> Iterator[Consequence]:
    choice = plan.choices[granted]
    for failure, tried_again in _TRIED_AGAIN.items():
        asked, error = _asked(choice, down, failure)
        follows = asked[1].name if len(asked) > 1 else None
        yield Consequence(
            failure=failure,
            again=tried_again and asked[0].name not in last_chance,
            next=follows,
            lane=Lane.FALLBACK if follows else None,
            reason=_left_because(choice, asked[0], failure) if follows else None,
            then_error=error,
        )
    if when_spent != granted:
        yield _when_spent(plan.choices[when_spent] if when_spent is not None else None, down)


def _asked(choice: Choice, down: AbstractSet[str], failure: Failure) -> tuple[list[RouteSettings], ErrorCode | None]:
    """Return the routes that are asked in turn if each fails in the same way, and the error at their end."""
    asked: list[RouteSettings] = []
    floor, passed_over = 0.0, False
    for route in choice.routes:
        if route.room is not None and route.room <= floor:
            continue
        if route.name in down:
            passed_over = True
            continue
        asked.append(route)
        if failure is Failure.CONTENT_REFUSED:
            return asked, None
        if failure is Failure.CONTEXT_OVERFLOW:
            floor = max(floor, route.room or 0.0)
    if failure is Failure.CONTEXT_OVERFLOW and not passed_over:
        return asked, None
    return asked, _nobody_answers(choice)


def _left_because(choice: Choice, first: RouteSettings, failure: Failure) -> Reason:
    """Return the reason of a fallback: why the first choice was left, which a route that is passed over was before."""
    return Reason(failure) if first is choice.routes[0] else Reason.PROVIDER_UNAVAILABLE


def _when_spent(choice: Choice | None, down: AbstractSet[str]) -> Consequence:
    """Tell what is done instead once the allowance is spent. It is known before anybody is asked."""
    if choice is None:
        return Consequence(
            failure=Failure.FAIR_USE_EXHAUSTED,
            again=False,
            next=None,
            lane=None,
            reason=None,
            then_error=ErrorCode.FAIR_USE_EXHAUSTED,
        )
    up = [route for route in choice.routes if route.name not in down]
    lane, reason = _lane(choice, up)
    return Consequence(
        failure=Failure.FAIR_USE_EXHAUSTED,
        again=False,
        next=up[0].name if up else None,
        lane=lane if up else None,
        reason=reason if up else None,
        then_error=_nobody_answers(choice),
    )


def _nobody_answers(choice: Choice) -> ErrorCode:
    return ErrorCode.FALLBACK_EXHAUSTED if len(choice.routes) > 1 else ErrorCode.PROVIDER_UNAVAILABLE


def left_out(
    plan: RoutePlan, granted: int, terms: PlanSettings, policy: PolicySettings, routes: Sequence[RouteSettings]
) -> tuple[LeftOut, ...]:
    """Return the configured ``routes`` that the request does not take, each with the reason."""
    choice = plan.choices[granted]
    taken = {route.name for route in choice.routes}
    others = [route for route in routes if route.name not in taken]
    return tuple(LeftOut(route=route, because=_because(route, plan, choice, terms, policy)) for route in others)


def _because(route: RouteSettings, plan: RoutePlan, choice: Choice, terms: PlanSettings, policy: PolicySettings) -> str:
    missing = lacks(route, plan.facts)
    if missing is not None:
        return f"it cannot take {missing}"
    if choice.offer.lane is Lane.PREMIUM and not holds(route, plan.facts.prompt_tokens):
        tokens = route.tokens(plan.facts.prompt_tokens)
        return f"it cannot take about {tokens} tokens of context, and a fallback is asked all of them"
    if route.tier is Tier.ECONOMY:
        return "the plan has no continuation" if not terms.continuation else _by_own_word(plan)
    if plan.verdict.tier is Tier.ECONOMY and not policy.economy_may_use_premium:
        return "an economy request may not end on premium (policy.economy_may_use_premium)"
    if choice.offer.reason is Reason.BILLING_STATE:
        return "the billing state allows no premium"
    return "what is left of fair-use does not cover it"


def _by_own_word(plan: RoutePlan) -> str:
    return f"the caller said {plan.facts.on_exhausted}: premium or nothing"


def spends(choice: Choice) -> Purse:
    """Return the allowance that must be spent for a choice not to be granted any more."""
    return Purse.CONTINUATION if choice.offer.purse is Purse.CONTINUATION else Purse.FAIR_USE
