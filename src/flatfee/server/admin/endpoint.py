"""One endpoint of the admin API: what it takes, what it answers, and how a request becomes its call.

Bodies and queries are closed models: what they do not know is refused and named. Their schemas are
those of the OpenAPI document, so that nothing is said there that is not checked here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flatfee.server.admin.auth import administrator
from flatfee.server.admin.wording import refusal
from flatfee.server.call import Call
from flatfee.server.gateway import Gateway
from flatfee.server.store.accounts import Page
from flatfee.server.store.commands import UNCHANGED, Command
from flatfee.server.table import Name
from flatfee.wire import ErrorCode

MAX_BODY_BYTES: Final = 65_536
MAX_PAGE: Final = 100

_T = TypeVar("_T")
_Query = TypeVar("_Query", bound=BaseModel)
_Body = TypeVar("_Body", bound=BaseModel)


class Nothing(BaseModel):
    """A query or a body that may say nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Body(BaseModel):
    """Base of every body: closed, and strict about types, as JSON has them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Change(Body):
    """A body that changes only what it names. A member that was not sent is ``UNCHANGED``."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            message = f"nothing to change; send one of: {', '.join(type(self).model_fields)}"
            raise ValueError(message)
        return self


def unchanged() -> Any:
    """Return the default of a member that need not be sent."""
    return Field(default_factory=lambda: UNCHANGED)


class Query(BaseModel):
    """Base of every query: closed; numbers come as text."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class PageQuery(Query):
    """Which piece of a list: at most ``limit`` entries, after the one whose id or name is ``after``."""

    limit: int = Field(default=20, ge=1, le=MAX_PAGE)
    after: Annotated[str, Field(min_length=1, max_length=128)] | None = None

    @property
    def page(self) -> Page:
        """The same as the store knows it."""
        return Page(limit=self.limit, after=self.after)


class OwnedQuery(PageQuery):
    """Which piece of a list, of what belongs to an account or to one of its projects."""

    account: Name | None = None
    project: Name | None = None

    @model_validator(mode="after")
    def _project_of_an_account(self) -> Self:
        if self.project is not None and self.account is None:
            raise ValueError("a project is named within its account; send account too")
        return self


class Resource(BaseModel):
    """Base of every answer: frozen, and every member is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListOf(Resource, Generic[_T]):
    """A list; ``has_more`` tells whether another page follows."""

    object: Literal["list"]
    data: list[_T]
    has_more: bool


def listed(data: list[_T], *, more: bool = False) -> ListOf[_T]:
    """Return a page as it is answered."""
    return ListOf[_T](object="list", data=data, has_more=more)


def moment(seconds: float) -> datetime:
    """Return a time as the API tells it: UTC, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC)


def moment_or_none(seconds: float | None) -> datetime | None:
    """Return a time as the API tells it, if there is one."""
    return moment(seconds) if seconds is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit(Generic[_Query, _Body]):
    """One authenticated request, read and checked. ``names`` are the parameters of its path."""

    gateway: Gateway
    actor: str
    names: Mapping[str, str]
    query: _Query
    body: _Body

    async def do(self, command: Command[_T]) -> _T:
        """Let the store do what a command says, in this administrator's name.

        Raises:
            Denied: it cannot be done, and nothing has changed.
        """
        return await self.gateway.store.administer(self.actor, command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Generic[_Query, _Body]):
    """A row of the table. ``path`` is below ``/admin/v1``, with its parameters in braces.

    ``errors`` are those that do not follow from method, path and body (see ``openapi``).
    """

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    summary: str
    handler: Callable[[Visit[_Query, _Body]], Awaitable[BaseModel]]
    answers: type[BaseModel]
    status: int = 200
    errors: tuple[ErrorCode, ...] = ()
    query: type[_Query] = field(default=Nothing)  # type: ignore[assignment] # without a query the handler sees none
    takes: type[_Body] = field(default=Nothing)  # type: ignore[assignment] # and likewise without a body

    async def serve(self, names: Mapping[str, str], call: Call, gateway: Gateway) -> None:
        """Serve a request for this endpoint.

        Raises:
            Fault: who asks is no administrator, or what was sent is wrong.
            Denied: it cannot be done.
        """
        actor = await administrator(call, gateway)
        query = self._read_query(call)
        body = self._read_body(await call.body(MAX_BODY_BYTES) if self.takes is not Nothing else b"")
        answer = await self.handler(Visit(gateway=gateway, actor=actor, names=names, query=query, body=body))
        call.tell({"cache-control": "no-store"})
        await call.respond(self.status, answer.model_dump_json(exclude_unset=True).encode())

    def _read_query(self, call: Call) -> _Query:
        try:
            return self.query.model_validate(call.query)
        except ValidationError as error:
            raise refusal(error, self.query, "query parameter") from error

    def _read_body(self, body: bytes) -> _Body:
        try:
            return self.takes.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise refusal(error, self.takes, "member") from error
