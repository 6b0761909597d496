"""A message as a chat completion. Pure; bytes in, bytes out.

https://platform.claude.com/docs/en/api/messages/create. Blocks of kinds that chat completions do not have, such as
those of Anthropic's own tools, are left out, and so are citations.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from flatfee.server.answers.lenient import UNREADABLE, decoded
from flatfee.server.providers.anthropic import thoughts
from flatfee.server.providers.anthropic.usage import Usage

FINISHES: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons. ``pause_turn`` is of tools that the
API runs itself, which cannot be asked for from here; a reason that is not here is ``stop``."""

EMPTY_INPUT: Final = Raw(b"{}")


class Block(msgspec.Struct):
    """One block of a message, or its beginning."""

    type: str
    text: str = ""
    id: str = ""
    name: str = ""
    input: Raw = EMPTY_INPUT
    thinking: str = ""
    signature: str = ""
    data: str = ""


class StopDetails(msgspec.Struct):
    """Why the model refused, in words that may change."""

    explanation: str | None = None


class _Message(msgspec.Struct):
    id: str
    model: str
    content: list[Block]
    usage: Usage
    stop_reason: str | None = None
    stop_details: StopDetails | None = None


_message: Final = msgspec.json.Decoder(_Message)


def as_completion(body: bytes, created: int) -> bytes:
    """Return a message as a chat completion; what is no message stays as it came, for it is no completion either.

    ``created`` is in seconds since the epoch.
    """
    try:
        message = decoded(_message, body)
    except UNREADABLE:
        return body
    choice = {
        "index": 0,
        "message": _said(message),
        "logprobs": None,
        "finish_reason": finish_reason(message.stop_reason),
    }
    completion = {
        "id": message.id,
        "object": "chat.completion",
        "created": created,
        "model": message.model,
        "choices": [choice],
        "usage": message.usage.as_openai(),
    }
    return msgspec.json.encode(completion)


def finish_reason(stop_reason: str | None) -> str:
    """Return OpenAI's reason for one of Anthropic's."""
    return FINISHES.get(stop_reason or "", "stop")


def _said(message: _Message) -> dict[str, Any]:
    texts = [block.text for block in message.content if block.type == "text"]
    calls = [_call(block) for block in message.content if block.type == "tool_use"]
    blocks = [block for block in message.content if block.type in {"thinking", "redacted_thinking"}]
    said: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    said["refusal"] = message.stop_details.explanation if message.stop_details is not None else None
    if thought := "".join(block.thinking for block in blocks):
        said["reasoning_content"] = thought
    if blocks:
        said["reasoning_details"] = [
            thoughts.detail_of(index, block.type, text=block.thinking, signature=block.signature, data=block.data)
            for index, block in enumerate(blocks)
        ]
    if calls:
        said["tool_calls"] = calls
    return said


def _call(block: Block) -> dict[str, Any]:
    arguments = bytes(block.input).decode(errors="replace")
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}
