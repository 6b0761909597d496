"""What travels in every benchmark: the requests, and the fixed answers of the fake upstream.

Sizes are those of ordinary chat traffic: a completion of 684 bytes, or a stream of 203 events of
about 230 bytes. Bytes only: no sockets, no clock.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

Shape = Literal["plain", "stream"]
Pace = Literal["at_once", "per_event"]

COMPLETION_BYTES: Final = 684
STREAM_EVENTS: Final = 203
"""Content events, the one with ``finish_reason``, the one with usage, and ``[DONE]``."""
DONE: Final = b"data: [DONE]\n\n"
MARKER: Final = "steady"
"""A word of every answer's text; an answer without it is wrong."""

_QUESTION: Final = "Why do ledgers reserve before they settle? "
_EVENT_BYTES: Final = 230
_ID: Final = "chatcmpl-0123456789abcdefghijklmnopqr"
_USAGE: Final = {
    "prompt_tokens": 48,
    "completion_tokens": 200,
    "total_tokens": 248,
    "prompt_tokens_details": {"cached_tokens": 0},
}
_RECEIPT: Final = {
    "request_id": "req_01JDA5Q3W8ZK6T2M9RB4XCVN7E",
    "lane": "premium",
    "reason": "default",
    "state": "settled",
    "model_requested": "auto",
    "model_served": "fixed",
    "route": "fixed-premium",
    "tier": "premium",
    "fair_use": {
        "unit": "token",
        "charged": 848,
        "remaining": 999152,
        "limit": 1000000,
        "resets_at": "2030-01-01T00:00:00Z",
    },
    "workflow": {"active": 1, "limit": 1000},
    "usage": {"prompt_tokens": 48, "completion_tokens": 200, "cached_tokens": 0},
    "attempts": [{"route": "fixed-premium", "outcome": "ok", "status": 200, "duration_ms": 3}],
    "created_at": "2029-12-01T00:00:00Z",
}
RECEIPT_HEADERS: Final = {
    "x-flatfee-request-id": "req_01JDA5Q3W8ZK6T2M9RB4XCVN7E",
    "x-request-id": "req_01JDA5Q3W8ZK6T2M9RB4XCVN7E",
    "x-flatfee-lane": "premium",
    "x-flatfee-reason": "default",
    "x-flatfee-fair-use-remaining": "999152",
    "x-flatfee-fair-use-limit": "1000000",
    "x-flatfee-fair-use-reset": "2030-01-01T00:00:00Z",
    "x-flatfee-model": "fixed",
    "x-flatfee-route": "fixed-premium",
    "x-flatfee-attempts": "1",
    "x-flatfee-workflows-active": "1",
    "x-flatfee-workflows-limit": "1000",
}


def request_fields(shape: Shape, pace: Pace, *, model: str = "auto", prompt_bytes: int = 0) -> dict[str, Any]:
    """Build one request, with about ``prompt_bytes`` of prompt where that is more than the ordinary 172.

    ``user`` tells the fake upstream the pace; proxies pass it through unread.
    """
    times = max(4, prompt_bytes // len(_QUESTION))
    fields: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a careful engineer. Answer briefly."},
            {"role": "user", "content": _QUESTION * times},
        ],
        "temperature": 0.2,
        "user": pace,
    }
    if shape == "stream":
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return fields


def request_body(shape: Shape, pace: Pace, *, model: str = "auto", prompt_bytes: int = 0) -> bytes:
    """Return the JSON of :func:`request_fields`."""
    return _encode(request_fields(shape, pace, model=model, prompt_bytes=prompt_bytes))


def answer_text(shape: Shape) -> str:
    """Return what a whole answer says, its events put together."""
    if shape == "plain":
        said: str = json.loads(completion())["choices"][0]["message"]["content"]
        return said
    return "".join(_said(number) for number in range(STREAM_EVENTS - 3))


def completion(*, receipt: bool = False) -> bytes:
    """Return the plain answer: exactly ``COMPLETION_BYTES`` long; a receipt comes on top."""
    bare = len(_encode(_completion("")))
    answer = _completion(_text(COMPLETION_BYTES - bare))
    return _encode(answer | ({"flatfee": _RECEIPT} if receipt else {}))


def stream_events(*, receipt: bool = False) -> tuple[bytes, ...]:
    """Return the streamed answer, one item for each event; a receipt rides in the usage event."""
    count = STREAM_EVENTS - 3
    usage = _chunk([], usage=_USAGE) | ({"flatfee": _RECEIPT} if receipt else {})
    finish = _chunk([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}])
    return (*(_content_event(_said(number)) for number in range(count)), _event(finish), _event(usage), DONE)


def complaint_about(shape: Shape, body: bytes, *, receipt: bool, expected: int = STREAM_EVENTS) -> str | None:
    """Say what is wrong with an answer that should carry the fixed one; ``None`` if nothing is.

    ``expected`` events are those of a whole stream: a gateway that writes each anew may make more or fewer of them.
    """
    if receipt and b'"flatfee"' not in body:
        return "no receipt in the body"
    if shape == "plain":
        whole = len(body) >= COMPLETION_BYTES and MARKER.encode() in body
        return None if whole else f"{len(body)} bytes, or other text, where the fixed completion was expected"
    if not body.endswith(DONE):
        return "the stream does not end with [DONE]"
    events = body.count(b"data: ")
    return None if events == expected else f"{events} events where {expected} were expected"


def _completion(text: str) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return {
        "id": _ID,
        "object": "chat.completion",
        "created": 1893456000,
        "model": "fixed",
        "choices": [choice],
        "usage": _USAGE,
        "system_fingerprint": "fp_fixed",
    }


def _chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "id": _ID,
        "object": "chat.completion.chunk",
        "created": 1893456000,
        "model": "fixed",
        "choices": choices,
        "usage": usage,
    }


def _content_event(text: str) -> bytes:
    delta = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return _event(_chunk([delta]))


def _said(number: int) -> str:
    """Return the text of one event: no two in a row are alike, since some gateways end a model that repeats itself."""
    return f"{MARKER}{number:03}".ljust(_EVENT_BYTES - len(_content_event("")), "x")


def _text(length: int) -> str:
    return f"{MARKER} as she goes, ".ljust(length, "x")[:length]


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + _encode(fields) + b"\n\n"


def _encode(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
