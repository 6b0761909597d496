"""One suite for both shells: a driver that hides who awaits, over a gateway made of a function.

What needs a socket is in ``network``; what needs the real gateway in ``tests/pair``.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

import flatfee

KEY = "ff_proj_secret"
HEADERS = {
    "x-flatfee-request-id": "req_1",
    "x-flatfee-lane": "premium",
    "x-flatfee-reason": "default",
    "x-flatfee-fair-use-remaining": "90",
}


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces; an exception among them is raised in its place."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self.pieces:
            raise StopIteration
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self  # no generator: trio complains of those that are dropped half way

    async def __anext__(self) -> bytes:
        for piece in self:
            return piece
        raise StopAsyncIteration

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class Driver:
    """A client of either kind. ``requests`` and ``waits`` tell what it did."""

    def __init__(self, kind: str, handler: Callable[[httpx.Request], httpx.Response], **options: Any) -> None:
        self.kind = kind
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []
        self.now = 0.0

        def handle(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return handler(request)

        def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            self.now += seconds

        async def asleep(seconds: float) -> None:
            sleep(seconds)

        transport = httpx.MockTransport(handle)
        settings = {"api_key": KEY, "base_url": "http://gateway.test/v1", "clock": lambda: self.now, **options}
        self.client: Any
        if kind == "sync":
            http_client = httpx.Client(transport=transport)
            self.client = flatfee.Client(http_client=http_client, sleep=sleep, **settings)
        else:
            ahttp_client = httpx.AsyncClient(transport=transport)
            self.client = flatfee.AsyncClient(http_client=ahttp_client, sleep=asleep, **settings)

    async def wait(self, value: Any) -> Any:
        return await value if inspect.isawaitable(value) else value

    async def create(self, client: Any = None, **arguments: Any) -> Any:
        arguments = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **arguments}
        return await self.wait((client or self.client).chat.completions.create(**arguments))

    async def stream(self, **arguments: Any) -> Any:
        return await self.create(stream=True, **arguments)

    async def next(self, iterator: Any) -> Any:
        try:
            return next(iterator) if self.kind == "sync" else await anext(iterator)
        except (StopIteration, StopAsyncIteration):
            return None

    async def all(self, iterable: Any) -> list[Any]:
        return list(iterable) if self.kind == "sync" else [item async for item in iterable]


ON_TRIO = {"test_retry", "test_shells", "test_stream"}
"""The suites of what waits and closes: their coroutines run on trio as well."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "driver" in metafunc.fixturenames:
        module = metafunc.module.__name__.rpartition(".")[2]
        metafunc.parametrize("driver", ["sync", "async", *(["trio"] if module in ON_TRIO else [])], indirect=True)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    callspec = getattr(request.node, "callspec", None)
    return "trio" if callspec and callspec.params.get("driver") == "trio" else "asyncio"


@pytest.fixture
def driver(request: pytest.FixtureRequest) -> Callable[..., Driver]:
    """Return a factory of drivers: ``driver(handler or response, **client_options)``."""
    kind = "sync" if request.param == "sync" else "async"

    def make(reply: Any, **options: Any) -> Driver:
        def again(_: httpx.Request) -> httpx.Response:
            return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

        return Driver(kind, reply if callable(reply) else again, **options)

    return make


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


@pytest.fixture
def answer() -> Callable[..., httpx.Response]:
    """Return a factory of whole completions with a receipt in headers and body."""

    def make(text: str = "hi", **extra: Any) -> httpx.Response:
        receipt = {"request_id": "req_1", "lane": "premium", "state": "settled", "fair_use": {"charged": 7}}
        return httpx.Response(200, headers=HEADERS, json=completion(text, flatfee=receipt, **extra))

    return make


@pytest.fixture
def refuse() -> Callable[..., httpx.Response]:
    """Return a factory of error answers by code."""

    def make(code: str, status: int | None = None, **headers: str) -> httpx.Response:
        rule = flatfee.wire.ERRORS.get(code)
        return httpx.Response(
            status or (rule.status if rule else 500),
            headers={"x-flatfee-request-id": "req_9", **{k.replace("_", "-"): v for k, v in headers.items()}},
            json=flatfee.wire.error_body(code, "No.", receipt={"request_id": "req_9", "state": "refused"}),
        )

    return make


@pytest.fixture
def pieces() -> type[Pieces]:
    return Pieces


@pytest.fixture
def sse(pieces: type[Pieces]) -> Callable[..., httpx.Response]:
    """Return a factory of streamed answers: ``sse(b"data: …", …)``."""

    def make(*parts: bytes | Exception, **headers: str) -> httpx.Response:
        kind = {"content-type": "text/event-stream"}
        body = pieces(*parts)
        return httpx.Response(200, headers=HEADERS | kind | headers, stream=body, extensions={"pieces": body})

    return make
