"""One call on its way, from its first try to its end: its time, its tries, and who hears of it. Sans-IO.

The shells send, sleep and close; an errand tells them what to send and whether to try again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from flatfee.client.config import ClientConfig
from flatfee.client.exchange import Call, Reply, Request, answer_to, request_for
from flatfee.client.retry import Budget, RetryPolicy
from flatfee.client.stream import StreamState
from flatfee.client.watch import Watch
from flatfee.errors import APIError

T = TypeVar("T")


class Errand(Generic[T]):
    """The state of one call. ``with`` it: whatever is raised inside is told to the watch.

    ``notes`` is for listeners to remember what they have to of this call, each under itself.
    """

    __slots__ = ("budget", "call", "clock", "config", "notes", "watch")

    def __init__(self, call: Call[T], config: ClientConfig, watch: Watch, clock: Callable[[], float]) -> None:
        self.call = call
        self.config = config
        self.watch = watch
        self.clock = clock
        self.budget = Budget.of(call.deadline, clock)
        self.notes: dict[object, Any] = {}
        for listener in watch.listeners:
            listener.began(self)

    def send_along(self, headers: Mapping[str, str]) -> None:
        """Send headers with every try; the call's own win."""
        self.call = replace(self.call, headers={**headers, **self.call.headers})

    def request(self, authorization: str) -> Request:
        """Return what the next try sends. Raises ``APITimeoutError`` when the deadline has passed."""
        return request_for(self.call, self.config, authorization, self.budget)

    def read(self, reply: Reply) -> T:
        """Return the answer in a finished reply, or raise the error in it."""
        answer = answer_to(self.call, reply)
        for listener in self.watch.listeners:
            listener.answered(self, answer, reply.headers)
        return answer

    def handed(self, headers: Mapping[str, str]) -> None:
        """Take note of a response whose body the caller reads."""
        for listener in self.watch.listeners:
            listener.handed(self, headers)

    def policy(self, chance: Callable[[], float]) -> RetryPolicy:
        """Return the policy of the tries that come after a failed first one."""
        return RetryPolicy(self.config.max_retries, chance, self.budget)

    def tried(self, error: APIError) -> None:
        """Take note of a failed try."""
        for listener in self.watch.listeners:
            listener.tried(self, error)

    def opened(self, state: StreamState) -> None:
        """Take note of a stream that has started, and of its end when it comes."""
        for listener in self.watch.listeners:
            listener.opened(self, state)
        if self.watch.listeners:
            state.on_end = self._ended

    def _ended(self, state: StreamState) -> None:
        for listener in self.watch.listeners:
            listener.ended(self, state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            return
        for listener in self.watch.listeners:
            listener.failed(self, error)
