"""HTTP to a provider: a request, and its answer as bytes. What they say is no matter here."""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

from flatfee.server.providers.base import MAX_ANSWER, ProviderFailure
from flatfee.server.providers.http1.connection import READ_AHEAD, Broken, Connection
from flatfee.server.providers.http1.pool import Pool
from flatfee.server.providers.http1.target import head_of, origin_of
from flatfee.server.providers.unpack import PACKED, PLAIN, Unpacker
from flatfee.server.settings import ProviderSettings, RouteSettings
from flatfee.wire import AttemptOutcome

log = logging.getLogger("flatfee.server")

MAX_DOCUMENT: Final = 8 * 1024 * 1024
"""Bytes of a list of models; the longest are below one million."""

_ALWAYS: Final = {
    "user-agent": "flatfee",
    # Answers are passed on as they come, so a provider need not compress them for us to undo it.
    "accept-encoding": "identity",
}
_ENCODING: Final = b"content-encoding"
_ACCEPTED: Final = {False: "application/json", True: "text/event-stream"}


def key_headers(settings: ProviderSettings) -> dict[str, str]:
    """Return the header that holds a provider's key, where it wants it; without a key, none."""
    key, header = settings.api_key.get_secret_value() if settings.api_key else "", settings.speaks.key_header
    if not key:
        return {}
    return {header: f"Bearer {key}" if header == "authorization" else key}


class HttpConnection:
    """Requests to one URL, with headers of its own, and the connections that are kept for them.

    A redirect is an answer like any other, and the environment's proxies are not asked: only the configuration
    says where a request goes. ``headers`` hold the key, so they are shown nowhere.

    Raises:
        ValueError: a header cannot be sent, or the URL is none.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._origin = origin_of(url)
        self._pool = Pool(self._origin)
        self._headers = {**_ALWAYS, **headers}
        told = {"content-type": "application/json", **self._headers}
        self._heads = {
            stream: head_of("POST", url, {**told, "accept": accepted}) + b"content-length: "
            for stream, accepted in _ACCEPTED.items()
        }

    def post(self, route: RouteSettings, body: bytes, *, stream: bool) -> AbstractAsyncContextManager[HttpAnswer]:
        """Send a JSON body; leaving the context in the middle drops the connection.

        Raises:
            ProviderFailure: on entering, where no answer's head arrived.
        """
        head = self._heads[stream] + b"%d\r\n\r\n" % len(body)
        return _Request(self._pool, head, body, route.connect_timeout, route.name)

    async def get(self, url: str, *, patience: float) -> bytes | None:
        """Fetch a document of at most ``MAX_DOCUMENT`` bytes; ``None`` where it does not come in time and whole.

        Raises:
            ValueError: the URL is at another server; this one's key would go there.
        """
        if origin_of(url) != self._origin:
            raise ValueError(f"{url!r} is not at {self._origin.authority}")
        head = head_of("GET", url, {**self._headers, "accept": _ACCEPTED[False]}) + b"\r\n"
        data = bytearray()
        try:
            async with asyncio.timeout(patience), _Request(self._pool, head, b"", patience, None) as answer:
                if answer.status != 200:
                    return None
                async for part in answer.chunks():
                    data += part
                    if len(data) > MAX_DOCUMENT:
                        return None
        except (ProviderFailure, TimeoutError):
            return None
        return bytes(data)

    async def close(self) -> None:
        """Drop its connections, those under way too."""
        self._pool.close()
        await asyncio.sleep(0)  # what was dropped is gone in the loop's next turn


class _Request(AbstractAsyncContextManager["HttpAnswer"]):
    """One request: from entering, when its answer's head is there, until it is left."""

    __slots__ = ("_answer", "_body", "_connect_timeout", "_connection", "_head", "_pool", "_route")

    def __init__(self, pool: Pool, head: bytes, body: bytes, connect_timeout: float, route: str | None) -> None:
        self._pool = pool
        self._head = head
        self._body = body
        self._connect_timeout = connect_timeout
        self._route = route
        self._connection: Connection | None = None
        self._answer: HttpAnswer | None = None

    async def __aenter__(self) -> HttpAnswer:
        connection = self._pool.kept()
        kept = connection is not None
        if connection is None:
            connection = await self._connected()
        body, self._body = self._body, b""  # an answer may take minutes, and images are large
        try:
            await connection.ask(self._head, body)
        except Broken as error:
            connection.drop()
            stale = kept and not connection.answer.heard
            raise ProviderFailure(AttemptOutcome.ERROR, f"broke off: {error}", stale=stale) from error
        except BaseException:
            connection.drop()
            raise
        self._connection = connection
        self._answer = HttpAnswer(connection)
        return self._answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The connection is dropped unless the answer came to its end: the upstream call of a caller
        # that left, or of an answer that nobody wants any more, ends right here.
        if self._connection is not None and self._answer is not None:
            self._answer.let_go()
            self._pool.take_back(self._connection)
            self._connection = None

    async def _connected(self) -> Connection:
        # From the look-up of the name to the end of the TLS handshake; a kept connection takes none of it.
        limit = asyncio.timeout(self._connect_timeout)
        try:
            async with limit:
                return await self._pool.made()
        except ssl.SSLError as error:
            if self._route is not None:
                _tell_distrust(self._route, error)
            raise ProviderFailure(AttemptOutcome.UNAVAILABLE, "cannot be trusted") from error
        except OSError as error:
            if limit.expired():
                raise ProviderFailure(AttemptOutcome.TIMEOUT, "was silent while connecting") from error
            raise ProviderFailure(AttemptOutcome.UNAVAILABLE, "cannot be reached") from error


class HttpAnswer:
    """An ``Upstream`` on a connection, which is its own until it is let go of."""

    __slots__ = ("__weakref__", "_connection", "_fields", "status")

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._fields = connection.answer.fields
        self.status = connection.answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in self._fields}

    async def read(self) -> bytes:
        if self._encoding() in PLAIN:
            return await whole(self._take)
        chunks = self.chunks()
        return await whole(lambda: anext(chunks, b""))

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        encoding = self._encoding()
        if encoding in PACKED:
            async for piece in self._unpacked(Unpacker(encoding)):
                yield piece
            return
        while data := await self._take():
            if len(data) <= READ_AHEAD:
                yield data
                continue
            for start in range(0, len(data), READ_AHEAD):
                yield data[start : start + READ_AHEAD]

    def let_go(self) -> None:
        """Take nothing more from the connection, which may carry another answer by and by."""
        self._connection = None

    async def _take(self) -> bytes:
        if self._connection is None:
            raise ProviderFailure(AttemptOutcome.ERROR, "was let go of")
        try:
            return await self._connection.take()
        except Broken as error:
            raise ProviderFailure(AttemptOutcome.ERROR, f"broke off: {error}") from error

    async def _unpacked(self, unpacker: Unpacker) -> AsyncGenerator[bytes, None]:
        try:
            while data := await self._take():
                for piece in unpacker.unpack(data):
                    yield piece
                    # What is still to be unpacked is there at once: a few bytes that hold gigabytes
                    # would never let anything else run, the time limits included.
                    await asyncio.sleep(0)
            if not unpacker.whole:
                raise zlib.error("its end is missing")
        except zlib.error as error:
            raise ProviderFailure(AttemptOutcome.ERROR, f"broke off: cannot be unpacked: {error}") from error

    def _encoding(self) -> str:
        found = [value for name, value in self._fields if len(name) == len(_ENCODING) and name.lower() == _ENCODING]
        encoding = b", ".join(found).strip().lower().decode("latin-1")
        if encoding not in PLAIN and encoding not in PACKED:
            raise ProviderFailure(AttemptOutcome.ERROR, "answered in an encoding that was not asked for")
        return encoding


async def whole(take: Callable[[], Awaitable[bytes]], first: bytes = b"") -> bytes:
    """Join what can be taken until nothing more comes, behind what was taken first.

    Raises:
        ProviderFailure: there are more bytes than ``MAX_ANSWER``.
    """
    parts = [first] if first else []
    size = len(first)
    while size <= MAX_ANSWER and (data := await take()):
        parts.append(data)
        size += len(data)
    if size > MAX_ANSWER:
        raise ProviderFailure(AttemptOutcome.ERROR, f"answered with more than {MAX_ANSWER} bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _tell_distrust(route: str, error: ssl.SSLError) -> None:
    """Log why no TLS connection came about: only the operator can cure it."""
    why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else type(error).__name__
    log.error(
        "provider.untrusted",
        extra={"route": route, "why": why, "cure": "check the provider's base_url and its certificate"},
    )
