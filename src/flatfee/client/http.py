"""The HTTP library, and nothing of the API. The only module of the client that names ``httpx``.

It is imported when a client is made, not with the package: ``httpx`` brings its command line and
all that hangs on it. A client of ``httpx2`` has the same shape and works too; its exceptions are
found in the library that its class comes from. No exception of the library leaves this module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, Protocol

from flatfee.client.exchange import Reply, Request
from flatfee.errors import APIConnectionError, APITimeoutError, ConfigurationError, FlatfeeError

MAX_CONNECTIONS: Final = 1000
MAX_IDLE_CONNECTIONS: Final = 100


class HTTPClient(Protocol):
    """What is used of an ``httpx.Client``."""

    @property
    def is_closed(self) -> bool:
        """Whether the connections are gone."""
        ...

    def build_request(self, method: str, url: Any, *, headers: Any, content: Any, timeout: Any) -> Any:
        """Return a request with the client's own defaults under what is given."""
        ...

    def send(self, request: Any, *, stream: bool = False) -> Any:
        """Return the response; with ``stream`` before its body was read."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class AsyncHTTPClient(Protocol):
    """What is used of an ``httpx.AsyncClient``."""

    @property
    def is_closed(self) -> bool:
        """Whether the connections are gone."""
        ...

    def build_request(self, method: str, url: Any, *, headers: Any, content: Any, timeout: Any) -> Any:
        """Return a request with the client's own defaults under what is given."""
        ...

    async def send(self, request: Any, *, stream: bool = False) -> Any:
        """Return the response; with ``stream`` before its body was read."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class _Transport:
    """What both transports share: the library behind a client, and the mapping of its exceptions."""

    def __init__(self, client: Any, kind: str) -> None:
        library = _library_of(client, kind)
        # A client calls few URLs, and parsing one costs more than our whole share of a call.
        self._url: Callable[[str], Any] = lru_cache(maxsize=64)(library.URL)
        self._timeouts: type[Exception] = library.TimeoutException
        self.faults: tuple[type[Exception], ...] = (library.HTTPError, library.StreamError, library.InvalidURL)
        self._shut = False

    def failure(self, error: Exception, url: str) -> APIConnectionError:
        """Return our exception for one of ``faults``; the library's own text may quote a header, so it is left out."""
        if isinstance(error, self._timeouts):
            return APITimeoutError(f"{_origin(url)} did not answer in time ({type(error).__name__}).")
        return APIConnectionError(f"The connection to {_origin(url)} failed ({type(error).__name__}).")

    def _build(self, client: Any, request: Request) -> Any:
        if self._shut or client.is_closed:
            raise FlatfeeError("This client is closed; make a new one.")
        limits = request.timeout
        return client.build_request(
            request.method,
            self._url(request.url),
            headers=request.headers,
            content=request.body,
            timeout=(limits.connect, limits.read, limits.write, limits.pool),
        )


class Transport(_Transport):
    """Sends requests over an ``httpx.Client``; closes it only if it made it itself."""

    def __init__(self, client: HTTPClient | None = None) -> None:
        self._owned = client is None
        self._client: Any = _default("Client") if client is None else client
        super().__init__(self._client, "Client")

    def send(self, request: Request) -> Reply:
        """Return the finished response."""
        try:
            response = self._client.send(self._build(self._client, request))
        except self.faults as error:
            raise self.failure(error, request.url) from error
        return Reply(response.status_code, response.headers, response.content, response)

    def open(self, request: Request) -> OpenReply:
        """Return the response as soon as its headers are there."""
        try:
            response = self._client.send(self._build(self._client, request), stream=True)
        except self.faults as error:
            raise self.failure(error, request.url) from error
        return OpenReply(self, response, request.url)

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._shut or bool(self._client.is_closed)

    def close(self) -> None:
        """Close the connections, unless the HTTP client was passed in: who opened it closes it."""
        self._shut = True
        if self._owned:
            self._client.close()


class AsyncTransport(_Transport):
    """Sends requests over an ``httpx.AsyncClient``; closes it only if it made it itself."""

    def __init__(self, client: AsyncHTTPClient | None = None) -> None:
        self._owned = client is None
        self._client: Any = _default("AsyncClient") if client is None else client
        super().__init__(self._client, "AsyncClient")

    async def send(self, request: Request) -> Reply:
        """Return the finished response."""
        try:
            response = await self._client.send(self._build(self._client, request))
        except self.faults as error:
            raise self.failure(error, request.url) from error
        return Reply(response.status_code, response.headers, response.content, response)

    async def open(self, request: Request) -> AsyncOpenReply:
        """Return the response as soon as its headers are there."""
        try:
            response = await self._client.send(self._build(self._client, request), stream=True)
        except self.faults as error:
            raise self.failure(error, request.url) from error
        return AsyncOpenReply(self, response, request.url)

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._shut or bool(self._client.is_closed)

    async def close(self) -> None:
        """Close the connections, unless the HTTP client was passed in: who opened it closes it."""
        self._shut = True
        if self._owned:
            await self._client.aclose()


class OpenReply:
    """A response whose body is still to come."""

    def __init__(self, transport: Transport, response: Any, url: str) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.raw = response
        self._transport = transport
        self._url = url
        self._bytes = response.iter_bytes()

    def read(self) -> bytes | None:
        """Return the next bytes, decompressed; ``None`` at the end."""
        try:
            return next(self._bytes, None)
        except self._transport.faults as error:
            raise self._transport.failure(error, self._url) from error

    def finish(self) -> Reply:
        """Read the rest, and return the finished response."""
        try:
            body = self.raw.read()
        except self._transport.faults as error:
            raise self._transport.failure(error, self._url) from error
        finally:
            self.close()
        return Reply(self.status, self.headers, body, self.raw)

    def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        with suppress(*self._transport.faults):  # a connection that breaks while it is given up is no loss
            self.raw.close()


class AsyncOpenReply:
    """A response whose body is still to come."""

    def __init__(self, transport: AsyncTransport, response: Any, url: str) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.raw = response
        self._transport = transport
        self._url = url
        self._bytes = response.aiter_bytes()

    async def read(self) -> bytes | None:
        """Return the next bytes, decompressed; ``None`` at the end."""
        try:
            return await anext(self._bytes, None)
        except self._transport.faults as error:
            raise self._transport.failure(error, self._url) from error

    async def finish(self) -> Reply:
        """Read the rest, and return the finished response."""
        try:
            body = await self.raw.aread()
        except self._transport.faults as error:
            raise self._transport.failure(error, self._url) from error
        finally:
            await self.close()
        return Reply(self.status, self.headers, body, self.raw)

    async def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        with suppress(*self._transport.faults):  # a connection that breaks while it is given up is no loss
            await self.raw.aclose()


def _default(kind: str) -> Any:
    import httpx

    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE_CONNECTIONS)
    return getattr(httpx, kind)(limits=limits)


def _library_of(client: Any, kind: str) -> Any:
    """Return the module whose ``kind`` the client is an instance of.

    Raises:
        ConfigurationError: it is none; often the blocking client was passed for the other one.
    """
    for cls in type(client).__mro__:
        library = sys.modules.get(cls.__module__.partition(".")[0])
        if cls.__name__ == kind and hasattr(library, "TimeoutException"):
            return library
    raise ConfigurationError(
        f"http_client is a {type(client).__module__}.{type(client).__name__}; pass an httpx.{kind} or httpx2.{kind}."
    )


def _origin(url: str) -> str:
    """Return scheme and host: a path may name a workflow or a receipt."""
    return "/".join(url.split("/", 3)[:3])
