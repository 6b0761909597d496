"""One request, as it is seen around the gateway: what came, which tries it led to, what went back. No judgement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "openai-organization"}
)
"""Request headers that are never kept."""

MAX_KEPT: Final = 1 << 20
"""Bytes of a response that are kept. Requests are bounded by the gateway itself."""


@dataclass(slots=True, kw_only=True)
class Tried:
    """One try of a route, at a moment of the gateway's clock. ``rule`` is what answered; ``None``: the model."""

    route: str
    at: float
    rule: str | None = None


@dataclass(kw_only=True)
class Exchange:
    """One request and its response. Times are in seconds of the gateway's monotonic clock.

    ``arrived`` is when its head did, ``heard`` when its body was whole, ``ended`` when the gateway was done with
    it. ``left``: the caller went before the response was whole. ``cut``: a script broke the connection off.
    Header names are lower case; those that hold secrets are not there.
    """

    number: int
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    arrived: float
    key: str = ""
    """Which key it came with, by its last four characters."""
    body: bytes = b""
    heard: float | None = None
    tries: list[Tried] = field(default_factory=list)
    status: int | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict)
    response: bytearray = field(default_factory=bytearray)
    response_size: int = 0
    first_byte: float | None = None
    ended: float | None = None
    whole: bool = False
    left: bool = False
    cut: bool = False

    @cached_property
    def json(self) -> Mapping[str, Any]:
        """The request's body; empty where it is no JSON object. Read it once the body is whole."""
        try:
            read = json.loads(self.body)
        except ValueError:
            return {}
        return read if isinstance(read, dict) else {}

    @property
    def is_completion(self) -> bool:
        """Whether it asks for a completion."""
        return self.method == "POST" and self.path == "/v1/chat/completions"

    def keep(self, data: bytes) -> None:
        """Keep a part of the response, up to ``MAX_KEPT`` bytes in all."""
        self.response_size += len(data)
        self.response += data[: MAX_KEPT - len(self.response)]


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def current() -> Exchange | None:
    """Return the exchange that is being served in this task."""
    return _current.get()


def enter(exchange: Exchange) -> None:
    """Let this task, and those that it starts, serve an exchange."""
    _current.set(exchange)
