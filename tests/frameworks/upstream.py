"""A provider that uses tools as a model would: it calls the one that is offered, then tells its result.

Plain and streamed, over a socket. What frameworks make of it is for the tests to say.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

LIMIT: Final = 30.0
"""Seconds that ending may take."""


class Upstream(ThreadingHTTPServer):
    """An OpenAI-compatible provider on loopback. ``broken`` makes each answer a failure; ``asked`` counts them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.broken = False
        self.asked = 0
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Run a provider while the block lasts."""
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(LIMIT)


class _Answer(BaseHTTPRequestHandler):
    server: Upstream

    def do_POST(self) -> None:
        self.server.asked += 1
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.broken:
            self._send(429, "application/json", b'{"error": {"message": "429: rate limit reached, too many requests"}}')
        elif asked.get("stream"):
            self._send(200, "text/event-stream", b"".join(events(asked)))
        else:
            self._send(200, "application/json", json.dumps(whole(asked)).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def whole(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the completion for a request."""
    message = said(asked)
    choice = {"index": 0, "message": message, "finish_reason": finish(message)}
    return {**_head("chat.completion", asked), "choices": [choice], "usage": _USAGE}


def events(asked: dict[str, Any]) -> Iterator[bytes]:
    """Yield the events of the same completion, streamed: text by words, a tool call's arguments in two halves."""
    message = said(asked)
    head = _head("chat.completion.chunk", asked)
    for delta in [{"role": "assistant", "content": ""}, *_deltas(message)]:
        yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish(message)}]})
    if (asked.get("stream_options") or {}).get("include_usage"):
        yield _event({**head, "choices": [], "usage": _USAGE})
    yield b"data: [DONE]\n\n"


def said(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the message: the call of the first tool, and once a result is there, the result."""
    tools = [tool["function"]["name"] for tool in asked.get("tools") or () if "function" in tool]
    result = _result(asked["messages"])
    if tools and result is None:
        return _call(tools[0], {"city": "Lisbon"})
    if "final_answer" in tools:
        return _call("final_answer", {"answer": f"The tool says: {result}"})
    text = "Red, green and blue." if result is None else f"The tool says: {result}"
    if (asked.get("response_format") or {}).get("type") == "json_schema":
        text = json.dumps({"city": "Lisbon"})
    return {"role": "assistant", "content": text}


def finish(message: dict[str, Any]) -> str:
    return "tool_calls" if message.get("tool_calls") else "stop"


def _result(messages: list[dict[str, Any]]) -> str | None:
    """Return the last tool's result. smolagents tells it as the user's message."""
    last = messages[-1]
    text = last["content"] if isinstance(last["content"], str) else last["content"][-1]["text"]
    if last["role"] == "tool":
        return text
    return text.partition("Observation:")[2].strip() or None


def _call(name: str, arguments: dict[str, str]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
    }


def _deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for word in (message["content"] or "").split(" "):
        if word:
            yield {"content": f"{word} "}
    for call in message.get("tool_calls", ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        half = len(arguments) // 2
        yield {"tool_calls": [{**call, "index": 0, "function": {"name": name, "arguments": arguments[:half]}}]}
        yield {"tool_calls": [{"index": 0, "function": {"arguments": arguments[half:]}}]}


def _head(kind: str, asked: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": asked["model"]}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


_USAGE: Final = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
