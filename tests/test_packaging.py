"""The built wheel, as a stranger gets it: its content, and what it does in an environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment, and an empty folder to run its commands in."""

    root: Path
    cwd: Path

    def run(self, command: str, *arguments: str | Path) -> str:
        """Run one of the environment's commands and return its output; fail with all of it."""
        # Nothing of this checkout and nothing of the caller's gateway may leak in.
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "FLATFEE_", "COVERAGE_"))
        }
        line = [self.root / "bin" / command, *arguments]
        done = subprocess.run(line, cwd=self.cwd, env=environ, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{command} {arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def build(target: str, into: Path, source: Path = ROOT) -> Path:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", into], cwd=source, check=True)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment with the server's locked dependencies and the wheel."""
    environment = Environment(tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("cwd"))
    venv.create(environment.root, with_pip=True)
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    environment.run("python", *pip, "--require-hashes", "--requirement", ROOT / "requirements" / "server.txt")
    environment.run("python", *pip, "--no-deps", wheel)
    return environment


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "flatfee/py.typed" in names
    assert f"flatfee-{VERSION}.dist-info/licenses/LICENSE" in names
    assert {name.split("/")[0] for name in names} == {"flatfee", "flatfee_pytest.py", f"flatfee-{VERSION}.dist-info"}
    assert [name for name in names if name.endswith((".pth", ".pyc", ".db"))] == []


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Migrations and the demonstration's configuration are files beside the modules."""
    files = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*") if path.is_file()}
    missing = files - set(zipfile.ZipFile(wheel).namelist())
    assert [name for name in missing if "__pycache__" not in name] == []


def test_wheel_says_what_it_needs(wheel: Path) -> None:
    metadata = zipfile.ZipFile(wheel).read(f"flatfee-{VERSION}.dist-info/METADATA").decode()
    assert "Requires-Python: >=3.11" in metadata
    assert "Provides-Extra: server" in metadata
    base = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    named = {re.split(r"[<>=!~;\[ ]", line.removeprefix("Requires-Dist: "))[0] for line in base}
    assert named == {"anyio", "httpx", "pydantic", "tenacity", "typing-extensions"}


def test_wheel_announces_the_pytest_plugin(wheel: Path) -> None:
    entries = zipfile.ZipFile(wheel).read(f"flatfee-{VERSION}.dist-info/entry_points.txt").decode()
    assert "[pytest11]\nflatfee = flatfee_pytest\n" in entries


def test_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build("sdist", tmp_path / "sdist")
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path], check=True)
    again = build("wheel", tmp_path / "again", source=tmp_path / f"flatfee-{VERSION}")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


def test_installed_package_meets_its_own_requirements(installed: Environment) -> None:
    installed.run("python", "-m", "pip", "--disable-pip-version-check", "check")


def test_installed_package_imports_from_the_environment(installed: Environment) -> None:
    where = installed.run("python", "-c", "import flatfee; print(flatfee.__file__)")
    assert Path(where.strip()).is_relative_to(installed.root)


def test_command_tells_its_version_and_help(installed: Environment) -> None:
    assert VERSION in installed.run("flatfee", "--version")
    usage = installed.run("flatfee", "--help")
    assert all(command in usage for command in ("serve", "demo", "chat", "route"))


def test_demo_ends_by_itself_with_success(installed: Environment) -> None:
    """Every lane is shown, and the failure that ends the run is caught by name."""
    shown = installed.run("flatfee", "demo")
    for word in ("premium", "budget", "continuation", "fallback", "FallbackExhausted"):
        assert word in shown


def test_test_double_answers(installed: Environment) -> None:
    code = (
        "from flatfee.testing import running_gateway\n"
        "with running_gateway() as gateway, gateway.client() as client:\n"
        "    hello = [{'role': 'user', 'content': 'Hello'}]\n"
        "    print(client.chat.completions.create(model='auto', messages=hello).receipt.lane)\n"
        "    gateway.assert_resilient()\n"
    )
    assert installed.run("python", "-c", code) == "premium\n"
