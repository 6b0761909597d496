"""Accounts and their projects: shapes and handlers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from flatfee.server.admin.endpoint import (
    Body,
    Change,
    Endpoint,
    ListOf,
    Nothing,
    PageQuery,
    Resource,
    Visit,
    listed,
    moment,
    unchanged,
)
from flatfee.server.faults import Fault
from flatfee.server.gateway import Gateway
from flatfee.server.store.account_commands import (
    AddAccount,
    AddProject,
    ChangeAccount,
    ChangeProject,
    RemoveAccount,
    RemoveProject,
)
from flatfee.server.store.accounts import Account, Project
from flatfee.server.store.commands import no_account
from flatfee.server.table import Name
from flatfee.wire import Billing, ErrorCode, ReceiptDetail


class AccountObject(Resource):
    """Who pays. ``from_file``: the configuration file names it, so it cannot be deleted here."""

    object: Literal["account"]
    name: str
    plan: str
    billing: Billing
    billing_day: int
    created_at: datetime
    from_file: bool


class CreateAccount(Body):
    """A new account."""

    name: Name
    plan: Name
    billing: Billing = Billing.ACTIVE
    billing_day: int = Field(default=1, ge=1, le=31)


class UpdateAccount(Change):
    """What to change of an account."""

    plan: Name = unchanged()
    billing: Billing = unchanged()
    billing_day: Annotated[int, Field(ge=1, le=31)] = unchanged()


class ProjectObject(Resource):
    """What requests are for. ``receipts``: how much its receipts tell; null: as the configuration says."""

    object: Literal["project"]
    account: str
    name: str
    receipts: ReceiptDetail | None
    created_at: datetime


class CreateProject(Body):
    """A new project."""

    name: Name
    receipts: ReceiptDetail | None = None


class UpdateProject(Change):
    """What to change of a project."""

    receipts: ReceiptDetail | None = unchanged()


class DeletedObject(Resource):
    """What was deleted."""

    object: Literal["account", "project", "workflow"]
    name: str
    deleted: Literal[True]


def account_object(account: Account) -> AccountObject:
    """Return an account as it is answered."""
    return AccountObject(
        object="account",
        name=account.name,
        plan=account.plan,
        billing=account.billing,
        billing_day=account.billing_day,
        created_at=moment(account.created_at),
        from_file=account.from_file,
    )


def project_object(project: Project) -> ProjectObject:
    """Return a project as it is answered."""
    return ProjectObject(
        object="project",
        account=project.account,
        name=project.name,
        receipts=project.receipts,
        created_at=moment(project.created_at),
    )


async def existing_account(name: str, gateway: Gateway) -> Account:
    """Return an account.

    Raises:
        NoSuch: there is none of that name.
    """
    account = await gateway.store.account(name)
    if account is None:
        raise no_account(name)
    return account


def _check_plan(plan: str, gateway: Gateway) -> None:
    if gateway.settings.plan(plan) is None:
        known = ", ".join(entry.name for entry in gateway.settings.plans)
        raise Fault(ErrorCode.INVALID_REQUEST, f"There is no plan {plan!r}; use one of: {known}.", param="plan")


async def _list_accounts(visit: Visit[PageQuery, Nothing]) -> ListOf[AccountObject]:
    found, more = await visit.gateway.store.accounts(visit.query.page)
    return listed([account_object(account) for account in found], more=more)


async def _create_account(visit: Visit[Nothing, CreateAccount]) -> AccountObject:
    body = visit.body
    _check_plan(body.plan, visit.gateway)
    command = AddAccount(name=body.name, plan=body.plan, billing=body.billing, billing_day=body.billing_day)
    return account_object(await visit.do(command))


async def _get_account(visit: Visit[Nothing, Nothing]) -> AccountObject:
    return account_object(await existing_account(visit.names["account"], visit.gateway))


async def _change_account(visit: Visit[Nothing, UpdateAccount]) -> AccountObject:
    body, name = visit.body, visit.names["account"]
    if "plan" in body.model_fields_set:
        _check_plan(body.plan, visit.gateway)
    command = ChangeAccount(name=name, plan=body.plan, billing=body.billing, billing_day=body.billing_day)
    return account_object(await visit.do(command))


async def _delete_account(visit: Visit[Nothing, Nothing]) -> DeletedObject:
    account = await visit.do(RemoveAccount(name=visit.names["account"]))
    return DeletedObject(object="account", name=account.name, deleted=True)


async def _list_projects(visit: Visit[PageQuery, Nothing]) -> ListOf[ProjectObject]:
    account = await existing_account(visit.names["account"], visit.gateway)
    found, more = await visit.gateway.store.projects(account.name, visit.query.page)
    return listed([project_object(project) for project in found], more=more)


async def _create_project(visit: Visit[Nothing, CreateProject]) -> ProjectObject:
    body = visit.body
    command = AddProject(account=visit.names["account"], name=body.name, receipts=body.receipts)
    return project_object(await visit.do(command))


async def _change_project(visit: Visit[Nothing, UpdateProject]) -> ProjectObject:
    names = visit.names
    command = ChangeProject(account=names["account"], name=names["project"], receipts=visit.body.receipts)
    return project_object(await visit.do(command))


async def _delete_project(visit: Visit[Nothing, Nothing]) -> DeletedObject:
    project = await visit.do(RemoveProject(account=visit.names["account"], name=visit.names["project"]))
    return DeletedObject(object="project", name=project.name, deleted=True)


ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    Endpoint(
        method="GET",
        path="/accounts",
        summary="List accounts by name.",
        handler=_list_accounts,
        query=PageQuery,
        answers=ListOf[AccountObject],
    ),
    Endpoint(
        method="POST",
        path="/accounts",
        summary="Make an account.",
        handler=_create_account,
        takes=CreateAccount,
        answers=AccountObject,
        status=201,
    ),
    Endpoint(
        method="GET",
        path="/accounts/{account}",
        summary="Show an account.",
        handler=_get_account,
        answers=AccountObject,
    ),
    Endpoint(
        method="PATCH",
        path="/accounts/{account}",
        summary="Change what is sent of an account, from the next request on. What was used stays used.",
        handler=_change_account,
        takes=UpdateAccount,
        answers=AccountObject,
    ),
    Endpoint(
        method="DELETE",
        path="/accounts/{account}",
        summary="Delete an account with its projects, and revoke its keys. Receipts stay.",
        handler=_delete_account,
        answers=DeletedObject,
    ),
    Endpoint(
        method="GET",
        path="/accounts/{account}/projects",
        summary="List an account's projects by name.",
        handler=_list_projects,
        query=PageQuery,
        answers=ListOf[ProjectObject],
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/projects",
        summary="Make a project.",
        handler=_create_project,
        takes=CreateProject,
        answers=ProjectObject,
        status=201,
    ),
    Endpoint(
        method="PATCH",
        path="/accounts/{account}/projects/{project}",
        summary="Change what is sent of a project, for the receipts to come.",
        handler=_change_project,
        takes=UpdateProject,
        answers=ProjectObject,
    ),
    Endpoint(
        method="DELETE",
        path="/accounts/{account}/projects/{project}",
        summary="Delete a project and revoke its keys. Receipts stay.",
        handler=_delete_project,
        answers=DeletedObject,
    ),
)
