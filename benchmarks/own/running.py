"""Starts what a measure needs: the provider, and the gateway alone on its core. No measuring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.children import cores, free_port, python, server
from benchmarks.load import KEY_ENV

KEY: Final = "benchmark-gateway-key-0123456789abcdef"

_CONFIG: Final = """\
[server]
host = "127.0.0.1"
store = "{store}"
durability = "process"
max_requests = 20000

[[providers]]
name = "fixed"
kind = "openai"
base_url = "{upstream}/v1"
api_key_env = "{key_env}"

[[routes]]
name = "fixed-premium"
provider = "fixed"
model = "fixed"
tier = "premium"
priority = 1

[[routes]]
name = "fixed-economy"
provider = "fixed"
model = "fixed"
tier = "economy"
priority = 1

[[plans]]
name = "bench"
fair_use = 1000000000000
meter = "tokens"
window = "month"
output_reserve = 4096
concurrent_workflows = 20000
continuation = true

[[accounts]]
name = "bench"
plan = "bench"

[[accounts.projects]]
name = "bench"
keys = [{{name = "bench", key_env = "{key_env}"}}]
"""


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


def configure(folder: Path, upstream: str, store: str) -> Path:
    """Write a configuration, and return where."""
    path = folder / f"gateway-{free_port()}.toml"
    path.write_text(_CONFIG.format(store=store, upstream=upstream, key_env=KEY_ENV))
    return path


def command_for(config: Path, port: int) -> list[str]:
    """Return the command that operators start the gateway with."""
    return python("flatfee", "serve", "--config", str(config), "--port", str(port))


@contextmanager
def gateway(
    folder: Path, upstream: Running, *, store: str | None = None, command: Sequence[str] | None = None
) -> Iterator[Running]:
    """Run the gateway on the core under measurement, on a new SQLite file unless ``store`` names another.

    ``command`` runs it otherwise; its configuration and port are added.
    """
    port = free_port()
    config = configure(folder, upstream.url, store or f"sqlite:///{folder / f'ledger-{port}.db'}")
    line = [*command, "--config", str(config), "--port", str(port)] if command else command_for(config, port)
    url, log = f"http://127.0.0.1:{port}/health/ready", folder / f"gateway-{port}.log"
    with server(line, url=url, core=cores()[0], log=log, env={KEY_ENV: KEY, "PYTHONDONTWRITEBYTECODE": ""}) as pid:
        yield Running(port=port, pid=pid)
