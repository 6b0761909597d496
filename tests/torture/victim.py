"""A gateway process that kills itself with SIGKILL at a chosen moment. Run by ``kills``; serves loopback only.

Everything is the real thing: uvicorn, the app, the SQLite store and its writer's thread. Only the
provider is scripted, and what may be a moment to die is counted or named by a wrapper.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

from tests.server.fakes import DONE, completion, delta, make_settings, usage_event

from flatfee.server.app import create_app
from flatfee.server.logs import configure_logging
from flatfee.server.run import run
from flatfee.server.settings import RouteSettings, Settings
from flatfee.server.store import entries, transactions
from flatfee.server.store.base import Store
from flatfee.server.store.sqlite import SqliteStore

POINTS: Final = (
    "within the reserve",
    "after reserve",
    "after dispatch",
    "at the first byte",
    "in mid-stream",
    "within the settle",
    "before the settle's commit",
    "after the settle's commit",
)
USAGE: Final = (12, 8)
CAP: Final = 200_000
_REQUEST: ContextVar[str] = ContextVar("REQUEST", default="")


def settings() -> Settings:
    """Return what the victim serves, and what opens its file again."""
    return make_settings(fair_use=CAP, concurrent_workflows=100, workflow_idle=20.0)


class Reaper:
    """Kills this process at a named point, or at the nth moment of any kind."""

    def __init__(self, point: str, count: int) -> None:
        self._point = point
        self._count = count

    def at(self, point: str) -> None:
        """Die here, if it is time."""
        if self._point in {point, "any"}:
            self._count -= 1
            if self._count <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """The store, with a moment to die after each write; and in the middle of its transactions."""

    def __init__(self, store: SqliteStore, reaper: Reaper) -> None:
        self._store = store
        self._reaper = reaper
        _die_around(transactions, "_grant", before=lambda: reaper.at("within the reserve"))
        _die_around(transactions, "settle", after=lambda: reaper.at("before the settle's commit"))
        _die_around(entries, "enter", before=lambda: reaper.at("within the settle"))

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)
        if name not in {"reserve", "dispatch", "settle"}:
            return operation

        async def call(*arguments: Any) -> Any:
            result = await operation(*arguments)
            if name == "reserve":
                _REQUEST.set(arguments[0].request_id)
            self._reaper.at("after the settle's commit" if name == "settle" else f"after {name}")
            return result

        return call


def _die_around(
    module: ModuleType,
    name: str,
    before: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
) -> None:
    """Put a moment to die around a step of a transaction: no wrapper of the store gets there."""
    step = getattr(module, name)

    def call(*arguments: Any, **named: Any) -> Any:
        before()
        result = step(*arguments, **named)
        after()
        return result

    setattr(module, name, call)


class Provider:
    """Answers everything, and writes down what it was asked: what is bought must be accounted for."""

    def __init__(self, bought: Path, reaper: Reaper) -> None:
        self._bought = bought
        self._reaper = reaper
        self.status = 200
        self.headers: Mapping[str, str] = {}

    @asynccontextmanager
    async def send(self, route: RouteSettings, body: bytes, *, stream: bool) -> AsyncGenerator[Provider, None]:
        with self._bought.open("a") as lines:
            lines.write(f"{_REQUEST.get()}\n")
        yield self

    async def read(self) -> bytes:
        await asyncio.sleep(0.001)
        self._reaper.at("at the first byte")
        return completion("yes", USAGE)

    async def chunks(self) -> AsyncIterator[bytes]:
        for number, piece in enumerate((delta("one "), delta("two "), delta(finish="stop"), usage_event(*USAGE), DONE)):
            await asyncio.sleep(0.001)
            self._reaper.at("at the first byte" if number == 0 else "in mid-stream")
            yield piece

    async def close(self) -> None:
        return


def main(folder: Path, point: str, count: int) -> None:
    """Serve until the time has come."""
    configure_logging()
    reaper = Reaper(point, count)
    store = cast("Store", Watched(SqliteStore(folder / "ledger.db"), reaper))
    app = create_app(settings(), store=store, providers={"fake": Provider(folder / "bought", reaper)})
    ready: Callable[[str, int], None] = lambda _, port: print(json.dumps({"port": port}), flush=True)  # noqa: E731
    run(app, on_ready=ready)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
