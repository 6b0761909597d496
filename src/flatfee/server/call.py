"""ASGI in and out: one request's headers, bounded body, response and disconnect. No rules of ours."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from itertools import chain
from types import TracebackType
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from flatfee.receipt import Receipt
from flatfee.server.begun import Begun
from flatfee.server.faults import CallerGone, Fault, answer
from flatfee.server.kept import KeptAnswer
from flatfee.wire import WORKFLOW_ID, ErrorCode, Header, ReceiptState

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

WhenGone = Callable[[Callable[[], object]], bool]
"""Takes what is to be called once the caller has left; ``False``: it has left already."""

BODY_SECONDS: Final = 60.0
"""A caller gets this long for its whole body, and for the rest of one that was answered already."""

WATCH_AFTER_SECONDS: Final = 0.05
"""Requests shorter than this are not watched for a disconnect: the watch costs more than it saves."""

WHEN_GONE: Final = "flatfee.when_gone"
"""The ASGI extension by which our own server tells at once that the caller has left: a ``WhenGone``."""

_REQUEST_ID: Final = Header.REQUEST_ID.encode()
_X_REQUEST_ID: Final = Header.X_REQUEST_ID.encode()
_MAX_PARAMETERS: Final = 20
_MAX_DIGITS: Final = 15


class _Names(dict[str, bytes]):
    """Names of headers as bytes: they are few, and told with every answer."""

    def __missing__(self, name: str) -> bytes:
        spelled = self[name] = name.encode()
        return spelled


_NAMES: Final = _Names()


class Call:
    """One HTTP request and its response.

    Header names are lower-case bytes; ``arrived`` is in seconds since the epoch. ``tell`` collects
    response headers as they become known, so that an error carries all that was known before it;
    ``receipt`` is what it says, once there is one. ``started`` and ``over`` tell of the response.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str, arrived: float) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.http_version: str = scope["http_version"]
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.request_id = request_id
        self.receipt: Receipt | None = None
        self.started = False
        self.over = False
        self._arrived = arrived
        self._scope = scope
        self._receive = receive
        self._send = send
        self._copy: _Copy | None = None
        known = request_id.encode()
        self._told: dict[bytes, bytes] = {_REQUEST_ID: known, _X_REQUEST_ID: known}

    @property
    def query(self) -> dict[str, str]:
        """The query string's parameters; the last of a name counts.

        Raises:
            Fault: there are too many.
        """
        try:
            return dict(parse_qsl(self._scope["query_string"].decode("latin-1"), max_num_fields=_MAX_PARAMETERS))
        except ValueError as error:
            raise Fault(
                ErrorCode.INVALID_REQUEST, f"The query has more than {_MAX_PARAMETERS} parameters; send fewer."
            ) from error

    def refusal(self) -> Receipt:
        """Return the receipt of a request that was refused before anything else was known of it."""
        facts: dict[str, object] = {
            "request_id": self.request_id,
            "state": ReceiptState.REFUSED,
            "created_at": int(self._arrived),
        }
        workflow = self.headers.get(Header.WORKFLOW.encode(), b"").decode("latin-1")
        if WORKFLOW_ID.fullmatch(workflow):
            facts["workflow"] = {"id": workflow}
        return Receipt.model_validate(facts)

    def header_bytes(self) -> int:
        """Return the size of all request headers."""
        headers = self._scope["headers"]
        return sum(map(len, chain.from_iterable(headers))) + 4 * len(headers)

    def sent_twice(self, names: Collection[bytes]) -> str | None:
        """Return one of ``names`` that was sent more than once as a request header, or ``None``."""
        if len(self.headers) == len(self._scope["headers"]):
            return None
        counts = Counter(name for name, _ in self._scope["headers"])
        return next((name.decode("latin-1") for name in names if counts[name] > 1), None)

    async def body(self, most: int) -> bytes:
        """Read the whole body.

        Raises:
            Fault: it is larger than ``most`` bytes, encoded, or does not arrive in time.
            CallerGone: the caller left before it was whole.
        """
        encoding = self.headers.get(b"content-encoding", b"identity")
        if encoding != b"identity":
            raise Fault(ErrorCode.UNSUPPORTED_ENCODING, "Send the body without Content-Encoding.")
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > _MAX_DIGITS or int(length) > most):
            raise too_large(most)
        begun = Begun(self._whole_body(most))
        if begun.over:  # it was there already, as nearly all are: a time limit would cost more than all else here
            return begun.value
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await begun
        except TimeoutError as error:
            raise Fault(
                ErrorCode.INVALID_REQUEST, f"The body did not arrive within {BODY_SECONDS:.0f} seconds."
            ) from error

    async def _whole_body(self, most: int) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self._message()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > most:
                raise too_large(most)
        return b"".join(parts)

    async def _message(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        return message

    def tell(self, headers: Mapping[str, str]) -> None:
        """Add response headers; a later value replaces an earlier one."""
        told, names = self._told, _NAMES
        for name, value in headers.items():
            told[names[name]] = value.encode() if value.isascii() else value.encode("latin-1", errors="replace")

    def copy_what_is_sent(self, most_streamed: int) -> None:
        """Keep a copy of the response that follows; of a stream, only if it is no longer than that."""
        self._copy = _Copy(most_streamed)

    def sent(self) -> KeptAnswer | None:
        """Return the copy of a whole response with status 200; ``None`` if there is none."""
        return self._copy.answer() if self._copy is not None else None

    async def repeat(self, answer: KeptAnswer) -> None:
        """Send a response that was sent before, under the request id that it had."""
        mine = {name: value for name, value in self._told.items() if name not in {_REQUEST_ID, _X_REQUEST_ID}}
        self._told = dict(answer.headers) | mine
        self.tell({Header.REPLAYED: "true"})
        await self._start(200)
        await self.finish(answer.body)

    async def respond(self, status: int, body: bytes, content_type: bytes = b"application/json") -> None:
        """Send a whole response."""
        self._told[b"content-type"] = content_type
        self._told[b"content-length"] = b"%d" % len(body)
        await self._start(status)
        self.over = True
        await self._put({"type": "http.response.body", "body": body})

    async def start_stream(self) -> None:
        """Begin a response of server-sent events."""
        self._told[b"content-type"] = b"text/event-stream; charset=utf-8"
        self._told[b"cache-control"] = b"no-store"
        self._told[b"x-accel-buffering"] = b"no"
        await self._start(200)

    async def write(self, data: bytes) -> None:
        """Send a part of a stream; waits while the caller reads slowly."""
        await self._put({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """Send the last part of a stream."""
        self.over = True
        await self._put({"type": "http.response.body", "body": data, "more_body": False})

    async def fail(self, error: Exception) -> None:
        """Send an error: as the response, or in mid-stream as an event, and then the end without ``[DONE]``."""
        told = answer(error, self.receipt or self.refusal())
        body = msgspec.json.encode(told.envelope)
        if self.started:
            await self.finish(b"data: " + body + b"\n\n")
            return
        self.tell(told.headers)
        await self.respond(told.status, body)

    async def _start(self, status: int) -> None:
        await self._put({"type": "http.response.start", "status": status, "headers": list(self._told.items())})
        self.started = True  # not before: who waits for an earlier answer to be taken can be cancelled

    async def _put(self, message: Message) -> None:
        if self._copy is not None:
            self._copy.take(message)  # first: an answer that is not taken is an answer all the same
        try:
            await self._send(message)
        except OSError as error:  # what ASGI lets a server raise once the caller has left
            raise CallerGone from error

    def until_gone(self) -> AbstractAsyncContextManager[None]:
        """Cancel the block when the caller disconnects, and raise ``CallerGone`` from it.

        The body must have been read: from then on the caller can only send its goodbye.
        """
        return _Watch(self._receive, self._scope.get("extensions", {}).get(WHEN_GONE))


class _Copy:
    """A copy of a response as it is sent."""

    def __init__(self, most_streamed: int) -> None:
        self._most = most_streamed
        self._status = 0
        self._headers: tuple[tuple[bytes, bytes], ...] = ()
        self._parts: list[bytes] = []
        self._size = 0
        self._streamed = False
        self._whole = False

    def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], tuple(message["headers"])
            self._streamed = b"content-length" not in dict(self._headers)
            return
        more = message.get("more_body", False)
        self._size += len(message["body"])
        if not self._streamed or self._size <= self._most:
            self._parts.append(message["body"])
        else:
            self._parts.clear()
        self._whole = not more

    def answer(self) -> KeptAnswer | None:
        if self._status != 200 or not self._whole or (self._streamed and self._size > self._most):
            return None
        return KeptAnswer(self._headers, b"".join(self._parts), self._streamed)


class _Watch(AbstractAsyncContextManager[None]):
    """Cancels its block once the caller has left: as the server tells, or else by waiting for it."""

    __slots__ = ("_gone", "_over", "_receive", "_task", "_timer", "_watching", "_when_gone")

    def __init__(self, receive: Receive, when_gone: WhenGone | None) -> None:
        self._receive = receive
        self._when_gone = when_gone
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None
        self._over = False
        self._gone = False

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        if self._when_gone is not None:
            if not self._when_gone(self._leave):
                raise CallerGone
        else:
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, self._start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        if self._gone and self._task is not None and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise CallerGone from None

    def _start(self) -> None:
        self._watching = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._leave()

    def _leave(self) -> None:
        if not self._over and self._task is not None:
            self._gone = True
            self._task.cancel()


def too_large(most: int) -> Fault:
    """Return the fault of a body of more bytes than the most that are taken."""
    return Fault(ErrorCode.REQUEST_TOO_LARGE, f"The body is larger than {most} bytes; send less.")
