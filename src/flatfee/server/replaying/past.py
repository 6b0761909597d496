"""One line of exported receipts, as a replay needs it. Pure: bytes in, a frozen value out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec

from flatfee.receipt import Compaction
from flatfee.server.asked import Asked
from flatfee.server.ids import moment_of
from flatfee.server.stages.failures import RETRY_SAME_STATUSES
from flatfee.server.statement import UsedTokens
from flatfee.wire import AttemptOutcome, Billing, ErrorCode, Lane, Model, Reason, ReceiptState

LONGEST_LINE: Final = 262_144
"""Bytes of one line; a receipt has some hundred."""

_NO_ROUTE_LEFT: Final = frozenset({ErrorCode.FALLBACK_EXHAUSTED, ErrorCode.PROVIDER_UNAVAILABLE})
_JUDGED: Final = frozenset(
    {ErrorCode.FAIR_USE_EXHAUSTED, ErrorCode.BILLING_INACTIVE, ErrorCode.WORKFLOW_LIMIT, ErrorCode.RATE_LIMITED}
)
"""Refusals that a plan, a policy or the ledger decides on, of a request that was read."""


_TRIED_AGAIN: Final = RETRY_SAME_STATUSES - {429}


class BadLine(ValueError):
    """A line is no receipt; the message names the field and the cure."""


class Ending(StrEnum):
    """What a request of the past came to: what would happen to it again on whichever route is to answer."""

    ANSWERED = "answered"
    DECLINED = "declined"
    """A provider refused it for what it is."""
    LEFT = "left"
    """Its caller left, or its time was over, while a route was asked."""
    BROKEN = "broken"
    """An answer broke off, and no other route could go on with it."""
    FAILED = "failed"
    """No route was left that had not failed."""
    GONE = "gone"
    """It ended between two tries, or before the first."""
    REFUSED = "refused"
    """It never had a ticket."""


_ENDS: Final = {
    AttemptOutcome.OK: Ending.ANSWERED,
    AttemptOutcome.REFUSED: Ending.DECLINED,
    AttemptOutcome.CANCELLED: Ending.LEFT,
}
ENDS_WITH_A_TRY: Final = frozenset(_ENDS.values())
"""Endings whose last try is no failure of its route."""


class Try(msgspec.Struct, frozen=True, gc=False):
    """One try of the past. Times are in milliseconds."""

    route: str
    outcome: AttemptOutcome
    status: int | None = None
    duration_ms: int | None = None
    first_token_ms: int | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.duration_ms or 0) / 1000


def is_tried_again(each: Try) -> bool:
    """Tell whether a gateway tries a route again after such a failure.

    A 429 that was tried only once had asked for more patience than it has.
    """
    return each.outcome is AttemptOutcome.UNAVAILABLE or each.status in _TRIED_AGAIN


def _was_passed_over(each: Try) -> bool:
    return each.outcome is AttemptOutcome.UNAVAILABLE and not each.duration_ms


class FairUseLine(msgspec.Struct, frozen=True, gc=False):
    """What a receipt tells of fair-use."""

    unit: str | None = None
    charged: int | None = None
    limit: int | None = None
    resets_at: datetime | None = None


class _Workflow(msgspec.Struct, frozen=True, gc=False):
    id: str | None = None


class _Usage(msgspec.Struct, frozen=True, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class _Compaction(msgspec.Struct, frozen=True, gc=False):
    saved_tokens: int | None = None
    prompt_tokens: int | None = None
    messages: int | None = None


class _Line(msgspec.Struct, frozen=True):
    account: str
    request_id: str
    project: str | None = None
    lane: str | None = None
    reason: str | None = None
    state: str | None = None
    model_requested: str | None = None
    route: str | None = None
    fair_use: FairUseLine = FairUseLine()
    workflow: _Workflow = _Workflow()
    usage: _Usage | None = None
    compaction: _Compaction | None = None
    attempts: tuple[Try, ...] = ()
    created_at: datetime | None = None
    ended_at: datetime | None = None
    code: str | None = None
    facts: Asked | None = None


class AccountLine(msgspec.Struct, frozen=True):
    """An account as it stood at the export, which the receipts themselves do not tell."""

    name: str
    plan: str
    billing: Billing = Billing.ACTIVE
    billing_day: int = 1


class _Kind(msgspec.Struct, frozen=True, gc=False):
    object: str | None = None


@dataclass(frozen=True, kw_only=True)
class Past:
    """One request of the past. Moments are seconds since the epoch.

    ``judged`` tells whether a policy or a plan decides on it; what was turned away before that stays as it was.
    ``approximate`` means that its facts were not kept: ``asked`` is what else is known of it.
    """

    line: _Line
    arrived: float
    ended: float
    asked: Asked
    approximate: bool
    ending: Ending
    judged: bool

    @property
    def id(self) -> str:
        """The request's id."""
        return self.line.request_id

    @property
    def workflow(self) -> str | None:
        """The agent run it belongs to, if it named one."""
        return self.line.workflow.id

    @property
    def model(self) -> str:
        """The model that was asked for; where that is not kept, what its reason tells of it."""
        line = self.line
        if line.model_requested is not None:
            return line.model_requested
        if line.reason != Reason.REQUESTED:
            return Model.AUTO
        return Model.ECONOMY if line.lane == Lane.BUDGET else Model.PREMIUM

    @cached_property
    def usage(self) -> UsedTokens | None:
        """The tokens of its answer."""
        told = self.line.usage
        if told is None:
            return None
        return UsedTokens(**_told(told))

    @property
    def told(self) -> bool:
        """Whether the provider told the tokens of its answer; otherwise they are the gateway's estimate.

        Some tell those of the prompt at once, so that they are known of an answer that was left, too. An estimate
        knows of none that were cached.
        """
        usage = self.line.usage
        return self.line.state == ReceiptState.SETTLED or (usage is not None and usage.cached_tokens is not None)

    @property
    def compaction(self) -> Compaction | None:
        """What was left out of it for economy, if it is known how large it was."""
        told = self.line.compaction
        return Compaction(**_told(told)) if told is not None and self.line.facts is not None else None

    @property
    def last(self) -> Try:
        """The try that ended it."""
        return self.line.attempts[-1]

    @property
    def flowed(self) -> bool:
        """Whether an answer that broke off was charged all the same."""
        return bool(self.line.fair_use.charged)

    @cached_property
    def failures(self) -> Mapping[str, Sequence[Try]]:
        """Its tries that failed, by route, in their order."""
        found: dict[str, list[Try]] = {}
        tries = self.line.attempts
        for each in tries[:-1] if self.ending in ENDS_WITH_A_TRY else tries:
            found.setdefault(each.route, []).append(each)
        return found

    @cached_property
    def pauses(self) -> int:
        """How often the gateway waited before it would try a route again, whether or not its circuit let it."""
        routes = [list(tries) for _, tries in groupby(self.line.attempts, attrgetter("route"))]
        return sum(len(tries) > 1 or (is_tried_again(tries[0]) and not _was_passed_over(tries[0])) for tries in routes)

    @cached_property
    def rest(self) -> float:
        """Seconds from its admission to its end in which no route was tried: the pauses, if there were any."""
        return max(0.0, self.ended - self.arrived - sum(each.seconds for each in self.line.attempts))

    @cached_property
    def untold(self) -> float:
        """Seconds that each try took beyond what is told of it, in equal parts: at least what was rounded off."""
        asked = sum(not _was_passed_over(each) for each in self.line.attempts)
        return 0.0 if self.pauses else self.rest / max(1, asked)


def _told(figures: _Usage | _Compaction) -> dict[str, int]:
    return {name: value for name in figures.__struct_fields__ if (value := getattr(figures, name)) is not None}


_lines: Final = msgspec.json.Decoder(_Line)
_accounts: Final = msgspec.json.Decoder(AccountLine)
_kinds: Final = msgspec.json.Decoder(_Kind)


def read_line(text: bytes) -> Past | AccountLine:
    """Read one line of an export.

    Raises:
        BadLine: it is too long, is not JSON, or a field is missing or of the wrong type.
    """
    if len(text) > LONGEST_LINE:
        message = f"has {len(text)} bytes, and a receipt at most {LONGEST_LINE}; write one receipt on each line"
        raise BadLine(message)
    try:
        return past_of(_lines.decode(text))
    except msgspec.ValidationError as error:
        return _account_or_else(text, error)
    except (msgspec.DecodeError, RecursionError) as error:
        message = f"is not a JSON object: {error}; write one receipt on each line, as 'flatfee receipts export' does"
        raise BadLine(message) from error


def _account_or_else(text: bytes, error: msgspec.ValidationError) -> AccountLine:
    try:
        if _kinds.decode(text).object == "account":
            return _accounts.decode(text)
    except msgspec.DecodeError as second:
        error = second if isinstance(second, msgspec.ValidationError) else error
    message = f"is not a receipt with its account: {error}; export receipts with 'flatfee receipts export'"
    raise BadLine(message) from error


def past_of(line: _Line) -> Past:
    """Return what a receipt tells of its request.

    Raises:
        BadLine: it tells no moment.
    """
    ending = _ending(line)
    created = line.ended_at if ending is Ending.REFUSED and line.ended_at is not None else line.created_at
    arrived = created.timestamp() if created is not None else moment_of(line.request_id)
    if arrived is None:
        message = f"request_id {line.request_id[:40]!r} is no id of a gateway, and created_at is missing"
        raise BadLine(message)
    spent = sum(each.seconds for each in line.attempts)
    ended = line.ended_at.timestamp() if line.ended_at is not None else arrived + spent
    return Past(
        line=line,
        arrived=arrived,
        ended=max(ended, arrived),
        asked=line.facts if line.facts is not None else _guessed(line),
        approximate=line.facts is None or line.model_requested is None,
        ending=ending,
        judged=_is_judged(line),
    )


def _is_judged(line: _Line) -> bool:
    if line.lane is not None:
        return line.state != ReceiptState.IN_FLIGHT
    if line.code is None:
        return False
    # A request that was read, and refused because no route could take it, might find one now.
    no_route = line.code == ErrorCode.INVALID_REQUEST and line.facts is not None
    return line.code in _JUDGED or no_route


def _ending(line: _Line) -> Ending:
    if line.lane is None:
        return Ending.REFUSED
    if not line.attempts:
        return Ending.GONE if line.state == ReceiptState.REFUSED else Ending.ANSWERED
    last = line.attempts[-1].outcome
    if last in _ENDS:
        return _ENDS[last]
    if line.route is not None:
        return Ending.BROKEN
    all_too_small = last == AttemptOutcome.CONTEXT_OVERFLOW and line.code is None
    unknown = line.facts is None
    return Ending.FAILED if line.code in _NO_ROUTE_LEFT or all_too_small or unknown else Ending.GONE


def _guessed(line: _Line) -> Asked:
    """Return what is known of a request whose facts were not kept."""
    prompt = line.usage.prompt_tokens if line.usage is not None else None
    return Asked(prompt_tokens=prompt or 0)
