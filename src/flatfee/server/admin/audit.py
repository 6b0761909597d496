"""The audit log: who did what to whom, newest first. It is read here, never written."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from flatfee.server.admin.endpoint import Endpoint, ListOf, Nothing, PageQuery, Resource, Visit, listed, moment


class AuditObject(Resource):
    """One entry. ``actor`` is a key's id, ``env:NAME``, ``local:USER``, ``file`` or ``signal``."""

    object: Literal["audit_entry"]
    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, str | int | float | bool | None]


def _number(text: str) -> str:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError("is not a place in the log; use the id of an entry")
    return text


class AuditQuery(PageQuery):
    """Which piece of the log; ``after`` is the id of an entry."""

    after: Annotated[str, Field(max_length=15), AfterValidator(_number)] | None = None


async def _list_audit(visit: Visit[AuditQuery, Nothing]) -> ListOf[AuditObject]:
    found, more = await visit.gateway.store.audit(visit.query.page)
    entries = [
        AuditObject(
            object="audit_entry",
            id=entry.id,
            at=moment(entry.at),
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            details=dict(entry.details),
        )
        for entry in found
    ]
    return listed(entries, more=more)


ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (
    Endpoint(
        method="GET",
        path="/audit",
        summary="List who changed what, newest first.",
        handler=_list_audit,
        query=AuditQuery,
        answers=ListOf[AuditObject],
    ),
)
