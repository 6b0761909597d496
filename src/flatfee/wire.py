"""The contract between client and gateway, as tables.

Header names, lanes, reasons, error codes with their status and retry rule, and the error
envelope. Both sides import this module, so neither can drift from the other. It imports
nothing of ours, performs no I/O and holds no state.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_URL: Final = "https://api.flatfee.one/v1"


class Lane(StrEnum):
    """How a request was served. A client must accept lanes it does not know."""

    PREMIUM = "premium"
    BUDGET = "budget"
    CONTINUATION = "continuation"
    FALLBACK = "fallback"


class Tier(StrEnum):
    """The two classes of routes."""

    PREMIUM = "premium"
    ECONOMY = "economy"


class Model(StrEnum):
    """The models every gateway offers; an operator's aliases map to one of them."""

    AUTO = "auto"
    PREMIUM = "premium"
    ECONOMY = "economy"


class Reason(StrEnum):
    """Why a request took its lane. A client must accept reasons it does not know."""

    REQUESTED = "requested"
    FRAGILE_REASONING = "fragile_reasoning"
    SMALL_TASK = "small_task"
    CONTEXT_SIZE = "context_size"
    DEFAULT = "default"
    WORKFLOW_AFFINITY = "workflow_affinity"
    FAIR_USE_EXHAUSTED = "fair_use_exhausted"
    BILLING_STATE = "billing_state"
    PROVIDER_TIMEOUT = "provider_timeout"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    CONTEXT_OVERFLOW = "context_overflow"


class ReceiptState(StrEnum):
    """How final a receipt's figures are."""

    IN_FLIGHT = "in_flight"
    SETTLED = "settled"
    ESTIMATED = "estimated"
    REFUSED = "refused"


class ReceiptDetail(StrEnum):
    """How much a kept receipt tells: everything, or no more than what was charged and why."""

    FULL = "full"
    REDUCED = "reduced"


class AttemptOutcome(StrEnum):
    """How one try of one route ended."""

    OK = "ok"
    TIMEOUT = "timeout"
    ERROR = "error"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    CONTEXT_OVERFLOW = "context_overflow"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    DIVERGED = "diverged"


class Task(StrEnum):
    """What the caller says it is doing (``x-flatfee-task``)."""

    PLAN = "plan"
    EDIT = "edit"
    REVIEW = "review"
    FINAL = "final"
    CHAT = "chat"
    SUMMARIZE = "summarize"


class OnExhausted(StrEnum):
    """Consent to leave premium when fair-use is gone (``x-flatfee-on-exhausted``)."""

    CONTINUE = "continue"
    FAIL = "fail"


class Billing(StrEnum):
    """The billing state of an account."""

    ACTIVE = "active"
    PAST_DUE = "past_due"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"


class Header:
    """Header names, lower case, as they stand on the wire."""

    AUTHORIZATION: Final = "authorization"
    IDEMPOTENCY_KEY: Final = "idempotency-key"
    WORKFLOW: Final = "x-flatfee-workflow"
    TASK: Final = "x-flatfee-task"
    ON_EXHAUSTED: Final = "x-flatfee-on-exhausted"
    DEADLINE_MS: Final = "x-flatfee-deadline-ms"

    REQUEST_ID: Final = "x-flatfee-request-id"
    X_REQUEST_ID: Final = "x-request-id"
    LANE: Final = "x-flatfee-lane"
    REASON: Final = "x-flatfee-reason"
    FAIR_USE_REMAINING: Final = "x-flatfee-fair-use-remaining"
    FAIR_USE_LIMIT: Final = "x-flatfee-fair-use-limit"
    FAIR_USE_RESET: Final = "x-flatfee-fair-use-reset"
    MODEL: Final = "x-flatfee-model"
    ROUTE: Final = "x-flatfee-route"
    ATTEMPTS: Final = "x-flatfee-attempts"
    WORKFLOWS_ACTIVE: Final = "x-flatfee-workflows-active"
    WORKFLOWS_LIMIT: Final = "x-flatfee-workflows-limit"
    SHOULD_RETRY: Final = "x-should-retry"
    RETRY_AFTER: Final = "retry-after"
    REPLAYED: Final = "idempotent-replayed"


REQUEST_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Authorization": "`Bearer KEY`; required.",
        Header.WORKFLOW: "Names the agent run: 1–128 of `A-Z a-z 0-9 . _ : -`, but not `.` or `..`.",
        Header.TASK: "Hint: " + ", ".join(f"`{task}`" for task in Task) + ".",
        Header.ON_EXHAUSTED: "`continue` (default) or `fail`: consent to leave premium when fair-use is gone.",
        Header.DEADLINE_MS: "The caller gives up after this many milliseconds; no route is tried past it.",
        "Idempotency-Key": "At most 255 characters; the same on every try of one call.",
    }
)
"""Headers a caller may send, with their meaning; the docs are generated from it."""

RESPONSE_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        Header.REQUEST_ID: "`req_` + 26 characters, time-ordered; on every response.",
        Header.X_REQUEST_ID: "The same id, under the name other SDKs read.",
        Header.LANE: "How the request was served; once routed.",
        Header.REASON: "Why it took that lane; once routed.",
        Header.FAIR_USE_REMAINING: "Whole units left after this request's reservation; an estimate until settled.",
        Header.FAIR_USE_LIMIT: "Units of the plan's window.",
        Header.FAIR_USE_RESET: "End of the window, RFC 3339 UTC.",
        Header.MODEL: "The upstream model that answered.",
        Header.ROUTE: "The route that answered.",
        Header.ATTEMPTS: "How many routes were tried, the one that answered included.",
        Header.WORKFLOWS_ACTIVE: "Workflows that hold a slot now.",
        Header.WORKFLOWS_LIMIT: "Workflows that may run at once.",
        Header.SHOULD_RETRY: "`true` or `false` on every error.",
        Header.REPLAYED: "`true` where the answer to a repeated `Idempotency-Key` is the one given before.",
        "Retry-After": "Whole seconds, at least 1, on every 429, retryable 409 and retryable 503.",
    }
)
"""Headers of a response, with their meaning; the docs are generated from it."""

WORKFLOW_ID: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._:-]{1,128}")
"""Match in full. An id is a segment of a path, where ``.`` and ``..`` would lead elsewhere."""
MAX_IDEMPOTENCY_KEY: Final = 255


class ErrorCode(StrEnum):
    """Every error code a gateway answers with. ``ERRORS`` gives status and retry rule."""

    INVALID_REQUEST = "invalid_request"
    MISSING_API_KEY = "missing_api_key"
    INVALID_API_KEY = "invalid_api_key"
    FAIR_USE_EXHAUSTED = "fair_use_exhausted"
    BILLING_INACTIVE = "billing_inactive"
    PERMISSION_DENIED = "permission_denied"
    BROWSER_ORIGIN = "browser_origin"
    MODEL_NOT_FOUND = "model_not_found"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    IDEMPOTENCY_EXPIRED = "idempotency_expired"
    IDEMPOTENCY_IN_FLIGHT = "idempotency_in_flight"
    REQUEST_TOO_LARGE = "request_too_large"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    HEADERS_TOO_LARGE = "headers_too_large"
    WORKFLOW_LIMIT = "workflow_limit"
    RATE_LIMITED = "rate_limited"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    GATEWAY_OVERLOADED = "gateway_overloaded"
    STORE_UNAVAILABLE = "store_unavailable"
    FALLBACK_EXHAUSTED = "fallback_exhausted"
    DEADLINE_EXCEEDED = "deadline_exceeded"


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """What a code means on the wire.

    ``status`` is the HTTP status, ``retryable`` the value of ``x-should-retry``, ``type`` the
    envelope's ``error.type`` and ``when`` one sentence for people.
    """

    status: int
    retryable: bool
    type: str
    when: str


_REQUEST: Final = "invalid_request_error"
_BILLING: Final = "billing_error"
_LIMIT: Final = "rate_limit_error"
_SERVER: Final = "server_error"

ERRORS: Final[Mapping[str, ErrorRule]] = MappingProxyType(
    {
        ErrorCode.INVALID_REQUEST: ErrorRule(400, False, _REQUEST, "Not JSON, a wrong type, or a bad header."),
        ErrorCode.MISSING_API_KEY: ErrorRule(401, False, "authentication_error", "No bearer key was sent."),
        ErrorCode.INVALID_API_KEY: ErrorRule(
            401, False, "authentication_error", "The key is malformed, unknown, revoked or expired."
        ),
        ErrorCode.FAIR_USE_EXHAUSTED: ErrorRule(
            402, False, _BILLING, "Fair-use is spent and the request may not, or can no longer, continue on economy."
        ),
        ErrorCode.BILLING_INACTIVE: ErrorRule(
            402, False, _BILLING, "The account is past due, suspended or cancelled, and may not continue."
        ),
        ErrorCode.PERMISSION_DENIED: ErrorRule(
            403, False, "permission_error", "The key's scope does not allow this model or endpoint."
        ),
        ErrorCode.BROWSER_ORIGIN: ErrorRule(
            403, False, "permission_error", "A web page that the operator did not allow sent the request."
        ),
        ErrorCode.MODEL_NOT_FOUND: ErrorRule(404, False, _REQUEST, "No such model; the message lists what exists."),
        ErrorCode.NOT_FOUND: ErrorRule(404, False, _REQUEST, "No such endpoint, receipt or workflow for this key."),
        ErrorCode.CONFLICT: ErrorRule(
            409, False, _REQUEST, "It exists already, or a rule stands against the change (admin API)."
        ),
        ErrorCode.IDEMPOTENCY_MISMATCH: ErrorRule(
            409, False, _REQUEST, "The same idempotency key came with another body."
        ),
        ErrorCode.IDEMPOTENCY_EXPIRED: ErrorRule(
            409, False, _REQUEST, "Answered and charged already; the answer is no longer kept."
        ),
        ErrorCode.IDEMPOTENCY_IN_FLIGHT: ErrorRule(
            409, True, _REQUEST, "The first request with this idempotency key still runs."
        ),
        ErrorCode.REQUEST_TOO_LARGE: ErrorRule(413, False, _REQUEST, "The body exceeds the gateway's limit."),
        ErrorCode.UNSUPPORTED_ENCODING: ErrorRule(415, False, _REQUEST, "The body came with a content encoding."),
        ErrorCode.HEADERS_TOO_LARGE: ErrorRule(431, False, _REQUEST, "The headers exceed the gateway's limit."),
        ErrorCode.WORKFLOW_LIMIT: ErrorRule(429, True, _LIMIT, "Too many workflows run at once."),
        ErrorCode.RATE_LIMITED: ErrorRule(429, True, _LIMIT, "Too many requests per minute with this key."),
        ErrorCode.PROVIDER_UNAVAILABLE: ErrorRule(
            503, True, _SERVER, "The one eligible route failed or cannot be reached."
        ),
        ErrorCode.GATEWAY_OVERLOADED: ErrorRule(503, True, _SERVER, "The gateway is at capacity or shutting down."),
        ErrorCode.STORE_UNAVAILABLE: ErrorRule(
            503, True, _SERVER, "The ledger cannot be reached; nothing is served unmetered."
        ),
        ErrorCode.FALLBACK_EXHAUSTED: ErrorRule(
            503, False, _SERVER, "Two or more eligible routes, and all failed or were unavailable."
        ),
        ErrorCode.DEADLINE_EXCEEDED: ErrorRule(504, False, _SERVER, "The caller's deadline passed."),
    }
)
"""``ErrorCode`` → status, retry rule, envelope type. Codes are strings, so any string may be looked up."""

RETRYABLE_STATUSES: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Statuses worth another try when the answer carries neither a known code nor ``x-should-retry``."""

FINAL_CODES: Final[frozenset[str | None]] = frozenset(
    {
        *(ErrorCode.FALLBACK_EXHAUSTED, ErrorCode.FAIR_USE_EXHAUSTED, ErrorCode.BILLING_INACTIVE),
        *("insufficient_quota", "quota_exceeded", "billing_hard_limit_reached", "billing_not_active"),
        "access_terminated",
    }
)
"""Codes that no header makes worth another try. Other gateways and providers give those that are not ours, as ``code``
or ``type``, with 429 for money that is spent: no wait brings it back."""


def error_body(
    code: str,
    message: str,
    *,
    param: str | None = None,
    type: str | None = None,  # noqa: A002 - the envelope's own field name
    receipt: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the one error envelope: OpenAI's ``error`` object, and the receipt beside it.

    ``type`` defaults to the table's type for ``code``; a provider's own refusal passes through
    with codes that the table does not know, and then ``type`` must be given.
    """
    rule = ERRORS.get(code)
    body: dict[str, Any] = {
        "error": {
            "message": message,
            "type": type or (rule.type if rule else _SERVER),
            "param": param,
            "code": code,
        }
    }
    if receipt is not None:
        body["flatfee"] = dict(receipt)
    return body


def retryable(status: int, code: str | None, should_retry: str | None, type_: str | None = None) -> bool:
    """Tell whether an error answer may be tried again.

    Never for money that is spent, nor where every route was asked. Else ``x-should-retry`` decides; without it
    the code's rule; without a known code the status.
    """
    if status == 402 or not FINAL_CODES.isdisjoint((code, type_)):
        return False
    if should_retry == "true":
        return True
    if should_retry == "false":
        return False
    rule = ERRORS.get(code or "")
    return rule.retryable if rule else status in RETRYABLE_STATUSES


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer asks to wait, from ``retry-after-ms`` or ``retry-after``.

    A date counts from the answer's own ``Date`` (RFC 9110, section 6.6.1), so that no clock of this
    computer has to agree with it.
    """
    told = headers.get(Header.RETRY_AFTER)
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000.0
    seconds = _seconds(told)
    return _seconds_until(told, headers.get("date")) if seconds is None else seconds


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


def _seconds_until(date: str | None, now: str | None) -> float | None:
    if not date or not now:
        return None
    from email.utils import parsedate_to_datetime  # it brings much, for what hardly anybody sends

    try:
        return max(0.0, (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds())
    except (ValueError, TypeError, OverflowError):  # no date, one of two without a zone, or a year without end
        return None
