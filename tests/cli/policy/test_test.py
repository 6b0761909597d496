"""``flatfee policy test``: cases are compared, and what differs is told."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]  # nothing here has stubs for it

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee

EXAMPLES = Path(__file__).parents[3] / "examples" / "policy"
CONFIG = str(EXAMPLES / "flatfee.toml")
GOOD = '[[cases]]\nname = "good"\nrequest = {context = 10, tools = true}\nexpect = {lane = "premium"}\n'
BAD = '[[cases]]\nname = "bad"\nrequest = {task = "plan", context = 10}\nexpect = {lane = "budget", then = []}\n'


def run(flatfee: Flatfee, cases: str, *options: str) -> Any:
    text = f'[defaults]\naccount = {{plan = "pro"}}\nat = 2026-11-25T14:00:00\n{cases}'
    return flatfee("policy", "test", "-", "--config", CONFIG, *options, typed=text)


def test_the_example_is_as_expected(flatfee: Flatfee) -> None:
    shown = flatfee("policy", "test", str(EXAMPLES / "cases.toml"), "--config", CONFIG)
    assert (shown.exit_code, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("ok   planning goes to premium")
    assert lines[-1] == "12 cases, all as expected"


def test_a_case_that_fails_tells_what_differs_and_the_rules(flatfee: Flatfee) -> None:
    shown = run(flatfee, GOOD + BAD)
    assert shown.exit_code == 1
    assert "ok   good\nFAIL bad\n       lane: expected budget, got premium\n" in shown.stdout
    assert "then: expected [], got [openai-premium-spare, groq-economy]" in shown.stdout
    assert "careful-work  yes      task is plan" in shown.stdout
    assert shown.stdout.endswith("2 cases, 1 failed\n")


def test_a_refusal_that_was_not_expected_says_why(flatfee: Flatfee) -> None:
    shown = run(flatfee, BAD.replace("context = 10", 'context = 10, model = "gpt-9"'))
    assert "error: expected none, got model_not_found" in shown.stdout
    assert "There is no model 'gpt-9'" in shown.stdout
    assert "lane" not in shown.stdout


def test_json_tells_every_case(flatfee: Flatfee) -> None:
    told = json.loads(run(flatfee, GOOD + BAD, "--json").stdout)
    assert (told["ok"], told["passed"], told["failed"]) == (False, 1, 1)
    good, bad = told["cases"]
    assert (good["name"], good["ok"], good["differences"], good["got"]["route"]) == ("good", True, [], "openai-premium")
    assert bad["differences"][0] == {"what": "lane", "expected": "budget", "got": "premium"}


@pytest.mark.parametrize(
    ("cases", "cure"),
    [
        ("", "-: cases: is missing; add it"),
        (GOOD.replace("lane", "lain"), "-: cases[0].expect.lain: unknown key; did you mean 'lane'?"),
        ("[[cases", "-: is not TOML"),
    ],
)
def test_a_wrong_file_is_an_error_of_its_own(flatfee: Flatfee, cases: str, cure: str) -> None:
    shown = run(flatfee, cases)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert cure in shown.stderr


def test_a_file_that_is_not_there_is_an_error_of_its_own(flatfee: Flatfee, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    assert "cannot be read" in flatfee("policy", "test", missing, "--config", CONFIG).stderr
    shown = flatfee("policy", "test", str(EXAMPLES / "cases.toml"), "--config", missing)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "missing.toml: cannot be read" in shown.stderr


def test_the_guide_shows_what_is_written(flatfee: Flatfee, tmp_path: Path) -> None:
    guide = (EXAMPLES.parents[1] / "docs" / "guides" / "policy-testing.md").read_text("utf-8")
    rows = re.split(r"(?=\[\[policy\.rules\]\])", Path(CONFIG).read_text("utf-8"))
    changed = tmp_path / "flatfee.toml"
    changed.write_text("".join(row for row in rows if "save-the-last-tenth" not in row), "utf-8")
    shown = flatfee("policy", "test", str(EXAMPLES / "cases.toml"), "--config", str(changed))
    written = "\n".join(line.rstrip() for line in shown.stdout.splitlines())
    (fence,) = re.findall(r"```text\n(.*?)\n```", guide, re.DOTALL)
    assert fence in written


def test_the_workflow_runs_the_command_on_files_that_are_there() -> None:
    workflow = yaml.safe_load((EXAMPLES / "github-workflow.yml").read_text("utf-8"))
    command = shlex.split(workflow["jobs"]["policy"]["steps"][-1]["run"])
    assert command[:3] == ["flatfee", "policy", "test"]
    assert [name for name in command if name.endswith(".toml") and not (EXAMPLES / name).exists()] == []
