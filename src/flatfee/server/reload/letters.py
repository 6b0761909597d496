"""Questions and answers between a gateway's first process and a worker, over a socket pair of theirs.

Both sides may ask at any time; answers find their questions by number. A letter is pickled, as are the settings
that a worker is started with: nobody but the two processes has an end of the pair. What a letter means is
in ``crew``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from flatfee.server.reload.changes import NotReloaded
from flatfee.wire import ErrorCode

log = logging.getLogger("flatfee.server")

MOST: Final = 1 << 28
"""Bytes of one letter: far more than any configuration."""

_SIZE: Final = 8

Answer = Callable[[Any], Awaitable[Any]]
"""What is answered to a question; ``NotReloaded`` travels back, and is raised where it was asked."""


class Gone(Exception):
    """The other side has ended, or did before it answered."""


class Post:
    """One end of the pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._numbers = itertools.count()
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._gone = False

    async def ask(self, question: object) -> Any:
        """Return the answer.

        Raises:
            Gone: nobody is there to answer.
            NotReloaded: that was the answer.
        """
        if self._gone:
            raise Gone
        number = next(self._numbers)
        answer = self._open[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send(number, question, asked=True)
            return await answer
        finally:
            del self._open[number]

    async def listen(self) -> None:
        """Take what comes until the other side has ended."""
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(_SIZE), "big")
                if size > MOST:
                    break
                self._take(*pickle.loads(await self._reader.readexactly(size)))  # noqa: S301 - ours, see above
        except (EOFError, OSError):
            pass
        finally:
            self._gone = True
            self._writer.close()
            for answer in self._open.values():
                if not answer.done():
                    answer.set_exception(Gone())

    def _take(self, number: int, content: Any, asked: bool) -> None:
        if asked:
            task = asyncio.create_task(self._reply(number, content))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif (answer := self._open.get(number)) is not None and not answer.done():
            if isinstance(content, NotReloaded):
                answer.set_exception(content)
            else:
                answer.set_result(content)

    async def _reply(self, number: int, question: Any) -> None:
        try:
            content = await self._answer(question)
        except NotReloaded as refused:
            content = refused
        except Exception as error:  # noqa: BLE001 - who asked is not to wait for ever
            log.error("letter.unanswered", extra={"error": type(error).__name__})  # noqa: TRY400 - it may quote
            content = NotReloaded(ErrorCode.GATEWAY_OVERLOADED, [f"It failed with {type(error).__name__}."])
        with suppress(Gone):
            await self._send(number, content, asked=False)

    async def _send(self, number: int, content: object, *, asked: bool) -> None:
        letter = pickle.dumps((number, content, asked))
        try:
            self._writer.write(len(letter).to_bytes(_SIZE, "big") + letter)
            await self._writer.drain()
        except OSError as error:
            raise Gone from error


@asynccontextmanager
async def post_office(pair: socket.socket, answer: Answer) -> AsyncGenerator[Post]:
    """Yield one end of a pair, and listen at it; both are closed at the end."""
    reader, writer = await asyncio.open_connection(sock=pair)
    post = Post(reader, writer, answer)
    listening = asyncio.create_task(post.listen())
    try:
        yield post
    finally:
        listening.cancel()
        writer.close()
        await asyncio.wait([listening])
        with suppress(OSError):
            await writer.wait_closed()
