"""What runs now: an account's usage, and the workflows that hold slots."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from flatfee.server.admin.accounts import existing_account
from flatfee.server.admin.endpoint import Endpoint, ListOf, Nothing, Query, Resource, Visit, listed, moment
from flatfee.server.faults import Fault
from flatfee.server.keys import KeyKind
from flatfee.server.queries import usage_of
from flatfee.server.store.accounts import NotAllowed
from flatfee.server.store.ledger_commands import ReleaseWorkflow
from flatfee.server.store.records import Caller
from flatfee.server.table import Name
from flatfee.wire import WORKFLOW_ID, Billing, ErrorCode


class _Figures(BaseModel):
    """A part of the usage; open, as it is the same that callers get."""

    model_config = ConfigDict(extra="allow", frozen=True)


class UsageWindow(_Figures):
    """The billing window that usage is counted in."""

    start: datetime
    end: datetime


class Allowance(_Figures):
    """Units of fair-use."""

    unit: str
    limit: int
    used: int
    pending: int
    remaining: int


class ContinuationFigures(_Figures):
    """Units of continuation; without a cap there is only what was used."""

    used: int
    limit: int | None = None
    remaining: int | None = None


class Slots(_Figures):
    """How many workflows run, and how many may."""

    active: int
    limit: int


class UsageObject(_Figures):
    """The state of an account's plan in the current window."""

    object: Literal["usage"]
    account: str
    plan: str
    billing: Billing
    window: UsageWindow
    fair_use: Allowance
    continuation: ContinuationFigures | None = None
    workflows: Slots


class WorkflowObject(Resource):
    """A workflow that holds a slot; without a project, a team key's."""

    object: Literal["workflow"]
    id: str
    account: str
    project: str | None
    in_flight: int
    started_at: datetime
    expires_at: datetime


class ReleasedWorkflow(Resource):
    """A workflow whose slot was given back, at once or with its last running request."""

    object: Literal["workflow"]
    id: str
    account: str
    project: str | None
    deleted: Literal[True]


class WorkflowsQuery(Query):
    """Whose workflows to list: everybody's, or an account's."""

    account: Name | None = None


class OwnerQuery(Query):
    """Whose workflow it is; without a project, a team key's."""

    account: Name
    project: Name | None = None


async def _get_usage(visit: Visit[Nothing, Nothing]) -> UsageObject:
    gateway = visit.gateway
    account = await existing_account(visit.names["account"], gateway)
    if gateway.settings.plan(account.plan) is None:
        raise NotAllowed(
            f"The plan {account.plan!r} of the account {account.name!r} is not in the configuration; "
            "change the account's plan, or bring the plan back."
        )
    whole_account = Caller(
        key_id="",
        kind=KeyKind.TEAM,
        account=account.name,
        project=None,
        plan=account.plan,
        billing=account.billing,
        billing_day=account.billing_day,
    )
    return UsageObject.model_validate(await usage_of(whole_account, gateway))


async def _list_workflows(visit: Visit[WorkflowsQuery, Nothing]) -> ListOf[WorkflowObject]:
    found = [
        WorkflowObject(
            object="workflow",
            id=lease.id,
            account=lease.account,
            project=lease.project,
            in_flight=lease.in_flight,
            started_at=moment(lease.started_at),
            expires_at=moment(lease.expires_at),
        )
        for lease in await visit.gateway.store.all_workflows()
        if visit.query.account in {None, lease.account}
    ]
    return listed(found)


async def _release_workflow(visit: Visit[OwnerQuery, Nothing]) -> ReleasedWorkflow:
    workflow, owner = visit.names["id"], visit.query
    if not WORKFLOW_ID.fullmatch(workflow):
        raise Fault(ErrorCode.NOT_FOUND, f"There is no live workflow {workflow[:128]!r}.")
    await visit.do(ReleaseWorkflow(account=owner.account, project=owner.project, workflow=workflow))
    return ReleasedWorkflow(object="workflow", id=workflow, account=owner.account, project=owner.project, deleted=True)


ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    Endpoint(
        method="GET",
        path="/accounts/{account}/usage",
        summary="Show the state of an account's plan in the current window.",
        handler=_get_usage,
        errors=(ErrorCode.CONFLICT,),
        answers=UsageObject,
    ),
    Endpoint(
        method="GET",
        path="/workflows",
        summary="List the workflows that hold slots, oldest first.",
        handler=_list_workflows,
        query=WorkflowsQuery,
        answers=ListOf[WorkflowObject],
    ),
    Endpoint(
        method="DELETE",
        path="/workflows/{id}",
        summary="Give a workflow's slot back: at once, or with its last running request.",
        handler=_release_workflow,
        query=OwnerQuery,
        answers=ReleasedWorkflow,
    ),
)
