"""Rules the whole repository keeps: no machine's paths, no keys, small files, a changelog that is current."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# Written in two parts, so that this file passes its own test.
LEFTOVERS = {
    "a path of one machine": re.compile(
        r"(?<![\w.}])/(?:wor" + r"k/(?:main|shared)|roo" + r"t/|tmp/too" + r"ls|opt/whee" + r"ls)"
    ),
    "a registry host": re.compile(r"pypi\.o" + r"rg|python" + r"hosted|registry\.npm" + r"js"),
    "a cloud access key": re.compile(r"\bAKI" + r"A[0-9A-Z]{16}\b"),
    "a section of a document that is not here": re.compile(r"contract(?:'s)?,? sec" + r"tion"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KE" + r"Y-----"),
}
KEY = re.compile(r"ff_(?:proj|team|admin)_[0-9A-Za-z]{49}")
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def tracked() -> list[Path]:
    """Every text file in git, or skip where this is not a clone."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def checksum(body: str) -> str:
    """Return the six characters that a key of ours ends with: CRC32 in base 62."""
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits


def is_real_key(text: str) -> bool:
    return text[-6:] == checksum(text[:-6])


def test_no_file_carries_a_machines_path_a_registry_or_a_secret() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {what}: {match.group()}"
        for path in tracked()
        for what, pattern in LEFTOVERS.items()
        for match in pattern.finditer(path.read_text("utf-8", errors="replace"))
    ]
    assert found == []


def test_no_file_carries_a_key_that_a_gateway_would_accept() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()[:12]}…"
        for path in tracked()
        for match in KEY.finditer(path.read_text("utf-8", errors="replace"))
        if is_real_key(match.group())
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "see /wor" + "k/main/x",
        "python" + "hosted.org",
        "AKI" + "AIOSFODNN7EXAMPLE",
        "PYTHONPATH=/roo" + "t/x",
        "(contract, sec" + "tion 2)",
    ],
)
def test_leftover_patterns_find_what_they_name(text: str) -> None:
    assert any(pattern.search(text) for pattern in LEFTOVERS.values())


def test_key_check_tells_a_checksum_from_a_made_up_ending() -> None:
    body = "ff_proj_" + "a" * 43
    assert KEY.fullmatch(body + checksum(body))
    assert is_real_key(body + checksum(body))
    assert not is_real_key(f"{body}000000")


def test_source_files_and_functions_stay_small() -> None:
    texts = {str(path.relative_to(ROOT / "src")): path.read_text("utf-8") for path in SOURCES}
    long_files = {name: lines for name, text in texts.items() if (lines := len(text.splitlines())) > MAX_FILE_LINES}
    long_functions = {
        f"{name}:{node.name}": length
        for name, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert SOURCES
    assert (long_files, long_functions) == ({}, {})


def test_changelog_has_an_entry_for_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)


@pytest.mark.pain(21)
def test_the_next_major_of_a_dependency_is_not_taken_unseen() -> None:
    """Pain 21: ``httpx`` 0.28 dropped an argument, and who let it in broke. What never breaks by promise is free.

    Before 1.0 the second number is what a major is.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    capped = re.compile(r"[\w-]+>=(?:0\.[\d.]+,<0\.\d+|[1-9][\d.]*,<\d+)")
    free = {"typing-extensions"}
    needed = {re.split(r"[<>=]", line)[0]: line for line in project["dependencies"]}
    assert [line for name, line in needed.items() if name not in free and not capped.fullmatch(line)] == []


def test_build_requirements_are_pyprojects() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    lines = (ROOT / "requirements" / "build.in").read_text("utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == requires


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_command_named_is_a_target(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(_code(ROOT / page))))
    assert {"demo", "test"} <= named
    assert named <= targets


def _code(path: Path) -> list[str]:
    text = path.read_text("utf-8")
    return re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)


def test_decision_records_are_numbered_once_and_have_every_section() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [path.name[:4] for path in records]
    assert numbers == [f"{number:04}" for number in range(1, len(records) + 1)]
    for path in records:
        headings = re.findall(r"^## (.+)$", path.read_text("utf-8"), re.MULTILINE)
        assert headings[:4] == ["Status", "Context", "Decision", "Consequences"], path.name


def test_index_of_decisions_lists_every_record() -> None:
    folder = ROOT / "docs" / "decisions"
    linked = set(re.findall(r"\]\((\d{4}-[^)]+\.md)\)", (folder / "index.md").read_text("utf-8")))
    assert linked == {path.name for path in folder.glob("[0-9]*.md")}
