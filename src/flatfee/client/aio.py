"""The client for coroutines: sends, sleeps and closes. What is sent and what it means is decided elsewhere."""

from __future__ import annotations

import copy
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from uuid import uuid4

from flatfee.client.arguments import AsyncApiKey, AsyncClientSettings, IgnoredOptions, URLParts, ignore
from flatfee.client.bodies import AsyncOpenReply
from flatfee.client.config import ClientConfig, Configured
from flatfee.client.copies import OwnConnections
from flatfee.client.errand import Errand
from flatfee.client.exchange import Call, is_stream, refusal, unstreamed
from flatfee.client.http import AsyncHTTPClient, AsyncTransport
from flatfee.client.pools import pause, within
from flatfee.client.resources import AsyncResources
from flatfee.client.resources.options import workflow_id
from flatfee.client.resources.workflows import aleave
from flatfee.client.retry import Budget, RetryPolicy
from flatfee.client.stream import AsyncStream
from flatfee.client.turns import Pacing, Turn
from flatfee.client.watching.fair_use import SeesFairUse
from flatfee.client.watching.listeners import watch_for
from flatfee.client.watching.watch import Watch
from flatfee.errors import APIError
from flatfee.receipt import Receipt
from flatfee.types.params import Omittable
from flatfee.types.sentinel import NOT_GIVEN, NotGiven, absent
from flatfee.types.timeout import TimeoutParam
from flatfee.wire import Header

T = TypeVar("T")
R = TypeVar("R")


class AsyncClientOptions(AsyncClientSettings, total=False):
    """What ``with_options`` may change.

    Another ``http_client`` brings its own connections, another ``pacing`` its own line: the copy then no longer
    waits with this client's calls.
    """

    http_client: AsyncHTTPClient | None
    pacing: Omittable[bool | Pacing]


@dataclass(frozen=True, slots=True)
class CoroutineCore(OwnConnections):
    """Sends calls over one transport, by one configuration."""

    config: ClientConfig
    transport: AsyncTransport
    sleep: Callable[[float], Awaitable[None]]
    clock: Callable[[], float]
    watch: Watch

    async def send(self, call: Call[T]) -> T:
        """Return the typed answer; tries again where that is safe."""
        with Errand(call, self.config, self.watch, self.clock) as errand:
            return await self._persist(errand, self._try_send)

    async def open(self, call: Call[Any]) -> AsyncStream:
        """Return the stream once its response has started; tries again until then."""
        with Errand(call, self.config, self.watch, self.clock) as errand:
            return await self._persist(errand, self._try_open)

    async def begin(self, call: Call[Any]) -> AsyncOpenReply:
        """Return the response, its body unread; tries again until it has started, and is no error."""
        with Errand(call, self.config, self.watch, self.clock) as errand:
            reply = await self._persist(errand, self._try_begin)
            errand.handed(reply)
        return reply

    @property
    def plain(self) -> Self:
        """This core: it hands out answers as they are."""
        return self

    def but(
        self,
        *,
        http_client: AsyncHTTPClient | None = None,
        pacing: Omittable[bool | Pacing] = NOT_GIVEN,
        **settings: Unpack[AsyncClientSettings],
    ) -> Self:
        """Return a core with other settings, over the same connections if no other ``http_client`` is given."""
        transport = self.transport if http_client is None or absent(http_client) else AsyncTransport(http_client)
        config = self.config.but(**settings)
        if not absent(pacing):
            config = replace(config, pacing=Pacing.of(pacing))
        return replace(self, config=config, transport=transport)

    async def _persist(self, errand: Errand[Any], once: Callable[[Errand[Any]], Awaitable[R]]) -> R:
        if errand.turn is not None:
            once = partial(self._in_turn, errand.turn, once)
        try:
            return await once(errand)
        except APIError as error:  # not kept in this frame, which its traceback keeps
            repetition = errand.repetition(random.random, lambda: self.transport.is_closed)
            if not repetition.repeats(error):
                errand.tried(error)
                raise
            step = self._repeating(errand, error, once)
        # A controller of tenacity costs more than all the rest of a call, so only a failure gets one.
        again: R = await repetition.asynchronous(self.sleep)(step)
        return again

    def _repeating(
        self, errand: Errand[Any], first: APIError, once: Callable[[Errand[Any]], Awaitable[R]]
    ) -> Callable[[], Awaitable[R]]:
        failed = [first]

        async def step() -> R:
            try:
                if failed:
                    raise failed.pop()
                errand.again()
                return await once(errand)
            except APIError as error:
                errand.tried(error)
                raise

        return step

    async def _in_turn(self, turn: Turn, once: Callable[[Errand[Any]], Awaitable[R]], errand: Errand[Any]) -> R:
        while True:
            if await turn.awaited(errand.left):
                errand.again()
            try:
                return await once(errand)
            except APIError as error:
                if not turn.refused(error):
                    raise
                errand.tried(error)

    def _authorization(self, budget: Budget | None) -> Awaitable[str]:
        key = self.config.awaited_authorization()
        return within(key, budget) if budget is not None and callable(self.config.api_key) else key

    async def _try_send(self, errand: Errand[T]) -> T:
        authorization = await self._authorization(errand.budget)
        return errand.read(await self.transport.send(errand.request(authorization)))

    async def _try_begin(self, errand: Errand[Any], *, streamed: bool = False) -> AsyncOpenReply:
        request = errand.request(await self._authorization(errand.budget))
        reply = await self.transport.open(request if streamed else request.whole())
        if reply.status >= 300:
            raise refusal(await reply.finish())
        return reply

    async def _try_open(self, errand: Errand[Any]) -> AsyncStream:
        reply = await self._try_begin(errand, streamed=True)
        if not is_stream(reply.headers):
            raise unstreamed(await reply.finish())
        stream = AsyncStream(reply)
        errand.opened(stream._state)
        return stream


class AsyncClient(SeesFairUse, Configured, AsyncResources):
    """A client of a flatfee gateway.

    Args:
        api_key: the key, or a callable (a coroutine function, too) that returns it and is asked on every try;
            else ``FLATFEE_API_KEY``.
        base_url: else ``FLATFEE_BASE_URL``, else the hosted service.
        timeout: seconds for each phase of a try, ``None`` for no limit, or a ``Timeout``.
        max_retries: how often a failed try is repeated, where the gateway says that it may be; 2 unless told.
        retry: the whole policy, in place of ``max_retries``.
        pacing: ``True`` or a ``Pacing`` to have calls wait for each other, where the plan's limits make it necessary.
        default_headers: sent with every request, over those of ``FLATFEE_CUSTOM_HEADERS`` (``Name: value``, one on
            a line).
        default_query: sent with every request.
        http_client: an ``httpx.AsyncClient`` to send with; it stays open when this client is closed.
        on_receipt: called once for each completion with its last receipt: of the answer, of the error, or at the
            end of the stream. A plain function that does not wait; what it raises is logged, and changes nothing.
        sleep: waits between tries.
        clock: tells the seconds that deadlines are counted by.
        ignored: what openai-python's client takes and this one has no use for, so that a constructor need not be
            rewritten: ``organization``, ``project``, ``admin_api_key``, ``webhook_secret``, ``websocket_base_url``,
            ``workload_identity``, ``data_residency``, ``provider``, ``_strict_response_validation`` and
            ``_enforce_credentials``. A value is told to the log, at debug level.

    Raises:
        ConfigurationError: names the bad value and the cure.
    """

    def __init__(
        self,
        *,
        api_key: AsyncApiKey | None = None,
        base_url: Omittable[str | URLParts | None] = None,
        timeout: Omittable[TimeoutParam] = NOT_GIVEN,
        max_retries: Omittable[int] = NOT_GIVEN,
        retry: RetryPolicy | None = None,
        pacing: bool | Pacing = False,
        default_headers: Mapping[str, str | NotGiven] | None = None,
        default_query: Mapping[str, object] | None = None,
        http_client: AsyncHTTPClient | None = None,
        on_receipt: Callable[[Receipt], object] | None = None,
        sleep: Callable[[float], Awaitable[None]] = pause,
        clock: Callable[[], float] = time.monotonic,
        **ignored: Unpack[IgnoredOptions],
    ) -> None:
        ignore(ignored)
        config = ClientConfig.read(
            os.environ,
            api_key=api_key,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            retry=retry,
            pacing=Pacing.of(pacing),
            default_headers=default_headers,
            default_query=default_query,
        )
        self._use(CoroutineCore(config, AsyncTransport(http_client), sleep, clock, watch_for(os.environ, on_receipt)))

    def _use(self, core: CoroutineCore) -> None:
        self._core = core
        self._config = core.config
        self._attach(core)

    def with_options(self, **options: Unpack[AsyncClientOptions]) -> Self:
        """Return a client with other settings over the same connections; headers and query are added.

        Closing either closes both, unless another ``http_client`` was given.
        """
        other = copy.copy(self)
        other._use(self._core.but(**options))
        return other

    copy = with_options

    def workflow(self, id: str | None = None) -> AsyncWorkflowScope:  # noqa: A002 - the contract's word
        """Return a scope whose calls belong to one agent run; an id is made up if there is none.

        Inside ``async with`` it holds one slot among the plan's concurrent workflows, from its first call,
        and frees it at the end.
        """
        return AsyncWorkflowScope(self._core, f"wf-{uuid4().hex}" if id is None else workflow_id(id))

    async def close(self) -> None:
        """Close the connections. An ``http_client`` that was passed in stays open: who opened it closes it."""
        await self._core.transport.close()

    async def aclose(self) -> None:
        """Do what ``close`` does, under the name ``httpx`` gives it."""
        await self.close()

    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._core.transport.is_closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.close()


class AsyncWorkflowScope(SeesFairUse, AsyncResources):
    """The client's surface, for the calls of one workflow. ``id`` is the workflow's."""

    def __init__(self, core: CoroutineCore, id: str) -> None:  # noqa: A002 - the contract's word
        self.id = id
        self._core = core
        self._attach(core.but(default_headers={Header.WORKFLOW: id}))

    def with_options(self, **options: Unpack[AsyncClientOptions]) -> Self:
        """Return a scope of the same workflow with other settings; releasing either frees the one slot."""
        return type(self)(self._core.but(**options), self.id)

    copy = with_options

    async def release(self) -> None:
        """Free the workflow's slot. A workflow that holds none, or a gateway out of reach, is no failure.

        The gateway frees an idle slot by itself.
        """
        await aleave(self._core, self.id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.release()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r})"
