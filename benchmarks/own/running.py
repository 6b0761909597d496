"""Starts what a measure needs: the provider, and the gateway alone on its core. No measuring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.children import cores, free_port, python, server
from benchmarks.load import KEY_ENV
from benchmarks.targets import configuration

KEY: Final = "benchmark-gateway-key-0123456789abcdef"

_MOST: Final = 20_000
"""Requests at once: streams are held open by the hundred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that is up: where it listens, the process to look at, and a key that it knows."""

    port: int
    pid: int
    key: str = KEY

    @property
    def url(self) -> str:
        """Its base URL, without a path."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def provider(folder: Path) -> Iterator[Running]:
    """Run the provider on the core of all others."""
    port = free_port()
    command = python("benchmarks.own.provider", "--port", str(port))
    log = folder / f"provider-{port}.log"
    with server(command, url=f"http://127.0.0.1:{port}", core=cores()[1], log=log) as pid:
        yield Running(port=port, pid=pid)


def configure(folder: Path, upstream: str, ledger: Path) -> Path:
    """Write a configuration, and return where."""
    path = folder / f"gateway-{free_port()}.toml"
    path.write_text(configuration(upstream, ledger, "process", most=_MOST))
    return path


def command_for(config: Path, port: int) -> list[str]:
    """Return the command that operators start the gateway with."""
    return python("flatfee", "serve", "--config", str(config), "--port", str(port))


@contextmanager
def gateway(
    folder: Path, upstream: Running, *, ledger: Path | None = None, command: Sequence[str] | None = None
) -> Iterator[Running]:
    """Run the gateway on the core under measurement, on a new SQLite file unless ``ledger`` names another.

    ``command`` runs it otherwise; its configuration and port are added.
    """
    port = free_port()
    config = configure(folder, upstream.url, ledger or folder / f"ledger-{port}.db")
    line = [*command, "--config", str(config), "--port", str(port)] if command else command_for(config, port)
    url, log = f"http://127.0.0.1:{port}/health/ready", folder / f"gateway-{port}.log"
    with server(line, url=url, core=cores()[0], log=log, env={KEY_ENV: KEY, "PYTHONDONTWRITEBYTECODE": ""}) as pid:
        yield Running(port=port, pid=pid)
