"""The demo's gateway: the real one, on a free loopback port, in a thread of this process.

Its providers are simulated, so that they can be told to fail. What the run sees of it comes over HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Final

from flatfee.server.app import create_app
from flatfee.server.configuration import parse_settings
from flatfee.server.keys import KeyKind, new_key
from flatfee.server.providers.simulated import FaultKind, SimulatedFault, SimulatedProvider
from flatfee.server.run import GatewayServer
from flatfee.server.settings import Settings

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0


class GatewayNotStarted(Exception):
    """The demo's gateway did not come up."""


@dataclass(frozen=True, slots=True)
class DemoGateway:
    """A running gateway: where it is, its one key, and what its providers can be told."""

    url: str
    key: str
    settings: Settings
    providers: dict[str, SimulatedProvider]

    def fail(self, provider: str) -> None:
        """Let every answer of a provider be an error from now on."""
        for route in self.settings.routes:
            if route.provider == provider:
                self.providers[provider].script(route.name, always=SimulatedFault(kind=FaultKind.ERROR, status=500))


def demo_text() -> str:
    """Return the demo's configuration."""
    return resources.files("flatfee.cli.demo").joinpath("demo.toml").read_text(encoding="utf-8")


@contextmanager
def running_gateway(configuration: str, env: Mapping[str, str] = MappingProxyType({})) -> Generator[DemoGateway]:
    """Run a gateway with simulated providers while the block lasts. ``env`` holds more secrets of the configuration's.

    Raises:
        GatewayNotStarted: it did not come up; the log on standard error says why.
    """
    key = new_key(KeyKind.PROJECT)
    # The caller's own FLATFEE_* are of another gateway, so none of them is passed on.
    settings = parse_settings(configuration, source="the demo", env={**env, "FLATFEE_DEMO_KEY": key})
    providers = {provider.name: SimulatedProvider(provider) for provider in settings.providers}
    bound: Future[tuple[str, int]] = Future()
    server = GatewayServer(
        create_app(settings, providers=providers), on_ready=lambda host, port: bound.set_result((host, port))
    )
    thread = threading.Thread(target=_run, args=(server.run, bound), name="demo-gateway", daemon=True)
    thread.start()
    try:
        host, port = bound.result(START_SECONDS)
        yield DemoGateway(f"http://{host}:{port}/v1", key, settings, providers)
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)


def _run(serve: Callable[[], None], bound: Future[tuple[str, int]]) -> None:
    """Serve; who waits for the address is told if there will be none."""
    try:
        serve()
    finally:
        if not bound.done():
            bound.set_exception(GatewayNotStarted("The demo's gateway ended before it was ready."))
