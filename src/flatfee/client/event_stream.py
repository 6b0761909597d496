"""Streams of events: ``chat.completions.stream(...)``, for both kinds of client.

The call gives a manager; the request is sent when its ``with`` is entered. How a stream ends is told in
``stream``, and holds here as well: a stream that failed or was cut fails in the iteration, and again in
``get_final_completion()``. Which events there are is ``events``' part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from flatfee.client.stream import AsyncStream, Rooted, Stream
from flatfee.errors import APIError
from flatfee.receipt import Receipt
from flatfee.types.chat import ParsedChatCompletion

if TYPE_CHECKING:
    from flatfee.client.parsing import Expectation
    from flatfee.types.events import ChatCompletionStreamEvent

T = TypeVar("T")


class _Shown(Rooted, Generic[T]):
    """What both kinds of stream of events show."""

    def __init__(self, chunks: Stream | AsyncStream, expected: Expectation[T] | None) -> None:
        from flatfee.client.events import EventMaker  # most processes do without, and import faster so

        self._shown = chunks
        self._maker: EventMaker[T] = EventMaker(chunks._state.headers, expected)
        self._pending: deque[ChatCompletionStreamEvent[T]] = deque()

    @property
    def response(self) -> Any:
        """The HTTP library's response."""
        return self._shown.response

    @property
    def receipt(self) -> Receipt | None:
        """The receipt so far: there before the first token, settled after the last event."""
        return self._shown.receipt

    @property
    def _request_id(self) -> str | None:
        return self._shown._request_id

    @property
    def current_completion_snapshot(self) -> ParsedChatCompletion[object]:
        """The answer as far as it came; a choice that goes on has no ``finish_reason``. Made each time."""
        return self._maker.snapshot()

    def _conclude(self) -> None:
        try:
            self._maker.conclude()
        except APIError as error:
            error.response, error.partial = self.response, "".join(self._shown._state._text)
            raise


class ChatCompletionStream(_Shown[T]):
    """The events of a streamed completion. Iterate over it once, inside ``with``."""

    def __init__(self, chunks: Stream, expected: Expectation[T] | None) -> None:
        super().__init__(chunks, expected)
        self._chunks = chunks

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ChatCompletionStreamEvent[T]:
        while not self._pending:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._conclude()
                raise StopIteration
            self._pending.extend(self._maker.take(chunk))
        return self._pending.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def text_deltas(self) -> Iterator[str]:
        """Yield the pieces of the content of choice 0. Raises what the iteration over events raises."""
        for event in self:
            if event.type == "content.delta" and event.choice_index == 0:
                yield event.delta

    def until_done(self) -> Self:
        """Read to the end. Raises what the iteration over events raises."""
        for _ in self:
            pass
        return self

    def get_final_completion(self) -> ParsedChatCompletion[T]:
        """Read to the end and return the whole answer, with its settled receipt.

        Raises:
            APIError: the failure that ended the stream; ``StreamTruncated`` if it was cut or closed early;
                those of ``parse`` if it is not what was asked for.
        """
        self.until_done()
        return self._maker.final()

    def close(self) -> None:
        """Stop reading and free the connection. Does nothing after the end."""
        self._pending.clear()
        self._chunks.close()


class AsyncChatCompletionStream(_Shown[T]):
    """The events of a streamed completion. Iterate over it once, inside ``async with``."""

    def __init__(self, chunks: AsyncStream, expected: Expectation[T] | None) -> None:
        super().__init__(chunks, expected)
        self._chunks = chunks

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatCompletionStreamEvent[T]:
        while not self._pending:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                self._conclude()
                raise StopAsyncIteration
            self._pending.extend(self._maker.take(chunk))
        return self._pending.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.close()

    async def text_deltas(self) -> AsyncIterator[str]:
        """Yield the pieces of the content of choice 0. Raises what the iteration over events raises."""
        async for event in self:
            if event.type == "content.delta" and event.choice_index == 0:
                yield event.delta

    async def until_done(self) -> Self:
        """Read to the end. Raises what the iteration over events raises."""
        async for _ in self:
            pass
        return self

    async def get_final_completion(self) -> ParsedChatCompletion[T]:
        """Read to the end and return the whole answer, with its settled receipt.

        Raises:
            APIError: the failure that ended the stream; ``StreamTruncated`` if it was cut or closed early;
                those of ``parse`` if it is not what was asked for.
        """
        await self.until_done()
        return self._maker.final()

    async def close(self) -> None:
        """Stop reading and free the connection. Does nothing after the end."""
        self._pending.clear()
        await self._chunks.aclose()

    async def aclose(self) -> None:
        """Do what ``close`` does."""
        await self.close()


class _Unopened:
    """What a manager answers to who takes it for the stream."""

    _CURE = ""

    if not TYPE_CHECKING:  # a checker finds these uses by itself

        def __iter__(self) -> NoReturn:
            raise TypeError(self._CURE)

        __next__ = __aiter__ = __anext__ = __await__ = __iter__

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"There is no {name!r} here. {self._CURE}")


class ChatCompletionStreamManager(_Unopened, Generic[T]):
    """A stream of events that was not opened yet: ``with`` sends the request, and closes the stream in the end."""

    _CURE = "Write `with client.chat.completions.stream(...) as stream:` and use the stream."

    def __init__(self, open_stream: Callable[[], Stream], expected: Expectation[T] | None = None) -> None:
        self._open = open_stream
        self._expected = expected
        self._stream: ChatCompletionStream[T] | None = None

    def __enter__(self) -> ChatCompletionStream[T]:
        self._stream = ChatCompletionStream(self._open(), self._expected)
        return self._stream

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._stream is not None:
            self._stream.close()


class AsyncChatCompletionStreamManager(_Unopened, Generic[T]):
    """A stream of events that was not opened yet: ``async with`` sends the request, and closes the stream in the end.

    The call that gives it is not awaited.
    """

    _CURE = "Write `async with client.chat.completions.stream(...) as stream:`, without `await`, and use the stream."

    def __init__(
        self, open_stream: Callable[[], Awaitable[AsyncStream]], expected: Expectation[T] | None = None
    ) -> None:
        self._open = open_stream
        self._expected = expected
        self._stream: AsyncChatCompletionStream[T] | None = None

    async def __aenter__(self) -> AsyncChatCompletionStream[T]:
        self._stream = AsyncChatCompletionStream(await self._open(), self._expected)
        return self._stream

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._stream is not None:
            await self._stream.close()
