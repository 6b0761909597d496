"""Anthropic's Messages API as a provider: the one module here that sends anything.

Its answers are those of chat completions by the time anybody else sees them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from flatfee.server.answers.members import UnusableAnswer
from flatfee.server.answers.reshape import MAX_LINES, shape_of
from flatfee.server.answers.sse import BOM
from flatfee.server.providers.anthropic.answer import as_completion
from flatfee.server.providers.anthropic.errors import Untranslatable, read_trouble
from flatfee.server.providers.anthropic.events import StreamTranslator
from flatfee.server.providers.anthropic.request import MessagesRequest, read_request
from flatfee.server.providers.base import ProviderFailure, Upstream, read_error
from flatfee.server.providers.http import HttpAnswer, HttpConnection, key_headers, whole
from flatfee.server.settings import ProviderSettings, RouteSettings
from flatfee.wire import AttemptOutcome

VERSION: Final = "2023-06-01"
"""The newest that still takes a temperature, for the models that do
(https://platform.claude.com/docs/en/api/migration-2026-10-21)."""

LARGE: Final = 262_144
"""A body of more bytes than this is translated in a thread: a long conversation, or an image, takes a while."""

_T = TypeVar("_T")

_KEPT_HEADERS: Final = frozenset({"retry-after", "retry-after-ms", "date"})


class AnthropicProvider:
    """``base_url``, with or without its ``/v1``, and a key. ``clock`` is in seconds since the epoch."""

    def __init__(self, settings: ProviderSettings, clock: Callable[[], float] = time.time) -> None:
        base = (settings.base_url or "").removesuffix("/v1")
        headers = {"anthropic-version": VERSION, **key_headers(settings)}
        self._models = f"{base}/v1/models?limit=1000"
        self._connection = HttpConnection(f"{base}/v1/messages", headers)
        self._clock = clock

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[Upstream, None]:
        """Ask for a completion; what cannot be said in the Messages API is refused without asking.

        Where thinking blocks are refused that were given back, since another model wrote them or something before
        them has changed, the question is put once more, without them.

        Raises:
            ProviderFailure: on entering, where no answer's head arrived.
        """
        try:
            said, thoughtful = await _done(_translated, body)
        except Untranslatable as error:
            yield _Told(400, {}, error.body())
            return
        del body  # an answer may take minutes, and images are large
        async with self._asked(route, said, stream=stream) as answer:
            if thoughtful is None or not (isinstance(answer, _Told) and answer.blames_thinking):
                yield answer
                return
        said = await _done(lambda _: thoughtful.without_thoughts().encoded(), said)
        async with self._asked(route, said, stream=stream) as answer:
            yield answer

    @asynccontextmanager
    async def _asked(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[_Answer | _Told, None]:
        async with self._connection.post(route, body, stream=stream) as answer:
            if answer.status == 200:
                yield _Answer(answer, int(self._clock()))
                return
            kept = {name: value for name, value in answer.headers.items() if name in _KEPT_HEADERS}
            words = await read_error(answer)
            trouble = read_trouble(words)
            blamed = answer.status == 400 and trouble is not None and trouble.blames_thinking
            yield _Told(answer.status, kept, words if trouble is None else trouble.body(), blames_thinking=blamed)

    async def models(self, *, patience: float) -> bytes | None:
        """Return what the Models API tells (https://platform.claude.com/docs/en/api/models/list)."""
        return await self._connection.get(self._models, patience=patience)

    async def close(self) -> None:
        """Close its connections."""
        await self._connection.close()


@dataclass(frozen=True, slots=True)
class _Told:
    """An error as OpenAI tells it; one that is not Anthropic's, such as a proxy's, as it came.

    ``blames_thinking``: it is about thinking blocks that were given back.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    blames_thinking: bool = False

    async def read(self) -> bytes:
        return self.body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body


class _Answer:
    """An ``Upstream`` that translates what it reads."""

    def __init__(self, answer: HttpAnswer, created: int) -> None:
        self._answer = answer
        self._created = created

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return {}

    async def read(self) -> bytes:
        data = await self._answer.read()
        with _usable():
            return await _done(self._whole, data)

    def _whole(self, data: bytes) -> bytes:
        data = data.removeprefix(BOM)
        if shape_of(data) != "events":
            return as_completion(data, self._created)
        if data.count(b"\n") + data.count(b"\r") > MAX_LINES:
            raise UnusableAnswer(f"is a stream of more than {MAX_LINES} lines")
        translator = StreamTranslator(self._created)
        return translator.feed(data) + translator.end()

    async def chunks(self) -> AsyncIterator[bytes]:
        parts = self._answer.chunks()
        data = (await anext(parts, b"")).removeprefix(BOM)
        if shape_of(data) == "json":
            yield await _done(self._whole, await whole(lambda: anext(parts, b""), data))
            return
        translator = StreamTranslator(self._created)
        with _usable():
            while data:
                if out := translator.feed(data):
                    yield out
                data = await anext(parts, b"")
            if out := translator.end():
                yield out


def _translated(body: bytes) -> tuple[bytes, MessagesRequest | None]:
    """Return the body that is sent, and the request, if it has thoughts that could be left out."""
    request = read_request(body)
    return request.encoded(), request if request.has_thoughts else None


async def _done(work: Callable[[bytes], _T], data: bytes) -> _T:
    """Return what ``work`` makes of ``data``, without keeping everybody else waiting if that is large."""
    return work(data) if len(data) <= LARGE else await asyncio.to_thread(work, data)


@contextmanager
def _usable() -> Generator[None]:
    """Let a stream that is none be a failure of the provider."""
    try:
        yield
    except UnusableAnswer as error:
        raise ProviderFailure(AttemptOutcome.ERROR, str(error)) from error
