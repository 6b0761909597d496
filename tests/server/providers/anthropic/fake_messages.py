"""A Messages API on loopback: it refuses what the real one refuses, and else answers by a script.

Shapes of answers and events are those of https://platform.claude.com/docs/en/build-with-claude/streaming and of
anthropic-sdk-python 0.121.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from tests.server.fakes_upstream import Upstream, on_a_port
from tests.server.providers.anthropic.rules import refusals

MODEL = "claude-opus-4-8"
USAGE = {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 40, "output_tokens": 7}
CITATION = {
    "type": "char_location",
    "cited_text": "x",
    "document_index": 0,
    "document_title": None,
    "file_id": None,
    "start_char_index": 0,
    "end_char_index": 1,
}
OVERLOADED = {"type": "overloaded_error", "message": "Overloaded"}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "citations": None}


def tool_use(call: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call, "name": name, "input": arguments}


def thinking(words: str, signature: str = "sig-1") -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": signature}


@dataclass(frozen=True)
class Says:
    """A message. ``breaks_off`` ends its stream with an error after so many events."""

    content: Sequence[dict[str, Any]]
    stop_reason: str = "end_turn"
    usage: dict[str, Any] = field(default_factory=lambda: USAGE)
    stop_details: dict[str, Any] | None = None
    breaks_off: int | None = None

    def message(self) -> dict[str, Any]:
        return {
            "id": "msg_01",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": list(self.content),
            "stop_reason": self.stop_reason,
            "stop_sequence": None,
            "stop_details": self.stop_details,
            "usage": self.usage,
        }

    def events(self) -> list[bytes]:
        told = [_event(**event) for event in self._events()]
        if self.breaks_off is None:
            return told
        return [*told[: self.breaks_off], _event(type="error", error=OVERLOADED)]

    def _events(self) -> Iterator[dict[str, Any]]:
        begun = {**self.message(), "content": [], "stop_reason": None, "stop_details": None}
        yield {"type": "message_start", "message": {**begun, "usage": {**self.usage, "output_tokens": 1}}}
        yield {"type": "ping"}
        for index, block in enumerate(self.content):
            empty, deltas = _in_pieces(block)
            yield {"type": "content_block_start", "index": index, "content_block": empty}
            for delta in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        last = {"stop_reason": self.stop_reason, "stop_sequence": None, "stop_details": self.stop_details}
        yield {"type": "message_delta", "delta": last, "usage": {"output_tokens": self.usage["output_tokens"]}}
        yield {"type": "message_stop"}


@dataclass(frozen=True)
class Fails:
    """An error."""

    status: int
    type: str
    message: str
    headers: tuple[str, ...] = ()
    details: dict[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        return {"type": "error", "error": error, "request_id": "req_011"}


def _in_pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "text":
        pieces = [{"type": "text_delta", "text": piece} for piece in _halves(block["text"])]
        return {**block, "text": ""}, pieces
    if block["type"] == "tool_use":
        json_text = json.dumps(block["input"]) if block["input"] else ""
        pieces = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *_halves(json_text))]
        return {**block, "input": {}}, pieces
    if block["type"] == "thinking":
        thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in _halves(block["thinking"])]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*thoughts, signed]
    return block, [{"type": "citations_delta", "citation": CITATION}, {"type": "delta_of_tomorrow"}]


def _halves(words: str) -> list[str]:
    middle = len(words) // 2
    return [piece for piece in (words[:middle], words[middle:]) if piece]


def _event(**data: Any) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class MessagesServer(Upstream):
    """Answers by ``script``, its last reply ever again. ``asked`` are the good bodies, ``refused`` why others were.

    A stream that breaks off waits for ``may_break`` before it does.
    """

    def __init__(self, *script: Says | Fails) -> None:
        super().__init__(self._reply)
        self.script = deque(script)
        self.asked: list[dict[str, Any]] = []
        self.refused: list[list[str]] = []
        self.may_break = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _reply(self, writer: asyncio.StreamWriter) -> None:
        body = json.loads(self.bodies[-1])
        why = list(refusals(body))
        if why:
            self.refused.append(why)
            reply: Says | Fails = Fails(400, "invalid_request_error", why[0])
        else:
            self.asked.append(body)
            reply = self.script.popleft() if len(self.script) > 1 else self.script[0]
        if isinstance(reply, Fails):
            _begin(writer, reply.status, *reply.headers)
            _write(writer, json.dumps(reply.body()).encode(), b"")
        elif body.get("stream"):
            events = reply.events()
            _begin(writer, 200, "content-type: text/event-stream")
            _write(writer, *events[:-1])
            if reply.breaks_off is not None:
                await self.may_break.wait()
            _write(writer, events[-1], b"")
        else:
            _begin(writer, 200)
            _write(writer, json.dumps(reply.message()).encode(), b"")


def _begin(writer: asyncio.StreamWriter, status: int, *headers: str) -> None:
    head = [f"HTTP/1.1 {status} Said", "transfer-encoding: chunked", "request-id: req_011", *headers, "", ""]
    writer.write("\r\n".join(head).encode())


def _write(writer: asyncio.StreamWriter, *parts: bytes) -> None:
    for part in parts:
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))


def messages_server(*script: Says | Fails) -> AbstractAsyncContextManager[MessagesServer]:
    """Run a fake Messages API on a free port."""
    return on_a_port(MessagesServer(*script))
