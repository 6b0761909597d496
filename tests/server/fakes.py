"""Stand-ins for what lies outside the gateway: providers that follow a script, and settings for them.

A reply is a list of pieces: bytes are sent, an exception is raised, an event or silence is waited for.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from flatfee.receipt import Receipt
from flatfee.server.asked import Beside
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.settings import (
    AccountSettings,
    KeySettings,
    PolicySettings,
    ProjectSettings,
    ProviderSettings,
    RouteSettings,
    Settings,
)
from flatfee.server.store.base import StoreDown
from flatfee.server.store.commands import Command
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Caller, NewAccount, Outcome, Reservation, Settlement, Ticket, Usage
from flatfee.server.store.transactions import Admission
from flatfee.server.windows import Calendar
from flatfee.wire import AttemptOutcome

_T = TypeVar("_T")

KEY = "canary-key-of-the-project-ci-0123456789"
OTHER_KEY = "canary-key-of-the-project-docs-0123456789"
PROMPT = "canary-prompt"
ANSWER = "canary-answer"
LIMIT = 10.0
"""Seconds within which anything must have happened; far more than it ever takes."""


class Silence(Enum):
    """What never comes."""

    FOR_EVER = "for ever"

    async def wait(self) -> None:
        await asyncio.Event().wait()


Piece = bytes | Exception | asyncio.Event | Silence


def completion(text: str = ANSWER, usage: tuple[int, int] | None = (10, 5), **extra: Any) -> bytes:
    """Return a provider's plain answer."""
    message = {"role": "assistant", "content": text}
    body: dict[str, Any] = {"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return json.dumps(body | extra).encode()


def event(payload: object) -> bytes:
    """Return a server-sent event with a JSON payload."""
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def delta(text: str | None = None, *, finish: str | None = None, index: int = 0, **extra: Any) -> bytes:
    """Return an event of a streamed answer."""
    said = {} if text is None else {"content": text}
    return event({"id": "c1", "choices": [{"index": index, "delta": said, "finish_reason": finish}], **extra})


def usage_event(prompt: int = 10, output: int = 5) -> bytes:
    """Return the event that tells usage after the answer."""
    return event({"id": "c1", "choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": output}})


DONE = b"data: [DONE]\n\n"
STREAM: Sequence[bytes] = (delta("canary-"), delta("answer"), delta(finish="stop"), usage_event(), DONE)


def refusal(code: str | None, message: str = "No.") -> bytes:
    """Return the body of a provider's error."""
    return json.dumps({"error": {"message": message, "type": "t", "param": "messages", "code": code}}).encode()


@dataclass(frozen=True)
class Reply:
    """One answer. ``fails`` is raised before a head arrives; ``before`` is waited for before that."""

    pieces: Sequence[Piece] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    fails: Exception | None = None
    before: asyncio.Event | Silence | None = None


def plain(text: str = ANSWER, usage: tuple[int, int] | None = (10, 5), **extra: Any) -> Reply:
    """A whole plain answer."""
    return Reply([completion(text, usage, **extra)])


def streamed(*pieces: Piece) -> Reply:
    """A streamed answer; without pieces, a whole one."""
    return Reply(pieces or STREAM)


def error(status: int, code: str | None = None, **headers: str) -> Reply:
    """A refusal with a status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply([refusal(code)], status, named)


def unreachable() -> Reply:
    """A refused connection."""
    return Reply(fails=ProviderFailure(AttemptOutcome.UNAVAILABLE, "cannot be reached"))


def cut() -> Reply:
    """A connection that breaks before a byte came."""
    return Reply(fails=ProviderFailure(AttemptOutcome.ERROR, "broke off"))


def silent() -> Reply:
    """A provider that accepts the request and says nothing."""
    return Reply(before=Silence.FOR_EVER)


class ScriptedProvider:
    """A ``Provider`` that answers by route: each script's replies in turn, the last one for ever.

    ``asked`` notes (route, body); ``left`` counts the calls that have ended, one way or another.
    """

    def __init__(self, **scripts: Reply | Sequence[Reply]) -> None:
        self.scripts = {
            name.replace("_", "-"): deque([replies] if isinstance(replies, Reply) else replies)
            for name, replies in scripts.items()
        }
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.left = 0
        self.closed = False

    @property
    def routes(self) -> list[str]:
        """The routes that were asked, in order."""
        return [route for route, _ in self.asked]

    def _reply(self, route: str, stream: bool) -> Reply:
        script = self.scripts.get(route)
        if script is None:
            return streamed() if stream else plain()
        return script.popleft() if len(script) > 1 else script[0]

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[ScriptedAnswer, None]:
        self.asked.append((route.name, json.loads(body)))
        try:
            reply = self._reply(route.name, stream)
            if reply.before is not None:
                await reply.before.wait()
            if reply.fails is not None:
                raise reply.fails
            yield ScriptedAnswer(reply)
        finally:
            self.left += 1

    async def close(self) -> None:
        self.closed = True


class ScriptedAnswer:
    """An ``Upstream`` that follows a reply."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    @property
    def status(self) -> int:
        return self._reply.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._reply.headers

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._reply.pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, asyncio.Event | Silence):
                await piece.wait()
            else:
                yield piece


def route(name: str, tier: str = "premium", **options: Any) -> dict[str, Any]:
    """Return the settings of a route."""
    return {"name": name, "provider": "fake", "model": f"{name}-model", "tier": tier, **options}


ROUTES: Sequence[Mapping[str, Any]] = (
    route("first", priority=1),
    route("second", priority=2),
    route("thrifty", "economy", priority=1),
)


def make_settings(
    *,
    routes: Sequence[Mapping[str, Any]] = ROUTES,
    billing: str = "active",
    server: Mapping[str, Any] | None = None,
    policy: Mapping[str, Any] | None = None,
    aliases: Mapping[str, str] | None = None,
    **plan: Any,
) -> Settings:
    """Return settings with one plan, one account and two projects, ``ci`` and ``docs``."""
    keys = {"ci": KEY, "docs": OTHER_KEY}
    projects = tuple(
        ProjectSettings(name=name, keys=(KeySettings(name=name, key_env="KEY").with_secret(secret),))
        for name, secret in keys.items()
    )
    plans = [{"name": "pro", "fair_use": 100_000, "output_reserve": 100, **plan}]
    settings = Settings.model_validate(
        {
            "server": {"host": "127.0.0.1", "port": 0, "store": "memory://", **(server or {})},
            "providers": [ProviderSettings(name="fake", kind="simulated").model_dump()],
            "routes": list(routes),
            "plans": plans,
            "policy": {**PolicySettings().model_dump(), **(policy or {})},
            "aliases": aliases or {},
        }
    )
    account = AccountSettings.model_validate({"name": "acme", "plan": "pro", "billing": billing, "billing_day": 1})
    return settings.model_copy(update={"accounts": (account.model_copy(update={"projects": projects}),)})


def make_body(**body: Any) -> dict[str, Any]:
    """Return the body of a completion; ``None`` takes a member out."""
    whole = {"model": "premium", "messages": [{"role": "user", "content": PROMPT}], **body}
    return {name: value for name, value in whole.items() if value is not None}


class FailingStore(MemoryStore):
    """A memory store that is down for the operations named in ``down``."""

    def __init__(self, *down: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self.down = set(down)
        self.settled: list[tuple[str, Outcome]] = []
        self.heartbeats = 0

    def _check(self, operation: str) -> None:
        if operation in self.down:
            raise StoreDown("the disk is full")

    async def ready(self) -> None:
        self._check("ready")

    async def provision(self, accounts: Sequence[NewAccount]) -> None:
        self._check("provision")
        await super().provision(accounts)

    async def administer(self, actor: str, command: Command[_T]) -> _T:
        self._check("administer")
        return await super().administer(actor, command)

    async def find_key(self, digest: bytes) -> Caller | None:
        self._check("find_key")
        return await super().find_key(digest)

    async def usage(self, account: str, unit: str, calendar: Calendar) -> Usage:
        self._check("usage")
        return await super().usage(account, unit, calendar)

    async def reserve(self, want: Reservation) -> Admission:
        self._check("reserve")
        return await super().reserve(want)

    async def dispatch(self, ticket: Ticket) -> None:
        self._check("dispatch")
        await super().dispatch(ticket)

    async def settle(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        self.settled.append((ticket.request_id, outcome))
        self._check("settle")
        return await super().settle(ticket, outcome)

    async def heartbeat(self, tickets: Sequence[Ticket], lease: float) -> None:
        self.heartbeats += 1
        self._check("heartbeat")
        await super().heartbeat(tickets, lease)

    async def record(
        self, caller: Caller, receipt: Receipt, *, beside: Beside | None = None, reduced: bool = False
    ) -> None:
        self._check("record")
        await super().record(caller, receipt, beside=beside, reduced=reduced)


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, for at most ``LIMIT`` seconds."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - any condition may be waited for
            await asyncio.sleep(0.002)


def events_of(body: bytes) -> list[Any]:
    """Return the payloads of a stream; ``[DONE]`` as a string."""
    found: list[Any] = []
    for part in body.decode().split("\n\n"):
        if part.startswith("data: "):
            data = part.removeprefix("data: ")
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


def outcomes(receipt: dict[str, Any]) -> list[tuple[str, str, int | None]]:
    """Return (route, outcome, status) of every try that a receipt lists."""
    return [(tried["route"], tried["outcome"], tried["status"]) for tried in receipt["attempts"]]
