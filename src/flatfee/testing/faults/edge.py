"""What can go wrong between the gateway and its caller: the form, and a method for each kind.

How each is done is in ``between``. What goes wrong with a provider is in ``faults``.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from flatfee.testing.faults.kinds import check, made, written
from flatfee.testing.running.exchange import current
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.closed import Closed
from flatfee.wire import ErrorCode

Kind = Literal["lost", "cut", "stall", "page", "error", "stripped", "paced", "packed", "twice", "typed", "gathered"]

OURS: Final = ("x-flatfee-", "x-request-id", "x-should-retry")
"""What the names of headers begin with that only a gateway sends."""

EDGES: Final[dict[Kind, str]] = {
    "lost": "the request never reaches the gateway: the connection is closed, nothing is served",
    "cut": "the gateway answers, and the connection breaks on the way to the caller",
    "stall": "the gateway answers, and nothing more of it comes through",
    "page": "a proxy answers with a web page of its own",
    "error": "the gateway refuses the request with an error of its own table",
    "stripped": "a proxy takes the gateway's headers away",
    "paced": "every part of the answer comes late",
    "packed": "a proxy compresses the answer",
    "twice": "the whole answer comes twice over",
    "typed": "the answer comes with another content type",
    "gathered": "a proxy passes a stream on only once it is whole",
}
"""Kind → what happens. A kind is the name of the method of ``Edge`` that makes it."""


class Edge(Closed):
    """One thing that happens to a completion on its way to the caller. Frozen, and closed to what it does not know.

    Made by the methods below; as JSON it has a ``kind``, the name of the method, and that method's arguments:
    ``{"kind": "cut", "after": 3}``. It is matched when the request has arrived, before any route is chosen, so its
    rule cannot name a route, a tier, an attempt or how often a route was tried.

    Times are in real seconds, for the limits of a client are: while an answer is held back here, the gateway's clock
    does not skip.
    """

    kind: Kind
    after: int | None = Field(default=None, ge=0)
    after_bytes: int | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, gt=0)
    status_code: Literal[500, 502, 503, 504] = 502
    served: bool = False
    code: ErrorCode | None = None
    message: str | None = None
    retry_after: int | None = Field(default=None, ge=1)
    headers: tuple[Annotated[str, Field(min_length=1)], ...] = OURS
    content_type: str = Field(default="text/plain", pattern=r"^[\x20-\x7e]*$")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.after is not None and self.after_bytes is not None:
            raise ValueError("Give 'after', in events, or 'after_bytes'; not both.")
        if self.kind == "error" and self.code is None:
            raise ValueError(f"'error' needs a 'code', one of: {', '.join(ErrorCode)}.")
        check(self, self.kind)
        return self

    def __str__(self) -> str:
        return written(self, self.kind)

    def begin(self, asked: Asked) -> None:
        """Let it happen to the request that is served.

        Raises:
            TypeError: a route is being asked already: a function returned it.
        """
        exchange = current()
        if asked.attempt or exchange is None:
            message = f"{self} happens before a route is asked; give it to script() itself, not by a function."
            raise TypeError(message)
        exchange.edge = self

    @classmethod
    def lost(cls) -> Edge:
        """Close the connection before the request has reached the gateway. Nothing is served, nothing charged."""
        return cls(kind="lost")

    @classmethod
    def cut(cls, *, after: int | None = None, after_bytes: int | None = None) -> Edge:
        """Break the connection before any byte of the answer, or after so many events or bytes of its body.

        The gateway sees a caller that left. A plain answer was whole by then: it is charged, and a retry with the
        same idempotency key gets it. Of a stream, what was delivered is charged. An answer that has fewer events or
        bytes is cut just before its end.
        """
        return made(cls, "cut", after=after, after_bytes=after_bytes)

    @classmethod
    def stall(cls, *, after: int | None = None, after_bytes: int | None = None, seconds: float | None = None) -> Edge:
        """Let nothing more through, before the head or after so many events or bytes; ``seconds``: for so long.

        Without ``seconds`` it lasts until the caller gives up. What is charged is as for ``cut``.
        """
        return made(cls, "stall", after=after, after_bytes=after_bytes, seconds=seconds)

    @classmethod
    def page(cls, status_code: int = 502, *, served: bool = False) -> Edge:
        """Answer with a proxy's web page, without a header of ours.

        ``served``: the gateway had the request, so that its answer is charged and lost.
        """
        return made(cls, "page", status_code=status_code, served=served or None)

    @classmethod
    def error(cls, code: ErrorCode | str, *, retry_after: int | None = None, message: str | None = None) -> Edge:
        """Refuse with an error of the gateway's own table, as it would say it. Nothing is served or charged."""
        return made(cls, "error", code=code, retry_after=retry_after, message=message)

    @classmethod
    def stripped(cls, *headers: str) -> Edge:
        """Take response headers away whose names begin so; all that are ours, unless told otherwise."""
        return made(cls, "stripped", headers=headers or None)

    @classmethod
    def paced(cls, seconds: float) -> Edge:
        """Let every part of the answer come so much later."""
        return made(cls, "paced", seconds=seconds)

    @classmethod
    def packed(cls) -> Edge:
        """Compress the answer with gzip, whether or not the caller asked."""
        return cls(kind="packed")

    @classmethod
    def twice(cls) -> Edge:
        """Send the whole answer twice over."""
        return cls(kind="twice")

    @classmethod
    def typed(cls, content_type: str) -> Edge:
        """Send the answer with another ``Content-Type``."""
        return made(cls, "typed", content_type=content_type)

    @classmethod
    def gathered(cls) -> Edge:
        """Pass a stream on in one piece, once it is whole."""
        return cls(kind="gathered")
