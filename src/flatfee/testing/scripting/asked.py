"""What a script sees of one try: the route that is asked, and the request that the caller sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from flatfee.testing.scripting.conversation import Conversation
from flatfee.wire import Header

_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One try of one route.

    ``number`` counts the completions that this gateway was asked for, ``attempt`` the tries of this one and
    ``nth`` those of this route within it, each from 1. ``headers`` (lower case, no secrets) and ``body`` are
    the caller's; ``upstream`` is the body that the gateway sends to the provider, with the route's own model.
    ``stream`` is whether the provider is asked to stream.
    """

    number: int
    attempt: int
    nth: int
    route: str
    tier: str
    model: str
    stream: bool
    upstream: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    @cached_property
    def conversation(self) -> Conversation:
        """The conversation of the caller's body."""
        return Conversation(self.body)

    @property
    def workflow(self) -> str | None:
        """The workflow that the caller named."""
        return self.headers.get(Header.WORKFLOW)
