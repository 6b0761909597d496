"""``client.chat.completions`` and ``client.route``: the same request, made or only planned."""

from __future__ import annotations

from typing import Literal, Unpack, overload
from uuid import uuid4

from flatfee.client.exchange import Call, encode, reader
from flatfee.client.raw_cores import (
    AsyncRawCore,
    AsyncStreamedCore,
    RawCore,
    StreamedCore,
    raw,
    raw_async,
    streamed,
    streamed_async,
)
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.client.resources.elsewhere import BETA, CHAT, STORED, Elsewhere
from flatfee.client.resources.evented import AsyncEventedCompletions, EventedCompletions
from flatfee.client.resources.options import body_fields, call_parts, deadline, gateway_headers
from flatfee.client.resources.typed import AsyncTypedCompletions, TypedCompletions
from flatfee.client.stream import AsyncStream, Stream
from flatfee.types.chat import ChatCompletion
from flatfee.types.gateway import RoutePlan
from flatfee.types.params import CompletionParams, Messages, Omittable
from flatfee.types.sentinel import NOT_GIVEN
from flatfee.wire import Header

_read_completion = reader(ChatCompletion)
_read_plan = reader(RoutePlan)


def completion(
    messages: Messages, model: str, stream: Omittable[bool | None], options: CompletionParams
) -> Call[ChatCompletion]:
    """Return the call of a completion; its idempotency key is made here, once for all tries."""
    headers = gateway_headers(options)
    headers.setdefault(Header.IDEMPOTENCY_KEY, str(uuid4()))
    if stream:
        headers["accept"] = "text/event-stream"
    return Call(
        method="POST",
        path="/chat/completions",
        read=_read_completion,
        body=encode({"model": model, "messages": messages, "stream": stream, **body_fields(options)}),
        deadline=deadline(options),
        metered=True,
        **call_parts(options, headers=headers),
    )


def plan(messages: Messages, model: str, options: CompletionParams) -> Call[RoutePlan]:
    """Return the call of a dry run: the same body and headers, and nothing to charge twice."""
    return Call(
        method="POST",
        path="/route",
        read=_read_plan,
        body=encode({"model": model, "messages": messages, **body_fields(options)}),
        deadline=deadline(options),
        **call_parts(options, headers=gateway_headers(options)),
    )


class Completions(TypedCompletions, EventedCompletions, Elsewhere):
    """Chat completions."""

    _elsewhere = STORED

    @property
    def with_raw_response(self) -> RawCompletions:
        """The same methods, each answering the HTTP response with the answer in it."""
        return RawCompletions(Completions(RawCore(self._core)))

    @property
    def with_streaming_response(self) -> StreamedCompletions:
        """The same methods, each a context manager of the HTTP response, whose body is read when asked for."""
        return StreamedCompletions(Completions(StreamedCore(self._core)))

    @overload
    def create(
        self,
        *,
        messages: Messages,
        model: str,
        stream: Omittable[Literal[False] | None] = NOT_GIVEN,
        **options: Unpack[CompletionParams],
    ) -> ChatCompletion: ...
    @overload
    def create(
        self, *, messages: Messages, model: str, stream: Literal[True], **options: Unpack[CompletionParams]
    ) -> Stream: ...
    @overload
    def create(
        self, *, messages: Messages, model: str, stream: bool, **options: Unpack[CompletionParams]
    ) -> ChatCompletion | Stream: ...
    def create(
        self,
        *,
        messages: Messages,
        model: str,
        stream: Omittable[bool | None] = NOT_GIVEN,
        **options: Unpack[CompletionParams],
    ) -> ChatCompletion | Stream:
        """Ask for a completion: whole, or with ``stream=True`` as a stream of chunks.

        ``CompletionParams`` lists the optional parameters. Parameters that are not known here are
        sent as they are.

        Raises:
            ConfigurationError: an argument that the gateway would refuse; nothing was sent.
            APIStatusError: the gateway refused or failed; see ``flatfee.errors`` for the classes.
            APIConnectionError: no answer came.
        """
        call = completion(messages, model, stream, options)
        if stream:
            return self._core.open(call)
        return self._core.send(call)


class AsyncCompletions(AsyncTypedCompletions, AsyncEventedCompletions, Elsewhere):
    """Chat completions."""

    _elsewhere = STORED

    @property
    def with_raw_response(self) -> AsyncRawCompletions:
        """The same methods, each answering the HTTP response with the answer in it."""
        return AsyncRawCompletions(AsyncCompletions(AsyncRawCore(self._core)))

    @property
    def with_streaming_response(self) -> AsyncStreamedCompletions:
        """The same methods, each a context manager of the HTTP response, whose body is read when asked for."""
        return AsyncStreamedCompletions(AsyncCompletions(AsyncStreamedCore(self._core)))

    @overload
    async def create(
        self,
        *,
        messages: Messages,
        model: str,
        stream: Omittable[Literal[False] | None] = NOT_GIVEN,
        **options: Unpack[CompletionParams],
    ) -> ChatCompletion: ...
    @overload
    async def create(
        self, *, messages: Messages, model: str, stream: Literal[True], **options: Unpack[CompletionParams]
    ) -> AsyncStream: ...
    @overload
    async def create(
        self, *, messages: Messages, model: str, stream: bool, **options: Unpack[CompletionParams]
    ) -> ChatCompletion | AsyncStream: ...
    async def create(
        self,
        *,
        messages: Messages,
        model: str,
        stream: Omittable[bool | None] = NOT_GIVEN,
        **options: Unpack[CompletionParams],
    ) -> ChatCompletion | AsyncStream:
        """Ask for a completion: whole, or with ``stream=True`` as a stream of chunks.

        ``CompletionParams`` lists the optional parameters. Parameters that are not known here are
        sent as they are.

        Raises:
            ConfigurationError: an argument that the gateway would refuse; nothing was sent.
            APIStatusError: the gateway refused or failed; see ``flatfee.errors`` for the classes.
            APIConnectionError: no answer came.
        """
        call = completion(messages, model, stream, options)
        if stream:
            return await self._core.open(call)
        return await self._core.send(call)


class RawCompletions:
    """``with_raw_response`` of completions."""

    def __init__(self, over: Completions) -> None:
        self.create = raw(over.create)
        self.parse = raw(over.parse)


class AsyncRawCompletions:
    """``with_raw_response`` of completions."""

    def __init__(self, over: AsyncCompletions) -> None:
        self.create = raw_async(over.create)
        self.parse = raw_async(over.parse)


class StreamedCompletions:
    """``with_streaming_response`` of completions."""

    def __init__(self, over: Completions) -> None:
        self.create = streamed(over.create)
        self.parse = streamed(over.parse)


class AsyncStreamedCompletions:
    """``with_streaming_response`` of completions."""

    def __init__(self, over: AsyncCompletions) -> None:
        self.create = streamed_async(over.create)
        self.parse = streamed_async(over.parse)


class Chat(Elsewhere):
    """The ``chat`` namespace."""

    _elsewhere = CHAT

    def __init__(self, core: Core) -> None:
        self.completions = Completions(core)


class AsyncChat(Elsewhere):
    """The ``chat`` namespace."""

    _elsewhere = CHAT

    def __init__(self, core: AsyncCore) -> None:
        self.completions = AsyncCompletions(core)


class Beta(Elsewhere):
    """The ``beta`` namespace, for code that still asks there."""

    _elsewhere = BETA

    def __init__(self, chat: Chat) -> None:
        self.chat = chat


class Route:
    """``client.route(...)``: which way a request would take."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, *, messages: Messages, model: str, **options: Unpack[CompletionParams]) -> RoutePlan:
        """Plan a completion without making it; takes the arguments of ``chat.completions.create``."""
        return self._core.send(plan(messages, model, options))


class AsyncBeta(Elsewhere):
    """The ``beta`` namespace, for code that still asks there."""

    _elsewhere = BETA

    def __init__(self, chat: AsyncChat) -> None:
        self.chat = chat


class AsyncRoute:
    """``client.route(...)``: which way a request would take."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def __call__(self, *, messages: Messages, model: str, **options: Unpack[CompletionParams]) -> RoutePlan:
        """Plan a completion without making it; takes the arguments of ``chat.completions.create``."""
        return await self._core.send(plan(messages, model, options))
