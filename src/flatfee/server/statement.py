"""A receipt as the gateway writes it: light values, whose JSON is that of a ``flatfee.Receipt``, byte for byte.

``Receipt`` is for whoever reads: it is tolerant, and checks what it is given. What is written here was decided by
the gateway itself, for each request: making, completing and encoding such a receipt took 30 us, and takes 2 this way.
Only what a request with a ticket tells is here; receipts of refusals and of lost requests are rare, and ``Receipt``s.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from flatfee.receipt import Compaction
from flatfee.wire import AttemptOutcome, Lane, Reason, ReceiptState, Tier

if TYPE_CHECKING:
    from flatfee.server.store.records import Standing  # which is made of these values


class UsedTokens(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """``TokenUsage``: tokens as the provider counted them, or as the gateway estimated them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class NotedAttempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """``Attempt``: one try of one route."""

    route: str
    outcome: AttemptOutcome
    status: int | None
    duration_ms: int
    first_token_ms: int | None = None


class _FairUse(msgspec.Struct, frozen=True, gc=False):
    unit: str
    charged: int
    remaining: int
    limit: int
    resets_at: str


class _Workflow(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    id: str | None = None
    active: int | None = None
    limit: int | None = None


class Statement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The receipt of a request that holds a ticket; what is ``None`` is not told."""

    request_id: str
    lane: Lane
    reason: Reason
    state: ReceiptState
    model_requested: str | None = None
    model_served: str | None = None
    route: str | None = None
    tier: Tier | None = None
    fair_use: _FairUse | None = None
    workflow: _Workflow | None = None
    usage: UsedTokens | None = None
    compaction: Compaction | None = None
    attempts: tuple[NotedAttempt, ...] | None = None
    created_at: datetime

    def completed(self, workflow: str | None, standing: Standing, charged: int) -> Statement:
        """Return it with the figures that only the ledger knows; ``charged`` is what fair-use is charged."""
        return msgspec.structs.replace(
            self,
            fair_use=_FairUse(standing.unit, charged, standing.remaining, standing.limit, rfc3339(standing.resets_at)),
            workflow=_Workflow(workflow, standing.workflows_active, standing.workflows_limit),
        )

    def figures(self) -> Statement:
        """Return what is kept of it when little is to be kept: no models, routes, attempts or workflow."""
        return msgspec.structs.replace(
            self, model_requested=None, model_served=None, route=None, workflow=None, attempts=None
        )

    def json(self) -> bytes:
        """Return it as JSON."""
        return _encode(self)


def _told(part: Any) -> object:
    assert isinstance(part, Compaction)  # noqa: S101 - the one part that is no struct: it is rare
    return part.model_dump(exclude_unset=True)


_encode: Final = msgspec.json.Encoder(enc_hook=_told).encode


@lru_cache(maxsize=1024)  # most moments that are told are ends of windows, the same for every request
def rfc3339(seconds: float) -> str:
    """Return a moment as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
