"""``flatfee doctor``: a line for each check, the cure of what is wrong, and exit codes that mean something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee

CONFIG = """
providers = [{name = "sim", kind = "simulated"}]
routes = [{name = "r", provider = "sim", model = "m", tier = "premium"}]
plans = [{name = "pro", fair_use = 1000}]
accounts = [{name = "acme", plan = "pro", projects = [{name = "ci", keys = [{name = "ci", key_env = "CI_KEY"}]}]}]
"""
KEY = "a-secret-of-the-operator-with-40-letters"


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "own.toml"
    path.write_text(f'{CONFIG}server = {{store = "sqlite:///{tmp_path}/ledger.db"}}\n')
    return str(path)


def test_a_gateway_that_is_well_exits_with_0(flatfee: Flatfee, config: str) -> None:
    shown = flatfee("doctor", "--config", config, env={"CI_KEY": KEY})
    assert shown.exit_code == 0, shown.output
    checks = [line.split(":")[0].split(maxsplit=1)[1] for line in shown.stdout.splitlines()]
    assert {"configuration", "store", "clock", "provider sim", "sqlite", "python", "open files"} <= set(checks)
    assert {line.split()[0] for line in shown.stdout.splitlines()} <= {"ok", "warn"}


def test_a_secret_that_is_missing_exits_with_1_and_the_rest_is_looked_at(flatfee: Flatfee, config: str) -> None:
    shown = flatfee("doctor", "--config", config, env={"CI_KEY": ""})
    assert shown.exit_code == 1
    assert "FAIL configuration" in shown.stdout
    assert "'CI_KEY' is not set; export it" in shown.stdout
    assert "provider sim" in shown.stdout


@pytest.mark.parametrize("text", [None, "not = [toml", "server = {prot = 1}\n" + CONFIG])
def test_a_configuration_that_cannot_be_read_exits_with_2(flatfee: Flatfee, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "own.toml"
    if text is not None:
        path.write_text(text)
    shown = flatfee("doctor", "--config", str(path))
    assert shown.exit_code == 2
    assert shown.stdout.startswith(f"FAIL configuration: {path}: ")
    assert ("'flatfee init' makes one" in shown.stdout) is (text is None)


def test_a_key_in_the_file_is_a_warning_that_does_not_show_it(flatfee: Flatfee, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(CONFIG.replace('"simulated"', '"simulated", api_key = "sk-very-secret"'))
    shown = flatfee("doctor", "--config", str(path), env={"CI_KEY": KEY, "FLATFEE_STORE": "memory://"})
    assert shown.exit_code == 0
    assert "warn configuration: providers[0].api_key: the key stands in the file" in shown.stdout
    assert "sk-very-secret" not in shown.output


def test_an_admin_secret_that_is_too_short_is_told_without_showing_it(flatfee: Flatfee, config: str) -> None:
    shown = flatfee("doctor", "--config", config, env={"CI_KEY": KEY, "FLATFEE_ADMIN_KEY": "hunter2"})
    assert shown.exit_code == 1
    assert "FAIL configuration" in shown.stdout
    assert "'FLATFEE_ADMIN_KEY' cannot be a key" in shown.stdout
    assert "hunter2" not in shown.output


def test_json_is_one_object_with_every_finding(flatfee: Flatfee, config: str) -> None:
    shown = flatfee("doctor", "--config", config, "--json", env={"CI_KEY": ""})
    told = json.loads(shown.stdout)
    assert (shown.exit_code, told["ok"]) == (1, False)
    first = told["findings"][0]
    assert (first["check"], first["verdict"]) == ("configuration", "fail")
    assert set(first) == {"check", "verdict", "found", "cure"}
    assert all(finding["cure"] for finding in told["findings"] if finding["verdict"] != "ok")


def test_a_doubtful_rule_is_a_warning(flatfee: Flatfee, config: str) -> None:
    path = Path(config)
    rule = '\n[[policy.rules]]\nwhen = {account = ["other"]}\ntier = "premium"\nreason = "default"\n'
    path.write_text(path.read_text("utf-8") + rule)
    shown = flatfee("doctor", "--config", config, env={"CI_KEY": KEY})
    assert shown.exit_code == 0, shown.output
    assert "warn configuration: policy.rules[0].when.account: 'other' is not in this file" in shown.stdout


def test_live_asks_every_route_and_says_before_what_that_costs(flatfee: Flatfee, config: str) -> None:
    shown = flatfee("doctor", "--live", "--config", config, env={"CI_KEY": KEY})
    assert shown.exit_code == 0, shown.output
    assert shown.stderr == "Asking 1 route for about one token each …\n"
    assert shown.stdout.splitlines()[-1].startswith("ok   route r: it answered in ")


def test_live_as_json_is_one_object(flatfee: Flatfee, config: str) -> None:
    told = json.loads(flatfee("doctor", "--live", "--json", "--config", config, env={"CI_KEY": KEY}).stdout)
    assert told["ok"]
    assert told["findings"][-1]["check"] == "route r"


def test_live_exits_with_1_where_a_route_cannot_be_asked(flatfee: Flatfee, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(CONFIG.replace('"simulated"', '"openai", base_url = "http://127.0.0.1:9", api_key_env = "UP_KEY"'))
    shown = flatfee("doctor", "--live", "--config", str(path), env={"CI_KEY": KEY, "FLATFEE_STORE": "memory://"})
    assert shown.exit_code == 1
    assert "FAIL route r: it was not asked: its key UP_KEY is not set. Export UP_KEY;" in shown.stdout
