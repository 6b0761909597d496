"""Everything that README and documentation show is tried: snippets run, files parse, links lead somewhere.

A fence's language tells what it is. ``python`` and ``bash`` run against a gateway with the
demonstration's configuration; ``toml`` is a configuration file; ``json`` is JSON. ``console`` shows
commands that install something or run for ever: those must exist, and are not run. ``text`` is shown.
A ``python`` fence with a ``title``, or a ``toml`` fence with an example's, is an excerpt of the file of that name,
which other tests run; ``yaml`` and ``js`` always are.
The fences of one language on a page belong together and are taken in their order.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from opentelemetry.util._once import Once
from pydantic import BaseModel

from flatfee import wire

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LANGUAGES = {"python", "bash", "toml", "json", "yaml", "js", "console", "text"}
SOURCES = {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<source>[^\n\"]+)\")?[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_KEY = re.compile(r"ff_proj_[0-9A-Za-z]{49}")


@dataclass(frozen=True, slots=True)
class Fence:
    """A block of code on a page, the line it starts on, and the file it is an excerpt of."""

    page: Path
    line: int
    language: str
    code: str
    source: str | None

    @property
    def of_an_example(self) -> bool:
        return self.source is not None and self.source.startswith("examples/")


def fences(page: Path, language: str | None = None) -> list[Fence]:
    text = page.read_text("utf-8")
    found = [
        Fence(page, text.count("\n", 0, match.start("code")) + 1, match["language"], match["code"], match["source"])
        for match in _FENCE.finditer(text)
    ]
    return [fence for fence in found if language in (None, fence.language)]


def pages_with(language: str) -> pytest.MarkDecorator:
    pages = [page for page in PAGES if fences(page, language)]
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


# What is shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_fence_has_a_language_that_a_test_takes(page: Path) -> None:
    assert {fence.language for fence in fences(page)} <= LANGUAGES
    assert page.read_text("utf-8").count("```") == 2 * len(fences(page))


@pytest.mark.parametrize("language", ["python", "toml", "yaml", "js"])
def test_excerpts_are_as_their_files_have_them(language: str) -> None:
    for fence in [fence for page in PAGES for fence in fences(page, language) if fence.source is not None]:
        if language == "toml" and not fence.of_an_example:
            continue
        assert fence.code in (ROOT / str(fence.source)).read_text("utf-8"), f"{fence.page.name}:{fence.line}"


@pytest.mark.parametrize("language", ["yaml", "js"])
def test_what_no_test_of_this_page_reads_is_of_a_file_that_is_tested(language: str) -> None:
    assert [fence for page in PAGES for fence in fences(page, language) if fence.source is None] == []


def test_page_of_the_control_api_names_every_endpoint() -> None:
    from flatfee.testing.control.endpoints import endpoints
    from flatfee.testing.control.family import Family

    text = (DOCS / "guides" / "testing-http.md").read_text("utf-8")
    rows = [*endpoints(), *Family(lambda: None).endpoints()]
    assert [row for row in rows if f"`{row.method} /_test{row.path}`" not in text] == []


def test_every_example_of_a_framework_is_run_by_a_test() -> None:
    table = (ROOT / "tests" / "frameworks" / "test_examples.py").read_text("utf-8")
    run = re.findall(r'^    "(\w+\.py)": "', table, re.MULTILINE)
    assert sorted(run) == sorted(path.name for path in (ROOT / "examples" / "frameworks").glob("*.py"))


@pages_with("json")
def test_json_is_json(page: Path) -> None:
    for fence in fences(page, "json"):
        json.loads(fence.code)


@pages_with("console")
def test_commands_that_are_shown_exist(page: Path) -> None:
    """The page of the command line is generated, so it knows every command."""
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    commands = re.findall(r"^##+ `(.+)`$", (DOCS / "reference" / "cli.md").read_text("utf-8"), re.MULTILINE)
    for fence in fences(page, "console"):
        assert set(re.findall(r"^\$ make ([a-z-]+)", fence.code, re.MULTILINE)) <= targets
        for group, member in re.findall(r"^\$ flatfee ([a-z-]+)(?: ([a-z-]+))?", fence.code, re.MULTILINE):
            is_group = any(command.startswith(f"flatfee {group} ") for command in commands)
            assert (f"flatfee {group} {member}" if is_group else f"flatfee {group}") in commands


@pages_with("toml")
def test_configuration_that_is_shown_is_accepted(page: Path) -> None:
    from flatfee.server.configuration import parse_settings
    from flatfee.server.providers.rows import ROWS

    text = "\n".join(fence.code for fence in fences(page, "toml") if not fence.of_an_example)
    if not text:
        return
    named = [*re.findall(r'_env = "([A-Z_]+)"', text), *(row.key_env for row in ROWS.values() if row.key_env)]
    secrets = {name: f"{name}-".ljust(40, "x") for name in named}
    settings = parse_settings(text, source=page.name, env=secrets)
    assert settings.routes
    assert settings.accounts


def test_configuration_guide_names_every_key() -> None:
    from flatfee.server.settings import Settings

    text = (DOCS / "guides" / "configuration.md").read_text("utf-8")
    assert [key for key in _keys(Settings) if not re.search(rf"`{key}`|\[{key}\]", text)] == []


def test_page_of_the_http_api_names_every_endpoint() -> None:
    from flatfee.server.routes import ENDPOINTS, NAMED_ENDPOINTS

    text = (DOCS / "reference" / "http-api.md").read_text("utf-8")
    paths = [*(f"{verb} {path}`" for verb, path in ENDPOINTS), *(f"{verb} {path}{{" for verb, path in NAMED_ENDPOINTS)]
    assert [path for path in paths if f"`{path}" not in text] == []


def test_page_of_the_admin_api_names_every_endpoint_and_what_it_takes() -> None:
    from flatfee.server.admin.endpoint import Nothing
    from flatfee.server.admin.table import ENDPOINTS, ROOT

    text = (DOCS / "reference" / "admin-api.md").read_text("utf-8")
    assert [row.path for row in ENDPOINTS if f"`{row.method} {ROOT}{row.path}`" not in text] == []
    bodies = {row.takes for row in ENDPOINTS if row.takes is not Nothing}
    queries = {row.query for row in ENDPOINTS if row.query is not Nothing}
    members = {name for model in bodies | queries for name in model.model_fields}
    assert [name for name in members if f"`{name}`" not in text] == []


def _keys(table: type[BaseModel]) -> Iterator[str]:
    """Yield the name of every key of a table and of the tables inside it."""
    for name, field in table.model_fields.items():
        yield name
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _keys(part)


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    """The generator of pages; what a page takes to make, a process among it, is spent once for all tests."""
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SOURCES["PYTHONPATH"])
        patch.setattr(module, "PAGES", {name: cache(page) for name, page in module.PAGES.items()})
        yield module


def test_generated_pages_are_current(generator: ModuleType) -> None:
    assert generator.main(["--check"]) == 0


def test_stale_page_is_named_and_not_rewritten_by_a_check(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator, "DOCS", tmp_path)
    (tmp_path / "reference").mkdir()
    generator.main([])
    assert generator.main(["--check"]) == 0
    page = tmp_path / "reference" / "wire.md"
    page.write_text("yesterday's", "utf-8")
    assert generator.main(["--check"]) == 1
    assert "wire.md is stale" in capsys.readouterr().err
    assert page.read_text("utf-8") == "yesterday's"


def test_page_of_the_wire_names_every_member_of_the_tables(generator: ModuleType) -> None:
    page = generator.wire_page()
    for names in (wire.Lane, wire.Reason, wire.ReceiptState, wire.AttemptOutcome, wire.Task, wire.ERRORS):
        assert [name for name in names if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    """The strict build checks the links inside ``docs``; these pages are outside of it."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


# What is run


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Start ``flatfee serve`` without a file and yield the environment that a caller needs."""
    cwd = tmp_path_factory.mktemp("serve")
    admin_key = secrets.token_urlsafe(32)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (cwd / "output").open("wb") as output:
        process = subprocess.Popen(
            flatfee("serve", "--port", str(port)),
            cwd=cwd,
            env={name: value for name, value in os.environ.items() if not name.startswith("FLATFEE_")}
            | SOURCES
            | {"FLATFEE_ADMIN_KEY": admin_key},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: process.poll() is not None or answers(f"{url}/health/ready"))
            printed = (cwd / "output").read_text("utf-8")
            key = _KEY.search(printed)
            assert key, f"flatfee serve printed no key:\n{printed}"
            yield {
                "FLATFEE_BASE_URL": f"{url}/v1",
                "FLATFEE_API_KEY": key.group(),
                "FLATFEE_ADMIN_URL": url,
                "FLATFEE_ADMIN_KEY": admin_key,
            }
        finally:
            process.terminate()
            process.wait(timeout=60)


def flatfee(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from flatfee.cli import main; main()", *arguments]


def wait_for(ready: Callable[[], bool], seconds: float = 60.0) -> None:
    """Ask until the answer is yes; a gateway that does not come up is a failure, not a hang."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "the gateway did not become ready"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page set a tracer provider, and no other test have it: a process can set one only once."""
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER_SET_ONCE", Once())


@pytest.mark.slow
@pages_with("python")
@pytest.mark.usefixtures("untraced")
def test_python_that_is_shown_runs(
    page: Path, gateway: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in gateway.items():
        monkeypatch.setenv(name, value)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for fence in fences(page, "python"):
        if fence.source is not None:
            continue
        # Blank lines before the code make its line numbers the page's.
        code = compile("\n" * (fence.line - 1) + fence.code, str(page), "exec", dont_inherit=True)
        exec(code, namespace)
        assert capsys.readouterr().out.strip(), f"{page.name}:{fence.line} printed nothing"


@pages_with("bash")
def test_shell_that_is_shown_runs(page: Path, gateway: Mapping[str, str], tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    for fence in fences(page, "bash"):
        run_shell(fence, gateway, tmp_path)


def test_quickstart_shows_what_the_demonstration_answers(gateway: Mapping[str, str], tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    page = DOCS / "quickstart.md"
    (asked,), (shown,) = fences(page, "bash"), fences(page, "json")
    answered = json.loads(run_shell(asked, gateway, tmp_path))
    assert _without_moment(answered) == _without_moment(json.loads(shown.code))


def run_shell(fence: Fence, gateway: Mapping[str, str], cwd: Path) -> str:
    line = ["bash", "-euo", "pipefail", "-c", fence.code]
    done = subprocess.run(line, cwd=cwd, env=os.environ | gateway, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{fence.page.name}:{fence.line}\n{done.stdout}{done.stderr}"
    return done.stdout


def _without_moment(value: object) -> object:
    """Blank what is another one each time: ids, times, and what is left."""
    if isinstance(value, dict):
        moment = {"request_id", "created_at", "resets_at", "duration_ms", "remaining", "active"}
        return {key: ... if key in moment else _without_moment(part) for key, part in value.items()}
    return [_without_moment(part) for part in value] if isinstance(value, list) else value
