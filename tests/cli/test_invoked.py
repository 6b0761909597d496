"""Hints name the command as it was run."""

from __future__ import annotations

from pathlib import Path

import pytest

from flatfee.cli.invoked import command


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A file that stands for the installed command."""
    path = tmp_path / "bin" / "flatfee"
    path.parent.mkdir()
    path.touch(mode=0o755)
    return path


def test_a_path_is_named_where_the_shell_would_not_find_it(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(installed.parent.parent)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", ["bin/flatfee", "demo"])
    assert command() == "bin/flatfee"


def test_the_name_is_enough_where_the_shell_finds_it(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(installed.parent))
    monkeypatch.setattr("sys.argv", [str(installed), "demo"])
    assert command() == "flatfee"


def test_another_flatfee_on_the_path_is_not_named(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(installed.parent))
    monkeypatch.setattr("sys.argv", [str(tmp_path / "an environment" / "flatfee")])
    assert command() == f"'{tmp_path}/an environment/flatfee'"


def test_a_module_is_named_with_its_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/flatfee/__main__.py"])
    monkeypatch.setattr("sys.orig_argv", [".venv/bin/python", "-m", "flatfee"])
    assert command() == ".venv/bin/python -m flatfee"


def test_any_other_program_gets_the_plain_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/pytest"])
    assert command() == "flatfee"
