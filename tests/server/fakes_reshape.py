"""Completions, and what streams come to: values that are told in short."""

from __future__ import annotations

import json
from typing import Any

from tests.server.fakes import delta, event

from flatfee.server.answers.reshape import as_completion


def plain(*messages: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """A completion with a choice for each message."""
    choices = [
        {"index": index, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": "stop"}
        for index, message in enumerate(messages)
    ]
    return {"id": "c1", "object": "chat.completion", "created": 7, "model": "m", "choices": choices, **extra}


def gathered(*events: bytes) -> dict[str, Any]:
    """Return the completion that a stream comes to."""
    found: dict[str, Any] = json.loads(as_completion(b"".join(events)))
    return found


def message(*deltas: dict[str, Any]) -> dict[str, Any]:
    """Return the message that the deltas of one choice come to."""
    events = [event({"choices": [{"index": 0, "delta": said}]}) for said in deltas]
    found: dict[str, Any] = gathered(*events, delta(finish="stop"))["choices"][0]["message"]
    return found
