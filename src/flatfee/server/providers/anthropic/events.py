"""The events of a streamed message as those of a streamed chat completion. Sans I/O: bytes in, bytes out.

https://platform.claude.com/docs/en/build-with-claude/streaming. Events and deltas of unknown kinds may come, and
are passed over, as that page asks. One that cannot be read is passed on as it is, so that who reads the stream
can tell that something is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from flatfee.server.answers.lenient import UNREADABLE, decoded
from flatfee.server.answers.members import UnusableAnswer
from flatfee.server.answers.sse import DONE, EventCutter, is_named_error, one_line, payload_of
from flatfee.server.answers.stream import MAX_EVENT
from flatfee.server.providers.anthropic import thoughts
from flatfee.server.providers.anthropic.answer import Block, StopDetails, finish_reason
from flatfee.server.providers.anthropic.errors import Trouble, read_trouble
from flatfee.server.providers.anthropic.usage import Usage

KEEP_ALIVE: Final = b": ping\n\n"
MAX_BLOCKS: Final = 10_000
"""A message of more blocks than this is no answer."""

_ABSENT: Final = Raw()
_KINDS: Final = {
    "text": "text",
    "tool_use": "tool_use",
    "thinking": "thinking",
    "redacted_thinking": "thinking",
}
"""Blocks that chat completions have → what they are numbered with."""


class _Start(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    usage: Usage | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: Raw = _ABSENT
    partial_json: Raw = _ABSENT
    thinking: Raw = _ABSENT
    signature: Raw = _ABSENT
    stop_reason: str | None = None
    stop_details: StopDetails | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Start | None = None
    content_block: Block | None = None
    delta: _Delta | None = None
    usage: Usage | None = None
    error: Trouble | None = None


class _Strange(msgspec.Struct):
    """An event of which something is of another type than it should be."""

    type: Any = None
    error: Any = None


class _Open(msgspec.Struct):
    """A block that has begun. ``number`` counts calls, or thinking blocks; ``told`` once a piece was passed on.

    ``arguments`` are those of a call that came with its beginning.
    """

    kind: str
    number: int
    arguments: str
    told: bool = False


_event: Final = msgspec.json.Decoder(_Event)
_strange: Final = msgspec.json.Decoder(_Strange)


class StreamTranslator:
    """One streamed message on its way. ``created`` is in seconds since the epoch."""

    def __init__(self, created: int) -> None:
        self._created = created
        self._cutter = EventCutter()
        self._head = self._named("", "")
        self._open: dict[int, _Open] = {}
        self._begun: dict[str, int] = {}
        self._blocks = 0
        self._held = 0
        self._usage: Usage | None = None
        self._hear: Mapping[str, Callable[[_Event], bytes]] = {
            "message_start": self._start,
            "content_block_start": self._begin,
            "content_block_delta": self._go_on,
            "content_block_stop": self._end,
            "message_delta": self._finish,
            "message_stop": lambda _: DONE,
            "ping": lambda _: KEEP_ALIVE,
            "error": lambda event: _failure(event.error),
        }

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the provider; return what they come to, which may be nothing yet.

        Raises:
            UnusableAnswer: there is no end to an event, to blocks, or to what they begin with.
        """
        out = b"".join([self._translated(event) for event in self._cutter.cut(data)])
        if self._cutter.waiting > MAX_EVENT:
            raise UnusableAnswer(f"has an event of more than {MAX_EVENT} bytes")
        return out

    def end(self) -> bytes:
        """Take the end of the provider's bytes: a last event may lack its blank line."""
        return self._translated(self._cutter.rest())

    def _translated(self, event: bytes) -> bytes:
        payload = payload_of(event)
        if not payload:
            return b""
        if b"error" in event and is_named_error(event):
            return _failure(read_trouble(payload))
        try:
            heard = decoded(_event, payload)
        except msgspec.ValidationError:
            return _failure(read_trouble(payload)) if _is_an_error(payload) else b""
        except UNREADABLE:
            return one_line(payload)
        hear = self._hear.get(heard.type if heard.error is None else "error")
        return hear(heard) if hear is not None else b""

    def _start(self, event: _Event) -> bytes:
        start = event.message or _Start()
        self._usage = start.usage
        self._head = self._named(start.id or "", start.model or "")
        return self._chunk({"role": "assistant", "content": ""})

    def _named(self, answer: str, model: str) -> dict[str, object]:
        """Return what is the same in each chunk."""
        return {"id": answer, "object": "chat.completion.chunk", "created": self._created, "model": model}

    def _begin(self, event: _Event) -> bytes:
        block = event.content_block
        if block is None:
            return b""
        if self._blocks >= MAX_BLOCKS:
            raise UnusableAnswer(f"has more than {MAX_BLOCKS} blocks")
        self._blocks += 1
        kind = _KINDS.get(block.type)
        if kind is None:
            self._open.pop(event.index, None)
            return b""
        number = self._begun.get(kind, 0)
        self._begun[kind] = number + 1
        delta = _first_delta(block, number)
        arguments = block.arguments if kind == "tool_use" else ""
        self._held += len(arguments)
        if self._held > MAX_EVENT:
            raise UnusableAnswer(f"has calls that begin with more than {MAX_EVENT} bytes")
        self._open[event.index] = _Open(block.type, number, arguments, told=bool(delta) and kind == "thinking")
        return self._chunk(delta) if delta else b""

    def _go_on(self, event: _Event) -> bytes:
        delta, block = event.delta, self._open.get(event.index)
        if delta is None or block is None:
            return b""
        if delta.type == "text_delta" and block.kind == "text" and _says(delta.text):
            return self._chunk({"content": delta.text})
        if delta.type == "input_json_delta" and block.kind == "tool_use" and _says(delta.partial_json):
            block.told = True
            return self._arguments(block, delta.partial_json)
        if delta.type == "thinking_delta" and block.kind == "thinking" and _says(delta.thinking):
            return self._thought(block, {"reasoning_content": delta.thinking}, text=delta.thinking)
        if delta.type == "signature_delta" and block.kind == "thinking" and _says(delta.signature):
            return self._thought(block, {}, **({} if block.told else {"text": ""}), signature=delta.signature)
        return b""

    def _end(self, event: _Event) -> bytes:
        """Close a block. A call without arguments sends no piece of them, and OpenAI's callers want an object."""
        block = self._open.pop(event.index, None)
        if block is None or block.kind != "tool_use" or block.told:
            return b""
        return self._arguments(block, block.arguments)

    def _finish(self, event: _Event) -> bytes:
        delta = event.delta or _Delta()
        if event.usage is not None:
            self._usage = event.usage.after(self._usage)
        if delta.stop_reason is None:
            return b""
        why = delta.stop_details.explanation if delta.stop_details is not None else None
        last = self._chunk({} if why is None else {"refusal": why}, finish_reason(delta.stop_reason))
        if self._usage is None:
            return last
        return last + one_line(msgspec.json.encode({**self._head, "choices": [], "usage": self._usage.as_openai()}))

    def _thought(self, block: _Open, delta: Mapping[str, object], **members: object) -> bytes:
        detail = thoughts.piece_of(block.number, first=not block.told, **members)
        block.told = True
        return self._chunk({**delta, "reasoning_details": [detail]})

    def _arguments(self, block: _Open, piece: object) -> bytes:
        return self._chunk({"tool_calls": [{"index": block.number, "function": {"arguments": piece}}]})

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return one_line(msgspec.json.encode({**self._head, "choices": [choice]}))


def _first_delta(block: Block, number: int) -> dict[str, Any]:
    """Return what the beginning of a block says; empty if it says nothing, as that of a thought mostly does.

    What says nothing must not be passed on: until a token came, another route can still answer.
    """
    if block.type == "tool_use":
        function = {"name": block.name or "", "arguments": ""}
        return {"tool_calls": [{"index": number, "id": block.id or "", "type": "function", "function": function}]}
    if block.type == "redacted_thinking" or (block.type == "thinking" and (block.thinking or block.signature)):
        told = {"reasoning_content": block.thinking} if block.thinking else {}
        return {**told, "reasoning_details": [block.detail(number)]}
    return {"content": block.text} if block.type == "text" and block.text else {}


def _says(text: Raw) -> bool:
    """Tell whether a piece is a text, and not an empty one."""
    return bytes(memoryview(text)[:1]) == b'"' and len(memoryview(text)) > 2


def _failure(trouble: Trouble | None) -> bytes:
    return one_line((trouble or Trouble()).body())


def _is_an_error(payload: bytes) -> bool:
    try:
        told = decoded(_strange, payload)
    except msgspec.ValidationError:
        return False
    return told.type == "error" or told.error is not None
