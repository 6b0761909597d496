"""Which gateway a command speaks to, and what is said where none can be found."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flatfee.cli.admin.client import Admin

if TYPE_CHECKING:
    from tests.cli.admin.conftest import Operator
    from tests.cli.conftest import Flatfee

KEY = {"FLATFEE_ADMIN_KEY": "an-operators-secret-with-forty-characters"}


def test_without_file_and_url_both_ways_are_named(
    flatfee: Flatfee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = flatfee("accounts", "list")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "There is no flatfee.toml" in shown.stderr
    assert "init'" in shown.stderr
    assert "--url" in shown.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_the_folder_is_the_default(flatfee: Flatfee, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.rename(config.parent / "flatfee.toml")
    monkeypatch.chdir(config.parent)
    assert flatfee("plans", "list").exit_code == 0


def test_a_file_that_is_named_comes_before_a_url_of_the_environment(local: Operator) -> None:
    local.env = {"FLATFEE_ADMIN_URL": "http://127.0.0.1:9"}
    assert "pro" in local.do("plans", "list")


def test_no_secret_of_the_file_is_needed_to_administer(local: Operator, config: Path) -> None:
    text = config.read_text().replace('kind = "simulated"', 'kind = "simulated", api_key_env = "NOT_SET"')
    config.write_text(text)
    assert "pro" in local.do("plans", "list")


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (("--url", "http://127.0.0.1:9", "--config", "x.toml"), KEY, "give one of them"),
        (("--url", "127.0.0.1:8787"), KEY, "must be http or https"),
        (("--url", "http://me:pw@127.0.0.1"), KEY, "must be http or https"),
        (("--url", "http://127.0.0.1:99999"), KEY, "must be http or https"),
        (("--url", "http://127.0.0.1:port"), KEY, "must be http or https"),
        (("--url", "http://[::1"), KEY, "must be http or https"),
        (("--url", "http://127.0.0.1:9"), {}, "Set FLATFEE_ADMIN_KEY"),
        (("--url", "http://127.0.0.1:9"), {"FLATFEE_ADMIN_KEY": "sch\u00f6n"}, "printable ASCII"),
        (("--config", "missing.toml"), {}, "There is no missing.toml"),
    ],
)
def test_what_leads_nowhere_is_told_with_the_cure(
    flatfee: Flatfee, arguments: tuple[str, ...], env: dict[str, str], says: str
) -> None:
    shown = flatfee("accounts", "list", *arguments, env=env)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert says in shown.stderr
    assert "me:pw" not in shown.stderr


def test_a_ledger_that_is_made_is_told_with_its_place(
    local: Operator, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path in the file is that of the working directory: elsewhere, a key would be made that no gateway knows."""
    monkeypatch.chdir(config.parent)
    local.env = {"FLATFEE_STORE": "sqlite:///here.db"}
    made = local.run("accounts", "list")
    assert made.stdout == "There are none.\n"
    assert made.stderr == f"There was no ledger {config.parent / 'here.db'}: it is made.\n"
    assert local.run("accounts", "list").stderr == ""


def test_a_ledger_in_memory_can_only_be_reached_at_the_gateway(local: Operator, config: Path) -> None:
    local.env = {"FLATFEE_STORE": "memory://"}
    shown = local.run("accounts", "list")
    assert shown.exit_code == 2
    assert "name the running gateway: --url" in shown.stderr


def test_a_mistake_in_the_file_is_told_as_serve_tells_it(local: Operator, config: Path) -> None:
    config.write_text("[server]\nprot = 1\n")
    shown = local.run("accounts", "list")
    assert shown.exit_code == 2
    assert f"{config}: server.prot: unknown key; did you mean 'port'?" in shown.stderr


def test_a_ledger_that_cannot_be_opened_is_told(local: Operator, config: Path) -> None:
    (config.parent / "ledger.db").write_text("no database")
    shown = local.run("accounts", "list")
    assert shown.exit_code == 2
    assert "ledger.db" in shown.stderr


def test_a_gateway_out_of_reach_is_told(flatfee: Flatfee) -> None:
    shown = flatfee("accounts", "list", "--url", "http://127.0.0.1:9", env=KEY)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr.startswith("http://127.0.0.1:9 cannot be reached")


def test_a_key_that_travels_unencrypted_is_warned_of(flatfee: Flatfee) -> None:
    shown = flatfee("accounts", "list", "--url", "http://nowhere.invalid", env=KEY)
    assert shown.exit_code == 1
    assert shown.stderr.startswith("The admin key travels to nowhere.invalid unencrypted; use https.\n")


def test_the_log_does_not_believe_the_environment_who_it_was(local: Operator) -> None:
    local.env = {"LOGNAME": "somebody-else", "USER": "somebody-else"}
    local.do("accounts", "create", "acme", "--plan", "pro")
    assert "somebody-else" not in local.do("audit", "list")


def test_a_user_without_a_name_is_known_by_number(local: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a user its image does not know."""

    def nobody(_: int) -> object:
        raise KeyError("uid not found")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    local.do("accounts", "create", "acme", "--plan", "pro")
    assert [entry["actor"] for entry in local.told("audit", "list")["data"]] == [f"local:{os.getuid()}"]


def test_certificates_are_read_for_https_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect from plain HTTP could not be followed unseen: there nobody is trusted, not everybody."""
    verify: list[Any] = []

    class Recorded(httpx.AsyncClient):
        def __init__(self, **given: Any) -> None:
            verify.append(given["verify"])
            super().__init__(**given)

    monkeypatch.setattr(httpx, "AsyncClient", Recorded)
    for scheme in ("https", "http"):
        with Admin.at(f"{scheme}://gateway.test", "key", proxied=False):
            pass
    assert verify[0] is True
    assert (verify[1].verify_mode, verify[1].get_ca_certs()) == (ssl.CERT_REQUIRED, [])
