"""What a provider's failure means: whether, and when, the same route may be tried again.

No attempt is made here and nothing is counted: the relay acts on what this says.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from flatfee.server.answers import read_refusal
from flatfee.server.faults import ProviderRefusal
from flatfee.server.providers.base import Upstream
from flatfee.server.settings import RouteSettings
from flatfee.wire import AttemptOutcome

log = logging.getLogger("flatfee.server")

RETRY_AFTER_AT_MOST: Final = 5.0
"""A provider's Retry-After up to this long is waited for; a longer one sends us to the next route."""

SAME_ROUTE_PAUSE: Final = 0.25

_RETRY_SAME_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
_OPERATORS_FAULT: Final = frozenset({401, 402, 403, 404, 405, 407})
"""Statuses that say something of the operator's account or settings, and nothing of the request."""
_CONTEXT_OVERFLOW: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
"""How providers say that the context is too large: OpenAI in ``code``, llama.cpp's server in ``type``."""


class Failed(Exception):
    """One try came to nothing.

    ``pause`` is how long to wait before the same route may be tried again; ``retry_after`` is what
    the provider asked for; ``blameless`` means that the route did nothing wrong.
    """

    def __init__(
        self,
        outcome: AttemptOutcome,
        status: int | None = None,
        *,
        pause: float | None = None,
        retry_after: float | None = None,
        blameless: bool = False,
        refusal: ProviderRefusal | None = None,
    ) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.status = status
        self.pause = pause
        self.retry_after = retry_after
        self.blameless = blameless
        self.refusal = refusal


async def rejected(route: RouteSettings, upstream: Upstream, chance: Callable[[], float]) -> Failed:
    """Classify an answer that is not 200."""
    status = upstream.status
    if status in _OPERATORS_FAULT or status < 400:
        log.error(
            "provider.misconfigured",
            extra={"route": route.name, "status": status, "cure": "check the provider's base_url, key and model"},
        )
        return Failed(AttemptOutcome.ERROR, status)
    if status == 429 or status >= 500 or status == 408:
        outcome = AttemptOutcome.RATE_LIMITED if status == 429 else AttemptOutcome.ERROR
        asked = _seconds(upstream.headers.get("retry-after"))
        return Failed(outcome, status, pause=_pause(chance, status, asked), retry_after=asked)
    error = read_refusal(await upstream.read())
    overflow = {error["code"], error["type"]} & _CONTEXT_OVERFLOW
    outcome = AttemptOutcome.CONTEXT_OVERFLOW if overflow else AttemptOutcome.REFUSED
    return Failed(outcome, status, refusal=ProviderRefusal(status, error))


def _pause(chance: Callable[[], float], status: int, asked: float | None) -> float | None:
    """Return how long to wait before the same route is tried again; ``None``: go on to the next."""
    if status not in _RETRY_SAME_STATUSES:
        return None
    if asked is None:
        return jittered(chance)
    return max(asked, jittered(chance)) if asked <= RETRY_AFTER_AT_MOST else None


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header: seconds, or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return None
    return seconds if seconds >= 0 else math.inf  # nonsense is no promise to be there in a moment


def jittered(chance: Callable[[], float]) -> float:
    """Return the pause before the same route is tried again, in seconds."""
    return SAME_ROUTE_PAUSE * (1 + chance())
