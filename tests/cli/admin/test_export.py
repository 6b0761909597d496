"""``flatfee receipts export``: what a replay reads, oldest first, from a gateway or from its ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli.admin.conftest import Operator, ask

pytestmark = pytest.mark.slow
"""What it starts takes its time; ``make check`` has that."""

if TYPE_CHECKING:
    from flatfee.cli.demo.gateway import DemoGateway

ROBOT = ("--account", "acme", "--project", "ci", "--name", "robot")


@pytest.fixture
def asked(served: DemoGateway, remote: Operator) -> list[str]:
    """The ids of three requests."""
    remote.do("accounts", "create", "acme", "--plan", "pro")
    remote.do("accounts", "create", "zoe", "--plan", "small")
    remote.do("projects", "create", "acme", "ci")
    key = remote.do("keys", "create", *ROBOT).strip()
    return [ask(served, key) for _ in range(3)]


def exported(operator: Operator, *arguments: str) -> list[Any]:
    return [json.loads(text) for text in operator.do("receipts", "export", *arguments).splitlines()]


@pytest.mark.parametrize("way", ["local", "remote"])
def test_accounts_come_first_and_then_receipts_oldest_first(
    asked: list[str], way: str, request: pytest.FixtureRequest
) -> None:
    acme, zoe, *receipts = exported(request.getfixturevalue(way))
    assert [(row["object"], row["name"], row["plan"]) for row in (acme, zoe)] == [
        ("account", "acme", "pro"),
        ("account", "zoe", "small"),
    ]
    assert [row["request_id"] for row in receipts] == asked
    assert receipts[0]["facts"]["prompt_tokens"] > 0


def test_an_export_is_of_an_account_and_of_a_time(asked: list[str], remote: Operator) -> None:
    assert [row["name"] for row in exported(remote, "--account", "zoe")] == ["zoe"]
    assert len(exported(remote, "--account", "acme", "--project", "ci")) == 1 + len(asked)
    assert len(exported(remote, "--since", "1h")) == 2 + len(asked)
    assert len(exported(remote, "--until", "1h")) == 2
    assert len(exported(remote, "--since", "2099-01-01")) == 2


def test_an_export_into_a_file_can_be_replayed(
    asked: list[str], remote: Operator, config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "receipts.jsonl"
    assert remote.do("receipts", "export", "--out", str(out)) == ""
    done = remote.flatfee("policy", "replay", str(out), "--config", str(config), "--json")
    told = json.loads(done.stdout)
    assert (told["requests"], told["approximate"]) == (len(asked), 0)
    assert told["was"]["premium_units"] == told["would"]["premium_units"]


def test_what_cannot_be_done_is_told(here: Operator) -> None:
    done = here.run("receipts", "export", "--since", "yesterday")
    assert (done.exit_code, "'yesterday' is not a time" in done.stderr) == (2, True)
    done = here.run("receipts", "export", "--out", "/nowhere/receipts.jsonl")
    assert (done.exit_code, "cannot be written" in done.stderr) == (2, True)
