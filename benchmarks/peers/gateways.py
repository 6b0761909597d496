"""The targets: other gateways and ours, each as its own documentation starts it, and what each leaves undone.

A row is all that a target needs. Configurations are pure text. Nothing is measured here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks import targets
from benchmarks.children import ROOT, cores, free_port, server
from benchmarks.peers import nginx
from benchmarks.targets import Durability, Target
from benchmarks.traffic import Shape

ENVIRONMENTS: Final = ROOT / ".venv-peers"
"""Where ``make bench-peers`` installs the peers, each into a folder of its own."""

_MASTER_KEY: Final = "sk-of-a-benchmark-on-loopback"
_LITELLM_ENV: Final = {
    "PYTHONPATH": "",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}
_LITELLM: Final = """\
model_list:
  - model_name: auto
    litellm_params:
      model: openai/fixed
      api_base: {upstream}/v1
      api_key: none
general_settings:
  master_key: {key}
"""
_TENSORZERO: Final = """\
[gateway]
observability.enabled = false

[models.auto]
routing = ["fixed"]

[models.auto.providers.fixed]
type = "openai"
model_name = "fixed"
api_base = "{upstream}/v1/"
api_key_location = "none"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Did:
    """What a target did for each request while it was measured, in a word or two; ``no`` where it did not."""

    keys: str
    policy: str
    budget: str
    receipts: str
    durable: str


NOTHING: Final = Did(keys="no", policy="no", budget="no", receipts="no", durable="no")

Start = Callable[[Target, Path, Shape], AbstractContextManager[Target]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One target. ``missing`` says what to install, if it cannot be started; ``ours`` may not fail."""

    title: str
    start: Start
    did: Did
    version: Callable[[], str]
    missing: Callable[[], str | None]
    ours: bool = False


@contextmanager
def _direct(upstream: Target, folder: Path, shape: Shape) -> Iterator[Target]:  # noqa: ARG001 - the shape of every row
    yield upstream


@contextmanager
def _nginx(upstream: Target, folder: Path, shape: Shape) -> Iterator[Target]:
    with nginx.proxy(folder, upstream, shape, core=cores()[0]) as target:
        yield target


@contextmanager
def _bare(upstream: Target, folder: Path, shape: Shape) -> Iterator[Target]:  # noqa: ARG001 - the shape of every row
    with targets.bare_proxy(upstream, folder) as target:
        yield target


@contextmanager
def _tensorzero(upstream: Target, folder: Path, shape: Shape) -> Iterator[Target]:
    config, address = folder / f"tensorzero-{shape}.toml", folder / f"tensorzero-{free_port()}.address"
    config.write_text(tensorzero_config(upstream.url))
    script = ROOT / "benchmarks" / "peers" / "tensorzero_server.py"
    command = [str(_python("tensorzero")), str(script), str(config), str(address)]

    def base() -> str | None:
        return address.read_text().removesuffix("/v1") if address.exists() else None

    log = config.with_suffix(".log")
    # Without its database this build has no route for health: that it answers, with 404, tells that it is up.
    with server(command, url=base, status=404, core=cores()[0], log=log, env={"PYTHONPATH": ""}) as pid:
        yield Target(name="tensorzero", url=base() or "", pid=pid, model="tensorzero::model_name::auto")


def tensorzero_config(upstream: str) -> str:
    """Return TensorZero's configuration: one model, no database. Pure."""
    return _TENSORZERO.format(upstream=upstream)


@contextmanager
def _portkey(upstream: Target, folder: Path, shape: Shape) -> Iterator[Target]:
    port = free_port()
    package = ENVIRONMENTS / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
    preload = ROOT / "benchmarks" / "peers" / "loopback.cjs"
    script = package / "build" / "start-server.js"
    command = [nginx.needed("node"), "--require", str(preload), str(script), f"--port={port}", "--headless"]
    url, log = f"http://127.0.0.1:{port}", folder / f"portkey-{shape}-{port}.log"
    with server(command, url=url, core=cores()[0], log=log) as pid:
        yield Target(name="portkey", url=url, pid=pid, headers=portkey_headers(upstream.url))


def portkey_headers(upstream: str) -> tuple[str, ...]:
    """Return what a caller tells Portkey of the provider. Pure."""
    return ("x-portkey-provider: openai", f"x-portkey-custom-host: {upstream}/v1")


@contextmanager
def _litellm(upstream: Target, folder: Path, shape: Shape) -> Iterator[Target]:
    port = free_port()
    config = folder / f"litellm-{shape}-{port}.yaml"
    config.write_text(litellm_config(upstream.url))
    options = ("--host", "127.0.0.1", "--port", str(port), "--num_workers", "1", "--telemetry", "False")
    command = [str(_python("litellm").with_name("litellm")), "--config", str(config), *options]
    url, log = f"http://127.0.0.1:{port}", config.with_suffix(".log")
    with server(command, url=f"{url}/health/readiness", core=cores()[0], log=log, env=_LITELLM_ENV) as pid:
        yield Target(name="litellm", url=url, pid=pid, key=_MASTER_KEY)


def litellm_config(upstream: str) -> str:
    """Return LiteLLM's configuration: one model and a master key, since more needs a database. Pure."""
    return _LITELLM.format(upstream=upstream, key=_MASTER_KEY)


def _flatfee(durability: Durability | None) -> Row:
    name = durability or "memory"

    @contextmanager
    def start(upstream: Target, folder: Path, shape: Shape) -> Iterator[Target]:
        with targets.serving(f"{name}-{shape}", upstream, folder, core=cores()[0], durability=durability) as target:
            yield target

    held = {"process": "survives the process", "power": "survives power loss"}
    return Row(
        title=f"flatfee, {name if durability is None else f'sqlite {name}'}",
        start=start,
        did=Did(
            keys="yes", policy="yes", budget="yes", receipts="yes", durable=held[durability] if durability else "no"
        ),
        version=lambda: version("flatfee"),
        missing=lambda: None,
        ours=True,
    )


def _python(name: str) -> Path:
    return ENVIRONMENTS / name / "bin" / "python"


def _installed(name: str, package: str) -> str:
    """Return the version of a package in an environment that is not ours."""
    found = list((ENVIRONMENTS / name).glob(f"lib/*/site-packages/{package}-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").partition("-")[2] if found else "absent"


def _portkey_version() -> str:
    described = ENVIRONMENTS / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "package.json"
    if not described.exists():
        return "absent"
    return f"{json.loads(described.read_text())['version']} on node {nginx.version_of('node', '--version')}"


def _not_installed(name: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        present = (ENVIRONMENTS / name / ".stamp").exists()
        return None if present else f"{name} is not installed; make bench-peers installs it"

    return missing


def _portkey_missing() -> str | None:
    return _not_installed("portkey")() if nginx.found("node") else "it needs node; on Debian: apt-get install nodejs"


ROWS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "direct": Row(
            title="no gateway: the upstream itself",
            start=_direct,
            did=NOTHING,
            version=lambda: "–",
            missing=lambda: None,
        ),
        "nginx": Row(
            title="nginx, bare reverse proxy",
            start=_nginx,
            did=NOTHING,
            version=lambda: nginx.version_of("nginx", "-v").rpartition("/")[2],
            missing=lambda: None,
        ),
        "bare": Row(
            title="bare Python proxy (uvicorn, aiohttp)",
            start=_bare,
            did=NOTHING,
            version=lambda: f"uvicorn {version('uvicorn')}, aiohttp {version('aiohttp')}",
            missing=lambda: None,
        ),
        "tensorzero": Row(
            title="TensorZero, no database",
            start=_tensorzero,
            did=Did(keys="no", policy="routing only", budget="no", receipts="no", durable="no"),
            version=lambda: _installed("tensorzero", "tensorzero"),
            missing=_not_installed("tensorzero"),
        ),
        "portkey": Row(
            title="Portkey",
            start=_portkey,
            did=Did(keys="no", policy="routing only", budget="no", receipts="no", durable="no"),
            version=_portkey_version,
            missing=_portkey_missing,
        ),
        "litellm": Row(
            title="LiteLLM proxy, no database",
            start=_litellm,
            did=Did(keys="master key only", policy="routing only", budget="no", receipts="no", durable="no"),
            version=lambda: _installed("litellm", "litellm"),
            missing=_not_installed("litellm"),
        ),
        "memory": _flatfee(None),
        "process": _flatfee("process"),
        "power": _flatfee("power"),
    }
)
"""Name on the command line → target, in the order in which they take turns."""
