"""Provider answers, read and completed. Sans I/O: bytes in, bytes out.

A plain completion gets the receipt as its last member. A stream is passed on event by event; the
events that may be its last are held back until the figures are settled, and then the last of
them carries the receipt. Nothing else is rewritten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from flatfee.receipt import TokenUsage

MAX_EVENT: Final = 16 * 1024 * 1024
MAX_BROKEN_EVENTS: Final = 3
DONE: Final = b"data: [DONE]\n\n"

# Two line ends of any kind; a CR that an LF follows is one line end, not two.
_EVENT_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class UnusableAnswer(Exception):
    """The provider's answer is not what its API promises; the message says what is wrong with it."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None

    def told(self) -> TokenUsage:
        details = self.prompt_tokens_details
        return TokenUsage(
            prompt_tokens=max(0, self.prompt_tokens),
            completion_tokens=max(0, self.completion_tokens),
            cached_tokens=max(0, details.cached_tokens or 0) if details else 0,
        )


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: Raw | UnsetType = UNSET

    def size(self) -> int:
        """Return about how many bytes of output this delta holds."""
        size = len(self.content or "") + len(self.reasoning_content or "")
        return size + (len(memoryview(self.tool_calls)) if isinstance(self.tool_calls, Raw) else 0)


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Raw | UnsetType = UNSET
    flatfee: Raw | UnsetType = UNSET


class _Completion(msgspec.Struct):
    choices: list[Raw] | None = None
    usage: _Usage | None = None
    error: Raw | UnsetType = UNSET
    flatfee: Raw | UnsetType = UNSET


class _Refusal(msgspec.Struct):
    error: dict[str, object] | str


_chunk = msgspec.json.Decoder(_Chunk)
_completion = msgspec.json.Decoder(_Completion)
_members = msgspec.json.Decoder(dict[str, Raw])


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole plain answer, ready for its receipt."""

    usage: TokenUsage | None
    size: int
    _data: bytes

    def with_receipt(self, receipt: bytes) -> bytes:
        """Return the answer with the receipt (JSON) as its last member."""
        return _splice(self._data, receipt)


def read_completion(data: bytes) -> Completion:
    """Read a plain completion.

    Raises:
        UnusableAnswer: it is not a completion: not JSON, an error with status 200, no choices.
    """
    try:
        found = _completion.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnusableAnswer("is not a completion") from error
    if _is_error(found.error):
        raise UnusableAnswer("is an error with status 200")
    if not found.choices:
        raise UnusableAnswer("has no choices")
    size = sum(len(memoryview(choice)) for choice in found.choices)
    plain = _without_receipt(data) if found.flatfee is not UNSET else data
    return Completion(found.usage.told() if found.usage else None, size, plain)


def read_refusal(data: bytes) -> dict[str, object]:
    """Return the ``error`` object of a provider's refusal, with every field that OpenAI's has."""
    try:
        error = msgspec.json.decode(data, type=_Refusal).error
    except (msgspec.DecodeError, RecursionError):
        error = "The provider refused the request and gave no reason."
    inner = {"message": error} if isinstance(error, str) else error
    return {"message": "", "type": "invalid_request_error", "param": None, "code": None, **inner}


class RelayedStream:
    """One streamed answer on its way through.

    ``started`` once a first event of the answer was seen, ``whole`` once every choice has its
    finish reason, ``done`` once nothing more can come. ``delivered`` counts bytes of output.
    """

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._buffer = b""
        self._held: list[tuple[bytes, _Chunk]] = []
        self._open: set[int] = set()
        self._finished = False
        self._broken = 0
        self.started = False
        self.done = False
        self.usage: TokenUsage | None = None
        self.delivered = 0

    @property
    def whole(self) -> bool:
        """Tell whether the answer is complete."""
        return self._finished and not self._open

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the provider; return the bytes that go on to the caller now.

        Raises:
            UnusableAnswer: an error event, too many broken events, or an event without end.
        """
        out: list[bytes] = []
        for event in self._events(data):
            if self.done:
                break
            self._take(event, out)
        return b"".join(out)

    def end(self) -> bytes:
        """Take the end of the provider's bytes: a last event may lack its blank line."""
        rest, self._buffer = self._buffer, b""
        out: list[bytes] = []
        if rest.strip() and not self.done:
            self._take(rest.rstrip(b"\r\n") + b"\n\n", out)
        return b"".join(out)

    def tail(self, receipt: bytes) -> bytes:
        """Return what was held back, the receipt in its last event, and ``[DONE]``."""
        events = self._held
        if not self._include_usage and len(events) > 1:
            events = [(event, chunk) for event, chunk in events if chunk.choices]
        *before, (last, chunk) = events
        payload = _payload(last) or b"{}"
        plain = _without_receipt(payload) if chunk.flatfee is not UNSET else payload
        return b"".join([*(event for event, _ in before), b"data: ", _splice(plain, receipt), b"\n\n", DONE])

    def _events(self, data: bytes) -> list[bytes]:
        """Cut the buffer into events, each with the blank line that ends it."""
        self._buffer += data
        if b"\r" in self._buffer:
            ends = [match.end() for match in _EVENT_END.finditer(self._buffer)]
            events = [self._buffer[start:end] for start, end in zip([0, *ends], ends, strict=False)]
            self._buffer = self._buffer[ends[-1] :] if ends else self._buffer
        else:
            *whole, self._buffer = self._buffer.split(b"\n\n")
            events = [event + b"\n\n" for event in whole]
        if len(self._buffer) > MAX_EVENT:
            raise UnusableAnswer(f"has an event of more than {MAX_EVENT} bytes")
        return events

    def _take(self, event: bytes, out: list[bytes]) -> None:
        payload = _payload(event)
        if payload is None:
            out.append(event)
            return
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            chunk = _chunk.decode(payload)
        except msgspec.ValidationError:
            # JSON of a shape we do not know: pass it on, and read nothing from it.
            self._forward(event, out)
            return
        except (msgspec.DecodeError, RecursionError) as error:
            self._broken += 1
            if self._broken > MAX_BROKEN_EVENTS:
                raise UnusableAnswer(f"has more than {MAX_BROKEN_EVENTS} broken events") from error
            return
        if _is_error(chunk.error):
            raise UnusableAnswer("has an error in mid-stream")
        self._read(event, chunk, out)

    def _read(self, event: bytes, chunk: _Chunk, out: list[bytes]) -> None:
        if chunk.usage is not None:
            self.usage = chunk.usage.told()
        choices = chunk.choices or ()
        for choice in choices:
            if choice.delta is not None:
                self.delivered += choice.delta.size()
            if choice.finish_reason:
                self._finished = True
                self._open.discard(choice.index)
            else:
                self._open.add(choice.index)
        if any(choice.finish_reason for choice in choices) or (not choices and chunk.usage is not None):
            self.started = True
            self._held.append((event, chunk))
        else:
            self._forward(event, out)

    def _forward(self, event: bytes, out: list[bytes]) -> None:
        """Pass an event on, behind those held back before it: none of them was the last."""
        self.started = True
        out += [held for held, _ in self._held]
        self._held.clear()
        out.append(event)


def _payload(event: bytes) -> bytes | None:
    """Return the data of an event; ``None`` if it has none (a comment, a keep-alive)."""
    stripped = event.strip(b"\r\n")
    if stripped.startswith(b"data:") and b"\n" not in stripped and b"\r" not in stripped:
        return stripped[5:].strip()
    lines = [line[5:].removeprefix(b" ") for line in _LINE_END.split(stripped) if line.startswith(b"data:")]
    return b"\n".join(lines).strip() if lines else None


def _is_error(error: Raw | UnsetType) -> bool:
    return error is not UNSET and bytes(error) not in {b"null", b"{}"}


def _splice(data: bytes, receipt: bytes) -> bytes:
    """Put the receipt into a JSON object as its last member, touching nothing else."""
    head = data.rstrip()[:-1].rstrip()
    comma = b"" if head.endswith(b"{") else b","
    return b"".join([head, comma, b'"flatfee":', receipt, b"}"])


def _without_receipt(data: bytes) -> bytes:
    """Take out a receipt that the provider, a gateway as well, had put in: ours replaces it."""
    members = _members.decode(data)
    members.pop("flatfee", None)
    return msgspec.json.encode(members)
