"""An answer of the other shape: a plain one where a stream was asked for, and the reverse. Sans I/O.

Members are moved, never read further than they must be, so one that we do not know survives. What of
an answer is missing is not made up: an answer that is not whole is unusable in either shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Raw

from flatfee.server.answers.lenient import UNREADABLE
from flatfee.server.answers.members import UnusableAnswer
from flatfee.server.answers.plain import read_completion
from flatfee.server.answers.sse import BOM, cut_events, one_line, payload_of
from flatfee.server.answers.stream import MAX_BROKEN_EVENTS

MAX_LINES: Final = 200_000
"""A stream of more lines than this is not put together, so that doing it never takes longer than a second."""

_NULL: Final = Raw(b"null")
_EMPTY: Final = frozenset({b"null", b'""'})
_IN_EACH_CHUNK: Final[tuple[str, ...]] = ("id", "created", "model", "system_fingerprint", "service_tier")
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")

# Members that arrive in pieces; the pieces of any other are each the whole.
_TEXTS: Final = frozenset(
    {"content", "reasoning_content", "reasoning", "refusal", "arguments", "input", "data", "transcript"}
)
_IN_MESSAGE: Final = frozenset({"function_call", "audio"})
_IN_CALL: Final = frozenset({"function", "custom"})
_NOTHING: Final[frozenset[str]] = frozenset()

_members = msgspec.json.Decoder(dict[str, Raw])
_objects = msgspec.json.Decoder(list[dict[str, Raw]])
_values = msgspec.json.Decoder(list[Raw])
_index = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)])


def shape_of(first_bytes: bytes) -> Literal["json", "events"] | None:
    """Tell by its first bytes what an answer is; ``None`` while they are too few, or if it is neither.

    What a provider says of it in ``Content-Type`` is often wrong, and is not asked.
    """
    start = first_bytes.removeprefix(BOM).lstrip()
    if start.startswith((b"{", b"[")):
        return "json"
    return "events" if start.startswith(_FIELDS) else None


def as_stream(completion: bytes) -> list[bytes]:
    """Return a plain completion as the events of a stream, without ``[DONE]``.

    Each choice is one chunk with its whole message as ``delta`` and one with its finish reason.

    Raises:
        UnusableAnswer: it is no completion, or a choice of it has no finish reason.
    """
    data = completion.removeprefix(BOM)
    try:
        read_completion(data)
        rest = _members.decode(data)
        choices = _objects.decode(rest.pop("choices"))
        usage = rest.pop("usage", _NULL)
        same = {name: rest.pop(name) for name in _IN_EACH_CHUNK if name in rest}
        head: dict[str, object] = {"object": Raw(b'"chat.completion.chunk"'), **same}
        rest.pop("object", None)
        chunks = [chunk for position, choice in enumerate(choices) for chunk in _chunks(choice, position)]
    except UNREADABLE as error:
        raise UnusableAnswer("is not a completion") from error
    first, *others = chunks
    events = [_event({**head, **rest, "choices": [first]}), *(_event({**head, "choices": [one]}) for one in others)]
    return events if _is_null(usage) else [*events, _event({**head, "choices": [], "usage": usage})]


def as_completion(events: bytes, choices: int = 1) -> bytes:
    """Return a whole stream as one plain completion, for which so many choices were asked.

    Raises:
        UnusableAnswer: it has an error event or too many broken ones, or is not whole: no choices,
            one without a finish reason, or fewer than were asked for and no ``[DONE]``.
    """
    if events.count(b"\n") + events.count(b"\r") > MAX_LINES:
        raise UnusableAnswer(f"is a stream of more than {MAX_LINES} lines")
    gathered = _Completion()
    broken = 0
    for event in cut_events(events.removeprefix(BOM) + b"\n\n")[0]:
        payload = payload_of(event)
        if payload is None:
            continue
        if payload == b"[DONE]":
            choices = 0
            break
        try:
            gathered.add(_members.decode(payload))
        except UNREADABLE as error:
            broken += 1
            if broken > MAX_BROKEN_EVENTS:
                raise UnusableAnswer(f"has more than {MAX_BROKEN_EVENTS} broken events") from error
    return gathered.json(choices)


def _chunks(choice: dict[str, Raw], position: int) -> list[dict[str, object]]:
    """Return the two chunks of a choice: its message, and its end."""
    message = _members.decode(choice.pop("message", _NULL))
    finish, logprobs = choice.pop("finish_reason", _NULL), choice.pop("logprobs", _NULL)
    if _is_empty(finish):
        raise UnusableAnswer("has a choice without a finish reason")
    index = choice.pop("index", position)
    delta: dict[str, object] = {"role": "assistant", **message}
    if not _is_null(message.get("tool_calls", _NULL)):
        calls = _objects.decode(message["tool_calls"])
        delta["tool_calls"] = [{**call, "index": number} for number, call in enumerate(calls)]
    return [
        {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None},
        {**choice, "index": index, "delta": {}, "finish_reason": finish},
    ]


def _event(chunk: Mapping[str, object]) -> bytes:
    return one_line(msgspec.json.encode(chunk))


class _Completion:
    """The completion that a stream's chunks come to."""

    def __init__(self) -> None:
        self._members: dict[str, Raw] = {}
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: dict[str, Raw]) -> None:
        """Take the next chunk; one whose choices cannot be read is refused as a whole."""
        error = chunk.pop("error", _NULL)
        if not (_is_null(error) or bytes(error) == b"{}"):
            raise UnusableAnswer("has an error in mid-stream")
        choices = chunk.pop("choices", _NULL)
        for choice in [] if _is_null(choices) else _objects.decode(choices):
            index = _index.decode(choice.pop("index", Raw(b"0")))
            self._choices.setdefault(index, _Choice()).add(choice)
        for name, value in chunk.items():
            # The first chunk of some providers names nothing: "id": "", "created": 0.
            known = self._members.get(name, _NULL)
            told = name in _IN_EACH_CHUNK and not _is_empty(known) and bytes(known) != b"0"
            if name not in self._members or not (told or _is_null(value)):
                self._members[name] = value

    def json(self, choices_at_least: int) -> bytes:
        """Return the completion."""
        if len(self._choices) < max(1, choices_at_least):
            raise UnusableAnswer("has no choices, or too few, and no end")
        choices = [choice.whole(index) for index, choice in sorted(self._choices.items())]
        return msgspec.json.encode({**self._members, "object": "chat.completion", "choices": choices})


class _Choice:
    """A choice that its deltas come to."""

    def __init__(self) -> None:
        self._message = _Object(_IN_MESSAGE)
        self._logprobs: _Object | None = None
        self._rest: dict[str, Raw] = {}
        self._begun = False

    def add(self, choice: dict[str, Raw]) -> None:
        delta, message = choice.pop("delta", _NULL), choice.pop("message", _NULL)
        if _is_null(delta) and not self._begun:
            delta = message  # a whole completion that was sent as an event
        if not _is_null(delta):
            self._message.add(_members.decode(delta))
            self._begun = True
        logprobs = choice.pop("logprobs", _NULL)
        if not _is_null(logprobs):
            self._logprobs = self._logprobs or _Object(_NOTHING)
            self._logprobs.add(_members.decode(logprobs))
        for name, value in choice.items():
            if name not in self._rest or not _is_empty(value):
                self._rest[name] = value

    def whole(self, index: int) -> dict[str, object]:
        if _is_empty(self._rest.get("finish_reason", _NULL)):
            raise UnusableAnswer("ended without a finish reason")
        message: dict[str, object] = {"role": "assistant", "content": None, **self._message.whole()}
        logprobs = self._logprobs.whole() if self._logprobs is not None else None
        return {"index": index, "message": message, "logprobs": logprobs, **self._rest}


class _Object:
    """A JSON object that comes in pieces: texts and lists are joined, any other member is told once.

    ``objects`` names the members that are objects in pieces themselves.
    """

    def __init__(self, objects: frozenset[str]) -> None:
        self._nested = objects
        self._rest: dict[str, Raw] = {}
        self._texts: dict[str, list[bytes]] = {}
        self._lists: dict[str, list[Raw]] = {}
        self._objects: dict[str, _Object] = {}
        self._calls: _Calls | None = None

    def add(self, piece: dict[str, Raw]) -> None:
        for name, value in piece.items():
            first = bytes(memoryview(value)[:1])
            if first == b'"' and name in _TEXTS:
                self._texts.setdefault(name, []).append(bytes(value)[1:-1])
            elif first == b"[" and name == "tool_calls":
                self._calls = self._calls or _Calls()
                self._calls.add(_objects.decode(value))
            elif first == b"[":
                self._lists.setdefault(name, []).extend(_values.decode(value))
            elif first == b"{" and name in self._nested:
                self._objects.setdefault(name, _Object(_NOTHING)).add(_members.decode(value))
            elif name not in self._rest or (_is_empty(self._rest[name]) and not _is_null(value)):
                self._rest[name] = value

    def whole(self) -> dict[str, object]:
        """Return the members; of one that came as null or in several kinds, what was joined counts."""
        texts = {name: Raw(b'"' + b"".join(pieces) + b'"') for name, pieces in self._texts.items()}
        objects = {name: value.whole() for name, value in self._objects.items()}
        calls = {"tool_calls": self._calls.whole()} if self._calls is not None else {}
        return {**self._rest, **self._lists, **texts, **objects, **calls}


class _Calls:
    """Tool calls that come in pieces, each named by its index.

    Some providers give every call the index 0, or none: an id that differs begins another call.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[int, _Object]] = []
        self._now: dict[int, tuple[Raw, _Object]] = {}

    def add(self, pieces: list[dict[str, Raw]]) -> None:
        for position, piece in enumerate(pieces):
            index = _index.decode(piece.pop("index", Raw(str(position).encode())))
            told = piece.get("id", _NULL)
            known, call = self._now.get(index, (_NULL, None))
            if call is None or (not _is_empty(told) and not _is_empty(known) and bytes(told) != bytes(known)):
                call, known = _Object(_IN_CALL), _NULL
                self._calls.append((index, call))
            self._now[index] = (told if _is_empty(known) else known, call)
            call.add(piece)

    def whole(self) -> list[dict[str, object]]:
        return [call.whole() for _, call in sorted(self._calls, key=lambda numbered: numbered[0])]


def _is_null(value: Raw) -> bool:
    return bytes(memoryview(value)[:1]) == b"n"


def _is_empty(value: Raw) -> bool:
    return len(memoryview(value)) <= 4 and bytes(value) in _EMPTY
