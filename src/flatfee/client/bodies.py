"""A response whose body is still to come: read within its limits, and given back whatever happens.

Works on the HTTP library's objects without naming the library: its exceptions are the transport's to know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, Final, Protocol

from flatfee.client.exchange import Reply
from flatfee.client.limits import Patience
from flatfee.client.pools import Process, mend
from flatfee.errors import APIConnectionError
from flatfee.types.tries import Try

LONGEST_DRAIN: Final = 0.25
"""Seconds to wait for the end of a body whose answer is whole already; a new connection costs about as much."""


class Faults(Protocol):
    """What a body asks of its transport."""

    faults: tuple[type[Exception], ...]
    timeouts: type[Exception]

    def failure(self, error: Exception, url: str) -> APIConnectionError:
        """Return our exception for one of ``faults``."""
        ...


class Gate:
    """Ends a wait for bytes at ``end``, a reading of the monotonic clock.

    The limits of a request are fixed when it is sent. So the ``read`` of the response's connection is
    stood in for: the network stream that a response names is public, and its ``read`` takes a timeout.
    A connection may serve the next response the moment this one is closed, so a gate lets everything
    through from then on. There is none, and ``waits`` is false, where there is nothing to wait for (a
    mock, an application in this process), and in HTTP/2, where responses share their connection.
    """

    __slots__ = ("_response", "end", "shut", "waits")

    def __init__(self, response: Any) -> None:
        self.end = inf
        self.shut = False
        self._response = response
        extensions = response.extensions
        connection = extensions.get("network_stream")
        self.waits = extensions.get("http_version") != b"HTTP/2" and hasattr(connection, "__dict__")
        if self.waits:
            self._stand_in(connection)

    def _stand_in(self, connection: Any) -> None:
        vars(connection).pop("read", None)  # the last response's
        read = connection.read

        def within(max_bytes: int, timeout: float | None = None) -> Any:
            if self._response is None or self._response.is_closed:
                return read(max_bytes, timeout=timeout)
            left = self.end - monotonic()
            self.shut = left < (inf if timeout is None else timeout)
            if left <= 0:
                raise TimeoutError
            return read(max_bytes, timeout=left if self.shut else timeout)

        connection.read = within

    def leave(self) -> None:
        """Let go of the response: an idle connection need not keep it."""
        self._response = None


class _Body:
    """What both kinds have in common."""

    def __init__(self, transport: Faults, response: Any, url: str, patience: Patience) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.tries: tuple[Try, ...] = ()
        self.on_close: Callable[[], None] | None = None
        self.raw = response
        self._transport = transport
        self._url = url
        self._patience = patience
        self._gate = Gate(response)
        self._errors: tuple[type[Exception], ...] = (TimeoutError, *transport.faults)
        self._forks = Process.forks

    def _failure(self, error: Exception) -> APIConnectionError:
        limited = isinstance(error, TimeoutError | self._transport.timeouts) and self._gate.shut
        return self._patience.passed() if limited else self._transport.failure(error, self._url)

    def _tell(self) -> None:
        if self.on_close is not None:
            self.on_close()

    def __del__(self) -> None:
        # A copy in a child process says nothing: the end is the parent's to tell.
        if getattr(self, "_forks", None) == Process.forks:
            with suppress(Exception):  # the interpreter may be half gone
                self._tell()


class OpenReply(_Body):
    """A response whose body is still to come."""

    def __init__(
        self, transport: Faults, response: Any, url: str, patience: Patience, abandoned: deque[tuple[Any, Any]]
    ) -> None:
        super().__init__(transport, response, url, patience)
        self._bytes = response.iter_bytes()
        self._abandoned = abandoned

    def read(self, heard: bool = False) -> bytes | None:
        """Return the next bytes, decompressed; ``None`` at the end."""
        self._gate.end = self._patience.until(monotonic(), heard)
        try:
            data = next(self._bytes, None)
        except self._errors as error:
            raise self._failure(error) from error
        self._patience.stopped = monotonic()
        return data

    def drain(self) -> None:
        """Read what is left, for a moment at most, so that the connection can serve the next call; then close."""
        if self.raw.extensions.get("http_version") != b"HTTP/2":  # there a close costs one stream, not the connection
            self._gate.end = monotonic() + LONGEST_DRAIN
            with suppress(*self._errors):
                for _ in self._bytes:
                    pass
        self.close()

    def finish(self) -> Reply:
        """Read the rest, and return the finished response."""
        try:
            self._gate.end = self._patience.until(monotonic(), heard=False)
            body = self.raw.read()
        except self._errors as error:
            raise self._failure(error) from error
        finally:
            self.close()
        return Reply(self.status, self.headers, body, self.raw)

    def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        self._tell()
        with suppress(*self._transport.faults):  # a connection that breaks while it is given up is no loss
            self.raw.close()
        self._gate.leave()

    def __del__(self) -> None:
        super().__del__()
        # Nothing here may take the pool's lock: garbage may be collected while this very thread holds it.
        # So the caller's leaving is told to the gateway, and the pool hears of it before the next call.
        response = getattr(self, "raw", None)
        if response is None or response.is_closed:
            return
        mine = self._forks == Process.forks
        (self._abandoned if mine else Process.kept).append((response, self._bytes))
        connection = response.extensions.get("network_stream")
        if connection is not None and self._gate.waits:
            with suppress(Exception):
                connection.close()


class AsyncOpenReply(_Body):
    """A response whose body is still to come."""

    def __init__(self, transport: Faults, client: Any, response: Any, url: str, patience: Patience) -> None:
        super().__init__(transport, response, url, patience)
        self._bytes = response.aiter_bytes()
        self._client = client
        self._keeper = _keep(response)
        self._closing = False

    async def begin(self) -> AsyncOpenReply:
        """Let the event loop close the response should it be dropped: that is what it does to a generator."""
        await anext(self._keeper)
        return self

    async def read(self, heard: bool = False) -> bytes | None:
        """Return the next bytes, decompressed; ``None`` at the end."""
        self._gate.end = self._patience.until(monotonic(), heard)
        try:
            data = await anext(self._bytes, None)
        except self._errors as error:
            raise self._failure(error) from error
        except BaseException:
            await self._cancelled()
            raise
        self._patience.stopped = monotonic()
        return data

    async def drain(self) -> None:
        """Read what is left, for a moment at most, so that the connection can serve the next call; then close."""
        if self.raw.extensions.get("http_version") != b"HTTP/2":  # there a close costs one stream, not the connection
            self._gate.end = monotonic() + LONGEST_DRAIN
            try:
                async for _ in self._bytes:
                    pass
            except self._errors:
                pass
            except BaseException:
                await self._cancelled()
                raise
        await self.close()

    async def finish(self) -> Reply:
        """Read the rest, and return the finished response."""
        try:
            self._gate.end = self._patience.until(monotonic(), heard=False)
            body = await self.raw.aread()
        except self._errors as error:
            raise self._failure(error) from error
        finally:
            await self.close()
        return Reply(self.status, self.headers, body, self.raw)

    async def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        self._tell()
        if self._closing:  # by another task, perhaps: a generator can be closed by one at a time
            return
        self._closing = True
        try:
            with suppress(*self._transport.faults):  # a connection that breaks while it is given up is no loss
                await self._keeper.aclose()
        except BaseException:
            mend(self._client, self.raw.request)
            raise
        finally:
            self._gate.leave()

    async def _cancelled(self) -> None:
        """Close what was cancelled in the middle; that may be cancelled once more."""
        try:
            await self.close()
        finally:
            mend(self._client, self.raw.request)


async def _keep(response: Any) -> AsyncGenerator[None]:
    """Close the response when this generator is closed, or dropped and then closed by its event loop."""
    try:
        yield
    finally:
        await response.aclose()
