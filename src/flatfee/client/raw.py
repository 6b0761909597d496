"""An answer together with the response it came in: ``with_raw_response`` and ``with_streaming_response``.

Both are a core over the client's core: the same method of the same resource makes the same call, and what
changes is how its answer is handed out. Errors and retries are those of the plain call.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast

from flatfee.client.capture import Capture
from flatfee.client.exchange import Call, Reply, answer_to, brought_by
from flatfee.client.pieces import Chunks, Lines, decoder
from flatfee.client.stream import AsyncStream, Stream
from flatfee.collecting import active
from flatfee.errors import APIError, FlatfeeError
from flatfee.receipt import Receipt
from flatfee.types.base import Origin
from flatfee.types.tries import Try
from flatfee.wire import Header, ReceiptState

R = TypeVar("R")


class Response(Generic[R]):
    """What every kind of response shows. ``http_response`` is the HTTP library's own."""

    def __init__(self, status_code: int, headers: Mapping[str, str], http_response: Any) -> None:
        self.status_code = status_code
        self.headers = headers
        self.http_response = http_response

    @property
    def http_request(self) -> Any:
        """The HTTP library's request."""
        return self._kept().request

    @property
    def method(self) -> str:
        """The method of the request."""
        return str(self.http_request.method)

    @property
    def url(self) -> Any:
        """The URL of the request, as the HTTP library has it."""
        return self._kept().url

    @property
    def http_version(self) -> str:
        """``HTTP/1.1`` or ``HTTP/2``."""
        return str(self._kept().http_version)

    @property
    def elapsed(self) -> timedelta:
        """The time from the request to the end of the body, for the last try."""
        return cast("timedelta", self._kept().elapsed)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is free again."""
        return self.http_response is None or bool(self.http_response.is_closed)

    @property
    def request_id(self) -> str | None:
        """The gateway's id of the request."""
        return self.headers.get(Header.REQUEST_ID) or self.headers.get(Header.X_REQUEST_ID)

    @property
    def retries_taken(self) -> int:
        """How often the request was repeated until this response came."""
        return max(0, len(self.tries) - 1)

    @property
    def tries(self) -> tuple[Try, ...]:
        """Every request that was sent for this response; empty if the first one brought it."""
        raise NotImplementedError

    @property
    def receipt(self) -> Receipt | None:
        """What is known by now of who served this, why, and what it cost."""
        return Receipt.of(self._known()) or Receipt.from_headers(self.headers)

    def _kept(self) -> Any:
        if self.http_response is None:
            raise FlatfeeError("The HTTP response was left behind when this one was copied or pickled.")
        return self.http_response

    def _known(self) -> object:
        """Return the answer or the stream, if there is one yet."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(status_code={self.status_code}, request_id={self.request_id!r})"


class RawResponse(Response[R]):
    """An answer that was read already, or a stream that has started, with its response.

    A copy or a pickle keeps answer, headers and content and leaves ``http_response`` behind.
    """

    def __init__(self, answer: R, reply: Reply) -> None:
        super().__init__(reply.status, reply.headers, reply.raw)
        self._answer = answer
        self._body = None if isinstance(answer, Stream | AsyncStream) else reply.body
        self._origin = getattr(answer, "_origin", None) or Origin(reply.headers)

    def parse(self) -> R:
        """Return what the plain call returns."""
        return self._answer

    @property
    def content(self) -> bytes:
        """The body. Raises ``FlatfeeError`` for a stream: iterate over ``parse()``."""
        if self._body is None:
            raise FlatfeeError("The body is a stream; iterate over parse(), or use with_streaming_response.")
        return self._body

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the decoded body, which nobody has checked."""
        return json.loads(self.content)

    def read(self) -> bytes:
        """Return the body."""
        return self.content

    @property
    def tries(self) -> tuple[Try, ...]:
        """Every request that was sent for this response; empty if the first one brought it."""
        return self._answer.tries if isinstance(self._answer, Stream | AsyncStream) else self._origin.tries

    def _known(self) -> object:
        return self._answer

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "headers": dict(self.headers), "http_response": None}


class _Unread(Response[R]):
    """A response whose body is still to come: ``call`` tells how to read it, a stream reads it itself."""

    def __init__(self, call: Call[R], body: Any, stream: Any = None) -> None:
        super().__init__(body.status, body.headers, body.raw)
        self._call = call
        self._body = body
        self._stream = stream
        self._content: bytes | None = None
        self._answer: R | None = None
        self._capture = Capture.of(body.headers, decoded=True) if call.metered else None
        self._settled: Receipt | None = None
        self._run = active()
        self._way = ""

    @property
    def receipt(self) -> Receipt | None:
        """What is known by now of who served this, why, and what it cost; all of it once the body was read."""
        return self._settled or super().receipt

    def _looked_at(self, data: bytes | None) -> bytes | None:
        if self._capture is not None and data is not None:
            self._capture.feed(data)
        return data

    def _broken(self, error: APIError) -> None:
        """Complete the failure of a read, and let the stream end by it."""
        error.response, error.receipt = self.http_response, self.receipt
        if self._stream is not None:
            self._stream._state.broken(error)
            with suppress(APIError):  # it is raised by who reads
                self._stream._state.take()

    def _settle(self) -> None:
        """Tell what the bytes told of the receipt, whoever made what of them."""
        capture, self._capture = self._capture, None
        receipt = capture.ended() if capture else None
        if receipt is None or receipt.state in {None, ReceiptState.IN_FLIGHT}:
            return
        self._settled = receipt
        if self._stream is not None:
            self._stream._state.told(receipt)
        elif self._run is not None:
            self._run.note(receipt)

    def _take(self, way: str) -> None:
        """Take note of who reads the connection: what was handed out once does not come again."""
        if self._way and not self._way == way == "parse()":
            raise FlatfeeError(f"The body was read already, by {self._way}; keep what came, or call read() first.")
        self._way = way

    def _parsed(self, content: bytes) -> R:
        if self._answer is None:
            try:
                self._answer = answer_to(self._call, Reply(self.status_code, self.headers, content, self.http_response))
            except APIError as error:
                error.tries = self.tries
                raise
            brought_by(self.tries, self._answer)
        return self._answer

    @property
    def tries(self) -> tuple[Try, ...]:
        """Every request that was sent until this response began; empty if the first one brought it."""
        return cast("tuple[Try, ...]", (self._stream or self._body).tries)

    def _known(self) -> object:
        return self._stream or self._answer

    def __reduce__(self) -> Any:
        raise TypeError("A response that is still being read cannot be copied or pickled; copy what read() returns.")


class StreamedResponse(_Unread[R]):
    """A response whose body is read when it is asked for; its headers and its receipt are there."""

    def read(self) -> bytes:
        """Return the whole body. Raises ``APIConnectionError`` if the connection breaks."""
        if self._content is None:
            self._content = b"".join(self.iter_bytes())
        return self._content

    def text(self) -> str:
        """Return the whole body as text."""
        return self.read().decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the decoded body, which nobody has checked."""
        return json.loads(self.read())

    def parse(self) -> R:
        """Return what the plain call returns, or raise what it raises. For a stream, that is the stream."""
        if self._stream is None:
            return self._parsed(self.read())
        self._take("parse()")
        return cast("R", self._stream)

    def iter_bytes(self, chunk_size: int | None = None) -> Generator[bytes]:
        """Yield the body as it comes, decompressed, or in pieces of ``chunk_size`` bytes; once, unless it was read."""
        chunks = Chunks(chunk_size)
        if self._content is not None:
            yield from chunks.feed(self._content)
        else:
            self._take("iterating")
            heard = False
            while (data := self._next(heard)) is not None:
                heard = _tells(data)
                yield from chunks.feed(data)
            self._settle()
        yield from chunks.flush()

    def iter_text(self) -> Generator[str]:
        """Yield the body as text, as it comes."""
        text = decoder()
        for data in self.iter_bytes():
            yield text.decode(data)
        if rest := text.decode(b"", final=True):  # the body was cut inside a character
            yield rest

    def iter_lines(self) -> Generator[str]:
        """Yield the lines of the body as they come, without their ends."""
        lines = Lines()
        for data in self.iter_bytes():
            yield from lines.feed(data)
        yield from lines.flush()

    def _next(self, heard: bool) -> bytes | None:
        try:
            data: bytes | None = self._body.read(heard)
        except APIError as error:
            self._broken(error)
            raise
        return self._looked_at(data)

    def close(self) -> None:
        """Stop reading and free the connection. Leaving ``with`` does it."""
        self._settle()
        (self._stream or self._body).close()


class AsyncStreamedResponse(_Unread[R]):
    """``StreamedResponse`` for coroutines."""

    async def read(self) -> bytes:
        """Return the whole body. Raises ``APIConnectionError`` if the connection breaks."""
        if self._content is None:
            self._content = b"".join([data async for data in self.iter_bytes()])
        return self._content

    async def text(self) -> str:
        """Return the whole body as text."""
        return (await self.read()).decode("utf-8", "replace")

    async def json(self) -> Any:
        """Return the decoded body, which nobody has checked."""
        return json.loads(await self.read())

    async def parse(self) -> R:
        """Return what the plain call returns, or raise what it raises. For a stream, that is the stream."""
        if self._stream is None:
            return self._parsed(await self.read())
        self._take("parse()")
        return cast("R", self._stream)

    async def iter_bytes(self, chunk_size: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the body as it comes, decompressed, or in pieces of ``chunk_size`` bytes; once, unless it was read."""
        chunks = Chunks(chunk_size)
        if self._content is not None:
            for chunk in chunks.feed(self._content):
                yield chunk
        else:
            self._take("iterating")
            heard = False
            while (data := await self._next(heard)) is not None:
                heard = _tells(data)
                for chunk in chunks.feed(data):
                    yield chunk
            self._settle()
        for chunk in chunks.flush():
            yield chunk

    async def iter_text(self) -> AsyncGenerator[str]:
        """Yield the body as text, as it comes."""
        text = decoder()
        async for data in self.iter_bytes():
            yield text.decode(data)
        if rest := text.decode(b"", final=True):  # the body was cut inside a character
            yield rest

    async def iter_lines(self) -> AsyncGenerator[str]:
        """Yield the lines of the body as they come, without their ends."""
        lines = Lines()
        async for data in self.iter_bytes():
            for line in lines.feed(data):
                yield line
        for line in lines.flush():
            yield line

    async def _next(self, heard: bool) -> bytes | None:
        try:
            data: bytes | None = await self._body.read(heard)
        except APIError as error:
            self._broken(error)
            raise
        return self._looked_at(data)

    async def close(self) -> None:
        """Stop reading and free the connection. Leaving ``async with`` does it."""
        self._settle()
        await (self._stream or self._body).close()


def _tells(data: bytes) -> bool:
    """Tell whether bytes of a stream may hold a token: comments that keep a connection alive do not."""
    return b"data:" in data
