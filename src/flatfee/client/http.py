"""The HTTP library, and nothing of the API. The only module of the client that names ``httpx``.

It is imported when a client is made, not with the package: ``httpx`` brings its command line and
all that hangs on it. A client of ``httpx2`` has the same shape and works too; its exceptions are
found in the library that its class comes from. No exception of the library leaves this module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from time import monotonic
from typing import Any, Final, Protocol, Self

from flatfee.client.exchange import Reply, Request
from flatfee.errors import APIConnectionError, APITimeoutError, ClientClosedError, ConfigurationError

MAX_CONNECTIONS: Final = 1000
MAX_IDLE_CONNECTIONS: Final = 100
LONGEST_DRAIN: Final = 0.25
"""Seconds to wait for the end of a body whose answer is whole already; a new connection costs about as much."""


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
        self._connecting: type[Exception] = library.ConnectError
        self._hopeless = (library.LocalProtocolError, library.UnsupportedProtocol, library.InvalidURL)
        self.faults: tuple[type[Exception], ...] = (library.HTTPError, library.StreamError, library.InvalidURL)
        self._shut = False

    _client: Any
    _owned: bool

    def __reduce__(self) -> tuple[Any, ...]:
        """Go elsewhere without the connections; new ones are made there. A closed transport stays closed."""
        if not self._owned:
            raise TypeError(
                "A client with an http_client= of yours cannot be pickled: its connections belong to this process. "
                "Pickle a client without one, or make the client where it is used."
            )
        return type(self), (), {"_shut": self._shut}

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Make connections of its own, as the original did; those that were passed in are shared."""
        kind: Any = type(self)
        copied: Self = kind() if self._owned else kind(self._client)
        copied._shut = self._shut
        return copied

    def failure(self, error: Exception, url: str) -> APIConnectionError:
        """Return our exception for one of ``faults``; the library's own text may quote a header, so it is left out."""
        if isinstance(error, self._timeouts):
            return APITimeoutError(f"{_origin(url)} did not answer in time ({type(error).__name__}).")
        why = _system_error(error) if isinstance(error, self._connecting) else None
        told = f"{type(error).__name__}: {why}" if why else type(error).__name__
        failure = APIConnectionError(f"The connection to {_origin(url)} failed ({told}).")
        failure.retryable = not isinstance(error, self._hopeless)
        return failure

    def _build(self, client: Any, request: Request) -> Any:
        if self._shut or client.is_closed:
            raise ClientClosedError("This client is closed; make a new one.")
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

    def drain(self) -> None:
        """Read what is left, for a moment at most, so that the connection can serve the next call; then close."""
        if self.raw.extensions.get("http_version") != b"HTTP/2":  # there a close costs one stream, not the connection
            with suppress(TimeoutError, *self._transport.faults), _hurried(self.raw):
                for _ in self._bytes:
                    pass
        self.close()

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

    async def drain(self) -> None:
        """Read what is left, for a moment at most, so that the connection can serve the next call; then close."""
        if self.raw.extensions.get("http_version") != b"HTTP/2":  # there a close costs one stream, not the connection
            with suppress(TimeoutError, *self._transport.faults), _hurried(self.raw):
                async for _ in self._bytes:
                    pass
        await self.close()

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


@contextmanager
def _hurried(response: Any) -> Generator[None]:
    """Let the reads of a response's body take ``LONGEST_DRAIN`` in all, and raise ``TimeoutError`` after that.

    The limits of a request are fixed when it is sent. So the connection's own ``read`` is stood in
    for: the network stream that a response names is public, and its ``read`` takes a timeout.
    """
    connection = response.extensions.get("network_stream")
    if connection is None:  # nothing to wait for: a mock, or an application in this process
        yield
        return
    read, end = connection.read, monotonic() + LONGEST_DRAIN

    def soon(max_bytes: int, timeout: float | None = None) -> Any:  # noqa: ARG001 - the request's limit is the longer
        left = end - monotonic()
        if left <= 0:
            raise TimeoutError
        return read(max_bytes, timeout=left)

    connection.read = soon
    try:
        yield
    finally:
        del connection.read


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


def _system_error(error: BaseException) -> OSError | None:
    """Return what the operating system or TLS said, the innermost cause of all; it knows no header."""
    found: OSError | None = None
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            found = cause
        group = (
            cause.exceptions[:1] if isinstance(cause, BaseExceptionGroup) else ()
        )  # one for each address of the host
        cause = next(iter(group), None) or cause.__cause__ or cause.__context__
    return found
