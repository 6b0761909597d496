"""HTTP to a provider, over aiohttp: a request, and its answer as bytes. What they say is no matter here."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Final

import aiohttp

from flatfee.server.providers.base import MAX_ANSWER, ProviderFailure
from flatfee.server.providers.unpack import PACKED, PLAIN, Unpacker
from flatfee.server.settings import ProviderSettings, RouteSettings
from flatfee.wire import AttemptOutcome

log = logging.getLogger("flatfee.server")

READ_AHEAD: Final = 16 * 1024
"""Bytes of an answer that may wait for a slow reader before no more are read, and the largest piece passed on."""

RECEIVE_BUFFER: Final = 64 * 1024
"""Bytes that the system keeps for a connection; left alone, it keeps megabytes of what nobody reads."""

MAX_DOCUMENT: Final = 8 * 1024 * 1024
"""Bytes of a list of models; the longest are below one million."""

MAX_HEADER_LINE: Final = 32 * 1024
"""Bytes of one line of an answer's head; some gateways put their whole policy into one."""


def key_headers(settings: ProviderSettings) -> dict[str, str]:
    """Return the header that holds a provider's key, where it wants it; without a key, none."""
    if settings.api_key is None:
        return {}
    key, header = settings.api_key.get_secret_value(), settings.speaks.key_header
    return {header: f"Bearer {key}" if header == "authorization" else key}


class HttpConnection:
    """Requests to one URL, with headers of its own, and the connections that are kept for them.

    Redirects are refused: only the configuration says where a request goes. ``headers`` hold the key, so they
    are shown nowhere.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = headers
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def post(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[HttpAnswer, None]:
        """Send a JSON body; leaving the context in the middle drops the connection.

        Raises:
            ProviderFailure: on entering, where no answer's head arrived.
        """
        # From the look-up of the name to the end of the TLS handshake; a pooled connection takes none of it.
        timeout = aiohttp.ClientTimeout(total=None, connect=route.connect_timeout)
        kept = _Kept()
        _asking.set(kept)
        accept = "text/event-stream" if stream else "application/json"
        try:
            response = await self._connection().post(
                self._url,
                data=body,
                headers={"accept": accept},
                timeout=timeout,
                allow_redirects=False,
            )
        except aiohttp.ConnectionTimeoutError as error:
            raise ProviderFailure(AttemptOutcome.TIMEOUT, "was silent while connecting") from error
        except aiohttp.ClientSSLError as error:
            _tell_distrust(route, error)
            raise ProviderFailure(AttemptOutcome.UNAVAILABLE, "cannot be trusted") from error
        except aiohttp.ClientConnectorError as error:
            raise ProviderFailure(AttemptOutcome.UNAVAILABLE, "cannot be reached") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            stale = kept.used and isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))
            raise ProviderFailure(AttemptOutcome.ERROR, f"broke off: {type(error).__name__}", stale=stale) from error
        forget = _hear_of_the_end(response)
        try:
            yield HttpAnswer(response)
        finally:
            forget()
            # Closing drops the connection unless the body was read to its end: the upstream call
            # of a caller that left, or of an answer that nobody wants any more, ends right here.
            response.close()

    async def get(self, url: str, *, patience: float) -> bytes | None:
        """Fetch a document of at most ``MAX_DOCUMENT`` bytes; ``None`` where it does not come in time and whole."""
        data = bytearray()
        try:
            async with (
                asyncio.timeout(patience),
                self._connection().get(url, headers={"accept": "application/json"}, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    return None
                async for part in HttpAnswer(response).chunks():
                    data += part
                    if len(data) > MAX_DOCUMENT:
                        return None
        except (ProviderFailure, aiohttp.ClientError, TimeoutError, OSError):
            return None
        return bytes(data)

    async def close(self) -> None:
        """Close the session and its connections."""
        if self._session is not None:
            await self._session.close()

    def _connection(self) -> aiohttp.ClientSession:
        """Return the session; it is made in the event loop that uses it."""
        if self._session is None:
            # Answers are passed on as they come, so a provider need not compress them for us to undo it.
            headers = {"content-type": "application/json", "user-agent": "flatfee", "accept-encoding": "identity"}
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, socket_factory=_socket),
                headers={**headers, **self._headers},
                read_bufsize=READ_AHEAD,
                max_line_size=MAX_HEADER_LINE,
                max_field_size=MAX_HEADER_LINE,
                auto_decompress=False,  # it fails with the head where it cannot undo an encoding
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


def _hear_of_the_end(response: aiohttp.ClientResponse) -> Callable[[], object]:
    """Let the end of the connection end the body too, until what is returned is called.

    At a chunk without a size aiohttp (3.14) closes the connection, and whoever reads the body waits for ever.
    """
    protocol = response.connection.protocol if response.connection is not None else None
    closed = protocol.closed if protocol is not None else None
    if closed is None:
        return _nothing

    def lost(future: asyncio.Future[None]) -> None:
        error = future.exception() if not future.cancelled() else None
        if not response.content.is_eof() and response.content.exception() is None:
            response.content.set_exception(error or aiohttp.ClientPayloadError("the connection was lost"))

    # Once for a connection, else asyncio complains of an end that nobody heard.
    closed.remove_done_callback(_heard)
    closed.add_done_callback(_heard)
    closed.add_done_callback(lost)
    return partial(closed.remove_done_callback, lost)  # a kept connection outlives its answers


def _heard(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()


def _nothing() -> None:
    """Forget nothing."""


class HttpAnswer:
    """An ``Upstream`` over aiohttp's response."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.lower(): value for name, value in self._response.headers.items()}

    async def read(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER:
                raise ProviderFailure(AttemptOutcome.ERROR, f"answered with more than {MAX_ANSWER} bytes")
        return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        content = self._response.content
        encoding = ", ".join(self._response.headers.getall("content-encoding", ())).strip().lower()
        if encoding not in PLAIN | PACKED:
            raise ProviderFailure(AttemptOutcome.ERROR, "answered in an encoding that was not asked for")
        unpacker = Unpacker(encoding) if encoding in PACKED else None
        try:
            while chunk := await content.read(READ_AHEAD):
                if unpacker is None:
                    yield chunk
                    continue
                for piece in unpacker.unpack(chunk):
                    yield piece
                    # What is still to be unpacked is there at once: a few bytes that hold gigabytes
                    # would never let anything else run, the time limits included.
                    await asyncio.sleep(0)
            if unpacker is not None and not unpacker.whole:
                raise zlib.error
        except (aiohttp.ClientError, TimeoutError, OSError, zlib.error) as error:
            raise ProviderFailure(AttemptOutcome.ERROR, f"broke off: {type(error).__name__}") from error


class _Kept:
    """Whether a request went over a connection that was kept from an earlier one."""

    used = True


_asking: ContextVar[_Kept] = ContextVar("asking")
"""The request for which a socket is made, if one is: aiohttp's own way to hear of it costs each request more."""


def _socket(address: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    _asking.get(_Kept()).used = False
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return made


def _tell_distrust(route: RouteSettings, error: aiohttp.ClientSSLError) -> None:
    """Log why no TLS connection came about: only the operator can cure it."""
    cause = getattr(error, "certificate_error", None) or error.os_error
    why = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else type(cause).__name__
    log.error(
        "provider.untrusted",
        extra={"route": route.name, "why": why, "cure": "check the provider's base_url and its certificate"},
    )
