"""A dry run without a gateway: the request, the account's state and the routes' health are supposed. Pure.

The tables are what an operator may suppose, in a file of cases or on a command line; ``suppose`` tells what would
happen then, by the same functions as the gateway itself. No store is read and no time is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from pydantic import AfterValidator, Field, model_validator

from flatfee.server.ask import MAX_CHOICES, MAX_OUTPUT, TOOL_ROLES, Ask, read_ask
from flatfee.server.gateway import calendar_of, resolve, terms_of
from flatfee.server.inspecting.inspection import Inspection, State, inspect, likeliest
from flatfee.server.keys import KeyKind
from flatfee.server.policy.facts import Facts, share_left
from flatfee.server.policy.plan import plan_routes
from flatfee.server.settings import AccountSettings, PlanSettings, Settings
from flatfee.server.stages.compact import compacted_at_once, may_help, with_economy
from flatfee.server.store.records import Caller, Reservation, Usage
from flatfee.server.table import Table
from flatfee.wire import WORKFLOW_ID, Billing, Header, Lane, OnExhausted, Task, Tier

_MOST: Final = 1 << 53
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2999
_UNKNOWN = "there is no {name!r}; use one of: {known}"


def _workflow(text: str) -> str:
    if not WORKFLOW_ID.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no workflow; use 1 to 128 of A-Z a-z 0-9 . _ : -")
    return text


def _moment(at: datetime) -> datetime:
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise ValueError(f"the year {at.year} is too far away; use one from {_FIRST_YEAR} to {_LAST_YEAR}")
    return at


def check_tool_loop(messages: object, workflow: str | None) -> None:
    """Check that a tool loop can be open on a route, with a body's messages.

    Raises:
        ValueError: the gateway would know of none.
    """
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not (isinstance(last, dict) and last.get("role") in TOOL_ROLES):
        raise ValueError(
            "tool_loop_route is where a tool loop is open, and the body's last message is no result of a tool; "
            "leave it out, or end the body with one"
        )
    if workflow is None:
        raise ValueError("tool_loop_route needs a workflow: without one, no request is known to follow another")


class SupposedRequest(Table):
    """A request, by its facts or by its ``body``. ``context`` and ``output`` are tokens.

    ``tool_loop_route`` is the route that answered the turn before, where the last message is a tool's result.
    """

    body: dict[str, Any] | None = None
    model: str = Field(default="auto", min_length=1, max_length=256)
    context: int | None = Field(default=None, ge=0, le=_MOST)
    output: int | None = Field(default=None, ge=1, le=MAX_OUTPUT)
    choices: int = Field(default=1, ge=1, le=MAX_CHOICES)
    tools: bool = False
    images: bool = False
    json_schema: bool = False
    reasoning_effort: str | None = None
    task: Task | None = None
    on_exhausted: OnExhausted = OnExhausted.CONTINUE
    workflow: Annotated[str, AfterValidator(_workflow)] | None = None
    tool_loop_route: str | None = None

    @model_validator(mode="after")
    def _a_loop_that_can_be(self) -> SupposedRequest:
        if self.body is not None and self.tool_loop_route is not None:
            check_tool_loop(self.body.get("messages"), self.workflow)
        return self

    @model_validator(mode="after")
    def _by_facts_or_by_body(self) -> SupposedRequest:
        doubled = sorted(self.model_fields_set & IN_A_BODY)
        if self.body is not None and doubled:
            message = f"{doubled[0]} is a part of the body, which is given, too; keep one of them"
            raise ValueError(message)
        if self.body is None and self.context is None:
            raise ValueError("needs context, the tokens of its prompt; or a body")
        return self

    def ask(self) -> Ask:
        """Return what is asked for.

        Raises:
            Fault: ``invalid_request``: the body is no completion's.
        """
        if self.body is None:
            return self._of_facts()
        given = {Header.TASK: self.task, Header.ON_EXHAUSTED: self.on_exhausted, Header.WORKFLOW: self.workflow}
        headers = {name.encode(): value.encode() for name, value in given.items() if value is not None}
        return read_ask(headers, msgspec.json.encode({"model": "auto"} | self.body))

    def _of_facts(self) -> Ask:
        return Ask(
            model=self.model,
            stream=False,
            include_usage=False,
            fields={},
            prompt_tokens=self.context or 0,
            output_tokens=self.output,
            choices=self.choices,
            tools=self.tools,
            images=self.images,
            json_schema=self.json_schema,
            reasoning_effort=self.reasoning_effort,
            in_tool_loop=self.tool_loop_route is not None,
            task=self.task,
            on_exhausted=self.on_exhausted,
            workflow=self.workflow,
            deadline_ms=None,
        )


IN_A_BODY: Final = frozenset(
    {"model", "context", "output", "choices", "tools", "images", "json_schema", "reasoning_effort"}
)
"""Facts that a body tells itself."""


class SupposedAccount(Table):
    """Whose request it is, and how the account stands. What is not said is as the configuration has it.

    ``used`` and ``continuation_used`` are units of this window; ``left`` says the same as ``used``, as a share (0 to 1)
    of the plan's fair-use.
    """

    name: str | None = None
    project: str | None = None
    plan: str | None = None
    billing: Billing | None = None
    billing_day: int | None = Field(default=None, ge=1, le=31)
    used: int | None = Field(default=None, ge=0, le=_MOST)
    left: float | None = Field(default=None, ge=0, le=1)
    continuation_used: int = Field(default=0, ge=0, le=_MOST)

    @model_validator(mode="after")
    def _used_or_left(self) -> SupposedAccount:
        if self.used is not None and self.left is not None:
            raise ValueError("has both used and left, which say the same; keep one of them")
        return self

    def used_of(self, fair_use: int) -> int:
        """Return the units of ``fair_use`` that are used."""
        return fair_use - round(fair_use * self.left) if self.left is not None else self.used or 0


class Supposition(Table):
    """All that a decision depends on, beside the configuration. A moment without an offset is the policy's time."""

    account: SupposedAccount = SupposedAccount()
    at: Annotated[datetime, AfterValidator(_moment)] | None = None
    down: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A supposition, completed from the configuration. ``at`` knows its timezone."""

    caller: Caller
    plan: PlanSettings
    usage: Usage
    at: datetime
    down: frozenset[str]
    tool_loop_route: str | None = None


def name_problems(
    supposed: Supposition, tool_loop_route: str | None, settings: Settings, where: str = ""
) -> Iterator[str]:
    """Yield a line for every name that the configuration does not have; ``where`` stands before each."""
    known = [route.name for route in settings.routes]
    for index, name in enumerate(supposed.down):
        if name not in known:
            yield f"{where}down[{index}]: {_UNKNOWN.format(name=name, known=', '.join(known))}"
    if tool_loop_route is not None and tool_loop_route not in known:
        told = _UNKNOWN.format(name=tool_loop_route, known=", ".join(known))
        yield f"{where}request.tool_loop_route: {told}"
    plans = ", ".join(plan.name for plan in settings.plans)
    plan = _plan_name(supposed.account, settings)
    if plan is None:
        yield f"{where}account.plan: is missing, and there are several; use one of: {plans}"
    elif settings.plan(plan) is None:
        yield f"{where}account.plan: {_UNKNOWN.format(name=plan, known=plans)}"


def scene_of(supposed: Supposition, tool_loop_route: str | None, settings: Settings, now: datetime) -> Scene:
    """Complete a supposition that has no ``name_problems``; it is ``now`` where it says nothing else."""
    given, known = supposed.account, _account(supposed.account, settings)
    name = _plan_name(given, settings)
    plan = next(plan for plan in settings.plans if plan.name == name)
    projects = [project.name for project in known.projects] if known is not None else []
    caller = Caller(
        key_id="supposed",
        kind=KeyKind.PROJECT,
        account=given.name or (known.name if known is not None else "supposed"),
        project=given.project or (projects[0] if len(projects) == 1 else None),
        plan=plan.name,
        billing=given.billing or (known.billing if known is not None else Billing.ACTIVE),
        billing_day=given.billing_day or (known.billing_day if known is not None else 1),
    )
    at = supposed.at or now
    at = at if at.tzinfo is not None else at.replace(tzinfo=settings.policy.zone)
    usage = Usage(
        window=calendar_of(caller, plan).at(at.timestamp()),
        fair_use_used=given.used_of(plan.fair_use),
        fair_use_pending=0,
        continuation_used=given.continuation_used,
        continuation_pending=0,
        workflows_active=0,
    )
    return Scene(
        caller=caller, plan=plan, usage=usage, at=at, down=frozenset(supposed.down), tool_loop_route=tool_loop_route
    )


def suppose(ask: Ask, scene: Scene, settings: Settings) -> Inspection:
    """Tell what would happen to a request in a scene.

    Raises:
        Fault: what the gateway would refuse it with: ``model_not_found``, ``invalid_request``,
            ``billing_inactive`` or ``fair_use_exhausted``.
    """
    caller, plan, terms = scene.caller, scene.plan, terms_of(scene.plan)
    compaction = settings.policy.compaction
    facts = Facts.of(
        ask,
        resolve(ask.model, settings),
        caller,
        scene.at.astimezone(UTC),
        workflow=ask.workflow,
        fair_use_left=share_left(terms.fair_use, scene.usage),
        tool_loop_route=scene.tool_loop_route,
    )
    short = compacted_at_once(ask, Lane.BUDGET, compaction) if may_help(ask, settings) else None
    facts = with_economy(facts, short)
    routes = plan_routes(facts, caller, plan, settings.policy, settings.ranks, scene.down, likeliest)
    want = Reservation(
        request_id="",
        caller=caller,
        terms=terms,
        calendar=calendar_of(caller, plan),
        workflow=ask.workflow,
        offers=tuple(choice.offer for choice in routes.choices),
        model_requested=ask.model,
        lease=0.0,
    )
    found = inspect(want, routes, State(settings=settings, plan=plan, usage=scene.usage, down=scene.down))
    if found.foresight.first.route.tier is not Tier.ECONOMY:
        return found
    short = compacted_at_once(ask, found.offer.lane, compaction)
    return replace(found, compaction=short.figures if short is not None else None)


def _account(given: SupposedAccount, settings: Settings) -> AccountSettings | None:
    """Return the account that is meant, if the configuration has it: the one that is named, or the only one."""
    if given.name is None:
        return settings.accounts[0] if len(settings.accounts) == 1 else None
    return next((account for account in settings.accounts if account.name == given.name), None)


def _plan_name(given: SupposedAccount, settings: Settings) -> str | None:
    if given.plan is not None:
        return given.plan
    known = _account(given, settings)
    if known is not None:
        return known.plan
    return settings.plans[0].name if len(settings.plans) == 1 else None
