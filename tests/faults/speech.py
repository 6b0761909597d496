"""What a provider says, as bytes: heads, chunks, events, completions. Nothing wrong with any of it, and no I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

TEXT: Final = "Zürich, 東京 and 🚀: the quick brown fox jumps over the lazy dog, and then it sleeps."
"""The answer of every healthy model; its characters are of one to four bytes."""
OTHERWISE: Final = "Somebody else would have put it in other words altogether."
ARGUMENTS: Final = '{"city": "Zürich", "unit": "celsius"}'
TOOL: Final = "weather"
THOUGHT: Final = "The question is simple, and so is the answer."
PROMPT_TOKENS: Final = 20
OUTPUT_TOKENS: Final = 12
WORDS: Final = 2
"""Words of text in one event."""

_REASONS: Final[Mapping[int, str]] = {200: "OK", 429: "Too Many Requests", 500: "Internal Server Error"}


def pieces(text: str = TEXT) -> list[str]:
    """Cut a text as models do, some words at a time."""
    words = text.split(" ")
    cut = [" ".join(words[start : start + WORDS]) for start in range(0, len(words), WORDS)]
    return [*(piece + " " for piece in cut[:-1]), cut[-1]]


HALF: Final = "".join(pieces()[: len(pieces()) // 2])
"""What a model that fails midway has said by then."""


def usage(prompt: Any = PROMPT_TOKENS, output: Any = OUTPUT_TOKENS) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": output}


def event(payload: object, *, name: str | None = None, end: bytes = b"\n") -> bytes:
    """Return a server-sent event; ``end`` ends each of its lines."""
    lines = [f"event: {name}".encode()] if name else []
    data = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    return end.join([*lines, b"data: " + data, b"", b""])


def delta(said: Mapping[str, Any], finish: str | None = None, *, index: int = 0, **extra: Any) -> dict[str, Any]:
    """Return the payload of one event of an answer."""
    choice = {"index": index, "delta": dict(said), "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "choices": [choice], **extra}


ROLE: Final = event(delta({"role": "assistant", "content": ""}))
STOP: Final = event(delta({}, "stop"))
USAGE: Final = event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": usage()})
DONE: Final = b"data: [DONE]\n\n"
COMMENT: Final = b": keep-alive\n\n"


def words(text: str = TEXT, *, index: int = 0) -> list[bytes]:
    """Return the events that say a text, without what comes before and after."""
    return [event(delta({"content": piece}, index=index)) for piece in pieces(text)]


def events(text: str = TEXT, *, choices: int = 1) -> list[bytes]:
    """Return every event of a whole streamed answer."""
    said: list[bytes] = []
    for index in range(choices):
        role = event(delta({"role": "assistant", "content": ""}, index=index))
        said += [role, *words(text, index=index), event(delta({}, "stop", index=index))]
    return [*said, USAGE, DONE]


def tool_events(arguments: str = ARGUMENTS) -> list[bytes]:
    """Return the events of a tool call, without its finish."""
    function = {"name": TOOL, "arguments": ""}
    begun = {
        "role": "assistant",
        "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}],
    }
    half = len(arguments) // 2
    parts: list[dict[str, Any]] = [
        {"tool_calls": [{"index": 0, "function": {"arguments": a}}]} for a in (arguments[:half], arguments[half:])
    ]
    return [event(delta(part)) for part in (begun, *parts)]


def completion(text: str = TEXT, *, choices: int = 1, told: Any = None, **extra: Any) -> bytes:
    """Return a whole plain answer; ``told`` stands in for its usage."""
    message = {"role": "assistant", "content": text}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "choices": [{"index": index, "message": message, "finish_reason": "stop"} for index in range(choices)],
        "usage": usage() if told is None else told,
    }
    return json.dumps(body | extra, ensure_ascii=False).encode()


def tool_completion() -> bytes:
    """Return a plain answer that calls the tool."""
    call = {"id": "call_1", "type": "function", "function": {"name": TOOL, "arguments": ARGUMENTS}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return json.dumps({"id": "chatcmpl-1", "created": 1, "choices": [choice], "usage": usage()}).encode()


def error(code: object, message: str = "No.", kind: str = "provider_error") -> bytes:
    """Return the body of a provider's error, in OpenAI's shape."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def head(status: int = 200, *lines: str, kind: str = "application/json", version: str = "1.1") -> bytes:
    """Return a response's head with further header lines."""
    first = f"HTTP/{version} {status} {_REASONS.get(status, 'Status')}"
    return "\r\n".join([first, f"content-type: {kind}", *lines, "", ""]).encode("latin-1")


def sized(body: bytes, status: int = 200, *lines: str, kind: str = "application/json") -> bytes:
    """Return a whole response with its length."""
    return head(status, f"content-length: {len(body)}", *lines, kind=kind) + body


STREAM: Final = "text/event-stream"
STREAM_HEAD: Final = head(200, "transfer-encoding: chunked", kind=STREAM)
LAST_CHUNK: Final = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunked(parts: Iterable[bytes]) -> list[bytes]:
    """Return parts as a chunk each, without the last chunk, which ends the body."""
    return [chunk(part) for part in parts]


def streamed(parts: Sequence[bytes]) -> list[bytes]:
    """Return a whole streamed response, a chunk for each part."""
    return [STREAM_HEAD, *chunked(parts), LAST_CHUNK]
