"""The receipt: who served a request, why, what it cost and what is left (docs/concepts/lanes.md).

``Receipt`` is a tolerant model: unknown fields, lanes and reasons are kept as they came, and a
value the gateway did not tell is absent, never guessed. The server writes receipts with the same
class that the client reads. Nothing here performs I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from flatfee.wire import AttemptOutcome, ErrorCode, Header, Lane, OnExhausted, Reason, ReceiptState, Task, Tier

_T = TypeVar("_T")


def _in_utc(value: datetime) -> datetime:
    """Return the same moment in UTC; a time that names no zone is in UTC already."""
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is before the first year or after the last") from None


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class _Part(BaseModel):
    """Base of every part: frozen, and open to fields that a newer gateway adds."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=(), defer_build=True)

    def _under(self, later: _Part) -> Self:
        """Return this part with ``later`` laid over it, field by field. ``None`` tells nothing, and covers nothing."""
        told = {name: _laid_over(getattr(self, name, None), getattr(later, name)) for name in later.model_fields_set}
        return self.model_copy(update=told)


class FairUse(_Part):
    """Premium fair-use of the plan's window, in ``unit``s."""

    unit: str | None = None
    charged: int | None = None
    remaining: int | None = None
    limit: int | None = None
    resets_at: Moment | None = None


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


class Compaction(_Part):
    """What an economy route was spared of a long conversation, in tokens as the gateway estimates them.

    ``prompt_tokens`` is what the caller sent, ``saved_tokens`` how many of them were left out, ``messages`` the
    number of messages that were trimmed.
    """

    saved_tokens: int | None = None
    prompt_tokens: int | None = None
    messages: int | None = None


class Attempt(_Part):
    """One try of one route. ``status`` is the provider's HTTP status, ``None`` if it sent none.

    ``first_token_ms`` is absent without a token.
    """

    route: str
    outcome: AttemptOutcome | str = Field(union_mode="left_to_right")
    status: int | None = None
    duration_ms: int | None = None
    first_token_ms: int | None = None


class RequestFacts(_Part):
    """What a request asked for, as far as the gateway keeps it: figures and flags. What is as usual is left out.

    ``prompt_tokens`` is the gateway's estimate, ``output_tokens`` what was asked for.
    """

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    choices: int | None = None
    tools: bool | None = None
    images: bool | None = None
    json_schema: bool | None = None
    tool_loop: bool | None = None
    stream: bool | None = None
    task: Task | str | None = Field(default=None, union_mode="left_to_right")
    reasoning_effort: str | None = None
    on_exhausted: OnExhausted | str | None = Field(default=None, union_mode="left_to_right")


class Receipt(_Part):
    """The account of one request.

    Every field may be ``None``: headers carry less than a body, and a refusal was never routed.
    ``state`` tells how final the figures are. ``facts``, ``ended_at`` and ``code``, of the error that the request
    ended in, are told by receipts that were looked up; the one that comes with an answer has none of them.
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
    compaction: Compaction | None = None
    attempts: tuple[Attempt, ...] | None = None
    attempt_count: int | None = Field(default=None, exclude=True)
    created_at: Moment | None = None
    ended_at: Moment | None = None
    code: ErrorCode | str | None = Field(default=None, union_mode="left_to_right")
    facts: RequestFacts | None = None

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
            resets_at=_read(_moment, found.get(Header.FAIR_USE_RESET)),
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
        return cls.from_object(body.get("flatfee")) if isinstance(body, Mapping) else None

    @classmethod
    def from_object(cls, found: object) -> Receipt | None:
        """Read a decoded receipt. What is not as it should be is left out; ``None`` if nothing remains."""
        while isinstance(found, Mapping) and found:
            try:
                return cls.model_validate(dict(found))
            except ValidationError as error:
                bad = [place["loc"] for place in error.errors(include_url=False, include_input=False)]
                found = _without(found, bad)
        return None

    @classmethod
    def from_answer(cls, headers: Mapping[str, str], body: object) -> Receipt | None:
        """Read what the headers of an answer tell, and lay over it what its decoded body tells."""
        first, last = cls.from_headers(headers), cls.from_body(body)
        return first.merge(last) if first else last

    @classmethod
    def of(cls, source: object) -> Receipt | None:
        """Find the receipt in anything that may carry one; ``None`` if there is none. Never fails, and fetches nothing.

        Accepts our responses, streams and errors, HTTP responses, decoded bodies, what openai-python, LangChain,
        LlamaIndex, pydantic-ai, openai-agents, smolagents and LiteLLM return, and exceptions, through what caused
        them and the members of a group. Where a framework keeps the request's id only, that is all the receipt tells.
        """
        from flatfee.finding import receipt_in  # it knows where to look, and needs this module

        return receipt_in(source)

    def merge(self, later: Receipt | None) -> Receipt:
        """Return this receipt with everything that ``later`` tells laid over it, field by field."""
        return self if later is None else self._under(later)

    def explain(self) -> str:
        """Tell in one sentence what served the request, why, what it cost and what is left."""
        parts = [self._served()]
        if self.reason:
            parts.append(f"because {because(self.reason)}")
        tries = len(self.attempts) if self.attempts is not None else self.attempt_count
        if tries is not None and tries > 1:
            parts.append(f"after {tries} attempts")
        sentence = " ".join(parts)
        return f"{sentence}{self._left_out()}{self._cost()}."

    def _served(self) -> str:
        lane = f" on the {self.lane} lane" if self.lane else ""
        if self.state == ReceiptState.REFUSED:
            return f"Refused{lane}"
        by = " via ".join(part for part in (self.model_served, self.route) if part)
        if not (self.state or self.lane or by):
            return f"Request {self.request_id} was not routed" if self.request_id else "The request was not routed"
        lane, by = lane or " on an untold lane", f" by {by}" if by else ""
        if not self.state:  # headers alone tell the way that was chosen, not how it ended
            return f"Routed{lane.replace(' on ', ' to ', 1)}{by}"
        return f"{'Running' if self.state == ReceiptState.IN_FLIGHT else 'Served'}{lane}{by}"

    def _left_out(self) -> str:
        saved = self.compaction.saved_tokens if self.compaction else None
        return f", with about {_count(saved, 'token')} of old tool results left out" if saved else ""

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
            parts[-1] += f" until {use.resets_at:%Y-%m-%d %H:%M} UTC"
        return "; " + ", ".join(parts) if parts else ""


_BECAUSE: Mapping[str, str] = {
    Reason.REQUESTED: "the caller asked for it",
    Reason.FRAGILE_REASONING: "the task needs careful reasoning",
    Reason.SMALL_TASK: "the task is small",
    Reason.CONTEXT_SIZE: "the context is large",
    Reason.DEFAULT: "the gateway's policy says so",
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


def _laid_over(early: object, late: object) -> object:
    if late is None:
        return early
    if isinstance(early, _Part) and isinstance(late, type(early)):
        return early._under(late)
    return late


def _without(found: object, places: Iterable[tuple[int | str, ...]]) -> Any:
    """Return a copy without what stands at ``places``; ``None`` if ``found`` is wrong itself, or lacks something."""
    inner: dict[Any, Any] = dict(found) if isinstance(found, Mapping) else {}
    if isinstance(found, list | tuple):
        inner = dict(enumerate(found))
    below: dict[object, list[tuple[int | str, ...]]] = {}
    for place in places:
        if not place or place[0] not in inner:
            return None
        below.setdefault(place[0], []).append(place[1:])
    for key, rest in below.items():
        left = _without(inner.pop(key), rest)
        if left is not None:
            inner[key] = left
    return inner if isinstance(found, Mapping) else [inner[key] for key in sorted(inner)]


def _moment(text: str) -> datetime:
    return _in_utc(datetime.fromisoformat(text))


def _read(convert: Callable[[str], _T], text: str | None) -> _T | None:
    try:
        return convert(text) if text is not None else None
    except ValueError:
        return None


def _present(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"
