"""Requests that come to a scripted gateway in this process, and their answers' messages. No HTTP library here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from flatfee.server.call import Message, Scope
from flatfee.testing.faults.between import BREAK
from flatfee.testing.running.bridge import Pipe
from flatfee.testing.running.front import Front
from flatfee.testing.running.loop import LoopThread

END: Final[Message] = {"type": "flatfee.end"}
_GONE: Final[Message] = {"type": "http.disconnect"}


class Visit:
    """One request on the gateway's event loop; ``pipe`` brings its answer's messages to who asked."""

    def __init__(self, front: Front, loop: asyncio.AbstractEventLoop, scope: Scope, body: bytes) -> None:
        self.pipe: Pipe[Message] = Pipe(loop)
        self._front = front
        self._scope = scope
        self._body: bytes | None = body
        self._left = asyncio.Event()

    async def serve(self) -> None:
        """Serve the request. Whoever lets it run says ``END`` after it."""
        try:
            self._scope[BREAK] = self._left.set
            await self._front(self._scope, self._receive, self._send)
        except OSError as error:
            self.pipe.pass_on({**END, "error": error})
        finally:
            self._left.set()

    def leave(self) -> None:
        """Go before the answer is whole. From any thread."""
        self.pipe.close(self._left.set)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return _GONE

    async def _send(self, message: Message) -> None:
        await self.pipe.put(message, len(message.get("body", b"")))
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._left.set()


@dataclass(frozen=True, slots=True)
class MemoryServer:
    """Serves requests that come in this process. ``visits`` are those that run."""

    front: Front
    thread: LoopThread
    visits: set[asyncio.Task[None]]

    def begin(self, scope: Scope, body: bytes) -> Visit:
        """Begin to serve a request. From any thread but the gateway's.

        Raises:
            RuntimeError: the gateway has ended, or is down.
        """
        if self.front.is_down:
            raise RuntimeError("The gateway is down.")
        visit = Visit(self.front, self.thread.loop, scope, body)
        self.thread.begin(self._serve(visit))
        return visit

    async def _serve(self, visit: Visit) -> None:
        task = asyncio.create_task(visit.serve())
        self.visits.add(task)
        task.add_done_callback(self.visits.discard)
        task.add_done_callback(lambda _: visit.pipe.pass_on(END))  # and if it was cancelled before it began
        if self.front.is_down:
            task.cancel()

    async def close(self) -> None:
        """Cut off whoever is being served."""
        for task in (tasks := list(self.visits)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
