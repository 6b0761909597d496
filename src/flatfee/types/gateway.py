"""What a gateway tells about itself: models, usage, routes and workflows (docs/reference/http-api.md)."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from flatfee.types.base import Answer, Count, OrDefault, WireModel
from flatfee.wire import Billing, ErrorCode, Lane, Reason, Tier


class Model(Answer):
    """A model that may be asked for. ``context_tokens`` is the largest context its routes hold.

    ``capabilities`` are what at least one of its routes can do: ``images``, ``json_schema``, ``tools``.
    """

    id: str
    object: OrDefault[str] = "model"
    created: Count | None = None
    owned_by: str | None = None
    shutdown_date: str | None = None
    tier: Tier | str | None = Field(default=None, union_mode="left_to_right")
    context_tokens: Count | None = None
    capabilities: list[str] | None = None


class Window(WireModel):
    """The billing window that usage is counted in."""

    start: datetime
    end: datetime


class Allowance(WireModel):
    """Units of one kind. ``limit`` and ``remaining`` are ``None`` where there is no limit."""

    unit: str | None = None
    limit: Count | None = None
    used: Count | None = None
    pending: Count | None = None
    remaining: Count | None = None


class WorkflowSlots(WireModel):
    """How many workflows run, and how many may."""

    active: Count | None = None
    limit: Count | None = None


class Usage(Answer):
    """The state of the account's plan in the current window."""

    object: OrDefault[str] = "usage"
    account: str | None = None
    project: str | None = None
    plan: str | None = None
    billing: Billing | str | None = Field(default=None, union_mode="left_to_right")
    window: Window | None = None
    fair_use: Allowance | None = None
    continuation: Allowance | None = None
    workflows: WorkflowSlots | None = None


class RouteEstimate(WireModel):
    """What a request would take: tokens, and fair-use units to reserve.

    ``output_tokens`` is what is reckoned for the answer: what was asked for, but no more than the plan reserves.
    ``saved_tokens`` are those of the prompt that compaction would leave out.
    """

    prompt_tokens: Count | None = None
    output_tokens: Count | None = None
    units: Count | None = None
    saved_tokens: Count | None = None


class NextRoute(WireModel):
    """A route that would be asked if the ones before it failed.

    ``units`` is what it would be charged by the estimate. ``share`` is the chance that it comes at this place, where
    routes of equal priority are drawn by weight.
    """

    route: str
    lane: Lane | str | None = Field(default=None, union_mode="left_to_right")
    tier: Tier | str | None = Field(default=None, union_mode="left_to_right")
    model: str | None = None
    units: Count | None = None
    share: float | None = None


class RuleTrace(WireModel):
    """One rule of the policy, whether it matched, and why."""

    rule: str
    matched: bool
    because: str | None = None


class FailureOutlook(WireModel):
    """What one failure of the first route, or of the allowance that pays, would lead to.

    ``again``: the same route is tried once more before it is left. ``next`` is the route that is asked then;
    ``None`` where none is. ``then_error`` is the error if that fails in the same way, too; it is ``None`` where a
    provider's own error would be passed on.
    """

    failure: str
    again: OrDefault[bool] = False
    next: str | None = None
    lane: Lane | str | None = Field(default=None, union_mode="left_to_right")
    reason: Reason | str | None = Field(default=None, union_mode="left_to_right")
    then_error: ErrorCode | str | None = Field(default=None, union_mode="left_to_right")


class RouteNotTaken(WireModel):
    """A route that the request would not take, and why."""

    route: str
    tier: Tier | str | None = Field(default=None, union_mode="left_to_right")
    because: str | None = None


class RoutePlan(Answer):
    """Which way a request would take. Nothing was called or consumed to tell it.

    ``skipped`` are routes whose circuits are open; where that is all of them, ``error`` is what the request would
    end with. ``ineligible`` are those that this request may not take, whatever happens.
    """

    object: OrDefault[str] = "route"
    lane: Lane | str | None = Field(default=None, union_mode="left_to_right")
    reason: Reason | str | None = Field(default=None, union_mode="left_to_right")
    tier: Tier | str | None = Field(default=None, union_mode="left_to_right")
    route: str | None = None
    model: str | None = None
    share: float | None = None
    estimate: RouteEstimate | None = None
    then: OrDefault[list[NextRoute]] = Field(default_factory=list)
    rules: OrDefault[list[RuleTrace]] = Field(default_factory=list)
    on_failure: OrDefault[list[FailureOutlook]] = Field(default_factory=list)
    skipped: OrDefault[list[RouteNotTaken]] = Field(default_factory=list)
    ineligible: OrDefault[list[RouteNotTaken]] = Field(default_factory=list)
    error: ErrorCode | str | None = Field(default=None, union_mode="left_to_right")


class Workflow(WireModel):
    """The lease that a running workflow holds."""

    id: str
    object: OrDefault[str] = "workflow"
    in_flight: Count | None = None
    started_at: datetime | None = None
    expires_at: datetime | None = None
