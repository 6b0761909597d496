"""What is put under load: the fake upstream itself, the bare proxy, and the gateway, alone or with workers.

Each target is a context manager that yields a base URL and the process id to charge CPU time to.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from benchmarks.children import Cores, cores, free_port, python, server
from benchmarks.load import KEY_ENV

Durability = Literal["process", "power"]

_CONFIG: Final = """\
[server]
host = "127.0.0.1"
store = "{store}"
durability = "{durability}"
max_requests = {most}

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
concurrent_workflows = {most}
continuation = true

[[accounts]]
name = "bench"
plan = "bench"

[[accounts.projects]]
name = "bench"
keys = [{{name = "bench", key_env = "{key_env}"}}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server that is up.

    ``pid`` is the process under measurement, its children included; ``receipt``: it must answer with one.
    ``model`` is what it calls the one that it is to ask, and ``headers`` what it needs beside those of every request.
    """

    name: str
    url: str
    pid: int
    key: str = "none"
    receipt: bool = False
    model: str = "auto"
    headers: tuple[str, ...] = ()


@contextmanager
def fake_upstream(folder: Path, *, receipt: bool = False, gap: float | None = None) -> Iterator[Target]:
    """Start the fake upstream on the core of the load generator; ``gap``: seconds between the events of a stream."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    options = [*(["--receipt"] if receipt else []), *(["--gap", str(gap)] if gap is not None else [])]
    command = python("benchmarks.upstream", "--port", str(port), *options)
    with server(command, url=url, core=cores()[1], log=folder / f"upstream-{port}.log") as pid:
        yield Target(name="direct", url=url, pid=pid)


@contextmanager
def bare_proxy(upstream: Target, folder: Path) -> Iterator[Target]:
    """Start the bare proxy on the core under measurement."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = python("benchmarks.bare_proxy", "--port", str(port), "--upstream", upstream.url)
    with server(command, url=url, core=cores()[0], log=folder / f"bare_proxy-{port}.log") as pid:
        yield Target(name="bare proxy", url=url, pid=pid)


@contextmanager
def gateway(upstream: Target, folder: Path) -> Iterator[Target]:
    """Start the real gateway, with keys, policy, a SQLite ledger on disk and receipts."""
    with serving("gateway", upstream, folder, core=cores()[0]) as target:
        yield target


@contextmanager
def workers(upstream: Target, folder: Path) -> Iterator[Target]:
    """Start the gateway with two workers, on whatever cores there are: load and upstream share them."""
    with serving("workers", upstream, folder, "--workers", "2", core=None) as target:
        yield target


@contextmanager
def serving(
    name: str,
    upstream: Target,
    folder: Path,
    *options: str,
    core: Cores,
    durability: Durability | None = "process",
) -> Iterator[Target]:
    """Start a gateway of ours with ``options`` of ``flatfee serve``; its ledger is in memory without a durability."""
    key, port = secrets.token_hex(32), free_port()
    config = folder / f"{name}-{port}.toml"
    config.write_text(configuration(upstream.url, config.with_suffix(".db"), durability))
    command = python("flatfee", "serve", "--config", str(config), "--port", str(port), *options)
    url, log = f"http://127.0.0.1:{port}", config.with_suffix(".log")
    with server(command, url=f"{url}/health/ready", core=core, log=log, env={KEY_ENV: key}) as pid:
        yield Target(name=name, url=url, pid=pid, key=key, receipt=True)


def configuration(upstream: str, ledger: Path, durability: Durability | None, *, most: int = 1000) -> str:
    """Return the configuration of a gateway of ours, which takes ``most`` requests at once. Pure."""
    store = f"sqlite:///{ledger}" if durability else "memory://"
    return _CONFIG.format(
        store=store, durability=durability or "process", upstream=upstream, key_env=KEY_ENV, most=most
    )


@contextmanager
def direct(upstream: Target, folder: Path) -> Iterator[Target]:  # noqa: ARG001 - the shape of every target
    """No gateway at all: the load generator asks the fake upstream."""
    yield upstream


TARGETS: Final[Mapping[str, Callable[[Target, Path], AbstractContextManager[Target]]]] = MappingProxyType(
    {"direct": direct, "bare": bare_proxy, "gateway": gateway, "workers": workers}
)
"""Name on the command line → how to start it, in the order of the report."""

DEFAULT_TARGETS: Final = ("direct", "bare", "gateway")
"""Those that have a core to themselves."""
