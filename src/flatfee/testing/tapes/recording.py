"""Records what providers are asked and answer: one file for each try of a route, as soon as it is over."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flatfee.server.providers.base import Provider, ProviderFailure, Upstream
from flatfee.server.providers.registry import make_providers
from flatfee.server.settings import RouteSettings, Settings
from flatfee.testing.tapes.folder import number_of, prepare, write_new
from flatfee.testing.tapes.redaction import Redact, Redaction, secrets_of
from flatfee.testing.tapes.take import Developer, Take
from flatfee.testing.tapes.tape import TapeError

log = logging.getLogger("flatfee.testing")

_MANY: Final = 100


class Recorder:
    """Writes tapes into a folder. ``written`` are the files so far; ``problems`` why others are not there."""

    def __init__(self, folder: Path, redaction: Redaction, clock: Callable[[], float]) -> None:
        self._folder = prepare(folder)
        self._developer = Developer(redaction=redaction)
        self._clock = clock
        self._number = max((number_of(path.name) for path in folder.glob("*.json")), default=0)
        self.written: list[Path] = []
        self.problems: list[str] = []

    def around(self, provider: Provider) -> RecordingProvider:
        """Return a provider that asks another one, and has what came of it recorded."""
        return RecordingProvider(provider, self._clock, self._keep)

    def _keep(self, take: Take) -> None:
        if take.tells_nothing:
            return
        try:
            tape = self._developer.tape(take, datetime.now(UTC).strftime("%Y-%m-%d"))
            path = write_new(self._folder, tape, after=self._number)
        except TapeError as error:
            self._fail(take, str(error))
        except Exception as error:  # noqa: BLE001 - a function given as redact= may raise anything; the caller has an answer
            # What went wrong may quote what was said, so only its kind is told.
            self._fail(
                take, f"No tape could be made of an answer: {type(error).__name__}. See redact=, if it is given."
            )
        else:
            self._number = number_of(path.name)
            self.written.append(path)

    def _fail(self, take: Take, why: str) -> None:
        if len(self.problems) < _MANY:
            self.problems.append(why)
        log.warning("tapes.not_written", extra={"route": take.route.name, "why": why})

    def check(self) -> None:
        """Tell of tapes that are missing.

        Raises:
            TapeError: some could not be written.
        """
        if self.problems:
            raise TapeError("\n".join(dict.fromkeys(self.problems)))


def recording_providers(
    settings: Settings, folder: Path, *, clock: Callable[[], float], redact: Redact | Iterable[Redact] = ()
) -> tuple[dict[str, Provider], Recorder]:
    """Return the configured providers, by name, which record into ``folder``, and what records them.

    ``clock`` is in seconds, and only goes forward; the tapes' moments are its own.

    Raises:
        TapeError: the folder cannot be written to.
        ValueError: ``redact`` holds what is no expression and no path.
    """
    recorder = Recorder(folder, Redaction.of(redact, secrets_of(settings)), clock)
    made = make_providers(settings.providers)
    return {name: recorder.around(provider) for name, provider in made.items()}, recorder


class RecordingProvider:
    """A provider that passes everything on, and notes it. ``keep`` is given each take once it is over."""

    def __init__(self, inner: Provider, clock: Callable[[], float], keep: Callable[[Take], None]) -> None:
        self._inner = inner
        self._clock = clock
        self._keep = keep

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[Upstream, None]:
        """Ask the provider; the take is kept whatever way the answer ends."""
        take = Take(route=route, body=body, stream=stream, began=self._clock())
        try:
            async with AsyncExitStack() as open_answer:
                with _noting_failure(take, self._clock):
                    answer = await open_answer.enter_async_context(self._inner.send(route, body, stream=stream))
                take.head(answer.status, answer.headers, self._clock())
                yield _Noted(answer, take, self._clock)
        finally:
            take.end(self._clock())
            self._keep(take)

    async def close(self) -> None:
        """Let go of every connection."""
        await self._inner.close()


class _Noted:
    """An ``Upstream`` whose parts are noted as they come."""

    def __init__(self, inner: Upstream, take: Take, clock: Callable[[], float]) -> None:
        self._inner = inner
        self._take = take
        self._clock = clock

    @property
    def status(self) -> int:
        return self._inner.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._inner.headers

    async def read(self) -> bytes:
        with _noting_failure(self._take, self._clock):
            data = await self._inner.read()
        self._take.part(data, self._clock())
        self._take.end(self._clock(), whole=True)
        return data

    async def chunks(self) -> AsyncIterator[bytes]:
        with _noting_failure(self._take, self._clock):
            async for data in self._inner.chunks():
                self._take.part(data, self._clock())
                yield data
        self._take.end(self._clock(), whole=True)


@contextmanager
def _noting_failure(take: Take, clock: Callable[[], float]) -> Generator[None, None, None]:
    try:
        yield
    except ProviderFailure as error:
        take.fail(error, clock())
        raise
