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

_EMPTY_INPUT: Final = Raw(b"{}")


class Block(msgspec.Struct):
    """One block of a message, or its beginning. Some services write members that a block does not have as null."""

    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = _EMPTY_INPUT
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None

    @property
    def arguments(self) -> str:
        """Its input, as OpenAI's callers get it: JSON in a text."""
        told = bytes(self.input).decode(errors="replace")
        return "{}" if told == "null" else told

    def detail(self, index: int) -> dict[str, object]:
        """Return a thinking block as an entry of ``reasoning_details``."""
        return thoughts.detail_of(
            index, self.type, text=self.thinking or "", signature=self.signature or "", data=self.data or ""
        )


class StopDetails(msgspec.Struct):
    """Why the model refused, in words that may change."""

    explanation: str | None = None


class _Message(msgspec.Struct):
    id: str
    model: str
    content: list[Block]
    stop_reason: str
    usage: Usage | None = None
    stop_details: StopDetails | None = None


_message: Final = msgspec.json.Decoder(_Message)


def as_completion(body: bytes, created: int) -> bytes:
    """Return a message as a chat completion; what is no message stays as it came, for it is no completion either.

    Neither is one without a ``stop_reason``: it may not be whole. ``created`` is in seconds since the epoch.
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
    completion: dict[str, object] = {
        "id": message.id,
        "object": "chat.completion",
        "created": created,
        "model": message.model,
        "choices": [choice],
    }
    if message.usage is not None:
        completion["usage"] = message.usage.as_openai()
    return msgspec.json.encode(completion)


def finish_reason(stop_reason: str) -> str:
    """Return OpenAI's reason for one of Anthropic's."""
    return FINISHES.get(stop_reason, "stop")


def _said(message: _Message) -> dict[str, Any]:
    texts = [block.text or "" for block in message.content if block.type == "text"]
    calls = [_call(block) for block in message.content if block.type == "tool_use"]
    blocks = [block for block in message.content if block.type in thoughts.KINDS]
    said: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    said["refusal"] = message.stop_details.explanation if message.stop_details is not None else None
    if thought := "".join(block.thinking or "" for block in blocks):
        said["reasoning_content"] = thought
    if blocks:
        said["reasoning_details"] = [block.detail(index) for index, block in enumerate(blocks)]
    if calls:
        said["tool_calls"] = calls
    return said


def _call(block: Block) -> dict[str, Any]:
    function = {"name": block.name or "", "arguments": block.arguments}
    return {"id": block.id or "", "type": "function", "function": function}
