"""Which layer may import what. The table below is the architecture; the rest of the file enforces it.

Imports are read from the syntax tree, so an import inside a function or under ``TYPE_CHECKING``
counts as well. The checker is itself checked against small sources that break each rule.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "flatfee"

HTTP = ("httpx", "httpx2", "aiohttp", "requests", "urllib3", "urllib.request", "http.client")
IO = (
    *HTTP,
    *("asyncio", "anyio", "concurrent", "multiprocessing", "selectors", "socket", "ssl", "subprocess", "threading"),
    *("io", "os", "pathlib", "shutil", "sqlite3", "tempfile"),
)
CLOCK = ("time", "sched")
RANDOM = ("random", "secrets", "uuid")
CLOCK_CALLS = frozenset({"now", "utcnow", "today"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Files of the package (glob patterns), and the modules none of them may import.

    ``allows`` names parts of those modules that they may import all the same. ``pure`` also forbids
    asking ``datetime`` for the present. Files that ``apart_from`` matches are exempt.
    """

    name: str
    files: tuple[str, ...]
    forbids: tuple[str, ...]
    allows: tuple[str, ...] = ()
    apart_from: tuple[str, ...] = ()
    pure: bool = False


LAYERS = (
    Layer(
        name="wire imports nothing of ours", files=("wire.py",), forbids=("flatfee", *IO, *CLOCK, *RANDOM), pure=True
    ),
    Layer(
        name="receipt and errors know the contract only",
        files=("receipt.py", "errors.py", "finding.py"),
        forbids=("flatfee.client", "flatfee.server", "flatfee.cli", *IO, *CLOCK, *RANDOM),
        pure=True,
    ),
    Layer(name="client knows no server", files=("client/**/*.py",), forbids=("flatfee.server", "flatfee.cli")),
    Layer(name="types know no layer", files=("types/**/*.py",), forbids=("flatfee.client", "flatfee.server", *IO)),
    Layer(
        name="tools know no client",
        files=("tools/**/*.py",),
        forbids=("flatfee.client", "flatfee.server", "flatfee.cli", *IO, *CLOCK, *RANDOM),
        pure=True,
    ),
    Layer(name="server knows no client", files=("server/**/*.py",), forbids=("flatfee.client", "flatfee.cli")),
    Layer(
        name="the client's core does no I/O",
        files=tuple(
            f"client/{name}.py"
            for name in (
                *("exchange", "errand", "watch", "halves", "sse", "stream", "config"),
                *("retry", "tries", "pacing", "limits"),
                *("parsing", "toolrun", "accumulate", "events", "event_stream"),
                *("arguments", "pieces", "raw", "raw_cores"),
            )
        ),
        forbids=("flatfee.client.http", "flatfee.client.sync", "flatfee.client.aio", *IO, *CLOCK, *RANDOM),
        pure=True,
    ),
    Layer(
        name="policy is a pure function",
        files=("server/policy/**/*.py",),
        forbids=("flatfee.server.providers", "flatfee.server.store", "flatfee.server.stages", *IO, *CLOCK, *RANDOM),
        allows=("flatfee.server.store.records",),
        pure=True,
    ),
    Layer(
        name="compaction is a pure function",
        files=("server/compaction/**/*.py",),
        forbids=("flatfee.server.providers", "flatfee.server.store", "flatfee.server.stages", *IO, *CLOCK, *RANDOM),
        pure=True,
    ),
    Layer(
        name="a replay asks no clock, no chance and nobody outside",
        files=("server/replaying/**/*.py", "server/asked.py"),
        forbids=("flatfee.server.providers", *IO, *CLOCK, *RANDOM),
        pure=True,
    ),
    Layer(
        name="what would become of a request is found without asking anybody",
        files=("server/inspecting/**/*.py",),
        apart_from=("server/inspecting/dry_run.py",),
        forbids=(*IO, *CLOCK, *RANDOM),
        pure=True,
    ),
    Layer(
        name="records of the store are values",
        files=("server/store/records.py",),
        forbids=("flatfee.server.providers", "flatfee.server.store", "flatfee.server.stages", *IO, *CLOCK, *RANDOM),
        pure=True,
    ),
    Layer(
        name="rules of the directory do no I/O",
        files=tuple(
            f"server/store/{name}.py"
            for name in ("directory", "accounts", "commands", "account_commands", "key_commands", "ledger_commands")
        ),
        forbids=("flatfee.server.providers", "flatfee.server.stages", "flatfee.server.admin", *IO, *CLOCK, *RANDOM),
        pure=True,
    ),
    Layer(
        name="integrations know no server",
        files=("integrations/**/*.py",),
        forbids=("flatfee.server", "flatfee.cli"),
    ),
    Layer(
        name="nothing needs the test double but the command that serves it",
        files=("**/*.py",),
        forbids=("flatfee.testing", "flatfee_pytest"),
        apart_from=("testing/**/*.py", "cli/serve.py", "cli/testing/**/*.py"),
    ),
    Layer(
        name="what a script says is pure",
        files=tuple(
            f"testing/scripting/{name}.py"
            for name in (
                *("conversation", "matchers", "differences", "matching"),
                *("closed", "replies", "speaking", "strict", "forms"),
            )
        ),
        forbids=("flatfee.client", "flatfee.cli", *IO, *CLOCK, *RANDOM),
        pure=True,
    ),
    Layer(
        name="nothing needs the integrations, nor the SDKs they are for",
        files=("**/*.py",),
        forbids=("flatfee.integrations", "openai"),
        apart_from=("integrations/**/*.py",),
    ),
    Layer(
        name="an HTTP library is named in five places",
        files=("**/*.py",),
        forbids=HTTP,
        apart_from=(
            *("client/http.py", "server/providers/**/*.py", "cli/admin/client.py", "integrations/**/*.py"),
            "testing/running/memory.py",
        ),
    ),
)


def imported(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of everything that ``module`` (a dotted package path) imports."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                parents = module.split(".")
                base = parents[: len(parents) + 1 - level] if level else []
                origin = ".".join([*base, *([source] if source else [])])
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name
            case _:
                pass


def clock_readings(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that ask ``datetime`` or ``date`` what time it is."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if name in CLOCK_CALLS:
                yield node.lineno
            case _:
                pass


@cache
def facts(source: str, home: str) -> tuple[tuple[tuple[int, str], ...], tuple[int, ...]]:
    """Return what a module of the package ``home`` imports, and where it reads the clock; each layer asks again."""
    tree = ast.parse(source)
    return tuple(imported(tree, home)), tuple(clock_readings(tree))


def within(name: str, modules: tuple[str, ...]) -> bool:
    """Tell whether ``name`` is one of the modules or a part of one."""
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


def members(layer: Layer, package: Path) -> list[Path]:
    exempt = {path for pattern in layer.apart_from for path in package.glob(pattern)}
    return sorted({path for pattern in layer.files for path in package.glob(pattern)} - exempt)


def breaches(layer: Layer, package: Path) -> list[str]:
    """Name every line of the layer that imports what it must not."""
    found: list[str] = []
    for path in members(layer, package):
        where = path.relative_to(package)
        imports, readings = facts(path.read_text("utf-8"), ".".join(["flatfee", *where.parent.parts]))
        found += [
            f"{where}:{line} imports {name}"
            for line, name in imports
            if within(name, layer.forbids) and not within(name, layer.allows)
        ]
        if layer.pure:
            found += [f"{where}:{line} reads the clock" for line in readings]
    return found


by_name = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)


@by_name
def test_layer_imports_only_what_it_may(layer: Layer) -> None:
    assert breaches(layer, PACKAGE) == []


def example_of(layer: Layer, package: Path, source: str) -> None:
    """Write ``source`` where the layer's first pattern finds it."""
    path = package / layer.files[0].replace("**/*.py", "deep/down.py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, "utf-8")


@by_name
@pytest.mark.parametrize("form", ["import {}", "from {} import x", "def f():\n    import {}.y", "__import__('{}')"])
def test_checker_finds_every_forbidden_import(layer: Layer, form: str, tmp_path: Path) -> None:
    for forbidden in layer.forbids:
        example_of(layer, tmp_path, form.format(forbidden))
        assert len(breaches(layer, tmp_path)) == 1, forbidden


@pytest.mark.parametrize(
    "source",
    [
        "from flatfee import server",
        "from ..server import app",
        "from .. import server",
        "from flatfee.server.store import base as b",
        "import importlib\nimportlib.import_module('flatfee.server')",
    ],
)
def test_checker_sees_through_relative_and_dynamic_imports(source: str, tmp_path: Path) -> None:
    layer = next(layer for layer in LAYERS if layer.name == "client knows no server")
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "sync.py").write_text(source, "utf-8")
    assert len(breaches(layer, tmp_path)) == 1


@pytest.mark.parametrize("source", ["import httpxyz", "from timeit import x", "import flatfee_more", "x = 'import os'"])
def test_checker_does_not_mistake_a_longer_name(source: str, tmp_path: Path) -> None:
    for layer in LAYERS:
        example_of(layer, tmp_path, source)
        assert breaches(layer, tmp_path) == []


def test_checker_finds_a_clock_reading_in_pure_code(tmp_path: Path) -> None:
    (tmp_path / "wire.py").write_text("from datetime import UTC, datetime\nNOW = datetime.now(UTC)\n", "utf-8")
    assert breaches(LAYERS[0], tmp_path) == ["wire.py:2 reads the clock"]


def test_allowed_part_of_a_forbidden_module_may_be_imported(tmp_path: Path) -> None:
    policy = next(layer for layer in LAYERS if layer.allows)
    example_of(policy, tmp_path, "from flatfee.server.store.records import Caller\n")
    assert breaches(policy, tmp_path) == []
    example_of(policy, tmp_path, "from flatfee.server.store.records_of import Caller\n")
    assert len(breaches(policy, tmp_path)) == 1


def test_exempt_files_may_name_the_http_library(tmp_path: Path) -> None:
    for name in ("client/http.py", "server/providers/openai.py", "client/sync.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import httpx\n", "utf-8")
    assert breaches(LAYERS[-1], tmp_path) == ["client/sync.py:1 imports httpx"]


HEAVY = ("flatfee.server", "flatfee.cli", "typer", "rich", "starlette", "uvicorn", "uvloop", "msgspec", "aiohttp")


def test_importing_flatfee_loads_no_server_and_no_terminal_library() -> None:
    """The base install has none of them, and an application that only calls models pays for none."""
    loaded = "import sys, flatfee; print(*sorted(sys.modules))"
    environ = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", loaded], env=environ, capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert "flatfee" in modules
    assert [name for name in modules if within(name, HEAVY)] == []
