"""What a script of the faulty provider is made of, and what it is told of the request. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Ending(Enum):
    """How a script may leave its connection; one that ends without is ready for another request."""

    FIN = "close it"
    RESET = "reset it"
    SILENCE = "keep it, and say nothing until the other side closes"


@dataclass(frozen=True, slots=True)
class Pause:
    """Say nothing for some seconds."""

    seconds: float


Step = bytes | Pause | Ending | asyncio.Event
Script = Callable[["Seen"], Iterable[Step]]
"""What is done after a request: bytes are sent as fast as they are taken, an event is waited for."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """One try of the gateway, as the provider saw it. Times are the event loop's.

    ``nth`` counts requests on the same connection, from 1. ``gone_at`` is when the gateway closed
    the connection while the script still ran or was silent; ``answered_at`` when the script had
    ended. ``taken`` is how many bytes of the answer have left this process.
    """

    model: str
    at: float
    head: bytes
    body: dict[str, Any]
    nth: int
    fault: str
    trap: str
    gone_at: float | None = None
    answered_at: float | None = None
    taken: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def headers(self) -> dict[str, str]:
        """The request's headers, names in lower case."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
