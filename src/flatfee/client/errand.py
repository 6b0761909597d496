"""One call on its way, from its first try to its end: its time, its tries, and who hears of it. Sans-IO.

The shells send, sleep and close; an errand tells them what to send and whether to try again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from flatfee.client.config import ClientConfig
from flatfee.client.exchange import Call, Reply, Request, answer_to, brought_by, request_for
from flatfee.client.retry import Budget, Repetition
from flatfee.client.stream import AsyncBody, Body, StreamState
from flatfee.client.tries import Tries
from flatfee.client.watching.watch import Watch
from flatfee.errors import APIError, NotFoundError
from flatfee.types.sentinel import NotGiven
from flatfee.types.tries import Try
from flatfee.wire import Header

T = TypeVar("T")


class Errand(Generic[T]):
    """The state of one call. ``with`` it: whatever is raised inside is told to the watch.

    ``notes`` is for listeners to remember what they have to of this call, each under itself.
    """

    __slots__ = (
        *("_began", "_handed_on", "_sending", "_tries", "budget", "call", "clock", "config", "notes", "turn", "watch"),
    )

    def __init__(self, call: Call[T], config: ClientConfig, watch: Watch, clock: Callable[[], float]) -> None:
        self.call = call
        self.config = config
        self.watch = watch
        self.clock = clock
        self.budget = Budget.of(call.deadline, clock)
        self._began = clock()
        self._tries: Tries | None = None
        self.turn = config.pacing.turn(self.sent(Header.WORKFLOW)) if config.pacing and call.metered else None
        self._handed_on = self._sending = False
        self.notes: dict[object, Any] = {}
        for listener in watch.listeners:
            listener.began(self)

    def sent(self, header: str) -> str | None:
        """Return the value that a header of the call's requests has."""
        value = self.call.headers.get(header, self.config.headers.get(header))
        return None if isinstance(value, NotGiven) else value

    def send_along(self, headers: Mapping[str, str]) -> None:
        """Send headers with every try; the call's own win."""
        self.call = replace(self.call, headers={**headers, **self.call.headers})

    def request(self, authorization: str) -> Request:
        """Return what the next try sends. Raises ``APITimeoutError`` when the deadline has passed."""
        request = request_for(self.call, self.config, authorization, self.budget)
        self._sending = True
        return request

    def read(self, reply: Reply) -> T:
        """Return the answer in a finished reply, or raise the error in it."""
        answer = answer_to(self.call, reply)
        if self._tries is not None or self.turn is not None:
            self._let_in(reply.status, reply.headers)
            brought_by(self.tries, answer)
        for listener in self.watch.listeners:
            listener.answered(self, answer, reply.headers)
        return answer

    def handed(self, reply: Body | AsyncBody) -> None:
        """Take note of a response whose body the caller reads."""
        if self._tries is not None or self.turn is not None:
            self._let_in(reply.status, reply.headers)
            reply.tries = self.tries
        if self.turn is not None:
            self._handed_on = True
            reply.on_close = self.turn.over
        for listener in self.watch.listeners:
            listener.handed(self, reply.headers)

    def repetition(self, chance: Callable[[], float], closed: Callable[[], bool]) -> Repetition:
        """Return what decides about the tries that come after a failed first one; a ``closed`` client has none."""

        def spent() -> bool:
            return self.call.once or closed() or (self.turn is not None and self.turn.spent)

        keyed = not self.call.metered or self.sent(Header.IDEMPOTENCY_KEY) is not None
        return Repetition(policy=self.config.retry, chance=chance, budget=self.budget, keyed=keyed, spent=spent)

    @property
    def left(self) -> float | None:
        """Seconds that are left of the call's deadline, if it has one."""
        return self.budget.left() if self.budget else None

    @property
    def tries(self) -> tuple[Try, ...]:
        """The requests that were sent, once one of them has failed."""
        return () if self._tries is None else self._tries.listed()

    def again(self) -> None:
        """Take note that the wait before a try is over."""
        self._listing().again()

    def tried(self, error: APIError) -> None:
        """Take note of a failed try, if there was one: the time may have been over before anything was sent."""
        if not self._sending:
            return
        self._sending = False
        self._listing().failed(error)
        for listener in self.watch.listeners:
            listener.tried(self, error)

    def opened(self, state: StreamState) -> None:
        """Take note of a stream that has started, and of its end when it comes."""
        self._handed_on = True
        if self._tries is not None or self.turn is not None:
            self._let_in(200, state.headers)
            state.tries = self.tries
        for listener in self.watch.listeners:
            listener.opened(self, state)
        if self.watch.listeners or self.turn is not None:
            state.on_end = self._ended

    def _ended(self, state: StreamState) -> None:
        self._leave_line()
        for listener in self.watch.listeners:
            listener.ended(self, state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            self._failed(error)
        elif not self._handed_on:
            self._leave_line()
        if self.call.releases is not None and (error is None or isinstance(error, NotFoundError)):
            self._released(self.call.releases)

    def _failed(self, error: BaseException) -> None:
        self._leave_line()
        if isinstance(error, APIError):
            error.tries = self.tries
        for listener in self.watch.listeners:
            listener.failed(self, error)

    def _leave_line(self) -> None:
        if self.turn is not None:
            self.turn.over()

    def _released(self, workflow: str) -> None:
        if self.config.pacing is not None:
            self.config.pacing.released(workflow)

    def _let_in(self, status: int, headers: Mapping[str, str]) -> None:
        if self._tries is not None:
            self._tries.succeeded(status, headers)
        if self.turn is not None:
            self.turn.admitted(headers)

    def _listing(self) -> Tries:
        if self._tries is None:
            self._tries = Tries(self.clock, self._began)
        return self._tries
