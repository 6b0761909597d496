"""The gateway without a socket: transports for ``httpx`` and ``httpx2``, and an ASGI app for any event loop.

A request goes to the gateway's own thread and its answer comes back part by part, as over a socket: what is not
read holds the gateway up, who leaves early is a caller that left, and an answer that breaks off is an error of
the library. Nothing of HTTP is parsed or framed, so connections have no faults of their own here.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import httpx

from flatfee.server.call import Message, Receive, Scope, Send
from flatfee.testing.running.bridge import Wake
from flatfee.testing.running.visits import END, MemoryServer, Visit

if TYPE_CHECKING:
    from anyio import CancelScope


class Transport(httpx.BaseTransport):
    """Sends the requests of an ``httpx.Client`` to a gateway, without a socket; those of an ``httpx2.Client`` too."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response once its head is there. It and the exceptions are of the request's library."""
        http, limits = _library(request), request.extensions.get("timeout", {})
        visit = _begin(http, self._server, request, request.read())
        try:
            head = _next(http, visit, limits.get("read"))
            return _response(http, head, _body(http)(http, visit, limits))
        except BaseException:
            visit.leave()
            raise


class AsyncTransport(httpx.AsyncBaseTransport):
    """Sends those of an ``AsyncClient``; on asyncio and trio."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response once its head is there. It and the exceptions are of the request's library."""
        http, limits = _library(request), request.extensions.get("timeout", {})
        visit = _begin(http, self._server, request, await request.aread())
        try:
            head = await _anext(http, visit, limits.get("read"))
            return _response(http, head, _async_body(http)(http, visit, limits))
        except BaseException:
            visit.leave()
            raise


def client_of(server: MemoryServer) -> httpx.Client:
    """Return an HTTP client that reaches nothing but the gateway."""
    return httpx.Client(transport=Transport(server))


def async_client_of(server: MemoryServer) -> httpx.AsyncClient:
    """Return such a client for coroutines."""
    return httpx.AsyncClient(transport=AsyncTransport(server))


class AsgiApp:
    """A gateway as an ASGI app, for ``httpx.ASGITransport`` and other callers with an event loop of their own."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._most = server.front.app.gateway.settings.server.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        from anyio import create_task_group

        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        body, more = b"", True
        while more and len(body) <= self._most:  # the gateway refuses what is larger
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        visit = self._server.begin(_plain(scope), body)
        try:
            async with create_task_group() as group:
                group.start_soon(_end_with_the_caller, group.cancel_scope, receive)
                while (message := await _anext(httpx, visit, None)) is not END:
                    await send(message)
                group.cancel_scope.cancel()
        finally:
            visit.leave()


async def _live(receive: Receive, send: Send) -> None:
    """Say yes to the lifespan: the gateway lives on its own."""
    for step in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{step}.complete"})


async def _end_with_the_caller(scope: CancelScope, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    scope.cancel()


def _plain(scope: Scope) -> MutableMapping[str, Any]:
    """Return what the gateway reads of a scope: nothing that belongs to the caller's event loop."""
    names = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path")
    return {name: scope[name] for name in (*names, "headers", "client", "server") if name in scope}


def _begin(http: Any, server: MemoryServer, request: httpx.Request, body: bytes) -> Visit:
    path, _, query = request.url.raw_path.partition(b"?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 0),
        "server": (request.url.host, request.url.port),
    }
    try:
        return server.begin(scope, body)
    except RuntimeError as error:
        raise http.ConnectError(str(error), request=request) from error


def _next(http: Any, visit: Visit, limit: float | None) -> Message:
    while True:
        came = threading.Event()
        message = visit.pipe.take(came.set)
        if message is not None:
            return message
        if not came.wait(limit):
            raise http.ReadTimeout(f"Nothing came within {limit} seconds.")


async def _anext(http: Any, visit: Visit, limit: float | None) -> Message:
    from anyio import move_on_after

    while True:
        came = Wake()
        message = visit.pipe.take(came.set)
        if message is not None:
            return message
        with move_on_after(limit) as scope:
            await came.wait()
        if scope.cancelled_caught:
            raise http.ReadTimeout(f"Nothing came within {limit} seconds.")


def _response(http: Any, head: Message, stream: object) -> httpx.Response:
    if head["type"] != "http.response.start":
        raise _broken(http, head, "The gateway disconnected without sending a response.")
    made = http.Response(
        head["status"], headers=head["headers"], stream=stream, extensions={"http_version": b"HTTP/1.1"}
    )
    return cast("httpx.Response", made)


def _broken(http: Any, end: Message, message: str) -> Exception:
    if "error" in end:
        return cast("Exception", http.ReadError(str(end["error"])))
    return cast("Exception", http.RemoteProtocolError(message))


def _piece(http: Any, message: Message) -> tuple[bytes, bool]:
    """Return the bytes of a message, and whether more follow."""
    if message["type"] != "http.response.body":
        raise _broken(http, message, "The gateway closed the connection before the response was whole.")
    return message.get("body", b""), message.get("more_body", False)


class _Body:
    """An answer's body. Each library has its own kind of stream, which it is besides."""

    def __init__(self, http: Any, visit: Visit, limits: Any) -> None:
        self._http = http
        self._visit = visit
        self._limits = limits

    def __iter__(self) -> Iterator[bytes]:
        more = True
        while more:
            data, more = _piece(self._http, _next(self._http, self._visit, self._limits.get("read")))
            if data:
                yield data

    def close(self) -> None:
        self._visit.leave()


class _AsyncBody:
    """``_Body`` for coroutines."""

    def __init__(self, http: Any, visit: Visit, limits: Any) -> None:
        self._http = http
        self._visit = visit
        self._limits = limits

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            data, more = _piece(self._http, await _anext(self._http, self._visit, self._limits.get("read")))
            if data:
                yield data

    async def aclose(self) -> None:
        self._visit.leave()


def _library(request: object) -> Any:
    """Return the library that a request is of, ``httpx`` or ``httpx2``: they have the same names in them."""
    of = {each.__module__.partition(".")[0] for each in type(request).__mro__}
    return sys.modules["httpx2"] if "httpx2" in of else httpx


@cache
def _body(http: Any) -> Callable[[Any, Visit, Any], object]:
    return type("Body", (_Body, http.SyncByteStream), {})


@cache
def _async_body(http: Any) -> Callable[[Any, Visit, Any], object]:
    return type("AsyncBody", (_AsyncBody, http.AsyncByteStream), {})
