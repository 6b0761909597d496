"""Keys of a scripted gateway, with their projects and accounts: made by the commands that an administrator has."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from flatfee.server.configuration import validated
from flatfee.server.faults import Fault
from flatfee.server.keys import KeyKind, digest, new_key
from flatfee.server.settings import AccountSettings, ProjectSettings
from flatfee.server.store.account_commands import AddAccount, AddProject
from flatfee.server.store.key_commands import AddKey
from flatfee.server.store.records import NewKey
from flatfee.testing.inside import ACTOR, Inside
from flatfee.testing.options import PROJECT
from flatfee.testing.running.clock import aware

_HERE: Final = "new_key()"


def add_key(
    inside: Inside,
    *,
    project: str | None,
    account: str | None,
    models: Collection[str] | None,
    team: bool,
    expires: datetime | str | timedelta | float | None,
) -> str:
    """Make a key, with its project and its account where those are new; return the secret."""
    if team and project is not None:
        message = f"project={project!r} and team=True: a team key belongs to the account; leave one of them out."
        raise ValueError(message)
    name = account or inside.account
    terms = validated(AccountSettings, {"name": name, "plan": name}, _HERE)
    owner = None if team else validated(ProjectSettings, {"name": project or _usual(inside, name)}, _HERE).name
    secret = new_key(KeyKind.TEAM if team else KeyKind.PROJECT)
    key = NewKey(
        digest=digest(secret),
        name=ACTOR,
        kind=KeyKind.TEAM if team else KeyKind.PROJECT,
        last4=secret[-4:],
        models=_scope(inside, models),
        expires_at=_end(expires, inside.clock.wall()),
    )
    inside.run(_add_key(inside, terms.name, owner, key))
    return secret


async def _add_key(inside: Inside, account: str, project: str | None, key: NewKey) -> None:
    store = inside.store
    if await store.account(account) is None:
        _give_a_plan(inside, account)
        await store.administer(ACTOR, AddAccount(name=account, plan=account))
    if project is not None and await store.project(account, project) is None:
        await store.administer(ACTOR, AddProject(account=account, name=project))
    await store.administer(ACTOR, AddKey(key=key, account=account, project=project))


def _give_a_plan(inside: Inside, account: str) -> None:
    """Give a new account a plan of its own, as the first one's was at the start: its limits are changed alone."""
    settings = inside.gateway.settings
    if settings.plan(account) is None:
        plan = inside.plan.model_copy(update={"name": account})
        inside.gateway.settings = settings.model_copy(update={"plans": (*settings.plans, plan)})


def _usual(inside: Inside, account: str) -> str:
    return inside.project if account == inside.account else PROJECT


def _scope(inside: Inside, models: Collection[str] | None) -> frozenset[str] | None:
    if models is None:
        return None
    names = frozenset([models] if isinstance(models, str) else models)
    for name in names:
        try:
            inside.gateway.resolve(name)
        except Fault as error:
            raise ValueError(error.message) from error
    return names


def _end(expires: datetime | str | timedelta | float | None, now: float) -> float | None:
    match expires:
        case None:
            return None
        case datetime() | str():
            return aware(expires, "expires").timestamp()
        case timedelta():
            return now + expires.total_seconds()
        case _:
            return now + expires
