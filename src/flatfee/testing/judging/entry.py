"""One request in the journal: a frozen copy of an ``Exchange``, and what can be read out of it. No judgement."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Final
from urllib.parse import unquote

from flatfee.receipt import Attempt, Receipt
from flatfee.testing.judging.answered import Answered, json_object, read_answer
from flatfee.testing.running.exchange import Exchange, Tried
from flatfee.testing.scripting.conversation import Conversation
from flatfee.wire import ERRORS, Header, retry_after, retryable

WORKFLOWS: Final = "/v1/workflows/"
_HOW_TO_ANSWER: Final = frozenset({"stream", "stream_options"})
_RETRY_COUNT: Final = "x-stainless-retry-count"


class Ending(StrEnum):
    """How a response ended, as the gateway saw it. A caller has ``LEFT`` as soon as it hangs up."""

    WHOLE = "whole"
    LEFT = "left"
    CUT = "cut"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTry:
    """One try of a route. ``at`` is in seconds of the gateway's clock; ``None`` if the route was only skipped.

    ``rule`` is the rule of the script that answered, ``None`` for the default model. ``outcome`` and ``status``
    are the receipt's; ``None`` where there is no receipt that tells them.
    """

    route: str
    at: float | None = None
    rule: str | None = None
    outcome: str | None = None
    status: int | None = None


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Entry:
    """One request and what became of it. Times are seconds of the gateway's clock since it was made.

    ``number`` counts completions, as scripts do, and is 0 for other requests. ``raw`` and ``raw_answer`` are the
    bytes of the two bodies, of an answer the first MiB; ``answer_size`` counts all of them. ``key`` is the last
    four characters of the key. ``arrived``, ``first_byte`` and ``ended`` are the request's head, the first of the
    answer's body, and the end; ``None`` where that did not come. ``hung_up`` is when a caller sent its end before
    the answer's; the gateway is done with its request a moment later. ``unread_since`` is since when an open answer has
    waited for the caller to take more of it.
    """

    number: int
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    raw: bytes
    key: str
    arrived: float
    first_byte: float | None
    ended: float | None
    status: int | None
    answer_headers: Mapping[str, str]
    raw_answer: bytes
    answer_size: int
    ending: Ending
    hung_up: float | None
    unread_since: float | None
    tried: tuple[Tried, ...]
    epoch: float
    real: float
    real_ended: float | None
    real_hung_up: float | None
    era: int
    edge: str = ""
    """What a script let happen between the gateway and this caller."""

    def __repr__(self) -> str:
        return f"<Entry {self.name} {self.status} {self.code or ''} {self.ending}>"

    @classmethod
    def of(cls, exchange: Exchange, epoch: float) -> Entry:
        """Copy what is known of a request by now. ``epoch`` is when the gateway's clock began, since the epoch."""
        return cls(
            number=exchange.number,
            method=exchange.method,
            path=exchange.path,
            query=exchange.query,
            headers=dict(exchange.headers),
            raw=exchange.body,
            key=exchange.key,
            arrived=exchange.arrived,
            first_byte=exchange.first_byte,
            ended=exchange.ended,
            status=exchange.status,
            answer_headers=dict(exchange.response_headers),
            raw_answer=bytes(exchange.response),
            answer_size=exchange.response_size,
            ending=_ending(exchange),
            hung_up=exchange.hung_up,
            unread_since=exchange.unread_since,
            tried=tuple(Tried(route=tried.route, at=tried.at, rule=tried.rule) for tried in exchange.tries),
            epoch=epoch,
            real=exchange.real,
            real_ended=exchange.real_ended,
            real_hung_up=exchange.real_hung_up,
            era=exchange.era,
            edge=str(exchange.edge or ""),
        )

    # What came

    @property
    def is_completion(self) -> bool:
        """Whether it asks for a completion."""
        return self.number > 0

    @property
    def name(self) -> str:
        """What messages call it: ``#3`` for the third completion, else method and path."""
        return f"#{self.number}" if self.number else f"{self.method} {self.path}"

    @cached_property
    def body(self) -> Mapping[str, Any]:
        """The request's body; empty where it is no JSON object."""
        return json_object(self.raw)

    @cached_property
    def digest(self) -> str:
        """What tells two bodies apart without telling what is in them."""
        return hashlib.sha256(self.raw).hexdigest()

    @cached_property
    def question(self) -> str:
        """What tells two questions apart: a digest of the body, whether its answer is to be streamed or not."""
        asked = {name: value for name, value in self.body.items() if name not in _HOW_TO_ANSWER}
        try:
            told = json.dumps(asked, sort_keys=True) if asked else ""
        except RecursionError:
            told = ""
        return hashlib.sha256(told.encode()).hexdigest() if told else self.digest

    @property
    def model(self) -> str | None:
        """The model that was asked for."""
        model = self.body.get("model")
        return model if isinstance(model, str) else None

    @cached_property
    def _conversation(self) -> Conversation:
        """The conversation that was sent, as scripts match it."""
        return Conversation(self.body)

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The messages of the conversation."""
        return list(self._conversation.messages)

    @property
    def turn(self) -> int:
        """Which answer of the model is asked for: 1 + how many the conversation holds."""
        return self._conversation.turn

    @property
    def stream(self) -> bool:
        """Whether a stream was asked for."""
        return self.body.get("stream") is True

    @property
    def workflow(self) -> str | None:
        """The workflow that was named."""
        return self.headers.get(Header.WORKFLOW)

    @property
    def idempotency_key(self) -> str | None:
        """The ``Idempotency-Key`` that was sent."""
        return self.headers.get(Header.IDEMPOTENCY_KEY)

    @property
    def deadline_ms(self) -> int | None:
        """The deadline that was told, in milliseconds from the request's arrival."""
        told = self.headers.get(Header.DEADLINE_MS, "")
        return int(told) if told.isdecimal() else None

    @property
    def retry_count(self) -> int | None:
        """Which retry the client says that it is, as openai-python does."""
        told = self.headers.get(_RETRY_COUNT, "")
        return int(told) if told.isdecimal() else None

    @property
    def released(self) -> str | None:
        """The workflow that the request released."""
        gone = self.method == "DELETE" and self.path.startswith(WORKFLOWS) and self.status is not None
        return unquote(self.path.removeprefix(WORKFLOWS)) if gone and self.status in {200, 204, 404} else None

    # When

    @property
    def arrived_at(self) -> datetime:
        """When it arrived: the gateway's date and time, in UTC."""
        return self.moment(self.arrived)

    @property
    def first_byte_at(self) -> datetime | None:
        """When the first of the answer's body went out."""
        return None if self.first_byte is None else self.moment(self.first_byte)

    @property
    def ended_at(self) -> datetime | None:
        """When the gateway was done with it."""
        return None if self.ended is None else self.moment(self.ended)

    @property
    def let_go(self) -> float | None:
        """When the caller waited no more: it hung up, or the answer ended."""
        return self.hung_up if self.ending == Ending.LEFT and self.hung_up is not None else self.ended

    @property
    def real_let_go(self) -> float | None:
        """The same by the machine's own clock."""
        return self.real_hung_up if self.ending == Ending.LEFT and self.hung_up is not None else self.real_ended

    def moment(self, seconds: float) -> datetime:
        """Return the date and time of a moment of the gateway's clock, in UTC."""
        return datetime.fromtimestamp(self.epoch + seconds, UTC)

    # What went back

    @cached_property
    def answered(self) -> Answered:
        """What the answer said, as far as it went out."""
        return read_answer(self.raw_answer, self.answer_headers)

    @property
    def text(self) -> str:
        """The answer's text, as far as it went out."""
        return self.answered.text

    @property
    def usage(self) -> Mapping[str, Any] | None:
        """The usage that the answer told."""
        return self.answered.usage

    @property
    def code(self) -> str | None:
        """The error's code, that of an error in mid-stream too."""
        code = (self.answered.error or {}).get("code")
        return code if isinstance(code, str) else None

    @property
    def failed(self) -> bool:
        """Whether the answer was an error, had one in mid-stream, or was cut."""
        refused = self.status is not None and self.status >= 400
        return refused or self.answered.error is not None or self.ending == Ending.CUT

    @property
    def failed_midway(self) -> bool:
        """Whether an answer began well, and ended in an error event or was cut."""
        return self.status == 200 and self.answer_size > 0 and self.failed

    @property
    def whole(self) -> bool:
        """Whether a completion was answered to its end."""
        return self.ending == Ending.WHOLE and self.status == 200 and not self.failed

    @property
    def should_retry(self) -> bool | None:
        """What ``x-should-retry`` told."""
        return {"true": True, "false": False}.get(self.answer_headers.get(Header.SHOULD_RETRY, ""))

    @property
    def retryable(self) -> bool:
        """Whether a failed request may be sent again: told by the answer, else by the code, else by the status."""
        if self.status is None or self.status < 400:
            rule = ERRORS.get(self.code or "")
            return rule is None or rule.retryable
        kind = (self.answered.error or {}).get("type")
        told = self.answer_headers.get(Header.SHOULD_RETRY)
        return retryable(self.status, self.code, told, kind if isinstance(kind, str) else None)

    @property
    def retry_after(self) -> float | None:
        """The seconds that the answer told to wait, by ``retry-after-ms`` or ``Retry-After``."""
        return retry_after(self.answer_headers)

    @property
    def told_wait(self) -> float | None:
        """The seconds that a refusal told to wait; ``None`` where it told nothing, or 0."""
        return (self.retry_after or None) if self.status is not None and self.status >= 400 else None

    @cached_property
    def receipt(self) -> Receipt | None:
        """The receipt, of what headers and body told."""
        first = Receipt.from_headers(self.answer_headers)
        return first.merge(self.answered.receipt) if first else self.answered.receipt

    @cached_property
    def tries(self) -> tuple[RouteTry, ...]:
        """The routes that were tried, or skipped, in order."""
        attempts = self.receipt.attempts if self.receipt else None
        return tuple(_joined(self.tried, attempts or ()))


def _ending(exchange: Exchange) -> Ending:
    if exchange.cut:
        return Ending.CUT
    if exchange.whole:
        return Ending.WHOLE
    return Ending.OPEN if exchange.ended is None and exchange.hung_up is None else Ending.LEFT


def _joined(tried: Sequence[Tried], attempts: Sequence[Attempt]) -> Iterator[RouteTry]:
    """Yield what the receipt lists, with what the provider was asked; then what was asked and is not listed."""
    asked = list(tried)
    for attempt in attempts:
        place = next((place for place, each in enumerate(asked) if each.route == attempt.route), None)
        match = None if place is None else asked.pop(place)
        yield RouteTry(
            route=attempt.route,
            at=match.at if match else None,
            rule=match.rule if match else None,
            outcome=str(attempt.outcome),
            status=attempt.status,
        )
    for each in asked:
        yield RouteTry(route=each.route, at=each.at, rule=each.rule)
