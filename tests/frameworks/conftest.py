"""A real gateway before a provider that uses tools; it counts what reaches it.

The frameworks live in two environments of their own (``make test-frameworks``): the newest ones that share
openai-python 3, and all six with openai-python 2. What is not installed
is not collected; ``test_installed.py`` says what must be.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
from tests.frameworks.upstream import LIMIT, Upstream, upstream

from flatfee.server.app import App, create_app
from flatfee.server.call import Receive, Scope, Send
from flatfee.server.configuration import parse_settings
from flatfee.server.keys import KeyKind, new_key
from flatfee.server.run import GatewayServer

ROOT: Final = Path(__file__).parents[2]
FRAMEWORKS: Final = {
    "test_langchain.py": "langchain_openai",
    "test_llamaindex.py": "llama_index",
    "test_smolagents.py": "smolagents",
    "test_litellm.py": "litellm",
    "test_pydantic_ai.py": "pydantic_ai",
    "test_openai_agents.py": "agents",
}
collect_ignore = [name for name, package in FRAMEWORKS.items() if find_spec(package) is None]

# Read when a framework is imported, by some: nothing here may leave this machine.
QUIET: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}
if len(collect_ignore) < len(FRAMEWORKS):
    os.environ.update(QUIET)
else:  # the environment of the other tests
    collect_ignore.append("test_installed.py")

WARNINGS_OF_OTHERS: Final = pytest.mark.filterwarnings("ignore", "error:::flatfee")
"""A framework's own warnings are not ours to cure; ours are errors here as well."""

CONFIGURATION: Final = """
[server]
port = 0
store = "memory://"

[[providers]]
name = "north"
kind = "openai"
base_url = "{url}"
api_key_env = "UPSTREAM_KEY"

[[routes]]
name = "north-premium"
provider = "north"
model = "big"
tier = "premium"

[[routes]]
name = "north-economy"
provider = "north"
model = "small"
tier = "economy"

[[plans]]
name = "pro"
fair_use = 1000000

[[accounts]]
name = "acme"
plan = "pro"

[[accounts.projects]]
name = "ci"
keys = [{{ name = "ci", key_env = "CI_KEY" }}]
"""


class _Counted(App):
    """The gateway's app; ``completions`` counts the requests for one that arrived."""

    completions = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path", "").endswith("/chat/completions"):
            self.completions += 1
        await super().__call__(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway, and the provider behind it."""

    url: str
    key: str
    upstream: Upstream
    app: _Counted = field(repr=False)

    @property
    def requests(self) -> int:
        """How many requests for a completion arrived here."""
        return self.app.completions

    def fail(self) -> None:
        """Let every route fail from now on."""
        self.upstream.broken = True


@contextmanager
def running(provider: Upstream) -> Iterator[Gateway]:
    key = new_key(KeyKind.PROJECT)
    settings = parse_settings(
        CONFIGURATION.format(url=provider.url), source="the test", env={"CI_KEY": key, "UPSTREAM_KEY": "upstream"}
    )
    app = _Counted(create_app(settings).gateway)
    bound: Future[str] = Future()
    server = GatewayServer(app, on_ready=lambda host, port: bound.set_result(f"http://{host}:{port}/v1"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield Gateway(bound.result(LIMIT), key, provider, app)
    finally:
        server.should_exit = True
        thread.join(LIMIT)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """Run a gateway on loopback, whose address and key are in the environment."""
    with upstream() as provider, running(provider) as gateway:
        monkeypatch.setenv("FLATFEE_BASE_URL", gateway.url)
        monkeypatch.setenv("FLATFEE_API_KEY", gateway.key)
        yield gateway


@pytest.fixture
def run_example(gateway: Gateway, tmp_path: Path) -> Callable[[str], str]:
    """Return the function that runs an example as a reader would, and returns what it printed."""

    def run(name: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LANGCHAIN_"))}
        line = [sys.executable, str(ROOT / "examples" / "frameworks" / name)]
        done = subprocess.run(
            line,
            cwd=tmp_path,
            env=env
            | {"PYTHONPATH": str(ROOT / "src"), "FLATFEE_BASE_URL": gateway.url, "FLATFEE_API_KEY": gateway.key},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)

    return run
