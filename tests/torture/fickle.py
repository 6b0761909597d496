"""What fails under the gateway: a store that loses work or its acknowledgement, a provider of many moods.

Both obey the protocols of the gateway, so that it runs unchanged over them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

from tests.server.fakes import DONE, completion, delta, event, refusal, usage_event
from tests.torture.ledgers import InlineSqliteStore
from tests.torture.witness import Witness
from tests.torture.world import Crashed, Process, World

from flatfee.server.providers.base import ProviderFailure
from flatfee.server.settings import RouteSettings
from flatfee.server.store.base import StoreDown
from flatfee.server.store.memory import MemoryStore
from flatfee.wire import AttemptOutcome

Kept = MemoryStore | InlineSqliteStore

_READS: Final = frozenset({"find_key", "last_route", "receipt", "receipts", "usage", "workflows"})
_REPEATABLE: Final = frozenset({"settle", "heartbeat", "sweep", "release", "record", "provision"})
"""What a driver that lost its connection may do again: twice is the same as once."""


def _once_more(name: str, arguments: Sequence[Any]) -> Sequence[Any]:
    """Return with what an operation is repeated: a second settlement may even have other figures."""
    if name != "settle":
        return arguments
    ticket, outcome = arguments
    return ticket, replace(outcome, charged=outcome.charged // 2 + 1)


class FickleStore:
    """One process's handle on the store: every operation of it, with faults before and after.

    In some runs work that was begun is done even if nobody waits for it any more, as by a writer's
    queue; in others whoever is cancelled takes it along, as a statement on a connection.
    """

    def __init__(self, world: World, process: Process, store: Kept, witness: Witness) -> None:
        self._world = world
        self._process = process
        self._store = store
        self._witness = witness

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        operation = getattr(self._store, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            if name == "reserve":
                self._world.wants(arguments[0].request_id)
            work = self._apply(name, partial(operation, **named), arguments)
            return await (asyncio.shield(asyncio.ensure_future(work)) if self._world.mood.queued else work)

        return call

    async def _apply(self, name: str, operation: Callable[..., Awaitable[Any]], arguments: Sequence[Any]) -> Any:
        world, process = self._world, self._process
        await world.pause(process, f"before {name}")
        if world.strikes(world.mood.down):
            world.note("store down before", name)
            raise StoreDown("it cannot be reached")
        result = await self._see(name, operation, arguments)
        if name in _REPEATABLE and world.strikes(world.mood.again):
            world.note("once more:", name)
            await self._see(name, operation, _once_more(name, arguments))
        await world.pause(process, f"after {name}")
        if world.strikes(world.mood.down):
            world.note("acknowledgement lost of", name)
            raise StoreDown("it cannot be reached any more")
        return result

    async def _see(self, name: str, operation: Callable[..., Awaitable[Any]], arguments: Sequence[Any]) -> Any:
        result = await operation(*arguments)
        self._witness.saw(name, arguments, result)
        if name not in _READS:
            self._witness.look(self._store)
        return result

    def now(self) -> float:
        if not self._process.alive:
            raise Crashed
        return self._store.now()

    async def close(self) -> None:
        if self._process.alive:
            await self._store.close()


_STATUSES: Final[Sequence[tuple[int, str | None, Mapping[str, str]]]] = (
    (500, None, {}),
    (503, None, {"retry-after": "2"}),
    (429, None, {"retry-after": "1"}),
    (429, None, {"retry-after": "90"}),
    (408, None, {}),
    (401, None, {}),
    (400, "content_policy_violation", {}),
    (400, "context_length_exceeded", {}),
)


class FickleProvider:
    """A provider that answers, fails, stalls, breaks off, or says nothing of usage, by chance."""

    def __init__(self, world: World, process: Process, witness: Witness) -> None:
        self._world = world
        self._process = process
        self._witness = witness

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[FickleAnswer, None]:
        world = self._world
        self._witness.sent(world.request())
        await world.pause(self._process, "provider asked")
        kind = "whole"
        if world.strikes(world.mood.provider):
            kind = world.rng.choice(("unreachable", "broken", "silent", "status", "midway", "midway", "midway"))
        world.note(world.request(), route.name, "provider is", kind)
        if kind == "unreachable":
            raise ProviderFailure(AttemptOutcome.UNAVAILABLE, "cannot be reached")
        if kind == "broken":
            raise ProviderFailure(AttemptOutcome.ERROR, "broke off")
        if kind == "silent":
            await asyncio.Event().wait()
        if kind == "status":
            status, code, headers = world.rng.choice(_STATUSES)
            yield FickleAnswer(self._world, self._process, [refusal(code)], status, headers)
            return
        usage = world.rng.randint(1, 60), world.rng.choice((1, 10, 40, 60, 200))
        pieces = self._stream(json.loads(body), usage) if stream else self._plain(usage)
        if kind == "midway":
            world.rng.choice(
                (self._cut, self._stop, self._silence, self._say_error, self._garble, self._tell_no_usage)
            )(pieces)
        self._witness.told(world.request(), usage)
        yield FickleAnswer(self._world, self._process, pieces)

    def _plain(self, usage: tuple[int, int]) -> list[bytes | Exception | None]:
        return [completion("four score and seven", usage)]

    def _stream(self, body: Mapping[str, Any], usage: tuple[int, int]) -> list[bytes | Exception | None]:
        words: list[bytes | Exception | None] = [delta("word ") for _ in range(self._world.rng.randint(1, 5))]
        return [*words, delta(finish="stop"), usage_event(*usage), DONE]

    def _at(self, pieces: list[bytes | Exception | None]) -> int:
        return self._world.rng.randrange(len(pieces) + 1)

    def _cut(self, pieces: list[bytes | Exception | None]) -> None:
        pieces.insert(self._at(pieces), ProviderFailure(AttemptOutcome.ERROR, "broke off"))

    def _stop(self, pieces: list[bytes | Exception | None]) -> None:
        del pieces[self._world.rng.randrange(len(pieces)) :]

    def _silence(self, pieces: list[bytes | Exception | None]) -> None:
        pieces.insert(self._at(pieces), None)

    def _say_error(self, pieces: list[bytes | Exception | None]) -> None:
        pieces.insert(self._at(pieces), event({"error": {"message": "no"}}))

    def _garble(self, pieces: list[bytes | Exception | None]) -> None:
        for _ in range(self._world.rng.randint(1, 5)):
            pieces.insert(self._at(pieces), b"data: {broken\n\n")

    def _tell_no_usage(self, pieces: list[bytes | Exception | None]) -> None:
        pieces[:] = [completion("four score", None)] if len(pieces) == 1 else [*pieces[:-2], DONE]

    async def close(self) -> None:
        return


class FickleAnswer:
    """An ``Upstream``: bytes are sent, an exception is raised, ``None`` is silence for ever."""

    def __init__(
        self,
        world: World,
        process: Process,
        pieces: Sequence[bytes | Exception | None],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._world = world
        self._process = process
        self._pieces = pieces
        self.status = status
        self.headers = headers or {}

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await self._world.pause(self._process, "provider speaks")
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                await asyncio.Event().wait()
            else:
                yield piece
