"""A gateway made of a function, and the answers it gives, for clients that are not ours."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from flatfee import wire

KEY = "ff_proj_secret"
HEADERS = {
    "x-flatfee-request-id": "req_1",
    "x-request-id": "req_1",
    "x-flatfee-lane": "premium",
    "x-flatfee-reason": "default",
    "x-flatfee-fair-use-remaining": "90",
}
SETTLED = {"request_id": "req_1", "lane": "premium", "state": "settled", "fair_use": {"charged": 7, "remaining": 83}}
FAILED = {
    "request_id": "req_1",
    "lane": "fallback",
    "state": "refused",
    "attempts": [{"route": "a", "outcome": "timeout"}, {"route": "b", "outcome": "error", "status": 500}],
}
HELLO = [{"role": "user", "content": "Hello there, gateway."}]


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces; an exception among them is raised in its place."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        while self.pieces:
            piece = self.pieces.pop(0)
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def completion(text: str = "hi", **extra: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5.1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        **extra,
    }


def event(text: str | None = None, finish: str | None = None, **extra: Any) -> bytes:
    """Return one event of a streamed completion."""
    delta = {} if text is None else {"content": text}
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-5.1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **extra,
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def answered(text: str = "hi", **extra: Any) -> httpx.Response:
    """Return a whole completion with its receipt in headers and body."""
    return httpx.Response(200, headers=HEADERS, json=completion(text, flatfee=SETTLED, **extra))


def streamed(*pieces: bytes | Exception) -> httpx.Response:
    """Return a streamed answer."""
    return httpx.Response(200, headers=HEADERS | {"content-type": "text/event-stream"}, stream=Pieces(*pieces))


def refused(code: str, status: int | None = None, **headers: str) -> httpx.Response:
    """Return an error answer by its code."""
    rule = wire.ERRORS.get(code)
    return httpx.Response(
        status or (rule.status if rule else 500),
        headers={"x-flatfee-request-id": "req_1", "x-should-retry": "false"}
        | {name.replace("_", "-"): value for name, value in headers.items()},
        json=wire.error_body(code, "No.", receipt=FAILED),
    )


Handler = Callable[[httpx.Request], httpx.Response]


class Driver:
    """One of openai-python's clients as we make them, of either kind. ``requests`` tells what it sent."""

    def __init__(self, kind: str, handler: Handler, **options: Any) -> None:
        from flatfee.integrations.openai import AsyncOpenAI, OpenAI

        self.kind = kind
        self.requests: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return handler(request)

        transport = httpx.MockTransport(handle)
        settings = {"api_key": KEY, "base_url": "http://gateway.test/v1", **options}
        self.client: Any
        if kind == "sync":
            self.client = OpenAI(http_client=httpx.Client(transport=transport), **settings)
        else:
            self.client = AsyncOpenAI(http_client=httpx.AsyncClient(transport=transport), **settings)

    async def wait(self, value: Any) -> Any:
        return await value if inspect.isawaitable(value) else value

    async def create(self, client: Any = None, **arguments: Any) -> Any:
        arguments = {"model": "auto", "messages": HELLO, **arguments}
        return await self.wait((client or self.client).chat.completions.create(**arguments))

    async def stream(self, **arguments: Any) -> Any:
        return await self.create(stream=True, **arguments)

    async def all(self, iterable: Any) -> list[Any]:
        return list(iterable) if self.kind == "sync" else [item async for item in iterable]

    async def next(self, iterable: Any) -> Any:
        return next(iterable) if self.kind == "sync" else await anext(iterable)


@pytest.fixture(params=["sync", "async"])
def driver(request: pytest.FixtureRequest) -> Callable[..., Driver]:
    """Return a factory of drivers: ``driver(handler or response, **client_options)``."""

    def make(reply: Any, **options: Any) -> Driver:
        return Driver(request.param, reply if callable(reply) else lambda _: reply, **options)

    return make
