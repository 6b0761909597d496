"""The example agent's tests pass as they stand: under pytest, under unittest, and as the workflow runs them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # nothing here has stubs for it

from flatfee.testing import Options

pytestmark = pytest.mark.slow
"""What it starts takes its time; ``make check`` has that."""

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "testing"
GUIDE = ROOT / "docs" / "guides" / "testing-pytest.md"


@pytest.fixture
def example(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, pytester.path)
    return pytester


@pytest.mark.parametrize("order", ["list", "reversed"])
def test_example_passes_under_pytest_in_any_order(example: pytest.Pytester, order: str) -> None:
    example.makeconftest(f"def pytest_collection_modifyitems(items):\n    items[:] = {order}(items)\n")
    result = example.runpytest_inprocess("-p", "no:flatfee", "-p", "flatfee_pytest", "-W", "error", "--strict-markers")
    outcomes = result.parseoutcomes()
    assert outcomes.keys() == {"passed"}
    assert outcomes["passed"] >= 10


@pytest.mark.processes
def test_example_passes_under_unittest(example: pytest.Pytester) -> None:
    line = [sys.executable, "-W", "error", "-m", "unittest", "-v", "test_with_unittest"]
    done = subprocess.run(line, cwd=example.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Ran 2 tests" in done.stderr


def test_workflow_installs_what_there_is_and_runs_what_there_is() -> None:
    workflow = yaml.safe_load((EXAMPLE / "github-workflow.yml").read_text("utf-8"))
    assert {True, "name", "permissions", "jobs"} == workflow.keys()  # YAML 1.1 takes `on` for a truth value
    steps = workflow["jobs"]["test"]["steps"]
    commands = [shlex.split(step["run"]) for step in steps if "run" in step]
    install, run = commands
    assert install[:4] == ["python", "-m", "pip", "install"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert re.fullmatch(r"flatfee\[(\w+)\]", install[4])[1] in extras  # type: ignore[index]  # it does match
    assert run[:3] == ["python", "-m", "pytest"]
    assert "cache" not in str(steps), "it fails in a repository without requirements.txt or pyproject.toml"
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in steps if "uses" in step)


@pytest.mark.processes
def test_command_of_the_workflow_passes(example: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = yaml.safe_load((EXAMPLE / "github-workflow.yml").read_text("utf-8"))
    command = shlex.split(workflow["jobs"]["test"]["steps"][-2]["run"])
    line = [sys.executable, *command[1:], "-p", "xdist.plugin", "-p", "flatfee_pytest"]
    done = subprocess.run(line, cwd=example.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_guide_tells_every_option_and_its_default() -> None:
    """So does the marker: its keywords are these."""
    table = GUIDE.read_text("utf-8").partition("| keyword |")[2].partition("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    options = {field.name: field for field in fields(Options) if field.name != "given"}
    assert sorted(names) == sorted(options)
    for row in rows:
        told = re.findall(r"`([^`]+)`", row[1])
        shown = [str(eval(value)) for value in told]
        assert shown == [str(options[name].default) for name in re.findall(r"`(\w+)`", row[0])][: len(shown)], row
