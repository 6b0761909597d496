"""The guide on journal and verdict names what there is, and nothing else."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from flatfee.testing.judging.checks.base import Limits
from flatfee.testing.judging.entry import Entry
from flatfee.testing.judging.journal import Journal
from flatfee.testing.judging.verdicts import CHECKS

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "testing-verdicts.md").read_text("utf-8")


def section(title: str) -> str:
    return re.split(r"^##+ ", GUIDE.split(f"# {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    return [name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]


def test_every_rule_is_in_the_table_with_its_arguments() -> None:
    rules, arguments = section("The rules").split("| argument | default | |")
    assert first_cells(rules) == list(CHECKS)
    named = " ".join(re.findall(r"\| ([^|]*) \|$", rules, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", named)) <= set(Limits.model_fields)
    defaults = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \|", arguments, re.MULTILINE))
    assert defaults == {name: str(field.default) for name, field in Limits.model_fields.items()}


def test_everything_that_an_entry_tells_is_in_the_table() -> None:
    fields = {field.name for field in dataclasses.fields(Entry)}
    told = {name for name in (*vars(Entry), *fields) if not name.startswith("_")} - {"of"}
    moments = {"arrived_at", "first_byte_at", "ended_at"}
    assert set(first_cells(section("One request"))) == told - moments


def test_everything_that_a_journal_offers_is_in_the_table() -> None:
    offered = {name for name in vars(Journal) if not name.startswith("_")} - {"copied", "now"}
    assert offered - set(re.findall(r"journal\.(?:of\(.*?\)\.)?(\w+)", section("The journal"))) == set()
