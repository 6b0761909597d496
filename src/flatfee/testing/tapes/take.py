"""One exchange while it goes on, and the tape that is made of it. No I/O and no clock: moments are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flatfee.server.answers.reshape import shape_of
from flatfee.server.answers.sse import EventCutter, payload_of
from flatfee.server.providers.base import MAX_ANSWER, ProviderFailure
from flatfee.server.settings import RouteSettings
from flatfee.testing.tapes.ids import REQUEST_IDS, Ids
from flatfee.testing.tapes.matching import canonical, digest
from flatfee.testing.tapes.redaction import Redaction
from flatfee.testing.tapes.spelling import Style, event_text, read, style_of
from flatfee.testing.tapes.tape import FORMAT, Tape

KEPT_HEADERS: Final = ("content-type", "retry-after", "retry-after-ms", "x-should-retry", *REQUEST_IDS)
KEPT_PREFIXES: Final = ("x-ratelimit-", "ratelimit")
"""Response headers that are kept; the others tell of the provider's machines, or of the account."""

_KINDS: Final = frozenset({"body", "data", "text", "bytes"})
_USUAL: Final = {"style": Style.COMPACT, "line_end": "\n"}
"""How JSON and events are spelled where a tape does not say."""

_LINE_ENDS: Final = ("\r\n", "\n", "\r")


@dataclass(slots=True, kw_only=True)
class Take:
    """What is noted of one try of a route. Moments are in seconds of one clock; ``began`` is when it was sent.

    ``whole``: the answer was read to its end. Of one that is longer than the gateway takes, not all is kept.
    """

    route: RouteSettings
    body: bytes
    stream: bool
    began: float
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    head_at: float | None = None
    parts: list[tuple[float, bytes]] = field(default_factory=list)
    size: int = 0
    failure: ProviderFailure | None = None
    failed_at: float = 0.0
    whole: bool = False
    ended: float | None = None

    def head(self, status: int, headers: Mapping[str, str], now: float) -> None:
        """Note that the head came."""
        self.status, self.headers, self.head_at = status, headers, now

    def part(self, data: bytes, now: float) -> None:
        """Note that a part came; beyond what the gateway itself would take, no more is kept."""
        self.size += len(data)
        if self.size <= MAX_ANSWER:
            self.parts.append((now, data))

    @property
    def tells_nothing(self) -> bool:
        """Whether a connection that was kept had ended: the provider never heard the request, and it is asked again."""
        return self.failure is not None and self.failure.stale

    def fail(self, failure: ProviderFailure, now: float) -> None:
        """Note how the connection failed."""
        if self.failure is None:
            self.failure, self.failed_at = failure, now

    def end(self, now: float, *, whole: bool = False) -> None:
        """Note that it is over, once: what the caller does with the answer after that is no matter of the provider."""
        if self.ended is None:
            self.ended, self.whole = now, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Developer:
    """Makes tapes of takes. ``ids`` remembers those of the recording so far; ``recorded`` is the day, in UTC."""

    redaction: Redaction
    ids: Ids = field(default_factory=Ids)

    def tape(self, take: Take, recorded: str) -> Tape:
        """Return the tape of a take: without secrets, with ids that do not change."""
        request = self.redaction.json(read(take.body.decode()))
        answer = _answer(take)
        said = self._redacted(answer)
        headers = {name: self.redaction.text(value) for name, value in _kept(take.headers).items()}
        seed = digest({**canonical(request), "tier": take.route.tier})[:8]
        replacing = self.ids.replacing([request, *said], headers, seed)
        if headers:
            answer["headers"] = {name: replacing.text(value) for name, value in headers.items()}
        _fill(answer, [replacing.json(value) for value in said])
        return Tape.model_validate(
            {
                "format": FORMAT,
                "recorded": recorded,
                "route": take.route.name,
                "tier": take.route.tier,
                "model": take.route.model,
                "stream": take.stream,
                "request": replacing.json(request),
                "answer": answer,
            }
        )

    def _redacted(self, answer: dict[str, Any]) -> list[Any]:
        """Return what an answer says, part by part, without secrets."""
        if "failure" in answer:
            answer["failure"]["message"] = self.redaction.text(answer["failure"]["message"])
        if "events" in answer:
            return self.redaction.events([event[_kind(event)] for event in answer["events"]])
        return [self.redaction.json(answer[_kind(answer)])] if _KINDS & answer.keys() else []


def _fill(answer: dict[str, Any], said: list[Any]) -> None:
    """Put what is said in the place of what was."""
    if "events" in answer:
        for event, value in zip(answer["events"], said, strict=True):
            event[_kind(event)] = value
    elif said:
        answer[_kind(answer)] = said[0]


def _kind(said: Mapping[str, Any]) -> str:
    return next(iter(_KINDS & said.keys()))


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name in KEPT_HEADERS or name.startswith(KEPT_PREFIXES)}


def _answer(take: Take) -> dict[str, Any]:
    """Return the answer as a tape says it, secrets and all."""
    found: dict[str, Any] = {}
    if take.status is not None and take.head_at is not None:
        found |= {"status": take.status, "head_ms": _ms(take.head_at - take.began), "headers": {}}
    data = b"".join(part for _, part in take.parts)
    over = take.whole
    shape = shape_of(data)
    if shape == "events" or (shape is None and data and "event-stream" in take.headers.get("content-type", "")):
        found |= _events(take)
        over = over or any(event.get("data") == "[DONE]" for event in found["events"])
    elif data:
        found |= _content(data)
    if take.failure is not None:
        found["failure"] = {
            "outcome": take.failure.outcome,
            "message": str(take.failure),
            "at_ms": _ms(take.failed_at - take.began),
        }
    elif (not over and (take.status in (None, 200) or data)) or take.size > MAX_ANSWER:
        found["partial"] = True
    found["ended_ms"] = _ms((take.ended or take.began) - take.began)
    return found


def _content(data: bytes) -> dict[str, Any]:
    text = _text(data)
    if text is None:
        return {"bytes": data.decode("latin-1")}
    try:
        value = read(text)
    except ValueError:
        return {"text": text}
    style = style_of(text, value)
    return {"body": value} if style is _USUAL["style"] else {"style": style, "body": value}


def _events(take: Take) -> dict[str, Any]:
    """Return the events of a stream; those that end in one part have one moment, and no others have it."""
    found: list[dict[str, Any]] = []
    spelled: dict[str, Any] = {}
    cutter, last = EventCutter(), -1.0
    for at, data in take.parts:
        moment = max(_ms(at - take.began), round(last + 0.1, 1))
        whole = cutter.cut(data)
        found += [{"at_ms": moment, **_event(event, spelled)} for event in whole]
        last = moment if whole else last
    if rest := cutter.rest():
        left = _text(rest)
        moment = max(_ms(take.parts[-1][0] - take.began), round(last + 0.1, 1))
        found.append({"at_ms": moment, **({"text": left} if left is not None else {"bytes": rest.decode("latin-1")})})
    return {**{name: value for name, value in spelled.items() if value != _USUAL[name]}, "events": found}


def _event(event: bytes, spelled: dict[str, Any]) -> dict[str, Any]:
    """Return what an event says. The first with JSON tells how the provider spells: ``spelled`` remembers it."""
    text = _text(event)
    if text is None:
        return {"bytes": event.decode("latin-1")}
    payload = payload_of(event)
    if payload is None:
        return {"text": text}
    said = payload.decode()
    end = next((end for end in _LINE_ENDS if text.endswith(end)), "\n")
    try:
        value = read(said)
    except ValueError:
        value = said
    if not isinstance(value, str) and not spelled:
        spelled |= {"style": style_of(said, value), "line_end": end}
    if isinstance(value, str):
        readable = value is said and text == event_text(said, Style.COMPACT, end)  # a string of JSON has its quotes
        return {"data": said} if readable else {"text": text}
    exact = text == event_text(value, spelled["style"], spelled["line_end"])
    return {"data": value} if exact or _is_plain(text) else {"text": text}


def _is_plain(text: str) -> bool:
    """Tell whether an event is one line of data, and nothing else: its spacing is all that is lost."""
    return text.startswith("data:") and len(text.splitlines()) == 2


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _ms(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 1)
