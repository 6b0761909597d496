"""openai-python's streams, with a receipt, a name for every failure, and no cut answer that looks whole."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing, suppress
from time import monotonic
from typing import Any, TypeVar, get_args, get_origin

import openai
from openai.types.chat import ChatCompletionChunk

from flatfee.client.bodies import LONGEST_DRAIN, Gate
from flatfee.integrations.openai.watch import Watch
from flatfee.receipt import Receipt

T = TypeVar("T")


class ReceiptStream(openai.Stream[T]):
    """A stream of openai-python with a ``receipt``. Iterate over it once, best inside ``with``.

    Raises while it is read, each an ``openai.APIError`` as well:
        StreamTruncated: it ended without a finish reason.
        APIStatusError: the gateway sent an error in place of the rest.
        APIConnectionError: the connection broke.
    """

    _watch: Watch

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._watch = Watch(self.response, completion=self._cast_to is ChatCompletionChunk)

    @property
    def receipt(self) -> Receipt | None:
        """The receipt so far: there before the first token, settled after the last event."""
        return self._watch.receipt

    def _iter_events(self) -> Iterator[Any]:
        events = super()._iter_events()
        for event in events:
            self._watch.event = event.data
            if event.data.startswith("[DONE]"):
                self._drain(events)
            yield event

    def _drain(self, events: Iterator[Any]) -> None:
        """Read the few bytes after the last event, for a moment at most: openai-python would close the connection."""
        gate = Gate(self.response)
        if gate.waits:
            gate.end = monotonic() + LONGEST_DRAIN
            with suppress(Exception):  # the answer is whole already
                deque(events, maxlen=0)
        gate.leave()

    def __stream__(self) -> Iterator[T]:
        with closing(super().__stream__()) as chunks:  # type: ignore[type-var]  # it is a generator
            try:
                for chunk in chunks:
                    self._watch.see(chunk)
                    yield chunk
            except Exception as error:  # noqa: BLE001 - it tells which are the gateway's, and raises all
                self._watch.failed(error)
            finally:
                self._watch.note()
            self._watch.end()


class AsyncReceiptStream(openai.AsyncStream[T]):
    """``ReceiptStream`` for coroutines."""

    _watch: Watch

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._watch = Watch(self.response, completion=self._cast_to is ChatCompletionChunk)

    @property
    def receipt(self) -> Receipt | None:
        """The receipt so far: there before the first token, settled after the last event."""
        return self._watch.receipt

    async def _iter_events(self) -> AsyncIterator[Any]:
        async for event in super()._iter_events():
            self._watch.event = event.data
            yield event

    async def __stream__(self) -> AsyncIterator[T]:
        async with aclosing(super().__stream__()) as chunks:  # type: ignore[type-var]  # it is a generator
            try:
                async for chunk in chunks:
                    self._watch.see(chunk)
                    yield chunk
            except Exception as error:  # noqa: BLE001 - it tells which are the gateway's, and raises all
                self._watch.failed(error)
            finally:
                self._watch.note()
            self._watch.end()


def watched(stream: Any) -> Any:
    """Return our class of stream in place of openai-python's, for the same chunks; another class stays."""
    classes: dict[Any, Any] = {openai.Stream: ReceiptStream, openai.AsyncStream: AsyncReceiptStream}
    ours = classes.get(get_origin(stream) or stream)
    chunks = get_args(stream)
    return ours[chunks[0]] if ours and chunks else ours or stream
