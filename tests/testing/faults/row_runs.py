"""Runs rows of the failure table on scripted gateways, and returns what a client heard. No judgement."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import openai
from tests.faults.scenario import FIRST, OTHER
from tests.faults.speech import OTHERWISE, TEXT
from tests.faults.table import Company, Row
from tests.testing.faults.played_rows import LARGE, PLAYED

import flatfee
from flatfee.receipt import Receipt
from flatfee.testing import Asked, Fault, ScriptedGateway, running_gateway

_QUESTION: Final = {"model": "premium", "messages": [{"role": "user", "content": "Say the sentence."}]}
_OFTEN: Final = 1000


@dataclass(slots=True)
class Heard:
    """What a client heard. ``error`` is the exception; ``receipt`` that of the answer or of the exception."""

    texts: dict[int, str] = field(default_factory=dict)
    finishes: dict[int, str | None] = field(default_factory=dict)
    receipt: Receipt | None = None
    error: Exception | None = None

    def take(self, part: Any) -> None:
        """Take a completion, or an event of one."""
        self.receipt = Receipt.of(part) or self.receipt
        for choice in part.choices:
            said = getattr(choice, "message", None) or choice.delta
            self.texts[choice.index] = self.texts.get(choice.index, "") + (said.content or "")
            if choice.finish_reason:
                self.finishes[choice.index] = choice.finish_reason


Caller = Callable[[Mapping[str, Any]], Heard]


def blocking(client: flatfee.Client | openai.OpenAI) -> Caller:
    """Ask with a client that blocks."""

    def ask(body: Mapping[str, Any]) -> Heard:
        heard = Heard()
        try:
            answer: Any = client.chat.completions.create(**body)
            for part in answer if body["stream"] else [answer]:
                heard.take(part)
        except (flatfee.APIError, openai.APIError) as error:
            heard.error, heard.receipt = error, Receipt.of(error)
        return heard

    return ask


def awaiting(client: flatfee.AsyncClient, runner: asyncio.Runner) -> Caller:
    """Ask with a client of coroutines."""

    async def asked(body: Mapping[str, Any]) -> Heard:
        heard = Heard()
        try:
            answer: Any = await client.chat.completions.create(**body)
            if not body["stream"]:
                heard.take(answer)
                return heard
            async for part in answer:
                heard.take(part)
        except flatfee.APIError as error:
            heard.error, heard.receipt = error, error.receipt
        return heard

    return lambda body: runner.run(asked(body))


@dataclass(frozen=True, slots=True)
class Place:
    """A gateway, and who asks it."""

    gateway: ScriptedGateway
    callers: tuple[Caller, ...]


Places = Mapping[Company, Place]


@contextmanager
def all_places() -> Generator[Places, None, None]:
    """Run a gateway for each company that a failing route may have."""
    first = {"name": FIRST, "tier": "premium", "priority": 1, "total_timeout": 300.0}
    other = {"name": OTHER, "tier": "premium", "priority": 2}
    with ExitStack() as ends:
        runner = ends.enter_context(asyncio.Runner())

        def place(*routes: Mapping[str, Any]) -> Place:
            gateway = ends.enter_context(running_gateway(routes=routes, fair_use=1 << 50, concurrent_workflows=1000))
            to: dict[str, Any] = {"api_key": gateway.api_key, "base_url": gateway.base_url, "max_retries": 0}
            ours, theirs = flatfee.Client(**to), openai.OpenAI(**to)
            waiting = flatfee.AsyncClient(**to)
            ends.enter_context(ours)
            ends.enter_context(theirs)
            ends.callback(lambda: runner.run(waiting.close()))
            return Place(gateway, (blocking(ours), awaiting(waiting, runner), blocking(theirs)))

        beside = place(first, other)
        yield {
            Company.ALONE: place(first),
            Company.HEALTHY: beside,
            Company.OTHERWISE: beside,
            Company.PREFILL: place(first, {**other, "prefill": True}),
        }


def fault_of(row: Row, shape: str) -> Fault:
    """Return what stands for a row."""
    return PLAYED.get(f"{row.name}-{shape}") or PLAYED[row.name]


def texts_of(row: Row) -> list[str]:
    """Return what each choice of a whole answer says."""
    if row.name == "event-of-10-mb":
        return ["x" * LARGE]
    return [text + "🚀" if row.name == "half-characters" else text for text in row.texts]


def ask(row: Row, company: Company, shape: str, place: Place, caller: int | None = None) -> Heard:
    """Run a row on a gateway that is as new; callers take turns, unless one is chosen."""
    gateway = place.gateway
    gateway.reset()
    gateway.script(fault_of(row, shape), times=row.times or _OFTEN, route=FIRST)
    said = OTHERWISE if company is Company.OTHERWISE else texts_of(row)[0]
    gateway.script(_going_on if company is Company.PREFILL else said)
    turn = caller if caller is not None else zlib.crc32(f"{row.key}{company}{shape}".encode()) % len(place.callers)
    return place.callers[turn]({**_QUESTION, **row.body, "stream": shape == "stream"})


def _going_on(asked: Asked) -> str:
    """Answer with what is still to be said: the last message is what the caller has."""
    last = json.loads(asked.upstream)["messages"][-1]
    return TEXT.removeprefix(last["content"]) if last["role"] == "assistant" else TEXT
