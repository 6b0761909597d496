"""A gateway in a process of its own, that can be asked how it is inside: the program, not its handle.

``python -m tests.faults.housed`` takes a JSON object as its one argument (``watched`` writes it), serves
until a signal, and for each line on standard input prints one JSON object of what it holds. It may be
broken on purpose (``broken``), so that a proof is seen to fail.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tests.faults.broken import BREAKS
from tests.server.fakes import make_settings

from flatfee.server.app import App, create_app
from flatfee.server.health import Health
from flatfee.server.logs import configure_logging
from flatfee.server.providers.openai import OpenAIProvider
from flatfee.server.run import GatewayServer, collect_less
from flatfee.server.settings import ProviderSettings, Settings


class BriskHealth(Health):
    """Health whose clock runs faster, so that circuits open and close many times in a short run."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def admits(self, route: str, now: float) -> int | None:
        return super().admits(route, now * self._speed)

    def failed(self, route: str, now: float, opening: int, *, leave_for: float | None = None) -> None:
        super().failed(route, now * self._speed, opening, leave_for=leave_for)

    def down(self, now: float) -> frozenset[str]:
        return super().down(now * self._speed)

    def opens_in(self, route: str, now: float) -> float:
        return super().opens_in(route, now * self._speed) / self._speed


def settings_of(wish: dict[str, Any]) -> Settings:
    """Return the settings: SQLite on disk, the routes and upstreams that are wished for."""
    store = f"sqlite:///{Path(wish['folder']) / 'ledger.db'}"
    settings = make_settings(
        routes=wish["routes"], server={"store": store, "shutdown_grace": 5.0, **wish["server"]}, **wish["plan"]
    )
    providers = [ProviderSettings(name=name, kind="openai", base_url=url) for name, url in wish["upstreams"].items()]
    return settings.model_copy(update={"providers": tuple(providers)})


def inside(app: App, server: GatewayServer) -> dict[str, Any]:
    """Return what the gateway holds now."""
    gateway = app.gateway
    pools = [each._connection._pool for each in gateway.providers.values() if isinstance(each, OpenAIProvider)]
    tasks = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
    return {
        "running": len(gateway.running),
        "active": gateway.active,
        "unfinished": len(gateway._unfinished),
        "tasks": dict(tasks),
        "acquired": sum(len(pool._all) - len(pool._idle) for pool in pools),
        "pooled": sum(len(pool._idle) for pool in pools),
        "callers": len(server.server_state.connections),
        "files": len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208 - names only, and no handle left open
        "objects": len(gc.get_objects()),
    }


def main(wish: dict[str, Any]) -> None:
    """Serve until a signal."""
    configure_logging()
    app = create_app(settings_of(wish))
    if wish["speed"] != 1:
        app.gateway.health = BriskHealth(wish["speed"])
    for name in wish["broken"]:
        BREAKS[name]()

    def tell(fact: dict[str, Any]) -> None:
        print(json.dumps(fact), flush=True)

    def asked() -> None:
        if os.read(0, 100):
            tell(inside(app, server))
        else:
            asyncio.get_running_loop().remove_reader(0)

    def ready(_: str, port: int) -> None:
        collect_less()
        asyncio.get_running_loop().add_reader(0, asked)
        tell({"port": port})

    server = GatewayServer(app, on_ready=ready)
    server.run()


WISH: Final = 1

if __name__ == "__main__":
    main(json.loads(sys.argv[WISH]))
