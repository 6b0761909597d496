"""Commands run in a process of their own, in this process, or on a terminal; and a gateway to ask."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from flatfee.cli.app import app
from flatfee.cli.demo.gateway import DemoGateway, demo_text, running_gateway

ROOT = Path(__file__).parents[2]
SOURCES = str(ROOT / "src")
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

Flatfee = Callable[..., Result]
OnTerminal = Callable[..., tuple[int, str]]


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment without anybody's gateway, terminal or colours in it."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FLATFEE_") and name not in {"FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "TERM"}
    }
    return {**own, "PYTHONPATH": SOURCES, **extra}


@pytest.fixture
def gateway() -> Iterator[DemoGateway]:
    """A gateway with the demo's providers, and fair-use that no test spends."""
    with running_gateway(demo_text().replace("fair_use = 910", "fair_use = 100000")) as running:
        yield running


@pytest.fixture
def asks(gateway: DemoGateway) -> dict[str, str]:
    """The environment that a caller of the gateway needs."""
    return {"FLATFEE_API_KEY": gateway.key, "FLATFEE_BASE_URL": gateway.url}


@pytest.fixture(scope="session")
def _command_made_once() -> Iterator[None]:
    """Let all runs of a process share the command: to make it anew takes longer than most of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", cache(get_command))
        yield


@pytest.fixture
def flatfee(_command_made_once: None, monkeypatch: pytest.MonkeyPatch) -> Flatfee:
    """Run a command in this process; standard output and standard error are kept apart."""
    for name in [name for name in os.environ if name.startswith("FLATFEE_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*arguments: str, env: Mapping[str, str] | None = None, typed: str | None = None) -> Result:
        return CliRunner().invoke(app, arguments, input=typed, env=dict(env or {}))

    return run


@pytest.fixture
def on_terminal() -> OnTerminal:
    """Run a command on a terminal of its own, with what is ``typed``; return its exit code and all that was seen."""

    def run(*arguments: str, env: Mapping[str, str] | None = None, typed: str = "") -> tuple[int, str]:
        ours, theirs = pty.openpty()
        os.write(ours, typed.encode())
        screen = environment({"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40", **(env or {})})
        process = subprocess.Popen(
            [sys.executable, "-m", "flatfee", *arguments], env=screen, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        written = b"".join(iter(lambda: _read(ours), b""))
        os.close(ours)
        return process.wait(60), written.decode()

    return run


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # on Linux this is how a terminal says that nobody writes to it any more
        return b""
