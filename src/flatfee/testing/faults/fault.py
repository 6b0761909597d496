"""What can go wrong with a provider: the form of a fault, and a method for each kind.

How each is played is in ``failing``; what goes wrong between the gateway and its caller is in ``edge``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from flatfee.testing.faults import refusing
from flatfee.testing.faults.failing import FAULTS
from flatfee.testing.faults.kinds import check, made, written
from flatfee.testing.faults.manners import MANNERS
from flatfee.testing.faults.refusing import Shape
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.closed import Closed
from flatfee.testing.scripting.played import Played
from flatfee.testing.scripting.replies import Reply

Kind = Literal[
    "unreachable",
    "connect_timeout",
    "reset",
    "status",
    "body",
    "encoded",
    "silent",
    "slow",
    "cuts",
    "ends",
    "error_event",
    "broken_events",
    "large_event",
    "finishes",
    "odd",
]
Why = Literal["refused", "unknown host", "untrusted"]
Where = Literal["between events", "event", "character", "choice"]
Then = Literal["nothing", "silence", "more and more"]
Content = Literal["empty", "page", "not JSON", "no choices", "half", "other shape"]
Encoding = Literal["unknown", "gzip without its end"]


class Fault(Closed):
    """One way in which a provider fails, or is merely odd. Frozen, and closed to what its kind does not know.

    Made by the methods below. As JSON it has a ``kind``, the name of the method, and that method's arguments:
    ``{"kind": "status", "status_code": 503, "retry_after": 2}``. Times are in seconds of the gateway's clock.

    ``after`` counts the events of a stream that come before it strikes, the first of which usually names the role
    only; it strikes before the finish reason, however few there are. In a plain answer 0 means before the body and
    anything else in its middle. ``of`` is the answer that is struck, a text or a ``Reply``; without it, the default
    model's answer is.
    """

    kind: Kind
    after: int | None = Field(default=None, ge=0)
    of: str | Reply | None = None
    where: Where = "between events"
    why: Why = "refused"
    seconds: float = Field(default=5.0, gt=0)
    stale: bool = False
    status_code: int = Field(default=200, ge=200, le=599)
    retry_after: Annotated[float, Field(ge=0)] | str | None = None
    retry_after_as: Literal["seconds", "date", "milliseconds"] = "seconds"
    shape: Shape = "openai"
    code: str | None = None
    message: str | None = None
    then: Then = "nothing"
    content: Content = "empty"
    encoding: Encoding = "unknown"
    keep_alives: bool = False
    done: bool = False
    count: int = Field(default=4, ge=1, le=1000)
    size: int = Field(default=10 << 20, ge=1, le=64 << 20)
    reason: str = Field(default="length", min_length=1)
    manner: str = "no [DONE]"

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.kind == "status" and self.status_code == 200:
            raise ValueError("'status' needs a status_code that is not 200; for odd answers with 200 there is 'body'.")
        check(self, self.kind)
        if self.manner not in MANNERS:
            raise ValueError(f"There is no manner {self.manner!r}; use one of: {', '.join(MANNERS)}.")
        if self.where == "choice" and self.after is not None:
            raise ValueError("where='choice' cuts once the first choice is whole; leave out 'after'.")
        return self

    def play(self, asked: Asked) -> Played:
        """Return what the provider does when asked so."""
        return FAULTS[self.kind].play(self, asked)

    def __str__(self) -> str:
        return written(self, self.kind)

    @classmethod
    def unreachable(cls, why: Why = "refused") -> Fault:
        """Nobody takes the connection: it is refused, the name is unknown, or the certificate is not trusted."""
        return cls(kind="unreachable", why=why)

    @classmethod
    def connect_timeout(cls, seconds: float = 5.0) -> Fault:
        """Nobody answers while connecting, until the route's ``connect_timeout``, here told as ``seconds``."""
        return cls(kind="connect_timeout", seconds=seconds)

    @classmethod
    def reset(cls, *, stale: bool = False) -> Fault:
        """The connection breaks before a byte has come. ``stale``: it had been kept from an earlier answer."""
        return made(cls, "reset", stale=stale or None)

    @classmethod
    def status(
        cls,
        status_code: int,
        *,
        retry_after: float | str | None = None,
        retry_after_as: Literal["seconds", "date", "milliseconds"] | None = None,
        shape: Shape | None = None,
        code: str | None = None,
        message: str | None = None,
        then: Then | None = None,
    ) -> Fault:
        """Answer with a status that is not 200, and an error in a provider's shape.

        A ``retry_after`` that is text is sent as it is. ``then``: the error's body never ends, in silence or in more
        and more of it.
        """
        return made(
            cls,
            "status",
            status_code=status_code,
            retry_after=retry_after,
            retry_after_as=retry_after_as,
            shape=shape,
            code=code,
            message=message,
            then=then,
        )

    @classmethod
    def rate_limited(cls, *, retry_after: float | str | None = None, shape: Shape | None = None) -> Fault:
        """Answer 429, with or without ``Retry-After``."""
        return cls.status(429, retry_after=retry_after, shape=shape)

    @classmethod
    def overloaded(cls, *, retry_after: float | str | None = None) -> Fault:
        """Answer 529, as Anthropic does."""
        return cls.status(529, retry_after=retry_after, shape="anthropic")

    @classmethod
    def quota_exhausted(cls) -> Fault:
        """Answer 429 because the operator's account with the provider is empty: no wait cures it."""
        return cls.status(429, code="insufficient_quota")

    @classmethod
    def content_refused(cls, status_code: int = 400) -> Fault:
        """Refuse the content of the request; no other route would take it."""
        return cls.status(status_code, code="content_policy_violation")

    @classmethod
    def context_overflow(cls, *, shape: Shape = "openai") -> Fault:
        """Say that the context is too large, in a provider's own words."""
        told = refusing.OVERFLOWS[shape]
        return cls.status(told.status, shape=shape, code=told.code or told.type, message=told.message)

    @classmethod
    def body(cls, content: Content, *, status_code: int | None = None, of: str | Reply | None = None) -> Fault:
        """Answer with a body that is none: nothing, a web page, no JSON, half of it, no choices, the other shape."""
        return made(cls, "body", content=content, status_code=status_code, of=of)

    @classmethod
    def encoded(cls, encoding: Encoding = "unknown") -> Fault:
        """Compress the answer in a way that cannot be undone."""
        return cls(kind="encoded", encoding=encoding)

    @classmethod
    def silent(cls, *, after: int | None = None, keep_alives: bool = False, of: str | Reply | None = None) -> Fault:
        """Say nothing more: not even a head, or after so many events; ``keep_alives``: nothing but those."""
        return made(cls, "silent", after=after, keep_alives=keep_alives or None, of=of)

    @classmethod
    def slow(cls, seconds: float, *, of: str | Reply | None = None) -> Fault:
        """Wait before every event; before the body of a plain answer as long as for all of them."""
        return made(cls, "slow", seconds=seconds, of=of)

    @classmethod
    def cuts(cls, *, after: int | None = None, where: Where | None = None, of: str | Reply | None = None) -> Fault:
        """The connection breaks in mid-answer: between two events, in the middle of an event or of a character.

        ``where="choice"``: once the first of several choices is whole.
        """
        return made(cls, "cuts", after=after, where=where, of=of)

    @classmethod
    def ends(
        cls,
        *,
        after: int | None = None,
        where: Where | None = None,
        done: bool = False,
        of: str | Reply | None = None,
    ) -> Fault:
        """End as if all were well, after so many events or after all that is said, without a finish reason.

        ``where`` is as for ``cuts``. ``done``: with ``[DONE]``.
        """
        return made(cls, "ends", after=after, where=where, done=done or None, of=of)

    @classmethod
    def error_event(
        cls,
        *,
        after: int = 2,
        shape: Shape | None = None,
        status_code: int | None = None,
        code: str | None = None,
        message: str | None = None,
        of: str | Reply | None = None,
    ) -> Fault:
        """Send an error in mid-stream, in a provider's shape; ``after=0``: in place of the answer."""
        return made(
            cls,
            "error_event",
            after=after,
            shape=shape,
            status_code=status_code,
            code=code,
            message=message,
            of=of,
        )

    @classmethod
    def broken_events(cls, count: int = 4, *, after: int | None = None, of: str | Reply | None = None) -> Fault:
        """Send events that are not JSON in the midst of a whole answer. The gateway drops up to three."""
        return made(cls, "broken_events", count=count, after=after, of=of)

    @classmethod
    def large_event(cls, size: int = 10 << 20) -> Fault:
        """Say so many bytes in one event. The gateway takes up to 16 MiB."""
        return cls(kind="large_event", size=size)

    @classmethod
    def finishes(cls, reason: str, *, of: str | Reply | None = None) -> Fault:
        """End the answer for another reason: ``length``, ``content_filter``."""
        return made(cls, "finishes", reason=reason, of=of)

    @classmethod
    def odd(cls, manner: str, *, of: str | Reply | None = None) -> Fault:
        """Give a whole answer in an odd manner, one of ``MANNERS``."""
        return made(cls, "odd", manner=manner, of=of)
