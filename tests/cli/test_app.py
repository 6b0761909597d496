"""The command itself: version, help, and what it says where its extra is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from flatfee import __version__
from flatfee.cli import app as every
from flatfee.cli import serving

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee

SOURCES = str(Path(__file__).parents[2] / "src")


def test_version_is_told(flatfee: Flatfee) -> None:
    shown = flatfee("--version")
    assert (shown.exit_code, shown.stdout) == (0, f"flatfee {__version__}\n")


def test_help_names_every_command(flatfee: Flatfee) -> None:
    shown = flatfee("--help")
    assert shown.exit_code == 0
    names = ("demo", "init", "serve", "doctor", "chat", "route", "usage")
    groups = ("accounts", "projects", "keys", "plans", "receipts", "audit")
    assert [name for name in names + groups if f" {name} " not in shown.stdout] == []


def test_commands_that_only_ask_do_not_import_the_server() -> None:
    code = "import sys, flatfee.cli.app; print([name for name in sys.modules if name in {'uvicorn', 'aiohttp'}])"
    assert python(code).stdout == "[]\n"


def test_a_gateway_does_not_hold_the_other_commands() -> None:
    code = (
        "import sys, flatfee.cli.serving; print([name for name in sys.modules if name in {'rich', 'flatfee.cli.app'}])"
    )
    assert python(code).stdout == "[]\n"


def test_serve_is_the_same_command_alone_and_among_the_others() -> None:
    among, alone = (typer.main.get_command(app) for app in (every.app, serving.app))
    assert isinstance(among, typer.core.TyperGroup)
    assert isinstance(alone, typer.core.TyperGroup)
    assert list(alone.commands) == ["serve"]
    assert [among.help, [one.name for one in among.params]] == [alone.help, [one.name for one in alone.params]]
    assert [one.name for one in among.commands["serve"].params] == [one.name for one in alone.commands["serve"].params]


@pytest.mark.processes
@pytest.mark.parametrize("missing", ["typer", "uvicorn"])
def test_without_the_extra_the_cure_is_told(missing: str) -> None:
    """Some of it is needed by every command, some by those that run a gateway."""
    done = serve_without(missing)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"The command line needs {missing}. Install it: pip install 'flatfee[server]'\n"


@pytest.mark.processes
def test_a_part_of_our_own_that_is_missing_is_no_matter_of_the_extra() -> None:
    assert "ModuleNotFoundError: import of flatfee.server.run" in serve_without("flatfee.server.run").stderr


def serve_without(module: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.modules[sys.argv[1]] = None; sys.argv[1] = 'serve'; from flatfee.cli import main; main()"
    return python(code, module)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", code, *arguments]
    env = os.environ | {"PYTHONPATH": SOURCES}
    return subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=60)
