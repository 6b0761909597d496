"""What would happen to a planned request, whole: the ledger's grant, what follows from it, and why. Pure.

``POST /v1/route``, ``flatfee route --config`` and ``flatfee policy test`` all say what is found here, in the form
that ``as_json`` gives it. Where the request and the account's state come from is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from flatfee.receipt import Compaction
from flatfee.server.policy.foresee import NOBODY, Consequence, Foresight, LeftOut, Place, foresee, left_out, spends
from flatfee.server.policy.plan import RoutePlan
from flatfee.server.policy.rules import Step, decide, explain
from flatfee.server.settings import PlanSettings, Settings
from flatfee.server.stages.admit import refuse
from flatfee.server.store import ledger
from flatfee.server.store.ledger import Balance
from flatfee.server.store.records import Offer, Purse, Refusal, Reservation, Standing, Terms, Usage
from flatfee.wire import ErrorCode, Model, Reason


def likeliest() -> float:
    """Stand in for chance where a plan is only told: of equal routes the one that is drawn most often comes first."""
    return 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What decides beside the request: the configuration, the account's use, the routes' health."""

    settings: Settings
    plan: PlanSettings
    usage: Usage
    down: AbstractSet[str] = NOBODY
    last_chance: AbstractSet[str] = NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What would happen to a request, and why. ``steps`` is ``None`` where the caller named the tier itself.

    ``offer`` is what the ledger would grant, ``compaction`` what the first route would not be asked of the prompt.
    """

    foresight: Foresight
    offer: Offer
    steps: Sequence[Step] | None
    ineligible: Sequence[LeftOut]
    standing: Standing
    compaction: Compaction | None = None


def inspect(want: Reservation, routes: RoutePlan, state: State) -> Inspection:
    """Tell what the reservation ``want`` of a planned request would lead to. Consumes nothing.

    Raises:
        Refused: ``fair_use_exhausted``, as the completion itself would be.
    """
    usage, plan = state.usage, state.plan
    balance = Balance(usage.fair_use_used, usage.fair_use_pending, usage.continuation_used, usage.continuation_pending)
    standing = ledger.standing(balance, want.terms, usage.window, usage.workflows_active)
    granted = ledger.first_fit(want.offers, balance, want.terms)
    if granted is None:
        raise refuse(Refusal(code=ErrorCode.FAIR_USE_EXHAUSTED, standing=standing), want)
    spent = _spent(balance, spends(routes.choices[granted]), want.terms)
    when_spent = ledger.first_fit(want.offers, spent, want.terms)
    return Inspection(
        foresight=foresee(routes, plan, granted, when_spent, state.down, state.last_chance),
        offer=want.offers[granted],
        steps=_steps(routes, state.settings),
        ineligible=left_out(routes, granted, plan, state.settings.policy, state.settings.routes),
        standing=standing,
    )


def _spent(balance: Balance, purse: Purse, terms: Terms) -> Balance:
    """Return the balance once an allowance is spent to its last unit; one without a limit never is."""
    if purse is Purse.CONTINUATION:
        return replace(balance, continuation_posted=terms.continuation_limit or 0)
    return replace(balance, posted=terms.fair_use)


def _steps(routes: RoutePlan, settings: Settings) -> Sequence[Step] | None:
    """Return the rules as they were looked at; in a tool loop that stays where it is, none was.

    Where no route of the rule's tier can take the request, the other tier does: ``eligibility``, as a last step.
    """
    if routes.facts.model != Model.AUTO:
        return None
    if routes.verdict.reason is Reason.WORKFLOW_AFFINITY:
        stays = f"a tool loop is open on {routes.facts.tool_loop_route}"
        return [Step(Reason.WORKFLOW_AFFINITY, matched=True, because=stays)]
    steps = explain(settings.policy, routes.facts)
    wanted = decide(settings.policy, routes.facts).tier
    if routes.verdict.tier is not wanted:
        steps.append(Step("eligibility", matched=True, because=f"no {wanted} route can take it"))
    return steps


def as_json(found: Inspection) -> dict[str, Any]:
    """Return an inspection as ``POST /v1/route`` answers it; values that there are none of are left out."""
    told = found.foresight
    answer: dict[str, Any] = {
        "object": "route",
        "lane": told.lane,
        "reason": told.reason,
        "tier": told.first.route.tier,
        "route": told.first.route.name,
        "model": told.first.route.model,
        **_share(told.first),
        "estimate": {
            "prompt_tokens": told.prompt_tokens,
            "output_tokens": told.output_tokens,
            "units": told.units,
            **({"saved_tokens": found.compaction.saved_tokens} if found.compaction is not None else {}),
        },
        "then": [_place(place) for place in told.then],
    }
    if found.steps is not None:
        answer["rules"] = [_step(step) for step in found.steps]
    answer["on_failure"] = [_consequence(each) for each in told.on_failure]
    answer["skipped"] = [
        {"route": route.name, "tier": route.tier, "because": "its circuit is open"} for route in told.skipped
    ]
    answer["ineligible"] = [
        {"route": out.route.name, "tier": out.route.tier, "because": out.because} for out in found.ineligible
    ]
    return answer | ({"error": told.error} if told.error is not None else {})


def _place(place: Place) -> dict[str, Any]:
    route = place.route
    known = {"route": route.name, "lane": place.lane, "tier": route.tier, "model": route.model, "units": place.units}
    return {**known, **_share(place)}


def _share(place: Place) -> Mapping[str, float]:
    return {} if place.share is None else {"share": round(place.share, 4)}


def _step(step: Step) -> dict[str, Any]:
    return {"rule": step.rule, "matched": step.matched, **({"because": step.because} if step.because else {})}


def _consequence(each: Consequence) -> dict[str, Any]:
    told: dict[str, Any] = {"failure": each.failure, "again": each.again, "next": each.next}
    more = {"lane": each.lane, "reason": each.reason, "then_error": each.then_error}
    return told | {name: value for name, value in more.items() if value is not None}
