"""The blocking client: sends, sleeps and closes. What is sent and what it means is decided elsewhere."""

from __future__ import annotations

import copy
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from uuid import uuid4

from flatfee.client.arguments import ApiKey, ClientSettings, IgnoredOptions, URLParts, ignore
from flatfee.client.bodies import OpenReply
from flatfee.client.config import ClientConfig, Configured
from flatfee.client.copies import OwnConnections
from flatfee.client.errand import Errand
from flatfee.client.exchange import Call, is_stream, refusal, unstreamed
from flatfee.client.http import HTTPClient, Transport
from flatfee.client.resources import Resources
from flatfee.client.resources.options import workflow_id
from flatfee.client.resources.workflows import leave
from flatfee.client.retry import RetryPolicy
from flatfee.client.stream import Stream
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


class ClientOptions(ClientSettings, total=False):
    """What ``with_options`` may change.

    Another ``http_client`` brings its own connections, another ``pacing`` its own line: the copy then no longer
    waits with this client's calls.
    """

    http_client: HTTPClient | None
    pacing: Omittable[bool | Pacing]


@dataclass(frozen=True, slots=True)
class BlockingCore(OwnConnections):
    """Sends calls over one transport, by one configuration."""

    config: ClientConfig
    transport: Transport
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    watch: Watch

    def send(self, call: Call[T]) -> T:
        """Return the typed answer; tries again where that is safe."""
        with Errand(call, self.config, self.watch, self.clock) as errand:
            answer: T = self._persist(errand, self._try_send)
        return answer

    def open(self, call: Call[Any]) -> Stream:
        """Return the stream once its response has started; tries again until then."""
        with Errand(call, self.config, self.watch, self.clock) as errand:
            return self._persist(errand, self._try_open)

    def begin(self, call: Call[Any]) -> OpenReply:
        """Return the response, its body unread; tries again until it has started, and is no error."""
        with Errand(call, self.config, self.watch, self.clock) as errand:
            reply = self._persist(errand, self._try_begin)
            errand.handed(reply)
        return reply

    @property
    def plain(self) -> Self:
        """This core: it hands out answers as they are."""
        return self

    def but(
        self,
        *,
        http_client: HTTPClient | None = None,
        pacing: Omittable[bool | Pacing] = NOT_GIVEN,
        **settings: Unpack[ClientSettings],
    ) -> Self:
        """Return a core with other settings, over the same connections if no other ``http_client`` is given."""
        transport = self.transport if http_client is None or absent(http_client) else Transport(http_client)
        config = self.config.but(**settings)
        if not absent(pacing):
            config = replace(config, pacing=Pacing.of(pacing))
        return replace(self, config=config, transport=transport)

    def _persist(self, errand: Errand[Any], once: Callable[[Errand[Any]], R]) -> R:
        if errand.turn is not None:
            once = partial(self._in_turn, errand.turn, once)
        try:
            return once(errand)
        except APIError as error:  # not kept in this frame, which its traceback keeps
            repetition = errand.repetition(random.random, lambda: self.transport.is_closed)
            if not repetition.repeats(error):
                errand.tried(error)
                raise
            step = self._repeating(errand, error, once)
        # A controller of tenacity costs more than all the rest of a call, so only a failure gets one.
        return repetition.sync(self.sleep)(step)

    def _repeating(self, errand: Errand[Any], first: APIError, once: Callable[[Errand[Any]], R]) -> Callable[[], R]:
        failed = [first]

        def step() -> R:
            try:
                if failed:
                    raise failed.pop()
                errand.again()
                return once(errand)
            except APIError as error:
                errand.tried(error)
                raise

        return step

    def _in_turn(self, turn: Turn, once: Callable[[Errand[Any]], R], errand: Errand[Any]) -> R:
        while True:
            if turn.wait(errand.left):
                errand.again()
            try:
                return once(errand)
            except APIError as error:
                if not turn.refused(error):
                    raise
                errand.tried(error)

    def _try_send(self, errand: Errand[T]) -> T:
        return errand.read(self.transport.send(errand.request(self.config.authorization())))

    def _try_begin(self, errand: Errand[Any], *, streamed: bool = False) -> OpenReply:
        request = errand.request(self.config.authorization())
        reply = self.transport.open(request if streamed else request.whole())
        if reply.status >= 300:
            raise refusal(reply.finish())
        return reply

    def _try_open(self, errand: Errand[Any]) -> Stream:
        reply = self._try_begin(errand, streamed=True)
        if not is_stream(reply.headers):
            raise unstreamed(reply.finish())
        stream = Stream(reply)
        errand.opened(stream._state)
        return stream


class Client(SeesFairUse, Configured, Resources):
    """A client of a flatfee gateway.

    Args:
        api_key: the key, or a callable that returns it and is asked on every try; else ``FLATFEE_API_KEY``.
        base_url: else ``FLATFEE_BASE_URL``, else the hosted service.
        timeout: seconds for each phase of a try, ``None`` for no limit, or a ``Timeout``.
        max_retries: how often a failed try is repeated, where the gateway says that it may be; 2 unless told.
        retry: the whole policy, in place of ``max_retries``.
        pacing: ``True`` or a ``Pacing`` to have calls wait for each other, where the plan's limits make it necessary.
        default_headers: sent with every request, over those of ``FLATFEE_CUSTOM_HEADERS`` (``Name: value``, one on
            a line).
        default_query: sent with every request.
        http_client: an ``httpx.Client`` to send with; it stays open when this client is closed.
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
        api_key: ApiKey | None = None,
        base_url: Omittable[str | URLParts | None] = None,
        timeout: Omittable[TimeoutParam] = NOT_GIVEN,
        max_retries: Omittable[int] = NOT_GIVEN,
        retry: RetryPolicy | None = None,
        pacing: bool | Pacing = False,
        default_headers: Mapping[str, str | NotGiven] | None = None,
        default_query: Mapping[str, object] | None = None,
        http_client: HTTPClient | None = None,
        on_receipt: Callable[[Receipt], object] | None = None,
        sleep: Callable[[float], None] = time.sleep,
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
        self._use(BlockingCore(config, Transport(http_client), sleep, clock, watch_for(os.environ, on_receipt)))

    def _use(self, core: BlockingCore) -> None:
        self._core = core
        self._config = core.config
        self._attach(core)

    def with_options(self, **options: Unpack[ClientOptions]) -> Self:
        """Return a client with other settings over the same connections; headers and query are added.

        Closing either closes both, unless another ``http_client`` was given.
        """
        other = copy.copy(self)
        other._use(self._core.but(**options))
        return other

    copy = with_options

    def workflow(self, id: str | None = None) -> WorkflowScope:  # noqa: A002 - the contract's word
        """Return a scope whose calls belong to one agent run; an id is made up if there is none.

        Inside ``with`` it holds one slot among the plan's concurrent workflows, from its first call,
        and frees it at the end.
        """
        return WorkflowScope(self._core, f"wf-{uuid4().hex}" if id is None else workflow_id(id))

    def close(self) -> None:
        """Close the connections. An ``http_client`` that was passed in stays open: who opened it closes it."""
        self._core.transport.close()

    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._core.transport.is_closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


class WorkflowScope(SeesFairUse, Resources):
    """The client's surface, for the calls of one workflow. ``id`` is the workflow's."""

    def __init__(self, core: BlockingCore, id: str) -> None:  # noqa: A002 - the contract's word
        self.id = id
        self._core = core
        self._attach(core.but(default_headers={Header.WORKFLOW: id}))

    def with_options(self, **options: Unpack[ClientOptions]) -> Self:
        """Return a scope of the same workflow with other settings; releasing either frees the one slot."""
        return type(self)(self._core.but(**options), self.id)

    copy = with_options

    def release(self) -> None:
        """Free the workflow's slot. A workflow that holds none, or a gateway out of reach, is no failure.

        The gateway frees an idle slot by itself.
        """
        leave(self._core, self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r})"
