"""The receipt: who served a request, why, what it cost and what is left (docs/concepts/lanes.md).

``Receipt`` is a tolerant model: unknown fields, lanes and reasons are kept as they came, and a
value the gateway did not tell is absent, never guessed. The server writes receipts with the same
class that the client reads. Nothing here performs I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flatfee.wire import AttemptOutcome, Header, Lane, Reason, ReceiptState, Tier

_T = TypeVar("_T")


class _Part(BaseModel):
    """Base of every part: frozen, and open to fields that a newer gateway adds."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())


class FairUse(_Part):
    """Premium fair-use of the plan's window, in ``unit``s."""

    unit: str | None = None
    charged: int | None = None
    remaining: int | None = None
    limit: int | None = None
    resets_at: datetime | None = None


class WorkflowState(_Part):
    """The workflow of this request, and how many run beside it."""

    id: str | None = None
    active: int | None = None
    limit: int | None = None


class TokenUsage(_Part):
    """Tokens as the provider counted them; as the gateway estimated them in state ``estimated``."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class Attempt(_Part):
    """One try of one route. ``status`` is the provider's HTTP status, ``None`` if it sent none."""

    route: str
    outcome: AttemptOutcome | str = Field(union_mode="left_to_right")
    status: int | None = None
    duration_ms: int | None = None


class Receipt(_Part):
    """The account of one request.

    Every field may be ``None``: headers carry less than a body, and a refusal was never routed.
    ``state`` tells how final the figures are.
    """

    request_id: str | None = None
    lane: Lane | str | None = Field(default=None, union_mode="left_to_right")
    reason: Reason | str | None = Field(default=None, union_mode="left_to_right")
    state: ReceiptState | str | None = Field(default=None, union_mode="left_to_right")
    model_requested: str | None = None
    model_served: str | None = None
    route: str | None = None
    tier: Tier | str | None = Field(default=None, union_mode="left_to_right")
    fair_use: FairUse | None = None
    workflow: WorkflowState | None = None
    usage: TokenUsage | None = None
    attempts: tuple[Attempt, ...] | None = None
    attempt_count: int | None = Field(default=None, exclude=True)
    created_at: datetime | None = None

    @property
    def fair_use_remaining(self) -> int | None:
        """Units of premium fair-use left, or ``None`` if the gateway did not tell."""
        return self.fair_use.remaining if self.fair_use else None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Receipt | None:
        """Read a receipt from response headers; ``None`` if no gateway of ours sent them.

        Names are matched without regard to case. A figure that is not a number is left out.
        """
        found = {name.lower(): value for name, value in headers.items()}
        if Header.REQUEST_ID not in found:
            return None
        fair_use = _present(
            remaining=_read(int, found.get(Header.FAIR_USE_REMAINING)),
            limit=_read(int, found.get(Header.FAIR_USE_LIMIT)),
            resets_at=_read(datetime.fromisoformat, found.get(Header.FAIR_USE_RESET)),
        )
        workflow = _present(
            active=_read(int, found.get(Header.WORKFLOWS_ACTIVE)),
            limit=_read(int, found.get(Header.WORKFLOWS_LIMIT)),
        )
        return cls.model_validate(
            _present(
                request_id=found[Header.REQUEST_ID],
                lane=found.get(Header.LANE),
                reason=found.get(Header.REASON),
                model_served=found.get(Header.MODEL),
                route=found.get(Header.ROUTE),
                attempt_count=_read(int, found.get(Header.ATTEMPTS)),
                fair_use=fair_use or None,
                workflow=workflow or None,
            )
        )

    @classmethod
    def from_body(cls, body: object) -> Receipt | None:
        """Read the ``flatfee`` object of a decoded body; ``None`` if there is none or it is not a receipt."""
        found = body.get("flatfee") if isinstance(body, Mapping) else None
        if not isinstance(found, Mapping):
            return None
        try:
            return cls.model_validate(found)
        except ValidationError:
            return None

    @classmethod
    def of(cls, source: object) -> Receipt | None:
        """Find the receipt in anything that may carry one; ``None`` if there is none.

        Accepts a receipt, our responses, streams and errors, another SDK's completion that kept
        the ``flatfee`` field, its exceptions (body, then response headers), a decoded body, an
        HTTP response, and an exception that one of these caused.
        """
        seen: set[int] = set()
        while source is not None and id(source) not in seen:
            seen.add(id(source))
            receipt = _carried_by(source)
            if receipt is not None:
                return receipt
            source = getattr(source, "__cause__", None) or getattr(source, "__context__", None)
        return None

    def merge(self, later: Receipt | None) -> Receipt:
        """Return this receipt with everything that ``later`` tells laid over it."""
        if later is None:
            return self
        told = {name: getattr(later, name) for name in later.model_fields_set}
        return self.model_copy(update=told | (later.model_extra or {}))

    def explain(self) -> str:
        """Tell in one sentence what served the request, why, what it cost and what is left."""
        parts = [self._served()]
        if self.reason:
            parts.append(f"because {because(self.reason)}")
        tries = len(self.attempts) if self.attempts is not None else self.attempt_count
        if tries is not None and tries > 1:
            parts.append(f"after {tries} attempts")
        sentence = " ".join(parts)
        return f"{sentence}{self._cost()}."

    def _served(self) -> str:
        if self.state == ReceiptState.REFUSED:
            wanted = f" on the {self.lane} lane" if self.lane else ""
            return f"Refused{wanted}"
        by = " via ".join(part for part in (self.model_served, self.route) if part)
        lane = f"on the {self.lane} lane" if self.lane else "on an untold lane"
        verb = "Running" if self.state == ReceiptState.IN_FLIGHT else "Served"
        return f"{verb} {lane}{f' by {by}' if by else ''}"

    def _cost(self) -> str:
        use = self.fair_use
        if use is None:
            return ""
        unit = "request" if use.unit == "request" else "unit"
        parts: list[str] = []
        if use.charged is not None:
            about = "about " if self.state == ReceiptState.ESTIMATED else ""
            parts.append(f"{about}{_count(use.charged, unit)} charged")
        if use.remaining is not None:
            limit = f" of {use.limit:,}" if use.limit is not None else ""
            parts.append(f"{use.remaining:,}{limit} left")
        if use.resets_at is not None and parts:
            parts[-1] += f" until {use.resets_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return "; " + ", ".join(parts) if parts else ""


_BECAUSE: Mapping[str, str] = {
    Reason.REQUESTED: "the caller asked for it",
    Reason.FRAGILE_REASONING: "the task needs careful reasoning",
    Reason.SMALL_TASK: "the task is small",
    Reason.CONTEXT_SIZE: "the context is large",
    Reason.DEFAULT: "no rule said otherwise",
    Reason.WORKFLOW_AFFINITY: "its tool loop had begun there",
    Reason.FAIR_USE_EXHAUSTED: "premium fair-use does not cover it",
    Reason.BILLING_STATE: "of the account's billing state",
    Reason.PROVIDER_TIMEOUT: "the first choice was silent for too long",
    Reason.PROVIDER_ERROR: "the first choice failed",
    Reason.PROVIDER_UNAVAILABLE: "the first choice was unavailable",
    Reason.PROVIDER_RATE_LIMITED: "the first choice was rate limited",
    Reason.CONTEXT_OVERFLOW: "the first choice could not hold the context",
}


def because(reason: Reason | str) -> str:
    """Say a reason in words that follow "because"; one that is not known yet is said as it is spelled."""
    return _BECAUSE.get(reason, reason.replace("_", " "))


def _carried_by(source: object) -> Receipt | None:
    """Look into one object: its own receipt, its body, its extra fields, its response's headers."""
    if isinstance(source, Receipt):
        return source
    for name in ("receipt", "flatfee"):
        found = getattr(source, name, None)
        if isinstance(found, Receipt):
            return found
    for body in (source, getattr(source, "model_extra", None), getattr(source, "body", None)):
        receipt = Receipt.from_body(body)
        if receipt is not None:
            return receipt
    return _from_response(getattr(source, "response", source))


def _from_response(response: object) -> Receipt | None:
    headers = getattr(response, "headers", None)
    if not isinstance(headers, Mapping):
        return None
    receipt = Receipt.from_headers(headers)
    if receipt is None:
        return None
    try:
        body = response.json()  # type: ignore[attr-defined]  # any HTTP library's response
    except Exception:  # noqa: BLE001 - a body that was not read, or is not JSON, tells no more
        return receipt
    return receipt.merge(Receipt.from_body(body))


def _read(convert: Callable[[str], _T], text: str | None) -> _T | None:
    try:
        return convert(text) if text is not None else None
    except ValueError:
        return None


def _present(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"
