"""A streamed completion: the state machine (sans-IO), and the two shells that feed it.

A stream has exactly one end, and never looks whole when it is not:

- complete: every choice that appeared has its finish reason, whether or not ``[DONE]`` came;
- a typed error: the gateway sent an ``error`` event, the connection broke, or an event made no sense;
- ``StreamTruncated``: the bytes ended, or the caller closed it, before that.

A failed stream raises its failure again when it is asked for more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import cache
from types import TracebackType
from typing import Any, Generic, Protocol, Self

from pydantic import ValidationError
from typing_extensions import TypeVar

from flatfee.client.exchange import invalid
from flatfee.client.halves import Halves
from flatfee.client.sse import Decoder, Event
from flatfee.errors import APIError, StreamTruncated, from_wire
from flatfee.receipt import Receipt
from flatfee.types.chat import ChatCompletionChunk, ChoiceDelta
from flatfee.types.tries import Try
from flatfee.wire import Header, ReceiptState


@cache
def _validator() -> Callable[[bytes], ChatCompletionChunk]:
    """Return what ``model_validate_json`` calls in the end: its own share is a fifth of the cost of an event."""
    ChatCompletionChunk.model_rebuild()  # which an import does not wait for
    return ChatCompletionChunk.__pydantic_validator__.validate_json


Chunk = TypeVar("Chunk", default=ChatCompletionChunk)
"""What a stream is of, for annotations such as openai-python's ``Stream[ChatCompletionChunk]``: there is one kind."""


class StreamState:
    """Bytes in, chunks out, one end. Knows neither sockets nor waiting."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.over = False
        self.heard = False
        """Whether a token came since whoever reads the bytes took this back."""
        self.tries: tuple[Try, ...] = ()
        self.on_end: Callable[[StreamState], None] | None = None
        self._decoder = Decoder()
        self._validate = _validator()
        self._events: deque[Event] = deque()
        self._ended = False
        self._halves = Halves()
        self._tail: Event | None = None
        self._broken: APIError | None = None
        self.failure: APIError | None = None
        self.body: Mapping[str, Any] | None = None
        self.finish: ChatCompletionChunk | None = None
        self._receipt: Receipt | None = None
        self._text: list[str] = []
        self._running: set[int] = set()
        self._finished: dict[int, str] = {}
        self._left = False

    @property
    def receipt(self) -> Receipt | None:
        """What is known by now: from the headers first, and in the end with settled figures."""
        if self._receipt is None:
            known = Receipt.from_answer(self.headers, self.body)
            if known and self.body is None:
                known = known.merge(Receipt(state=ReceiptState.IN_FLIGHT))
            self._receipt = known
        return self._receipt

    @property
    def finish_reasons(self) -> list[str]:
        """Why each choice ended, as far as they have."""
        return [reason for _, reason in sorted(self._finished.items())]

    @property
    def ending(self) -> str:
        """How the stream ended, in a word: ``whole``, ``failed`` or ``closed`` by its reader; ``open`` before that."""
        if not self.over:
            return "open"
        return "closed" if self._left else "failed" if self.failure else "whole"

    def told(self, receipt: Receipt) -> None:
        """Take note of a receipt in bytes that somebody else reads."""
        self._receipt = receipt

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        try:
            self._events.extend(self._decoder.feed(data))
        except APIError as error:
            self.broken(error)

    def end(self) -> None:
        """Take note that no more bytes will come. What is left of an event may still be one, or half of one."""
        self._tail = next(iter(self._decoder.flush()), None)
        if self._tail is not None:
            self._events.append(self._tail)
        self._ended = True

    def broken(self, error: APIError) -> None:
        """Take note that the connection broke. After the finish of the answer that is no failure."""
        self._broken, self._ended = error, True

    def closed(self) -> None:
        """Take note that the caller wants no more."""
        self._events.clear()
        if not self.over:
            self._left = True
            self._finish(self._truncated("The stream was closed before its end."))

    def take(self) -> ChatCompletionChunk | None:
        """Return the next chunk; ``None`` when more bytes are needed, or when ``over``.

        Raises:
            APIError: the failure that ended the stream.
        """
        while self._events and not self.over:
            event = self._events.popleft()
            if event.data == b"[DONE]":
                self._ended = True
                self._events.clear()
            elif (chunk := self._read(event)) is not None:
                return chunk
        if self._ended and not self.over:
            self._conclude()
        if self.failure is not None:
            raise self.failure
        return None

    def _read(self, event: Event) -> ChatCompletionChunk | None:
        try:
            chunk = self._chunk(event.data)
        except ValidationError as error:
            if event is self._tail:
                return None  # the stream was cut inside it
            raise self._fail(invalid("completion event", error)) from error
        extra = chunk.model_extra
        if extra:
            self._note(event, extra)
        for choice in chunk.choices:
            index, text = choice.index, choice.delta.content
            if text and index == 0:
                self._text.append(text)
            if text or choice.finish_reason or (not self.heard and _speaks(choice.delta)):
                self.heard = True
            if choice.finish_reason:
                self._finished[index], self.finish = choice.finish_reason, chunk
                self._running.discard(index)
            elif index not in self._finished:
                self._running.add(index)
        return chunk

    def _chunk(self, data: bytes) -> ChatCompletionChunk:
        try:
            return self._validate(data)
        except ValidationError:
            try:
                mended = self._halves.mend(data)
            except (ValueError, RecursionError):
                mended = data
            return self._validate(mended)

    def _note(self, event: Event, extra: Mapping[str, Any]) -> None:
        """Look at what a chunk carries beside OpenAI's fields: the receipt, or an error."""
        if "flatfee" in extra:
            self.body, self._receipt = extra, None
        if extra.get("error"):
            raise self._fail(from_wire(200, self.headers, extra))
        if event.name == b"error":
            raise self._fail(from_wire(200, self.headers, {"error": extra}))

    def _conclude(self) -> None:
        if self._finished and not self._running:
            return self._finish(None)
        failure = self._broken or self._truncated("The stream ended without a finish reason.")
        failure.receipt = self.receipt
        return self._finish(failure)

    def _fail(self, error: APIError) -> APIError:
        error.receipt = error.receipt or self.receipt
        self._finish(error)
        return error

    def _finish(self, failure: APIError | None) -> None:
        """Come to the one end there is."""
        self.failure, self.over = failure, True
        if failure is not None:
            failure.partial = "".join(self._text)
        if self.on_end is not None:
            self.on_end(self)

    def _truncated(self, message: str) -> StreamTruncated:
        return StreamTruncated(message, receipt=self.receipt)


def _speaks(delta: ChoiceDelta) -> bool:
    """Tell whether a piece without text holds a token: of a call, or in a field that OpenAI's shape does not have."""
    extra = delta.model_extra
    return bool(delta.tool_calls or delta.refusal or delta.function_call or (extra and any(extra.values())))


class Body(Protocol):
    """A response whose body is still to come. ``raw`` is the HTTP library's object.

    ``on_close`` is called when it is closed, or dropped without that; perhaps more than once.
    """

    status: int
    headers: Mapping[str, str]
    tries: tuple[Try, ...]
    on_close: Callable[[], None] | None
    raw: Any

    def read(self, heard: bool) -> bytes | None:
        """Return the next bytes; ``None`` at the end. ``heard`` tells that the last ones held a token.

        Raises:
            APIConnectionError: the connection broke; ``APITimeoutError`` if a time limit passed.
        """
        ...

    def drain(self) -> None:
        """Read the few bytes that may be left, so that the connection can serve the next call; then close."""
        ...

    def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        ...


class AsyncBody(Protocol):
    """``Body`` for coroutines."""

    status: int
    headers: Mapping[str, str]
    tries: tuple[Try, ...]
    on_close: Callable[[], None] | None
    raw: Any

    async def read(self, heard: bool) -> bytes | None:
        """Return the next bytes; ``None`` at the end. ``heard`` tells that the last ones held a token.

        Raises:
            APIConnectionError: the connection broke; ``APITimeoutError`` if a time limit passed.
        """
        ...

    async def drain(self) -> None:
        """Read the few bytes that may be left, so that the connection can serve the next call; then close."""
        ...

    async def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        ...


class Rooted:
    """What reads from a connection, and stays where that is."""

    def __reduce__(self) -> Any:
        raise TypeError("A stream cannot be copied or pickled: it reads from a connection. Send what it yields.")


class _Streamed(Rooted):
    """What both kinds of stream show."""

    _state: StreamState

    def __init__(self, response: Any, headers: Mapping[str, str]) -> None:
        self.response = response
        self._state = StreamState(headers)

    @property
    def receipt(self) -> Receipt | None:
        """The receipt so far: there before the first token, settled after the last event."""
        return self._state.receipt

    @property
    def tries(self) -> tuple[Try, ...]:
        """Every request that was sent until the stream started; empty if the first one did it."""
        return self._state.tries

    @property
    def _request_id(self) -> str | None:
        headers = self._state.headers
        return headers.get(Header.REQUEST_ID) or headers.get(Header.X_REQUEST_ID)


class Stream(_Streamed, Generic[Chunk]):
    """The chunks of a streamed completion. Iterate over it once, best inside ``with``."""

    def __init__(self, body: Body) -> None:
        super().__init__(body.raw, body.headers)
        self._body = body
        body.on_close = self._state.closed

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ChatCompletionChunk:
        try:
            while (chunk := self._state.take()) is None:
                if self._state.over:
                    self._body.drain()
                    raise StopIteration
                self._pull()
        except APIError as error:
            self._body.close()
            error.response = self.response
            raise
        return chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading and free the connection. Does nothing after the end."""
        self._state.closed()
        self._body.close()

    def _pull(self) -> None:
        state = self._state
        heard, state.heard = state.heard, False
        try:
            data = self._body.read(heard)
        except APIError as error:
            state.broken(error)
        else:
            state.end() if data is None else state.feed(data)


class AsyncStream(_Streamed, Generic[Chunk]):
    """The chunks of a streamed completion. Iterate over it once, best inside ``async with``."""

    def __init__(self, body: AsyncBody) -> None:
        super().__init__(body.raw, body.headers)
        self._body = body
        body.on_close = self._state.closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        try:
            while (chunk := self._state.take()) is None:
                if self._state.over:
                    await self._body.drain()
                    raise StopAsyncIteration
                await self._pull()
        except APIError as error:
            await self._body.close()
            error.response = self.response
            raise
        return chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop reading and free the connection. Does nothing after the end."""
        self._state.closed()
        await self._body.close()

    async def close(self) -> None:
        """Do what ``aclose`` does, under the name openai-python gives it."""
        await self.aclose()

    async def _pull(self) -> None:
        state = self._state
        heard, state.heard = state.heard, False
        try:
            data = await self._body.read(heard)
        except APIError as error:
            state.broken(error)
        else:
            state.end() if data is None else state.feed(data)
