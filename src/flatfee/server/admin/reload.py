"""Reading the configuration again while the gateway runs. What is in it is changed in the file, not here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final, Literal

from flatfee.server.admin.endpoint import Endpoint, Nothing, Resource, Visit
from flatfee.server.faults import Fault
from flatfee.server.reload.changes import Changes, NotReloaded
from flatfee.wire import ErrorCode


class DifferenceObject(Resource):
    """Names of entries that came, went, or say something else now."""

    added: list[str]
    removed: list[str]
    changed: list[str]


class ReloadObject(Resource):
    """What a reload changed, by name. ``changed`` is false if the file says what it said before.

    A rule of the policy goes by its name, or else by its place, from 0. ``settings`` are the keys that stand
    alone, such as ``server.max_requests``; ``sha256`` is of the file as it was read.
    """

    object: Literal["reload"]
    changed: bool
    providers: DifferenceObject
    routes: DifferenceObject
    plans: DifferenceObject
    accounts: DifferenceObject
    rules: DifferenceObject
    aliases: DifferenceObject
    settings: list[str]
    sha256: str


async def _reload(visit: Visit[Nothing, Nothing]) -> ReloadObject:
    reloading = visit.gateway.reloading
    if reloading is None:
        raise Fault(ErrorCode.CONFLICT, "This gateway was made without a file: there is nothing to read again.")
    try:
        return _told(await reloading.reload(visit.actor))
    except NotReloaded as refused:
        raise Fault(refused.code, str(refused)) from refused


def _told(changes: Changes) -> ReloadObject:
    lists: dict[str, Any] = {name: asdict(difference) for name, difference in changes.lists()}
    return ReloadObject(
        object="reload", changed=bool(changes), settings=list(changes.settings), sha256=changes.digest, **lists
    )


ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    Endpoint(
        method="POST",
        path="/reload",
        summary="Read the configuration again: all of it holds for every request that begins now, or nothing changes.",
        handler=_reload,
        answers=ReloadObject,
        errors=(ErrorCode.GATEWAY_OVERLOADED,),
    ),
)
