"""A provider on loopback, with a mind of its own: fresh ids, times between events, and failures. Ends by itself."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "canary-provider-key-0123456789"
LEAKED = "sk-canary-" + "a1b2c3d4e5f6"

CONFIG = """
providers = [{{name = "up", kind = "openai", base_url = "http://127.0.0.1:{port}/v1", api_key_env = "UP_KEY"}}]
routes = [
    {{name = "up-premium", provider = "up", model = "up-large", tier = "premium"}},
    {{name = "up-economy", provider = "up", model = "up-small", tier = "economy"}},
]
plans = [{{name = "pro", fair_use = 1000000}}]
"""

LONGEST = 30.0
"""Seconds after which a stream that is held goes on by itself."""

Change = Callable[[dict[str, Any]], Any]


class Upstream:
    """What the provider is like now. ``change`` is applied to every completion, event and error before it is sent."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[dict[str, Any]] = []
        self.change: Change = lambda said: said
        self.done = True
        self.go_on = threading.Event()
        self._numbers = itertools.count(1000)

    @property
    def config(self) -> str:
        return CONFIG.format(port=self.port)

    def fresh(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers)}xyzxyzxyz"

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        self.asked.append(body)
        last = body["messages"][-1]
        said = last["content"] if isinstance(last["content"], str) else ""
        if said == "limit me":
            handler.says(429, {"error": error("Too fast, see req_77777777abc.")}, {"retry-after": "30"})
        elif said == "refuse me":
            handler.says(400, {"error": error("Not like this.", "invalid_request_error", "bad_thing")})
        elif said == "reset me":
            handler.resets()
        elif body.get("stream"):
            handler.streams(list(self.events(body, said)), cut=said == "cut me", held=said == "hold me")
        else:
            handler.says(200, self.completion(body))

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "It is sunny in Lisbon."}
        reason = "stop"
        if "tools" in body and body["messages"][-1]["role"] == "user":
            function = {"name": "get_weather", "arguments": '{"city":"Lisbon"}'}
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": self.fresh("call_"), "type": "function", "function": function}],
            }
            reason = "tool_calls"
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage()}

    def events(self, body: dict[str, Any], said: str) -> Iterator[dict[str, Any]]:
        head = self._head("chat.completion.chunk")
        if "tools" in body and body["messages"][-1]["role"] == "user":
            function = {"name": "get_weather", "arguments": ""}
            opening = {"index": 0, "id": self.fresh("call_"), "type": "function", "function": function}
            pieces = [opening, *({"index": 0, "function": {"arguments": part}} for part in ('{"city":', '"Lisbon"}'))]
            deltas = [{"tool_calls": [piece]} for piece in pieces]
            yield from ({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas)
            yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
            return
        for word in ["It is ", "sunny, sk-can", "ary-a1b2", "c3d4e5f6", " bye."]:
            delta = {"role": "assistant", "content": word}
            yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None}
        yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None}
        if body.get("stream_options"):
            yield {**head, "choices": [], "usage": usage()}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.fresh("chatcmpl-"), "object": kind, "created": 1767225600, "model": "up-large-2026"}


def usage() -> dict[str, int]:
    return {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def error(message: str, kind: str = "rate_limit_error", code: str = "rate_limit_exceeded") -> dict[str, Any]:
    return {"message": message, "type": kind, "param": None, "code": code}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream: Upstream

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        assert self.headers["authorization"] == f"Bearer {KEY}"
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.upstream.answer(self, body)

    def says(self, status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(self.upstream.change(value), indent=2).encode()
        self._head(status, {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})})
        self.wfile.write(data)

    def streams(self, events: list[dict[str, Any]], *, cut: bool, held: bool) -> None:
        self._head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        for event in events[:2] if cut else events:
            value = self.upstream.change(event)
            self._chunk(b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n")
            self.upstream.go_on.wait(LONGEST if held else 0.01)
        if cut:
            self.resets()
            return
        if self.upstream.done:
            self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def resets(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        always = {"x-request-id": self.upstream.fresh("req_"), "set-cookie": f"session={LEAKED}"}
        for name, value in {**always, "x-ratelimit-limit-requests": "60", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet of connections that clients close."""


@contextmanager
def serving() -> Iterator[Upstream]:
    upstream = Upstream()
    handler = type("Bound", (Handler,), {"upstream": upstream})
    with Server(("127.0.0.1", 0), handler) as server:
        upstream.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield upstream
        finally:
            upstream.go_on.set()
            server.shutdown()
            thread.join()
