"""The HTTP library, and nothing of the API. The only module of the client that names ``httpx``.

It is imported when a client is made, not with the package: ``httpx`` brings its command line and
all that hangs on it. A client of ``httpx2`` has the same shape and works too; its exceptions are
found in the library that its class comes from. No exception of the library leaves the client.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import cache, lru_cache, partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from flatfee.client.bodies import AsyncOpenReply, OpenReply
from flatfee.client.exchange import Reply, Request
from flatfee.client.limits import Patience, Phases, left_for_answer, silence
from flatfee.client.pools import LoopPools, ProcessPools, mend
from flatfee.client.retry import Budget
from flatfee.errors import APIConnectionError, APITimeoutError, ClientClosedError, ConfigurationError
from flatfee.types.timeout import Timeout

if TYPE_CHECKING:
    import httpx

MAX_CONNECTIONS: Final = 1000
MAX_IDLE_CONNECTIONS: Final = 100
_USUAL_HEADERS: Final = {"accept-encoding": "gzip, deflate", "connection": "keep-alive"}


class HTTPClient(Protocol):
    """What is used of an ``httpx.Client``."""

    @property
    def is_closed(self) -> bool:
        """Whether the connections are gone."""
        ...

    def build_request(self, method: str, url: Any, *, headers: Any, content: Any, extensions: Any) -> Any:
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

    def build_request(self, method: str, url: Any, *, headers: Any, content: Any, extensions: Any) -> Any:
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
        self._given = client
        self._request = library.Request
        self._connecting: type[Exception] = library.ConnectError
        self._full: type[Exception] = library.PoolTimeout
        self._reading: type[Exception] = library.ReadTimeout
        self._unsent = (
            *(library.ConnectError, library.ConnectTimeout, library.PoolTimeout, library.ProxyError),
            *(library.UnsupportedProtocol, library.InvalidURL),
        )
        self._hopeless = (library.LocalProtocolError, library.UnsupportedProtocol, library.InvalidURL)
        self.timeouts: type[Exception] = library.TimeoutException
        self.faults: tuple[type[Exception], ...] = (library.HTTPError, library.StreamError, library.InvalidURL)
        self._shut = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._shut or (self._given is not None and bool(self._given.is_closed))

    def __reduce__(self) -> tuple[Any, ...]:
        """Go elsewhere without the connections; new ones are made there. A closed transport stays closed."""
        if self._given is not None:
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
        copied: Self = kind(self._given)
        copied._shut = self._shut
        return copied

    def failure(self, error: Exception, url: str) -> APIConnectionError:
        """Return our exception for one of ``faults``; the library's own text may quote a header, so it is left out."""
        failure = self._named(error, url)
        failure.sent = not isinstance(error, self._unsent)
        return failure

    def _named(self, error: Exception, url: str) -> APIConnectionError:
        if isinstance(error, self._full):
            return APITimeoutError(
                f"No connection to {_origin(url)} became free in time ({type(error).__name__}). Read streams to their "
                "end or close them, make fewer calls at once, or pass http_client= with a higher max_connections."
            )
        if isinstance(error, self.timeouts):
            return APITimeoutError(f"{_origin(url)} did not answer in time ({type(error).__name__}).")
        why = _system_error(error) if isinstance(error, self._connecting) else None
        told = f"{type(error).__name__}: {why}" if why else type(error).__name__
        failure = APIConnectionError(f"The connection to {_origin(url)} failed ({told}).")
        failure.retryable = not isinstance(error, self._hopeless)
        return failure

    def _build(self, client: Any, request: Request, limits: dict[str, float | None]) -> Any:
        if self.is_closed:
            raise ClientClosedError("This client is closed; make a new one.")
        # Our own clients have nothing to merge into a request but these headers.
        build, headers = client.build_request, request.headers
        if self._given is None:
            build, headers = self._request, {**_USUAL_HEADERS, **headers}
        return build(
            request.method,
            self._url(request.url),
            headers=headers,
            content=request.body,
            extensions={"timeout": limits if request.budget is None else Phases(limits, request.budget)},
        )

    def _unanswered(self, error: Exception, request: Request, limits: Any) -> APIConnectionError:
        """Return our exception for a request that got no response; ``limits`` are those it was sent with."""
        if isinstance(error, self.timeouts):
            if request.budget is not None and limits.cut:
                return request.budget.passed()
            limit = request.timeout.first_token
            if isinstance(error, self._reading) and limit is not None and limits["read"] != request.timeout.read:
                return silence("first_token", limit)
        return self.failure(error, request.url)


class Transport(_Transport):
    """Sends requests over an ``httpx.Client``; closes it only if it made it itself."""

    def __init__(self, client: HTTPClient | None = None) -> None:
        super().__init__(client, "Client")
        self._pools = ProcessPools(partial(_default, "Client"))
        self._abandoned: deque[tuple[Any, Any]] = deque()

    def send(self, request: Request) -> Reply:
        """Return the finished response."""
        if request.budget is not None:  # it covers a body that comes in drops, too
            response = self._send(request, _limits(request.timeout), stream=True)
            return self._reply(response, request, Patience(None, request.budget)).finish()
        response = self._send(request, _limits(request.timeout), stream=False)
        return Reply(response.status_code, response.headers, response.content, response)

    def open(self, request: Request) -> OpenReply:
        """Return the response to a request for a stream as soon as its headers are there."""
        began = monotonic()
        limits = _limits(request.timeout, streamed=True)
        response = self._send(request, limits, stream=True)
        limits["read"] = request.timeout.read
        return self._reply(response, request, Patience(request.timeout, request.budget, began, monotonic()))

    def _reply(self, response: Any, request: Request, patience: Patience) -> OpenReply:
        return OpenReply(self, response, request.url, patience, self._abandoned)

    def _send(self, request: Request, limits: dict[str, float | None], *, stream: bool) -> Any:
        while self._abandoned:
            self._reclaim()
        client = self._given or self._pools.current(request.url.startswith("https"))
        built = self._build(client, request, limits)
        try:
            return client.send(built, stream=stream)
        except self.faults as error:
            raise self._unanswered(error, request, built.extensions["timeout"]) from error

    def _reclaim(self) -> None:
        """Give back what belonged to a stream that was dropped without being closed."""
        with suppress(IndexError, *self.faults):  # another thread may have been faster
            self._abandoned.pop()[0].close()

    def close(self) -> None:
        """Close the connections, unless the HTTP client was passed in: who opened it closes it."""
        self._shut = True
        self._pools.close()


class AsyncTransport(_Transport):
    """Sends requests over an ``httpx.AsyncClient``; closes it only if it made it itself."""

    def __init__(self, client: AsyncHTTPClient | None = None) -> None:
        super().__init__(client, "AsyncClient")
        self._pools = LoopPools(partial(_default, "AsyncClient"))

    async def send(self, request: Request) -> Reply:
        """Return the finished response."""
        _, response = await self._send(request, _limits(request.timeout), stream=False)
        return Reply(response.status_code, response.headers, response.content, response)

    async def open(self, request: Request) -> AsyncOpenReply:
        """Return the response to a request for a stream as soon as its headers are there."""
        began = monotonic()
        limits = _limits(request.timeout, streamed=True)
        client, response = await self._send(request, limits, stream=True)
        limits["read"] = request.timeout.read
        patience = Patience(request.timeout, request.budget, began, monotonic())
        return await AsyncOpenReply(self, client, response, request.url, patience).begin()

    async def _send(self, request: Request, limits: dict[str, float | None], *, stream: bool) -> Any:
        client = self._given or self._pools.current(request.url.startswith("https"))
        built = self._build(client, request, limits)
        try:
            if request.budget is None:
                return client, await client.send(built, stream=stream)
            return client, await _in_time(client.send(built, stream=stream), request.budget)
        except self.faults as error:
            raise self._unanswered(error, request, built.extensions["timeout"]) from error
        except BaseException:  # cancelled, by the caller or by the deadline
            mend(client, built)
            raise

    async def close(self) -> None:
        """Close the connections, unless the HTTP client was passed in: who opened it closes it."""
        self._shut = True
        await self._pools.close()


def DefaultHttpxClient(**options: Any) -> httpx.Client:  # noqa: N802 - openai-python's name
    """Return an ``httpx.Client`` with this package's limits, ready for ``http_client=``.

    What is passed goes over them, so that ``proxy=`` or ``verify=`` can be changed and nothing else.
    """
    client: httpx.Client = _client("Client", options)
    return client


def DefaultAsyncHttpxClient(**options: Any) -> httpx.AsyncClient:  # noqa: N802 - openai-python's name
    """Return an ``httpx.AsyncClient`` with this package's limits, ready for ``http_client=``.

    What is passed goes over them, so that ``proxy=`` or ``verify=`` can be changed and nothing else.
    """
    client: httpx.AsyncClient = _client("AsyncClient", options)
    return client


def _default(kind: str, secure: bool) -> Any:
    return _client(kind, {} if secure else {"verify": _no_certificates()}, _without_cookies(kind))


@cache
def _without_cookies(kind: str) -> Any:
    """Return the library's class of client without a cookie jar.

    An API sets none, and to look for them in every response takes a tenth of a call.
    """
    import httpx

    class NoCookies(httpx.Cookies):
        def extract_cookies(self, response: httpx.Response) -> None:
            """Leave them."""

    return type(kind, (getattr(httpx, kind),), {"cookies": NoCookies()})


def _client(kind: str, options: dict[str, Any], cls: Any = None) -> Any:
    import httpx

    if "verify" not in options and "transport" not in options:
        options["verify"] = _certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE_CONNECTIONS)
    return (cls or getattr(httpx, kind))(**{"limits": limits, **options})


@lru_cache(maxsize=8)
def _certificates(file: str | None, directory: str | None) -> Any:
    """Return the one TLS context of all clients: to read the certificates takes as long as fifty calls.

    Raises:
        ConfigurationError: the environment names certificates that cannot be read.
    """
    import httpx

    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise ConfigurationError(
            f"The certificates cannot be read: {error}. SSL_CERT_FILE is {file!r} and SSL_CERT_DIR is {directory!r}; "
            "let one name what exists, or unset both."
        ) from error


@lru_cache(maxsize=1)
def _no_certificates() -> Any:
    """Return a TLS context that trusts nobody, for clients that speak plain HTTP."""
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def _in_time(sending: Coroutine[Any, Any, Any], budget: Budget) -> Any:
    """Return the response, or raise: one scope holds all phases, however many waits each of them has."""
    from anyio import move_on_after

    with move_on_after(left_for_answer(budget)):
        return await sending
    raise budget.passed()


def _limits(timeout: Timeout, *, streamed: bool = False) -> dict[str, float | None]:
    """Return the limits as the HTTP library names them. Until a stream starts, its first token is waited for."""
    read, first = timeout.read, timeout.first_token
    if streamed and first is not None and (read is None or first < read):
        read = first
    return {"connect": timeout.connect, "read": read, "write": timeout.write, "pool": timeout.pool}


def _library_of(client: Any, kind: str) -> Any:
    """Return the module whose ``kind`` the client is an instance of.

    Raises:
        ConfigurationError: it is none; often the blocking client was passed for the other one.
    """
    if client is None:
        import httpx

        return httpx
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
