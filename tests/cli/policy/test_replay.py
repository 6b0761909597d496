"""``flatfee policy replay``: what it reads, shows and writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from tests.server.replaying.past import line, refused

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "policy"
GUIDE = ROOT / "docs" / "guides" / "policy-replay.md"

CONFIG = """
providers = [{{name = "p", kind = "simulated"}}]
routes = [
    {{name = "first", provider = "p", model = "m", tier = "premium"}},
    {{name = "economy", provider = "p", model = "m", tier = "economy"}},
]
plans = [{{name = "pro", fair_use = {fair_use}, output_reserve = 100}}, {{name = "large", fair_use = 100000}}]
"""
ACCOUNT = b'{"object":"account","name":"acme","plan":"pro"}'


@pytest.fixture
def receipts(tmp_path: Path) -> str:
    path = tmp_path / "receipts.jsonl"
    lines = [line(number * 60.0, number=number) for number in range(5)]
    turned_away = refused(400.0, "workflow_limit", workflow={"id": "w"})
    path.write_bytes(b"\n".join([ACCOUNT, *lines, turned_away]) + b"\n")
    return str(path)


@pytest.fixture
def new(tmp_path: Path) -> str:
    path = tmp_path / "new.toml"
    path.write_text(CONFIG.format(fair_use=700))
    return str(path)


@pytest.fixture
def old(tmp_path: Path) -> str:
    path = tmp_path / "old.toml"
    path.write_text(CONFIG.format(fair_use=100_000))
    return str(path)


def told(flatfee: Flatfee, *arguments: str) -> Any:
    done = flatfee("policy", "replay", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def wrong(flatfee: Flatfee, *arguments: str) -> str:
    done = flatfee("policy", "replay", *arguments)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_both_sides_are_shown(flatfee: Flatfee, receipts: str, new: str) -> None:
    done = flatfee("policy", "replay", receipts, "--config", new)
    assert done.exit_code == 0, done.output
    lines = [text.split() for text in done.stdout.splitlines()]
    assert ["premium", "5", "2", "-3", "(-60%)"] in lines
    assert ["workflows", "refused", "1", "0", "-1", "(-100%)"] in lines
    assert "1 requests that nobody answered would be" in done.stdout
    assert "acme" in done.stdout


def test_the_machine_form_tells_the_same(flatfee: Flatfee, receipts: str, new: str) -> None:
    found = told(flatfee, receipts, "--config", new)
    assert (found["object"], found["requests"], found["skipped"]) == ("policy_replay", 6, 0)
    assert (found["was"]["lanes"]["premium"], found["would"]["lanes"]["premium"]) == (5, 2)


def test_a_plan_can_be_given_to_all_or_to_one(flatfee: Flatfee, receipts: str, new: str) -> None:
    for plan in ("large", "acme=large"):
        found = told(flatfee, receipts, "--config", new, "--plan", plan)
        assert found["would"]["lanes"]["premium"] == 6


def test_the_old_configuration_can_be_replayed_too(flatfee: Flatfee, receipts: str, new: str, old: str) -> None:
    found = told(flatfee, receipts, "--config", new, "--was", old)
    assert found["was_from"] == "configuration"
    assert (found["was"]["lanes"]["premium"], found["would"]["lanes"]["premium"]) == (6, 2)


def test_receipts_come_from_standard_input_too(flatfee: Flatfee, receipts: str, new: str) -> None:
    done = flatfee("policy", "replay", "-", "--config", new, "--json", typed=Path(receipts).read_text())
    assert json.loads(done.stdout)["requests"] == 6


def test_the_receipts_that_would_be_can_be_replayed_again(
    flatfee: Flatfee, receipts: str, new: str, tmp_path: Path
) -> None:
    out = tmp_path / "would.jsonl"
    found = told(flatfee, receipts, "--config", new, "--receipts-out", str(out))
    again = told(flatfee, str(out), "--config", new, "--plan", "pro")
    assert len(out.read_bytes().splitlines()) == 6
    assert again["was"]["lanes"] == found["would"]["lanes"]


@pytest.mark.parametrize("suffix", ["svg", "html"])
def test_a_chart_is_drawn(flatfee: Flatfee, receipts: str, new: str, tmp_path: Path, suffix: str) -> None:
    chart = tmp_path / f"chart.{suffix}"
    assert flatfee("policy", "replay", receipts, "--config", new, "--chart", str(chart)).exit_code == 0
    text = chart.read_text("utf-8")
    svg = text[text.index("<svg") : text.index("</svg>") + 6]
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "What new.toml would have done" in text


def test_a_wrong_line_ends_it_with_its_number_unless_it_is_passed_over(
    flatfee: Flatfee, receipts: str, new: str
) -> None:
    with Path(receipts).open("ab") as file:
        file.write(b'{"account": "acme"}\n')
    assert wrong(flatfee, receipts, "--config", new).startswith("line 8: is not a receipt")
    assert told(flatfee, receipts, "--config", new, "--skip-bad")["skipped"] == 1


def test_an_account_on_a_plan_that_is_gone_ends_it_with_the_cure(flatfee: Flatfee, tmp_path: Path, new: str) -> None:
    path = tmp_path / "gone.jsonl"
    path.write_bytes(ACCOUNT.replace(b"pro", b"gone") + b"\n" + line())
    assert "--plan acme=PLAN" in wrong(flatfee, str(path), "--config", new)


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (("{receipts}", "--config", "{new}", "--chart", "x.png"), "must end in .svg or .html"),
        (("{receipts}", "--config", "{new}", "--plan", "acme=huge"), "There is no plan 'huge'"),
        (("nowhere.jsonl", "--config", "{new}"), "nowhere.jsonl: No such file"),
        (("{receipts}", "--config", "nowhere.toml"), "nowhere.toml: cannot be read"),
        (("{new}.empty", "--config", "{new}"), "holds no receipt"),
    ],
)
def test_what_is_wrong_is_told_on_one_line(
    flatfee: Flatfee, receipts: str, new: str, arguments: tuple[str, ...], tells: str
) -> None:
    Path(f"{new}.empty").touch()
    assert tells in wrong(flatfee, *(each.format(receipts=receipts, new=new) for each in arguments))


def test_the_guide_shows_what_its_example_comes_to(flatfee: Flatfee, tmp_path: Path) -> None:
    chart = tmp_path / "chart.svg"
    example = (str(EXAMPLES / "receipts.jsonl"), "--config", str(EXAMPLES / "flatfee.toml"), "--chart", str(chart))
    shown = "\n".join(text.rstrip() for text in flatfee("policy", "replay", *example).stdout.splitlines())
    assert f"```text\n{shown}\n```" in GUIDE.read_text("utf-8")
    assert chart.read_text("utf-8") == GUIDE.with_suffix(".svg").read_text("utf-8")
