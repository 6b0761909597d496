"""``client.chat.completions`` and ``client.route``: the same request, made or only planned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Unpack, overload
from uuid import uuid4

from flatfee.client.exchange import Call, encode, reader
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.client.resources.options import body_fields, call_parts, deadline, gateway_headers
from flatfee.client.stream import AsyncStream, Stream
from flatfee.types.chat import ChatCompletion
from flatfee.types.gateway import RoutePlan
from flatfee.types.params import CompletionParams, MessageParam, Omittable
from flatfee.types.sentinel import NOT_GIVEN
from flatfee.wire import Header

Messages = Iterable[MessageParam]

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


class Completions:
    """Chat completions."""

    def __init__(self, core: Core) -> None:
        self._core = core

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


class AsyncCompletions:
    """Chat completions."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

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


class Chat:
    """The ``chat`` namespace."""

    def __init__(self, core: Core) -> None:
        self.completions = Completions(core)


class AsyncChat:
    """The ``chat`` namespace."""

    def __init__(self, core: AsyncCore) -> None:
        self.completions = AsyncCompletions(core)


class Route:
    """``client.route(...)``: which way a request would take."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, *, messages: Messages, model: str, **options: Unpack[CompletionParams]) -> RoutePlan:
        """Plan a completion without making it; takes the arguments of ``chat.completions.create``."""
        return self._core.send(plan(messages, model, options))


class AsyncRoute:
    """``client.route(...)``: which way a request would take."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def __call__(self, *, messages: Messages, model: str, **options: Unpack[CompletionParams]) -> RoutePlan:
        """Plan a completion without making it; takes the arguments of ``chat.completions.create``."""
        return await self._core.send(plan(messages, model, options))
