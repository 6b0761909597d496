"""Requests, as they are seen around the gateway: what came, which tries it led to, what went back. No judgement.

What is noted here changes while a request is served. A ``Journal`` is the copy that tests read.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import unquote

if TYPE_CHECKING:
    from flatfee.testing.faults.edge import Edge

_T = TypeVar("_T")

MAX_KEPT: Final = 1 << 20
"""Bytes of a response that are kept. Requests are bounded by the gateway itself."""

MAX_EXCHANGES: Final = 10_000
"""Requests that are kept; the oldest are forgotten."""

MAX_BYTES: Final = 256 << 20
"""Bytes of requests and responses that are kept in all; the oldest are forgotten."""

HANGS_UP: Final = "flatfee.hangs_up"
"""Where the scope of a request has what a server calls once its caller sends no more: a function without arguments."""

_SECRET_PARTS: Final = (
    *("token", "secret", "passw", "credential", "auth", "cookie", "signature", "jwt", "apikey", "openai-organization"),
)
"""What the names of headers have in them that may hold a secret, beside those that end in key: they are never kept."""

_NO_SECRETS: Final = frozenset({"idempotency-key", "sec-websocket-key"})
"""Names of headers that end like one of a key."""


@dataclass(slots=True, kw_only=True)
class Tried:
    """One try of a route, at a moment of the gateway's clock. ``rule`` is what answered; ``None``: the model."""

    route: str
    at: float
    rule: str | None = None


@dataclass(kw_only=True)
class Exchange:
    """One request and its response. Times are in seconds of the gateway's monotonic clock.

    ``arrived`` is when its head did, ``heard`` when its body was whole, ``ended`` when the response was whole, or
    the gateway done with it. ``left``: the caller went before the response was whole. ``cut``: a script broke the
    connection off. ``real`` and ``real_ended`` are when it arrived and ended by the machine's own clock, which nobody
    moves or stops. ``hung_up`` and ``real_hung_up`` are when the caller said that it sends no more: a gateway waits a
    little for those who still read, but nearly all have left by then. ``unread_since`` is since when the gateway
    waits for the caller to take what it sends. ``era`` counts how often a test had changed the gateway's state by
    then. ``edge`` is what a script lets happen on the way to the caller. Header names are lower case; those that
    hold secrets are not there.
    """

    number: int
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    arrived: float
    real: float = 0.0
    real_ended: float | None = None
    era: int = 0
    key: str = ""
    """Which key it came with, by its last four characters."""
    body: bytes = b""
    heard: float | None = None
    tries: list[Tried] = field(default_factory=list)
    status: int | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict)
    response: bytearray = field(default_factory=bytearray)
    response_size: int = 0
    first_byte: float | None = None
    ended: float | None = None
    edge: Edge | None = None
    whole: bool = False
    left: bool = False
    cut: bool = False
    hung_up: float | None = None
    real_hung_up: float | None = None
    unread_since: float | None = None
    kept: bool = False
    copy: Any = None
    """The journal's copy, once nothing of it will change any more."""

    @cached_property
    def json(self) -> Mapping[str, Any]:
        """The request's body; empty where it is no JSON object. Read it once the body is whole."""
        try:
            read = json.loads(self.body)
        except ValueError:
            return {}
        return read if isinstance(read, dict) else {}

    @property
    def is_completion(self) -> bool:
        """Whether it asks for a completion."""
        return self.method == "POST" and self.path == "/v1/chat/completions"

    @property
    def size(self) -> int:
        """Bytes that are kept of it."""
        return len(self.body) + len(self.response)

    def keep(self, data: bytes) -> None:
        """Keep a part of the response, up to ``MAX_KEPT`` bytes in all."""
        self.response_size += len(data)
        self.response += data[: MAX_KEPT - len(self.response)]


class Exchanges:
    """The requests so far, in the order of their arrival; bounded.

    Written on the gateway's event loop and read from any thread: whoever does takes the lock.
    ``forgotten`` counts those that are not kept any more.
    """

    def __init__(self, most: int = MAX_EXCHANGES, most_bytes: int = MAX_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._kept: deque[Exchange] = deque()
        self._bytes = 0
        self._completions = 0
        self._era = 0
        self._changes = 0
        self._changed = threading.Condition()
        self.forgotten = 0

    @contextmanager
    def noting(self) -> Generator[None, None, None]:
        """Change what is noted; whoever waits for that is told."""
        with self._changed:
            yield
            self._changes += 1
            self._changed.notify_all()

    def add(self, exchange: Exchange) -> None:
        """Note a request that arrived, and number it among the completions if it is one."""
        with self.noting():
            exchange.era = self._era
            if exchange.is_completion:
                self._completions += 1
                exchange.number = self._completions
            exchange.kept = True
            self._kept.append(exchange)
            self._forget()

    def done(self, exchange: Exchange, now: float) -> None:
        """Note that a response is whole, or that the gateway is done with a request before it is."""
        if exchange.ended is not None:
            return
        with self.noting():
            exchange.ended, exchange.real_ended = now, time.monotonic()
            exchange.left = not exchange.whole and not exchange.cut
            if exchange.kept:
                self._bytes += exchange.size
                self._forget()

    def hung_up(self, exchange: Exchange, now: float) -> None:
        """Note that the caller sends no more, though its answer is not whole."""
        if exchange.ended is None:
            with self.noting():
                exchange.hung_up, exchange.real_hung_up = now, time.monotonic()

    def _forget(self) -> None:
        while len(self._kept) > self._most or (self._bytes > self._most_bytes and len(self._kept) > 1):
            oldest = self._kept.popleft()
            oldest.kept = False
            self.forgotten += 1
            if oldest.ended is not None:
                self._bytes -= oldest.size

    def state_changed(self) -> None:
        """Note that a test changed what the gateway would answer: the same request may be right again."""
        with self.noting():
            self._era += 1

    def clear(self) -> None:
        """Forget every request, and number those that come from 1."""
        with self.noting():
            for exchange in self._kept:
                exchange.kept = False
            self._kept.clear()
            self._bytes = self._completions = self.forgotten = 0

    def copied(self, copy: Callable[[Exchange], _T]) -> tuple[tuple[_T, ...], int]:
        """Return copies of the requests, all of one moment, and how many were forgotten before them."""
        with self._changed:
            return tuple(_copied(exchange, copy) for exchange in self._kept), self.forgotten

    def wait(self, timeout: float, ready: Callable[[], _T | None]) -> _T | None:
        """Ask ``ready`` after each change until it gives something; ``None`` after ``timeout`` real seconds.

        It is asked without the lock, so that it may ask the gateway's thread for anything.
        """
        end = time.monotonic() + timeout
        while True:
            before = self._changes
            found = ready()
            if found is not None:
                return found
            with self._changed:
                if not self._changed.wait_for(lambda: self._changes != before, end - time.monotonic()):  # noqa: B023
                    return None


def _copied(exchange: Exchange, copy: Callable[[Exchange], _T]) -> _T:
    if exchange.copy is not None:
        return cast("_T", exchange.copy)
    made = copy(exchange)
    if exchange.ended is not None:
        exchange.copy = made
    return made


def is_secret(name: str) -> bool:
    """Tell whether a header of this name (lower case) may hold a secret."""
    ends_in_key = name.endswith("key") and name not in _NO_SECRETS
    return ends_in_key or any(part in name for part in _SECRET_PARTS)


def without_secrets(query: str) -> str:
    """Return a query string without the values that may be secrets: some APIs take their keys there."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    return "&".join(f"{name}={'' if _hides(name) else value}" if equals else name for name, equals, value in pairs)


def _hides(parameter: str) -> bool:
    name = unquote(parameter).lower().replace("_", "-")
    return name in {"code", "sig"} or is_secret(name)


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def current() -> Exchange | None:
    """Return the exchange that is being served in this task."""
    return _current.get()


def enter(exchange: Exchange) -> None:
    """Let this task, and those that it starts, serve an exchange."""
    _current.set(exchange)
