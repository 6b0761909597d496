"""What a provider promises. Adapters translate their API to this; nothing else knows HTTP upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, Protocol, runtime_checkable

from flatfee.server.settings import RouteSettings
from flatfee.wire import AttemptOutcome

MAX_ANSWER: Final = 64 * 1024 * 1024

ERROR_SECONDS: Final = 2.0
"""A provider's error gets this long to say why; its status is known by then."""

ERROR_BYTES: Final = 65_536
"""More words than this are no reason."""


class ProviderFailure(Exception):
    """No answer, or no whole answer, came: refused, broken off, or silent while connecting.

    ``stale`` means that a connection kept from an earlier answer ended before a byte of this one came:
    providers close those when they like, and it tells nothing of how they are.
    """

    def __init__(self, outcome: AttemptOutcome, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.stale = stale


class Upstream(Protocol):
    """A provider's answer whose head has arrived. Header names are lower case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes:
        """Read the whole body, at most ``MAX_ANSWER`` bytes.

        Raises:
            ProviderFailure: it broke off, or is too large.
        """
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; a reader that is slow is waited for.

        Raises:
            ProviderFailure: it broke off.
        """
        ...


class Provider(Protocol):
    """A connection to one upstream API."""

    def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AbstractAsyncContextManager[Upstream]:
        """Ask for a completion; leaving the context in the middle cancels the upstream call at once.

        Raises:
            ProviderFailure: on entering, where no answer's head arrived.
        """
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...


@runtime_checkable
class ListsModels(Protocol):
    """What a provider may offer besides: its list of models."""

    async def models(self, *, patience: float) -> bytes | None:
        """Return the list as its API tells it; ``None`` where none comes within so many seconds."""
        ...


async def read_error(upstream: Upstream) -> bytes:
    """Return what a provider says of its error; one whose words do not come, or break off, gave no reason."""
    words = b""
    with suppress(TimeoutError, ProviderFailure):
        async with asyncio.timeout(ERROR_SECONDS):
            async for part in upstream.chunks():
                words += part
                if len(words) > ERROR_BYTES:
                    break
    return words
