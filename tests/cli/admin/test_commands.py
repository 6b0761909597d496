"""What operators do, on a ledger's file and at a gateway that runs: the same words, the same answers."""

from __future__ import annotations

import json
import os
import pwd
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flatfee.cli.admin.client import MAX_PAGE
from flatfee.cli.admin.reach import admin

if TYPE_CHECKING:
    from tests.cli.admin.conftest import Operator

KEY = re.compile(r"ff_(?:proj|team|admin)_[0-9A-Za-z]{49}\n")


def test_an_account_is_made_shown_changed_and_removed(operator: Operator) -> None:
    made = operator.told("accounts", "create", "acme", "--plan", "pro", "--billing-day", "15")
    assert (made["name"], made["plan"], made["billing"], made["billing_day"]) == ("acme", "pro", "active", 15)
    operator.do("accounts", "change", "acme", "--plan", "small", "--billing", "past_due")
    shown = operator.told("accounts", "show", "acme")
    assert (shown["plan"], shown["billing"], shown["billing_day"]) == ("small", "past_due", 15)
    row = operator.do("accounts", "list").splitlines()[1].split()
    assert row[:4] == ["acme", "small", "past_due", "15"]
    assert operator.do("accounts", "delete", "acme", "--yes") == "Account 'acme' is removed.\n"
    assert operator.told("accounts", "list")["data"] == []
    assert operator.do("accounts", "list") == "There are none.\n"


def test_lists_are_shown_to_their_end(local: Operator, config: Path) -> None:
    names = [f"a{number:03}" for number in range(MAX_PAGE + 3)]
    with admin(None, config, as_json=False) as api:
        for name in names:
            api.post("/accounts", {"name": name, "plan": "pro"})
    assert [account["name"] for account in local.told("accounts", "list")["data"]] == names


def test_a_project_is_made_changed_and_removed(acme: Operator) -> None:
    made = acme.told("projects", "create", "acme", "nightly", "--receipts", "reduced")
    assert (made["account"], made["name"], made["receipts"]) == ("acme", "nightly", "reduced")
    assert acme.told("projects", "change", "acme", "nightly", "--receipts", "full")["receipts"] == "full"
    assert [project["name"] for project in acme.told("projects", "list", "acme")["data"]] == ["ci", "nightly"]
    acme.do("projects", "delete", "acme", "nightly", "--yes")
    assert [project["name"] for project in acme.told("projects", "list", "acme")["data"]] == ["ci"]


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (("--account", "acme", "--project", "ci"), "project"),
        (("--account", "acme", "--team"), "team"),
        (("--admin",), "admin"),
    ],
)
def test_a_new_keys_secret_is_all_of_standard_output_and_is_shown_nowhere_again(
    acme: Operator, what: tuple[str, ...], kind: str
) -> None:
    made = acme.run("keys", "create", *what, "--name", "robot", "--expires", "30d")
    assert (made.exit_code, bool(KEY.fullmatch(made.stdout))) == (0, True)
    assert "not shown again" in made.stderr
    secret = made.stdout.strip()
    (key,) = acme.told("keys", "list")["data"]
    assert (key["kind"], key["name"], key["last4"], key["state"]) == (kind, "robot", secret[-4:], "active")
    assert key["expires_at"]
    for shown in (
        acme.do("keys", "list"),
        acme.do("audit", "list"),
        json.dumps(acme.told("audit", "list")),
        made.stderr,
    ):
        assert secret not in shown


def test_models_of_a_key_are_kept(here: Operator) -> None:
    what = ("--account", "acme", "--project", "ci", "--name", "robot")
    made = here.told("keys", "create", *what, "--model", "economy", "--model", "auto")
    assert sorted(made["models"]) == ["auto", "economy"]
    assert KEY.fullmatch(made["secret"] + "\n")


def test_a_rotated_key_has_a_follower_and_an_end(acme: Operator) -> None:
    what = ("--account", "acme", "--project", "ci", "--name", "robot")
    old = acme.told("keys", "create", *what)
    new = acme.told("keys", "rotate", old["id"], "--overlap", "2h")
    assert (new["replaces"], new["name"], new["secret"] != old["secret"]) == (old["id"], "robot", True)
    keys = {key["id"]: key for key in acme.told("keys", "list", "--account", "acme", "--project", "ci")["data"]}
    assert (keys[old["id"]]["state"], bool(keys[old["id"]]["expires_at"])) == ("active", True)
    acme.do("keys", "rotate", new["id"], "--overlap", "0", "--yes")
    states = [key["state"] for key in acme.told("keys", "list")["data"] if key["id"] == new["id"]]
    assert states in (["expired"], ["revoked"])


def test_a_revoked_key_stays_in_the_list(acme: Operator) -> None:
    made = acme.told("keys", "create", "--account", "acme", "--team", "--name", "robot")
    assert acme.do("keys", "revoke", made["id"], "--yes") == f"Key {made['id']} is revoked.\n"
    assert [key["state"] for key in acme.told("keys", "list", "--account", "acme")["data"]] == ["revoked"]


def test_plans_are_those_of_the_configuration(operator: Operator) -> None:
    assert [plan["name"] for plan in operator.told("plans", "list")["data"]] == ["pro", "small"]
    assert operator.told("plans", "show", "small")["window"] == "7d"
    assert "fair_use" in operator.do("plans", "show", "small")
    assert operator.refused("plans", "show", "huge") == "There is no plan 'huge'; use one of: pro, small.\n"


def test_usage_is_that_of_the_window(acme: Operator) -> None:
    told = acme.told("usage", "acme")
    assert (told["account"], told["fair_use"]["limit"], told["fair_use"]["used"]) == ("acme", 100000, 0)
    assert re.search(r"fair_use.limit +100,000\b", acme.do("usage", "acme"))


def test_every_change_is_in_the_audit_log_with_its_actor(acme: Operator) -> None:
    entries = acme.told("audit", "list")["data"]
    assert [(entry["action"]) for entry in entries] == ["project.create", "account.create"]
    actor = "env:FLATFEE_ADMIN_KEY" if "--url" in acme.options else f"local:{pwd.getpwuid(os.getuid()).pw_name}"
    assert {entry["actor"] for entry in entries} == {actor}
    first = acme.told("audit", "list", "--limit", "1")
    assert first["has_more"] is True
    shown = acme.run("audit", "list", "--limit", "1")
    assert f"--after {first['data'][0]['id']}" in shown.stderr
    assert acme.told("audit", "list", "--after", str(first["data"][0]["id"]))["data"] == entries[1:]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("accounts", "show", "nobody"), "not_found"),
        (("accounts", "create", "acme", "--plan", "pro"), "conflict"),
        (("accounts", "create", "new", "--plan", "huge"), "invalid_request"),
        (("projects", "list", "nobody"), "not_found"),
        (("keys", "revoke", "key_nobody", "--yes"), "not_found"),
        (("receipts", "show", "req_01ABC"), "not_found"),
        (("usage", "nobody"), "not_found"),
    ],
)
def test_a_refusal_is_one_line_with_code_and_cause(here: Operator, arguments: tuple[str, ...], code: str) -> None:
    line = here.refused(*arguments)
    assert line.startswith(f"{code}: ")
    assert line.count("\n") == 1
    told = here.run(*arguments, "--json")
    assert (told.exit_code, json.loads(told.stdout)["error"]["code"]) == (1, code)


@pytest.mark.parametrize(
    "arguments",
    [
        ("accounts", "delete", "acme"),
        ("projects", "delete", "acme", "ci"),
        ("keys", "revoke", "key_1"),
        ("keys", "rotate", "key_1", "--overlap", "0"),
        ("receipts", "refund", "req_1"),
    ],
)
def test_what_cannot_be_taken_back_is_not_done_where_nobody_can_be_asked(
    here: Operator, arguments: tuple[str, ...]
) -> None:
    done = here.run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "pass --yes" in done.stderr
    assert len(here.told("audit", "list")["data"]) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("keys", "create", "--name", "k"), "--account A --project P"),
        (("keys", "create", "--name", "k", "--account", "acme"), "--account A --project P"),
        (("keys", "create", "--name", "k", "--account", "acme", "--project", "ci", "--team"), "--account A --team"),
        (("keys", "create", "--name", "k", "--admin", "--account", "acme"), "--admin"),
        (("keys", "create", "--name", "k", "--admin", "--expires", "soon"), "'soon' is not a time"),
        (("keys", "rotate", "key_1", "--overlap", "1w"), "'1w' is not a length of time"),
        (("projects", "delete", "acme", "..", "--yes"), "'..' is not a name"),
        (("accounts", "show", ""), "'' is not a name"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_done(
    here: Operator, arguments: tuple[str, ...], says: str
) -> None:
    done = here.run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(here.told("audit", "list")["data"]) == 2
