"""Commands and a gateway that runs: what an operator does holds from the next request on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.cli.admin.conftest import SECRET, ask

from flatfee import AuthenticationError
from flatfee.cli.demo.gateway import DemoGateway

pytestmark = pytest.mark.slow
"""What it starts takes its time; ``make check`` has that."""

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.admin.conftest import Operator
    from tests.cli.conftest import Flatfee, OnTerminal

ROBOT = ("--account", "acme", "--project", "ci", "--name", "robot")


def test_a_key_made_beside_a_running_gateway_works_at_once_and_ends_at_once(
    served: DemoGateway, local: Operator
) -> None:
    local.do("accounts", "create", "acme", "--plan", "pro")
    local.do("projects", "create", "acme", "ci")
    made = local.told("keys", "create", *ROBOT)
    ask(served, made["secret"])
    assert local.told("keys", "list")["data"][0]["last_used_at"]
    local.do("keys", "revoke", made["id"], "--yes")
    with pytest.raises(AuthenticationError):
        ask(served, made["secret"])


@pytest.fixture
def key(remote: Operator) -> str:
    """A key of a project, made at the gateway that runs."""
    remote.do("accounts", "create", "acme", "--plan", "pro")
    remote.do("projects", "create", "acme", "ci")
    return remote.do("keys", "create", *ROBOT).strip()


def test_a_receipt_is_found(served: DemoGateway, remote: Operator, key: str) -> None:
    request = ask(served, key)
    (listed,) = remote.told("receipts", "list", "--account", "acme", "--project", "ci", "--lane", "premium")["data"]
    charged = listed["fair_use"]["charged"]
    assert (listed["request_id"], remote.told("usage", "acme")["fair_use"]["used"]) == (request, charged)
    assert remote.told("receipts", "list", "--lane", "budget")["data"] == []
    assert request in remote.do("receipts", "list")
    assert "Served on the premium lane" in remote.do("receipts", "show", request)
    assert remote.told("receipts", "show", request) == listed


def test_a_refund_gives_units_back_and_is_in_the_audit_log(served: DemoGateway, remote: Operator, key: str) -> None:
    request = ask(served, key)
    used = remote.told("usage", "acme")["fair_use"]["used"]
    remote.do("receipts", "refund", request, "--units", "10", "--note", "our mistake", "--yes")
    assert remote.told("usage", "acme")["fair_use"]["used"] == used - 10
    newest = remote.told("audit", "list", "--limit", "1")["data"][0]
    assert (newest["action"], newest["subject"]) == ("receipt.refund", request)


def test_an_admin_key_that_was_made_here_works_there(served: DemoGateway, local: Operator, flatfee: Flatfee) -> None:
    key = local.do("keys", "create", "--admin", "--name", "ops").strip()
    env = {"FLATFEE_ADMIN_KEY": key, "FLATFEE_ADMIN_URL": served.url.removesuffix("/v1")}
    assert flatfee("plans", "list", env=env).exit_code == 0
    project = local.told("keys", "list")["data"][0]
    local.do("keys", "revoke", project["id"], "--yes")
    shown = flatfee("plans", "list", env=env)
    assert (shown.exit_code, shown.stderr.split(":")[0]) == (1, "invalid_api_key")


@pytest.mark.parametrize("key", ["another-secret-of-more-than-32-characters", "short"])
def test_a_wrong_key_says_where_it_is_read_and_does_not_show_it(
    served: DemoGateway, flatfee: Flatfee, key: str
) -> None:
    shown = flatfee("accounts", "list", "--url", served.url.removesuffix("/v1"), env={"FLATFEE_ADMIN_KEY": key})
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "FLATFEE_ADMIN_KEY" in shown.stderr
    assert key not in shown.output


@pytest.mark.parametrize("suffix", ["", "/", "/v1"])
def test_a_url_may_be_that_of_the_models(served: DemoGateway, flatfee: Flatfee, suffix: str) -> None:
    url = served.url.removesuffix("/v1") + suffix
    assert flatfee("plans", "list", "--url", url, env={"FLATFEE_ADMIN_KEY": SECRET}).exit_code == 0


@pytest.mark.processes
@pytest.mark.parametrize(("answer", "code", "left"), [("n\n", 1, 1), ("y\n", 0, 0)])
def test_on_a_terminal_a_question_is_asked_first(
    answer: str, code: int, left: int, local: Operator, config: Path, on_terminal: OnTerminal
) -> None:
    local.do("accounts", "create", "acme", "--plan", "pro")
    ended, screen = on_terminal("accounts", "delete", "acme", "--config", str(config), typed=answer)
    assert ended == code, screen
    assert "Remove account 'acme', and end all of its keys?" in screen
    assert len(local.told("accounts", "list")["data"]) == left


def test_a_refusal_of_the_gateway_is_one_line(remote: Operator) -> None:
    assert remote.refused("accounts", "show", "nobody").startswith("not_found: ")


def test_the_doctor_may_look_while_a_gateway_works(
    served: DemoGateway, key: str, config: Path, flatfee: Flatfee
) -> None:
    ask(served, key)
    looked = flatfee("doctor", "--config", str(config))
    assert looked.exit_code == 0, looked.output
    assert "ok   books" in looked.stdout
    ask(served, key)
