"""How the workers of one gateway ask each other: a socket each, in a directory of their own.

A kept answer is asked of the worker that the ledger names; the health of the routes, of each. Whoever
can enter the directory may ask, so it is open to nobody but the gateway's own processes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from flatfee.server.health import RouteHealth
from flatfee.server.kept import KEEP_BYTES, KeptAnswer
from flatfee.server.worker import Worker

log = logging.getLogger("flatfee.server")

_SECONDS: Final = 5.0
_MOST: Final = KEEP_BYTES + (1 << 20)
_LONGEST_ID: Final = 64

_T = TypeVar("_T")

HEALTH: Final = "health"
"""The question for the health of the routes; any other is the id of a request."""

RoutesHealth = Mapping[str, RouteHealth]
"""Route → its health, as one worker knows it."""


class Held(msgspec.Struct, frozen=True):
    """What a worker knows of a request: its answer, or that it still runs."""

    running: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None
    streamed: bool = False

    @classmethod
    def of(cls, answer: KeptAnswer | None, *, running: bool) -> Held:
        """Return what is known; nothing at all without an answer."""
        if answer is None:
            return cls(running=running)
        return cls(running=running, headers=answer.headers, body=answer.body, streamed=answer.streamed)

    @property
    def answer(self) -> KeptAnswer | None:
        """The kept answer, if there is one."""
        return KeptAnswer(self.headers, self.body, self.streamed) if self.body is not None else None


NOTHING: Final = Held()
_held: Final = msgspec.msgpack.Decoder(Held)
_health: Final = msgspec.msgpack.Decoder(dict[str, RouteHealth])
Look = Callable[[str], Held | RoutesHealth]


@asynccontextmanager
async def answering_peers(worker: Worker, look: Look) -> AsyncGenerator[None]:
    """Answer the other workers while the block lasts; alone, there is nobody to answer."""
    if worker.meeting is None:
        yield
        return

    answering: set[asyncio.Task[Any]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        answering.add(task)
        task.add_done_callback(answering.discard)
        try:
            async with asyncio.timeout(_SECONDS):
                asked = await reader.readuntil(b"\n")
                writer.write(msgspec.msgpack.encode(look(asked.strip().decode("ascii"))))
                await writer.drain()
        except (TimeoutError, OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            log.warning("peer.unanswered", extra={"error": type(error).__name__})
        finally:
            await _closed(writer)

    path = _path(worker.meeting, str(worker.number))
    path.unlink(missing_ok=True)  # left behind by the worker that this one replaces
    async with AsyncExitStack() as ends:
        ends.push_async_callback(_ended, answering)
        try:
            server = await asyncio.start_unix_server(answer, path, limit=_LONGEST_ID)
        except OSError as error:
            # Without it the gateway serves all the same: a repeat that meets another worker gets no answer again.
            log.warning("peers.closed", extra={"error": str(error), "cure": "set TMPDIR to a directory of short name"})
        else:
            ends.callback(path.unlink, missing_ok=True)  # the last to leave removes a meeting place that is empty
            await ends.enter_async_context(server)
        yield


async def _ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=_SECONDS)


async def ask_peer(worker: Worker, holder: str, request_id: str) -> Held:
    """Ask the worker that keeps a request's answer; nothing if it is gone or does not say."""
    return await _ask(worker, holder, request_id, _held) or NOTHING


async def ask_health(worker: Worker, number: int) -> RoutesHealth | None:
    """Ask another worker for the health of the routes; ``None`` if it is gone or does not say."""
    return await _ask(worker, str(number), HEALTH, _health)


async def _ask(worker: Worker, other: str, question: str, decoder: msgspec.msgpack.Decoder[_T]) -> _T | None:
    if worker.meeting is None or not other.isdecimal() or len(question) > _LONGEST_ID - 1:
        return None
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_unix_connection(_path(worker.meeting, other))
            try:
                writer.write(question.encode("ascii") + b"\n")
                return decoder.decode(await _read(reader))
            finally:
                await _closed(writer)
    except (TimeoutError, OSError, ValueError, RecursionError, msgspec.DecodeError) as error:
        log.warning("peer.silent", extra={"worker": other, "error": type(error).__name__})
        return None


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := await reader.read(1 << 16):
        parts.append(part)
        size += len(part)
        if size > _MOST:
            raise ValueError("a peer sent more than it ever has to say")
    return b"".join(parts)


def _path(meeting: Path, number: str) -> Path:
    return meeting / f"{number}.answers"
