"""A provider without a model: the same answer for the same request, at once and for free.

It answers plain and streamed, calls tools, obeys a JSON schema, counts usage, and can be told to
fail, stall or break: by ``script`` within this process, or by the route's ``model``, one of
``MODEL_FAULTS``. It speaks through the same bytes as a real provider, so the relay cannot tell.
What it says is made in ``simulation``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from flatfee.server.providers import simulation
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.settings import ProviderSettings, RouteSettings
from flatfee.wire import AttemptOutcome


class FaultKind(StrEnum):
    """Ways to go wrong."""

    ERROR = "error"
    UNREACHABLE = "unreachable"
    STALL = "stall"
    STALL_MIDWAY = "stall_midway"
    BREAK = "break"
    BREAK_MIDWAY = "break_midway"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedFault:
    """One fault. ``status``, ``code`` and ``retry_after`` (seconds) belong to ``error``."""

    kind: FaultKind
    status: int = 500
    code: str | None = None
    retry_after: int | None = None


MODEL_FAULTS: Final[Mapping[str, SimulatedFault]] = {
    "sim-error": SimulatedFault(kind=FaultKind.ERROR, status=500),
    "sim-rate-limited": SimulatedFault(kind=FaultKind.ERROR, status=429, retry_after=1),
    "sim-refuse": SimulatedFault(kind=FaultKind.ERROR, status=400, code="content_policy_violation"),
    "sim-overflow": SimulatedFault(kind=FaultKind.ERROR, status=400, code="context_length_exceeded"),
    "sim-unreachable": SimulatedFault(kind=FaultKind.UNREACHABLE),
    "sim-stall": SimulatedFault(kind=FaultKind.STALL),
    "sim-stall-midway": SimulatedFault(kind=FaultKind.STALL_MIDWAY),
    "sim-break": SimulatedFault(kind=FaultKind.BREAK),
    "sim-break-midway": SimulatedFault(kind=FaultKind.BREAK_MIDWAY),
}
"""Upstream model of a route → the fault that each of its answers has."""


@dataclass(slots=True)
class _Script:
    faults: deque[SimulatedFault] = field(default_factory=deque)
    always: SimulatedFault | None = None

    def next(self) -> SimulatedFault | None:
        return self.faults.popleft() if self.faults else self.always


class SimulatedProvider:
    """``kind = "simulated"``."""

    def __init__(self, settings: ProviderSettings | None = None) -> None:
        del settings  # nothing to connect to
        self._scripts: dict[str, _Script] = {}
        self.calls: list[str] = []

    def script(self, route: str, *faults: SimulatedFault, always: SimulatedFault | None = None) -> None:
        """Let the next answers of a route fail, one fault each, and ``always`` after them.

        Without arguments the route is healthy again.
        """
        self._scripts[route] = _Script(deque(faults), always)

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[_Answer, None]:
        self.calls.append(route.name)
        script = self._scripts.get(route.name)
        fault = (script.next() if script else None) or MODEL_FAULTS.get(route.model)
        kind = fault.kind if fault else None
        if kind is FaultKind.UNREACHABLE:
            raise ProviderFailure(AttemptOutcome.UNAVAILABLE, "cannot be reached")
        if kind is FaultKind.STALL:
            await asyncio.Event().wait()
        if kind is FaultKind.BREAK:
            raise ProviderFailure(AttemptOutcome.ERROR, "broke off")
        if fault is not None and kind is FaultKind.ERROR:
            yield _failed(fault)
            return
        try:
            pieces = simulation.streamed(body) if stream else [simulation.plain(body)]
        except simulation.RefusedError as refused:
            yield _Answer(refused.status, {}, [refused.body()], midway=None)
            return
        yield _Answer(200, {}, pieces, midway=kind)

    async def close(self) -> None:
        """There is nothing to let go of."""


def _failed(fault: SimulatedFault) -> _Answer:
    headers = {"retry-after": str(fault.retry_after)} if fault.retry_after is not None else {}
    error = {"message": "The simulated provider was told to fail.", "type": "server_error", "param": None}
    body = msgspec.json.encode({"error": {**error, "code": fault.code}})
    return _Answer(fault.status, headers, [body], midway=None)


class _Answer:
    """An ``Upstream`` from memory; ``midway`` is the fault that strikes after half of it."""

    def __init__(self, status: int, headers: Mapping[str, str], pieces: list[bytes], midway: FaultKind | None) -> None:
        self._status = status
        self._headers = headers
        self._pieces = pieces
        self._midway = midway

    @property
    def status(self) -> int:
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        for index, piece in enumerate(self._pieces):
            if self._midway is not None and index >= len(self._pieces) // 2:
                if self._midway is FaultKind.STALL_MIDWAY:
                    await asyncio.Event().wait()
                raise ProviderFailure(AttemptOutcome.ERROR, "broke off")
            # A turn of the event loop between pieces, as a network would give.
            await asyncio.sleep(0)
            yield piece
