"""``client.chat.completions.stream``: completions as streams of typed events, and read into types."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast, overload

from flatfee.client.event_stream import AsyncChatCompletionStreamManager, ChatCompletionStreamManager
from flatfee.client.exchange import Call
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.types.params import Json, Messages, Omittable, ParseParams, ResponseFormatParam, ResponseType
from flatfee.types.sentinel import NOT_GIVEN, absent

if TYPE_CHECKING:
    from flatfee.client.parsing import Expectation

T = TypeVar("T")

Untyped = Omittable[ResponseFormatParam | Json | None]


def opening(
    messages: Messages, model: str, response_format: object, options: Mapping[str, Any]
) -> tuple[Call[Any], Expectation[Any] | None]:
    """Return the call that opens the stream, and what its answer is to be read into, if into anything."""
    from flatfee.client.resources.chat import completion  # which has the resource that this is a part of

    if absent(options.get("tools", NOT_GIVEN)) and (isinstance(response_format, Mapping) or not response_format):
        given = {**options, "response_format": response_format}
        return completion(messages, model, True, cast("Any", given)), None
    from flatfee.client.parsing import Expectation

    expected = Expectation.of(response_format, options.get("tools", NOT_GIVEN))
    return completion(messages, model, True, cast("Any", {**options, **expected.wire})), expected


class EventedCompletions:
    """Completions as streams of events."""

    _core: Core

    @overload
    def stream(
        self, *, messages: Messages, model: str, response_format: ResponseType[T], **options: Unpack[ParseParams]
    ) -> ChatCompletionStreamManager[T]: ...
    @overload
    def stream(
        self, *, messages: Messages, model: str, response_format: Untyped = NOT_GIVEN, **options: Unpack[ParseParams]
    ) -> ChatCompletionStreamManager[None]: ...
    def stream(
        self, *, messages: Messages, model: str, response_format: Any = NOT_GIVEN, **options: Unpack[ParseParams]
    ) -> ChatCompletionStreamManager[Any]:
        """Return a stream of typed events, to be opened by ``with``; the request is sent then.

        Takes the arguments of ``parse``. The stream iterates over ``flatfee.types.events``, and its
        ``get_final_completion()`` reads to the end and returns the whole answer.

        Raises:
            ConfigurationError: an argument that the gateway would refuse; nothing will be sent.
        """
        call, expected = opening(messages, model, response_format, options)
        return ChatCompletionStreamManager(partial(self._core.open, call), expected)


class AsyncEventedCompletions:
    """Completions as streams of events."""

    _core: AsyncCore

    @overload
    def stream(
        self, *, messages: Messages, model: str, response_format: ResponseType[T], **options: Unpack[ParseParams]
    ) -> AsyncChatCompletionStreamManager[T]: ...
    @overload
    def stream(
        self, *, messages: Messages, model: str, response_format: Untyped = NOT_GIVEN, **options: Unpack[ParseParams]
    ) -> AsyncChatCompletionStreamManager[None]: ...
    def stream(
        self, *, messages: Messages, model: str, response_format: Any = NOT_GIVEN, **options: Unpack[ParseParams]
    ) -> AsyncChatCompletionStreamManager[Any]:
        """Return a stream of typed events, to be opened by ``async with``; the request is sent then.

        The call is not awaited. Takes the arguments of ``parse``. The stream iterates over
        ``flatfee.types.events``, and its ``get_final_completion()`` reads to the end and returns the whole answer.

        Raises:
            ConfigurationError: an argument that the gateway would refuse; nothing will be sent.
        """
        call, expected = opening(messages, model, response_format, options)
        return AsyncChatCompletionStreamManager(partial(self._core.open, call), expected)
