"""What a response said, out of its bytes: text, calls, error, receipt. Pure, and never at a loss: what is cut is told.

Where the connection ended is not seen here: a stream without its end looks the same whoever ended it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flatfee.client.sse import Decoder
from flatfee.errors import APIResponseValidationError
from flatfee.receipt import Receipt

_NOTHING: Final[Mapping[str, Any]] = {}
_DONE: Final = b"[DONE]"
_GZIP: Final = 16 + zlib.MAX_WBITS
_MOST_UNPACKED: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call, as far as it came. ``arguments`` is the text that the model wrote."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What was said. Of several choices, ``text``, ``tool_calls`` and ``finish_reason`` are the first one's.

    ``events`` counts those of a stream, ``[DONE]`` not among them; ``done`` tells that it came.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    receipt: Receipt | None = None
    events: int = 0
    done: bool = False


@dataclass(slots=True)
class _Sum:
    """A first choice that grows."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    finish_reason: str | None = None

    def add(self, said: Mapping[str, Any], finish_reason: object) -> None:
        if isinstance(said.get("content"), str):
            self.text.append(said["content"])
        for place, call in enumerate(_objects(said.get("tool_calls"))):
            index = call.get("index")
            self._call(index if isinstance(index, int) else place, call)
        if isinstance(finish_reason, str):
            self.finish_reason = finish_reason

    def _call(self, index: int, call: Mapping[str, Any]) -> None:
        known = self.calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        function = _object(call.get("function"))
        for name, piece in (("id", call.get("id")), ("name", function.get("name"))):
            known[name] = known[name] or (piece if isinstance(piece, str) else "")
        arguments = function.get("arguments")
        known["arguments"] += arguments if isinstance(arguments, str) else ""

    def facts(self) -> dict[str, Any]:
        calls = tuple(ToolCall(**self.calls[index]) for index in sorted(self.calls))
        return {"text": "".join(self.text), "tool_calls": calls, "finish_reason": self.finish_reason}


def read_answer(body: bytes, headers: Mapping[str, str]) -> Answered:
    """Read a response's body, as far as it came; ``headers`` (lower case) tell what it is."""
    if headers.get("content-encoding") == "gzip":
        body = _unpacked(body)
    return _read_stream(body) if headers.get("content-type", "").startswith("text/event-stream") else _read_plain(body)


def _unpacked(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj(_GZIP).decompress(packed, _MOST_UNPACKED)
    except zlib.error:
        return b""


def json_object(data: bytes) -> Mapping[str, Any]:
    """Return the JSON object in ``data``; empty where there is none."""
    try:
        return _object(json.loads(data))
    except (ValueError, RecursionError):
        return _NOTHING


def _read_plain(data: bytes) -> Answered:
    body = json_object(data)
    total = _Sum()
    for choice in _first(body):
        total.add(_object(choice.get("message")), choice.get("finish_reason"))
    return Answered(**total.facts(), **_beside(body))


def _read_stream(data: bytes) -> Answered:
    events = _events(data)
    total, beside = _Sum(), {}
    for event in events:
        chunk = json_object(event)
        beside.update({name: found for name, found in _beside(chunk).items() if found is not None})
        for choice in _first(chunk):
            total.add(_object(choice.get("delta")), choice.get("finish_reason"))
    done = _DONE in events
    return Answered(**total.facts(), **beside, events=len(events) - done, done=done)


def _events(data: bytes) -> list[bytes]:
    try:
        return [event.data for event in Decoder().feed(data)]
    except APIResponseValidationError:  # larger than any client reads
        return []


def _beside(body: Mapping[str, Any]) -> dict[str, Any]:
    error, usage = body.get("error"), body.get("usage")
    return {
        "error": error if isinstance(error, Mapping) else None,
        "usage": usage if isinstance(usage, Mapping) else None,
        "receipt": Receipt.from_body(body),
    }


def _first(body: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return (choice for choice in _objects(body.get("choices")) if choice.get("index", 0) == 0)


def _object(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else _NOTHING


def _objects(found: object) -> list[Mapping[str, Any]]:
    return [_object(part) for part in found] if isinstance(found, list) else []
