"""Keys: shapes and handlers. A secret is made here and answered once; the store gets its digest."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from flatfee.server.admin.endpoint import (
    Body,
    Change,
    Endpoint,
    ListOf,
    Nothing,
    OwnedQuery,
    Resource,
    Visit,
    listed,
    moment,
    moment_or_none,
    unchanged,
)
from flatfee.server.faults import Fault
from flatfee.server.gateway import Gateway
from flatfee.server.keys import KeyKind, digest, new_key, new_key_id
from flatfee.server.store.accounts import Key
from flatfee.server.store.commands import UNCHANGED, Unchanged
from flatfee.server.store.key_commands import AddKey, ChangeKey, RevokeKey, RotateKey, no_key
from flatfee.server.store.records import NewKey
from flatfee.server.table import Name
from flatfee.wire import ErrorCode, Model

_DAY: Final = 86_400
_MAX_OVERLAP: Final = 30 * _DAY


def _in_utc(at: datetime) -> datetime:
    """Return the same time in UTC: what is kept and can be told again."""
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is outside the years 1 to 9999 in UTC; send another time") from error


Kind = Literal["project", "team", "admin"]
Expiry = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Models = Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=100)]

_KINDS: Final[dict[Kind, KeyKind]] = {"project": KeyKind.PROJECT, "team": KeyKind.TEAM, "admin": KeyKind.ADMIN}
_NAMES: Final[dict[KeyKind, Kind]] = {kind: name for name, kind in _KINDS.items()}
_OWNERS: Final[dict[Kind, tuple[bool, bool, str]]] = {
    "project": (True, True, "a project key belongs to a project; send account and project"),
    "team": (True, False, "a team key belongs to an account; send account and no project"),
    "admin": (False, False, "an admin key belongs to nobody; send neither account nor project"),
}


class KeyObject(Resource):
    """A key as people may see it. ``models`` null: every model; ``source`` file: the configuration file's."""

    object: Literal["key"]
    id: str
    kind: Kind
    account: str | None
    project: str | None
    name: str
    last4: str
    models: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    source: Literal["file", "api"]
    state: Literal["active", "expired", "revoked"]


class NewKeyObject(KeyObject):
    """A key that was just made. Its ``secret`` is shown this once."""

    secret: str


class RotatedKeyObject(NewKeyObject):
    """The key that takes the place of the one with the id ``replaces``."""

    replaces: str


class CreateKey(Body):
    """A new key: of a project, of an account (team), or for this API (admin)."""

    kind: Kind
    account: Name | None = None
    project: Name | None = None
    name: Name
    models: Models | None = None
    expires_at: Expiry | None = None

    @model_validator(mode="after")
    def _has_its_owner(self) -> Self:
        account, project, cure = _OWNERS[self.kind]
        if (self.account is not None) is not account or (self.project is not None) is not project:
            raise ValueError(cure)
        if self.kind == "admin" and self.models is not None:
            raise ValueError("an admin key asks for no models; leave models out")
        return self


class UpdateKey(Change):
    """What to change of a key; ``models`` and ``expires_at`` null: no limit."""

    name: Name = unchanged()
    models: Models | None = unchanged()
    expires_at: Expiry | None = unchanged()


class RotateBody(Body):
    """How long the old key goes on working: a day, unless said otherwise; 0: it ends at once."""

    overlap_seconds: int = Field(default=_DAY, ge=0, le=_MAX_OVERLAP)


class KeysQuery(OwnedQuery):
    """Whose keys to list."""


def _facts(key: Key, now: float) -> dict[str, Any]:
    return {
        "object": "key",
        "id": key.id,
        "kind": _NAMES[key.kind],
        "account": key.account,
        "project": key.project,
        "name": key.name,
        "last4": key.last4,
        "models": sorted(key.models) if key.models is not None else None,
        "created_at": moment(key.created_at),
        "expires_at": moment_or_none(key.expires_at),
        "revoked_at": moment_or_none(key.revoked_at),
        "last_used_at": moment_or_none(key.last_used_at),
        "source": key.source,
        "state": key.state(now),
    }


def _shown(key: Key, gateway: Gateway) -> KeyObject:
    return KeyObject(**_facts(key, gateway.store.now()))


def _scope(models: Collection[str] | None, gateway: Gateway) -> frozenset[str] | None:
    """Return the models a key may ask for; each must be one that this gateway offers."""
    for model in models or ():
        if gateway.settings.meaning(model) is None:
            known = [*Model, *gateway.settings.aliases]
            message = f"There is no model {model[:80]!r}; use some of: {', '.join(known)}."
            raise Fault(ErrorCode.INVALID_REQUEST, message, param="models")
    return frozenset(models) if models is not None else None


def _expiry(at: datetime | None, gateway: Gateway) -> float | None:
    if at is None:
        return None
    if at.timestamp() <= gateway.store.now():
        message = f"expires_at is {at:%Y-%m-%dT%H:%M:%SZ}, which is past; revoke a key to end it now."
        raise Fault(ErrorCode.INVALID_REQUEST, message, param="expires_at")
    return at.timestamp()


async def _list_keys(visit: Visit[KeysQuery, Nothing]) -> ListOf[KeyObject]:
    query = visit.query
    found, more = await visit.gateway.store.keys(query.account, query.project, query.page)
    return listed([_shown(key, visit.gateway) for key in found], more=more)


async def _create_key(visit: Visit[Nothing, CreateKey]) -> NewKeyObject:
    body, gateway = visit.body, visit.gateway
    kind = _KINDS[body.kind]
    models, expires_at = _scope(body.models, gateway), _expiry(body.expires_at, gateway)
    secret = new_key(kind)
    new = NewKey(
        id=new_key_id(),
        digest=digest(secret),
        name=body.name,
        kind=kind,
        last4=secret[-4:],
        models=models,
        expires_at=expires_at,
    )
    key = await visit.do(AddKey(key=new, account=body.account, project=body.project))
    return NewKeyObject(**_facts(key, gateway.store.now()), secret=secret)


async def _get_key(visit: Visit[Nothing, Nothing]) -> KeyObject:
    return _shown(await _existing_key(visit), visit.gateway)


async def _change_key(visit: Visit[Nothing, UpdateKey]) -> KeyObject:
    body, gateway = visit.body, visit.gateway
    models: frozenset[str] | Unchanged | None = UNCHANGED
    expires_at: float | Unchanged | None = UNCHANGED
    if "models" in body.model_fields_set:
        models = _scope(body.models, gateway)
    if "expires_at" in body.model_fields_set:
        expires_at = _expiry(body.expires_at, gateway)
    command = ChangeKey(id=visit.names["id"], name=body.name, models=models, expires_at=expires_at)
    return _shown(await visit.do(command), gateway)


async def _rotate_key(visit: Visit[Nothing, RotateBody]) -> RotatedKeyObject:
    old = await _existing_key(visit)
    secret = new_key(old.kind)
    command = RotateKey(
        id=old.id,
        new_id=new_key_id(),
        digest=digest(secret),
        last4=secret[-4:],
        overlap=visit.body.overlap_seconds,
    )
    key = await visit.do(command)
    return RotatedKeyObject(**_facts(key, visit.gateway.store.now()), secret=secret, replaces=old.id)


async def _revoke_key(visit: Visit[Nothing, Nothing]) -> KeyObject:
    return _shown(await visit.do(RevokeKey(id=visit.names["id"])), visit.gateway)


async def _existing_key(visit: Visit[Any, Any]) -> Key:
    name = visit.names["id"]
    key = await visit.gateway.store.key(name)
    if key is None:
        raise no_key(name)
    return key


ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    Endpoint(
        method="GET",
        path="/keys",
        summary="List keys, oldest first, also those that have ended.",
        handler=_list_keys,
        query=KeysQuery,
        answers=ListOf[KeyObject],
    ),
    Endpoint(
        method="POST",
        path="/keys",
        summary="Make a key. Its secret is shown this once.",
        handler=_create_key,
        takes=CreateKey,
        answers=NewKeyObject,
        status=201,
    ),
    Endpoint(method="GET", path="/keys/{id}", summary="Show a key.", handler=_get_key, answers=KeyObject),
    Endpoint(
        method="PATCH",
        path="/keys/{id}",
        summary="Change what is sent of a key, from the next request on.",
        handler=_change_key,
        takes=UpdateKey,
        answers=KeyObject,
    ),
    Endpoint(
        method="DELETE",
        path="/keys/{id}",
        summary="Revoke a key at once and for good.",
        handler=_revoke_key,
        answers=KeyObject,
    ),
    Endpoint(
        method="POST",
        path="/keys/{id}/rotate",
        summary="Put a new secret in a key's place; the old one goes on working for the overlap.",
        handler=_rotate_key,
        takes=RotateBody,
        answers=RotatedKeyObject,
        status=201,
    ),
)
