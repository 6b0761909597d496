"""Which routes a request may take, in which order, and what each would hold back.

``plan_routes`` is a pure function of (facts, caller, plan, routes, routes that are down, chance).
It calls nobody and remembers nothing; the dry run and the real request share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from flatfee.server.faults import Fault
from flatfee.server.policy.facts import Facts
from flatfee.server.policy.ranks import Rank, Ranks
from flatfee.server.policy.rules import Verdict, decide
from flatfee.server.settings import MeterSettings, PlanSettings, PolicySettings, RouteSettings
from flatfee.server.store.records import Caller, Offer, Purse
from flatfee.wire import Billing, ErrorCode, Lane, Model, OnExhausted, Reason, Tier

# Python 3.11 finds a member of an enumeration by way of a property, for 70 ns. Every request asks for these.
_ACTIVE: Final = Billing.ACTIVE
_NO_LANE: Final = frozenset({Billing.SUSPENDED, Billing.CANCELLED})
_PREMIUM: Final = Tier.PREMIUM
_AUTO: Final = Model.AUTO
_CONTINUE: Final = OnExhausted.CONTINUE
_REQUESTED: Final = {tier.value: Verdict(tier, Reason.REQUESTED) for tier in Tier}


class Choice(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One lane that could be taken: what it holds back, and its routes in the order they are tried."""

    offer: Offer
    routes: tuple[RouteSettings, ...]


class RoutePlan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The lanes a request could take, best first; the ledger grants the first that fits.

    ``verdict`` is the tier that it is meant for, and why.
    """

    facts: Facts
    verdict: Verdict
    choices: tuple[Choice, ...]
    output_tokens: int


def plan_routes(
    facts: Facts,
    caller: Caller,
    plan: PlanSettings,
    policy: PolicySettings,
    ranks: Ranks,
    down: AbstractSet[str],
    chance: Callable[[], float],
) -> RoutePlan:
    """Plan one request.

    Raises:
        Fault: ``billing_inactive`` where the billing state leaves no lane, ``invalid_request``
            where no route can do what the request needs.
    """
    if caller.billing in _NO_LANE:
        raise _billing_fault(caller)
    output = min(facts.output_tokens or plan.output_reserve, plan.output_reserve) * facts.choices
    premium, economy = _ordered(ranks.premium, facts, chance), _ordered(ranks.economy, facts, chance)
    verdict = _verdict(facts, policy, ranks, premium, economy, down)
    if not (premium if verdict.tier is _PREMIUM else economy):
        raise _nobody_can(facts, verdict.tier, ranks.routes)
    if facts.tool_loop_route is not None and facts.tool_loop_route not in down:
        premium, economy = _first(premium, facts.tool_loop_route), _first(economy, facts.tool_loop_route)
    lanes = _Lanes(facts, caller, plan, policy, ranks, premium, economy, output)
    choices = lanes.premium(verdict) if verdict.tier is _PREMIUM else lanes.economy(verdict)
    if not choices:
        raise _billing_fault(caller)
    return RoutePlan(facts=facts, verdict=verdict, choices=tuple(choices), output_tokens=output)


def lacks(route: RouteSettings, facts: Facts) -> str | None:
    """Say what a route lacks for this request, or ``None`` if it is eligible."""
    if _too_small(route, facts):
        return f"about {route.tokens(facts.prompt_for(route.tier))} tokens of context"
    if route.capabilities is not None:
        wanted = {"tools": facts.tools, "json_schema": facts.json_schema, "images": facts.images}
        for name, wants in wanted.items():
            if wants and name not in route.capabilities:
                return name
    return None


def _too_small(route: RouteSettings, facts: Facts) -> bool:
    return not holds(route, facts.prompt_for(route.tier))


def holds(route: RouteSettings, prompt: int) -> bool:
    """Tell whether a route's context is large enough for a prompt that is estimated at so many tokens."""
    return route.context_tokens is None or route.tokens(prompt) <= route.context_tokens


def units(meter: MeterSettings, plan: PlanSettings, prompt: int, output: int, cached: int = 0) -> int:
    """Return fair-use units, rounded up: weighted tokens, or 1 where the plan counts requests."""
    if plan.meter == "requests":
        return 1
    cached = min(cached, prompt)
    return math.ceil(meter.input * (prompt - cached) + meter.cached_input * cached + meter.output * output)


def price(offer: Offer, plan: PlanSettings, route: RouteSettings, prompt: int, output: int, cached: int = 0) -> int:
    """Return the units that a route's answer costs; 0 where nothing is charged.

    Fair-use pays for premium routes only; continuation counts whatever it used.
    """
    if offer.purse is Purse.NONE or (offer.purse is Purse.FAIR_USE and route.tier is not Tier.PREMIUM):
        return 0
    return units(route.meter, plan, prompt, output, cached)


class _Lanes(msgspec.Struct, frozen=True, gc=False):
    """Builds the choices of one request."""

    facts: Facts
    caller: Caller
    plan: PlanSettings
    policy: PolicySettings
    ranks: Ranks
    premium_routes: tuple[RouteSettings, ...]
    economy_routes: tuple[RouteSettings, ...]
    output: int

    def premium(self, verdict: Verdict) -> list[Choice]:
        may_leave = self.plan.continuation and self.facts.on_exhausted is _CONTINUE
        choices: list[Choice] = []
        if self.caller.billing is _ACTIVE:
            offer = self._fair_use(Lane.PREMIUM, verdict)
            behind = self._behind_premium() if may_leave else ()
            choices.append(Choice(offer=offer, routes=self.premium_routes + behind))
        return choices + (self._continuation() if may_leave else [])

    def economy(self, verdict: Verdict) -> list[Choice]:
        choices: list[Choice] = []
        if self.caller.billing is _ACTIVE:
            if self.policy.economy_may_use_premium and self.premium_routes:
                # The reservation covers the dearest route of the chain, so a fallback to it is paid for.
                offer = self._fair_use(Lane.BUDGET, verdict)
                choices.append(Choice(offer=offer, routes=self.economy_routes + self.premium_routes))
            offer = Offer(lane=Lane.BUDGET, reason=verdict.reason, purse=Purse.NONE)
            choices.append(Choice(offer=offer, routes=self.economy_routes))
        return choices + (self._continuation() if self.plan.continuation else [])

    def _behind_premium(self) -> tuple[RouteSettings, ...]:
        """Return the routes of a fallback to economy, which are asked the whole prompt."""
        if self.facts.economy_tokens is None:
            return self.economy_routes
        return tuple(route for route in self.economy_routes if holds(route, self.facts.prompt_tokens))

    def _continuation(self) -> list[Choice]:
        if not self.economy_routes:
            return []
        active = self.caller.billing is _ACTIVE
        reason = Reason.FAIR_USE_EXHAUSTED if active else Reason.BILLING_STATE
        most = self._dearest(self.ranks.economy, self.economy_routes)
        offer = Offer(lane=Lane.CONTINUATION, reason=reason, purse=Purse.CONTINUATION, units=most)
        return [Choice(offer=offer, routes=self.economy_routes)]

    def _fair_use(self, lane: Lane, verdict: Verdict) -> Offer:
        most = self._dearest(self.ranks.premium, self.premium_routes)
        return Offer(lane=lane, reason=verdict.reason, purse=Purse.FAIR_USE, units=most)

    def _dearest(self, rank: Rank, eligible: Sequence[RouteSettings]) -> int:
        """Return the units of the dearest route: where all are eligible, one of each price tells."""
        prompt, plan, output = self.facts.prompt_tokens, self.plan, self.output
        routes = eligible if rank.limited else rank.priced
        if len(routes) == 1:
            return units(routes[0].meter, plan, routes[0].tokens(prompt), output)
        return max([units(route.meter, plan, route.tokens(prompt), output) for route in routes])


def _verdict(
    facts: Facts,
    policy: PolicySettings,
    ranks: Ranks,
    premium: Sequence[RouteSettings],
    economy: Sequence[RouteSettings],
    down: AbstractSet[str],
) -> Verdict:
    if facts.model != _AUTO:
        return _REQUESTED[facts.model]
    verdict = decide(policy, facts)
    stay = _tool_loop(facts, premium, economy, down)
    # Who does not consent to leave premium is not kept from it either.
    held = verdict.tier is Tier.PREMIUM and premium and facts.on_exhausted is OnExhausted.FAIL
    if stay is not None and not (held and stay.tier is Tier.ECONOMY):
        return Verdict(stay.tier, Reason.WORKFLOW_AFFINITY)
    if verdict.tier is Tier.PREMIUM and not premium and economy:
        too_large = any(_too_small(route, facts) for route in ranks.premium.routes)
        return Verdict(Tier.ECONOMY, Reason.CONTEXT_SIZE if too_large else verdict.reason)
    if verdict.tier is Tier.ECONOMY and not economy and premium:
        return Verdict(Tier.PREMIUM, verdict.reason)
    return verdict


def _tool_loop(
    facts: Facts, premium: Sequence[RouteSettings], economy: Sequence[RouteSettings], down: AbstractSet[str]
) -> RouteSettings | None:
    """Return the route on which an open tool loop stays, if it is eligible and up."""
    name = facts.tool_loop_route
    if name is None or name in down:
        return None
    return next((route for route in (*premium, *economy) if route.name == name), None)


def _ordered(rank: Rank, facts: Facts, chance: Callable[[], float]) -> tuple[RouteSettings, ...]:
    """Return the eligible routes of a tier by priority; those of equal priority are drawn by weight."""
    routes = rank.routes
    if rank.limited:
        routes = tuple([route for route in routes if lacks(route, facts) is None])
    if not rank.drawn or len(routes) < 2:
        return routes
    # The keys -ln(u)/w, smallest first, are a weighted draw without replacement
    # (Efraimidis and Spirakis, 2006).
    return tuple(sorted(routes, key=lambda route: (route.priority, -math.log(1.0 - chance()) / route.weight)))


def _first(routes: tuple[RouteSettings, ...], name: str) -> tuple[RouteSettings, ...]:
    """Put the route called ``name`` in front, if it is among them."""
    return tuple(sorted(routes, key=lambda route: route.name != name))


def _billing_fault(caller: Caller) -> Fault:
    return Fault(
        ErrorCode.BILLING_INACTIVE,
        f"The account's billing is {caller.billing.replace('_', ' ')}; settle it with the operator to go on.",
    )


def _nobody_can(facts: Facts, tier: Tier, routes: Sequence[RouteSettings]) -> Fault:
    # The gateway's own estimate: what each route's model would make of it is of no use to the caller.
    context = f"about {facts.prompt_for(tier)} tokens of context"
    of_tier = [route for route in routes if route.tier is tier]
    found = (context if _too_small(route, facts) else lacks(route, facts) for route in of_tier)
    missing = sorted({what for what in found if what})
    wants = f" that can take {' and '.join(missing)}" if missing else ""
    return Fault(
        ErrorCode.INVALID_REQUEST,
        f"There is no {tier} route{wants}. Send less, leave it out, or ask for another model.",
        param="messages" if missing else "model",
    )
