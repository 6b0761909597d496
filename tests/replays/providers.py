"""Providers of the proof: one that has good and bad hours, and one that does again what it did. Fakes.

The second one is the world that a replay assumes: what a route did to a request it does again, and a route that was
not asked answers as the one did that answered.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from tests.replays.traffic import SHY, Asking

from flatfee.server.estimating import BYTES_PER_TOKEN
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.replaying.guessing import Guess
from flatfee.server.replaying.past import Ending, Past, Try
from flatfee.server.settings import RouteSettings
from flatfee.wire import AttemptOutcome

CALL: ContextVar[Call] = ContextVar("CALL")
"""The request that a task serves."""

GUESS: Final = Guess(output_tokens=300, seconds=3.0)
"""What is answered to a request that nobody answered in the past, in the gateway's world and in the replay's."""


_ROUNDED_OFF: Final = 0.001
"""What a receipt leaves out of a length that ends ``SHY`` of a whole millisecond."""


async def wait(seconds: float) -> None:
    """Wait, and end before whoever comes in the same millisecond: a receipt does not tell which of them was first."""
    await asyncio.sleep(seconds - SHY)


@dataclass(slots=True)
class Call:
    """A request on its way: what is asked, and its caller, who is gone once ``gone`` is set."""

    asking: Asking
    request_id: str
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    tries: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outage:
    """What a route does from one moment to another, by the wall clock, instead of answering."""

    route: str
    start: float
    end: float
    what: str


class Answer:
    """An ``Upstream`` that waits, and says what it has."""

    def __init__(self, status: int, parts: Sequence[bytes | float], headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers or {"content-type": "application/json"}
        self._parts = parts

    async def read(self) -> bytes:
        return b"".join([part async for part in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            else:
                await wait(part)


class Hourly:
    """Answers, but for its ``outages``."""

    def __init__(self, wall: Callable[[], float], outages: Sequence[Outage]) -> None:
        self._wall = wall
        self._outages = outages

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[Answer, None]:
        call = CALL.get()
        now = self._wall()
        struck = next(
            (each for each in self._outages if each.route == route.name and each.start <= now < each.end), None
        )
        if struck is not None:
            yield await _fail(struck.what)
        elif call.asking.declined:
            await wait(0.030)
            yield _error(400, "invalid_function_parameters")
        else:
            yield answered(call.asking.told, call.asking.takes, stream=stream)

    async def close(self) -> None:
        return


async def _fail(what: str) -> Answer:
    match what:
        case "refused connection":
            await wait(0.004)
            raise ProviderFailure(AttemptOutcome.UNAVAILABLE, "refused")
        case "silence":
            await wait(20.0)
            raise ProviderFailure(AttemptOutcome.TIMEOUT, "silent")
        case "too large":
            await wait(0.040)
            return _error(400, "context_length_exceeded")
        case "quota":
            await wait(0.015)
            return _error(429, "insufficient_quota")
        case _:
            await wait(0.060)
            return _error(int(what), None)


def _error(status: int, code: str | None) -> Answer:
    return Answer(status, [json.dumps({"error": {"message": "no", "type": "error", "code": code}}).encode()])


def answered(told: tuple[int, int, int] | None, takes: float, *, stream: bool, text: str = "ok") -> Answer:
    """Return a whole answer that takes so many seconds; a stream says its first token half-way."""
    usage: dict[str, Any] = {}
    if told is not None:
        prompt, completion, cached = told
        usage["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
    if not stream:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return Answer(200, [takes, json.dumps({"id": "c", "choices": [choice], **usage}).encode()])
    half = int(takes * 500) / 1000
    first = _event({"choices": [{"index": 0, "delta": {"content": text}}]})
    last = _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    told_last = _event({"choices": [], **usage}) if usage else b""
    return Answer(200, [half, first, takes - half, last + told_last + b"data: [DONE]\n\n"])


def _event(payload: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps({"id": "c", **payload}).encode() + b"\n\n"


class Again:
    """Does what the receipts of the past say was done to each request."""

    def __init__(self, pasts: Mapping[str, Past]) -> None:
        self._pasts = pasts

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[Answer, None]:
        call = CALL.get()
        past = self._pasts[call.request_id]
        nth = call.tries[route.name] = call.tries.get(route.name, -1) + 1
        known = past.failures.get(route.name, ())
        if nth < len(known) or (known and past.last.route != route.name):
            yield await _fail_again(known[min(nth, len(known) - 1)])
        elif past.ending is Ending.DECLINED:
            await wait(past.last.seconds + _ROUNDED_OFF)
            yield _error(400, "invalid_function_parameters")
        elif past.ending is Ending.LEFT:
            yield _left(call, past, route, stream=stream)
        elif past.ending is Ending.ANSWERED:
            yield self._answer(past, route, stream=stream)
        elif known:
            yield await _fail_again(known[-1])
        else:
            told = (route.tokens(past.asked.prompt_tokens), GUESS.output_tokens, 0)
            yield answered(told, GUESS.seconds, stream=stream)

    def _answer(self, past: Past, route: RouteSettings, *, stream: bool) -> Answer:
        usage = past.line.usage
        assert usage is not None
        told = (usage.prompt_tokens or 0, usage.completion_tokens or 0, usage.cached_tokens or 0)
        text = _text(told[1], route) if not past.told else "ok"
        return answered(told if past.told else None, past.last.seconds + _ROUNDED_OFF, stream=stream, text=text)

    async def close(self) -> None:
        return


class _Leaving(Answer):
    """What a caller got before it left, and its leaving."""

    def __init__(self, call: Call, parts: Sequence[bytes | float]) -> None:
        super().__init__(200, parts)
        self._call = call

    async def chunks(self) -> AsyncIterator[bytes]:
        async for part in super().chunks():
            yield part
        self._call.gone.set()
        await asyncio.Event().wait()


def _text(tokens: int, route: RouteSettings) -> str:
    """Return a text that is estimated at so many tokens of a route's."""
    return "x" * (BYTES_PER_TOKEN * round(tokens / route.token_factor))


def _left(call: Call, past: Past, route: RouteSettings, *, stream: bool) -> Answer:
    usage = past.line.usage
    heard = (usage.completion_tokens or 0) if usage is not None else 0
    delta = {"content": _text(heard, route)}
    said = [_event({"choices": [{"index": 0, "delta": delta}]})] if stream and heard else []
    return _Leaving(call, [*said, past.last.seconds + _ROUNDED_OFF])


async def _fail_again(each: Try) -> Answer:
    await wait(each.seconds + _ROUNDED_OFF)
    match each.outcome:
        case AttemptOutcome.TIMEOUT | AttemptOutcome.UNAVAILABLE:
            raise ProviderFailure(each.outcome, "again")
        case AttemptOutcome.CONTEXT_OVERFLOW:
            return _error(400, "context_length_exceeded")
        case AttemptOutcome.RATE_LIMITED:
            return _error(429, "insufficient_quota")
        case _:
            return _error(each.status or 500, None)
