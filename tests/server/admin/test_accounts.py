"""Accounts and projects over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from flatfee.server.keys import KeyKind

ACCOUNT = {
    "object": "account",
    "name": "new",
    "plan": "pro",
    "billing": "active",
    "billing_day": 1,
    "created_at": "2026-11-01T12:00:00Z",
    "from_file": False,
}
PROJECT = {
    "object": "project",
    "account": "beta",
    "name": "new",
    "receipts": None,
    "created_at": "2026-11-01T12:00:00Z",
}
ENV = "env:FLATFEE_ADMIN_KEY"


async def test_an_account_is_made_shown_changed_and_deleted(office: Any) -> None:
    response = await office.send("POST", "/accounts", {"name": "new", "plan": "pro"})
    assert (response.status_code, response.json()) == (201, ACCOUNT)
    assert response.headers["cache-control"] == "no-store"
    assert await office.get("/accounts/new") == ACCOUNT
    changed = await office.patch("/accounts/new", {"billing": "past_due", "billing_day": 31})
    assert changed == ACCOUNT | {"billing": "past_due", "billing_day": 31}
    assert await office.get("/accounts/new") == changed
    assert await office.delete("/accounts/new") == {"object": "account", "name": "new", "deleted": True}
    assert (await office.refused("GET", "/accounts/new"))[:2] == (404, "not_found")
    assert await office.log() == [
        (ENV, "account.create", "new"),
        (ENV, "account.change", "new"),
        (ENV, "account.delete", "new"),
    ]


async def test_a_project_is_made_changed_listed_and_deleted(office: Any) -> None:
    response = await office.send("POST", "/accounts/beta/projects", {"name": "new"})
    assert (response.status_code, response.json()) == (201, PROJECT)
    changed = await office.patch("/accounts/beta/projects/new", {"receipts": "reduced"})
    assert changed == PROJECT | {"receipts": "reduced"}
    listed = await office.get("/accounts/beta/projects")
    assert ([project["name"] for project in listed["data"]], listed["has_more"]) == (["new", "web"], False)
    assert (await office.patch("/accounts/beta/projects/new", {"receipts": None}))["receipts"] is None
    deleted = await office.delete("/accounts/beta/projects/new")
    assert deleted == {"object": "project", "name": "new", "deleted": True}
    assert [action for _, action, _ in await office.log()] == [
        "project.create",
        "project.change",
        "project.change",
        "project.delete",
    ]


async def test_lists_come_in_pages(office: Any) -> None:
    for name in ("c", "d"):
        await office.post("/accounts", {"name": name, "plan": "pro"})
    first = await office.get("/accounts?limit=2")
    assert ([account["name"] for account in first["data"]], first["has_more"]) == (["acme", "beta"], True)
    second = await office.get("/accounts?limit=2&after=beta")
    assert ([account["name"] for account in second["data"]], second["has_more"]) == (["c", "d"], False)


WRONG: dict[str, tuple[str, str, Any, int, str | None, str]] = {
    # method, path, body, status, param, words of the message
    "an unknown member": ("POST", "/accounts", {"name": "n", "plan": "pro", "role": "x"}, 400, "role", "'role'"),
    "no name": ("POST", "/accounts", {"plan": "pro"}, 400, "name", "'name' is missing"),
    "no plan": ("POST", "/accounts", {"name": "n"}, 400, "plan", "'plan' is missing"),
    "a plan that is not configured": ("POST", "/accounts", {"name": "n", "plan": "max"}, 400, "plan", "one of: pro"),
    "a name with a space": ("POST", "/accounts", {"name": "a b", "plan": "pro"}, 400, "name", '"a b"; use letters'),
    "an object as a name": ("POST", "/accounts", {"name": {}, "plan": "pro"}, 400, "name", "an object"),
    "a long name": ("POST", "/accounts", {"name": "n" * 65, "plan": "pro"}, 400, "name", "at most 64"),
    "a name that ends a line": ("POST", "/accounts", {"name": "n\n", "plan": "pro"}, 400, "name", "use letters"),
    "a day too many": ("POST", "/accounts", {"name": "n", "plan": "pro", "billing_day": 32}, 400, "billing_day", "31"),
    "a day as text": ("POST", "/accounts", {"name": "n", "plan": "pro", "billing_day": "1"}, 400, "billing_day", '"1"'),
    "a day as truth": ("POST", "/accounts", {"name": "n", "plan": "pro", "billing_day": True}, 400, "billing_day", ""),
    "an unknown state": ("POST", "/accounts", {"name": "n", "plan": "pro", "billing": "x"}, 400, "billing", "'active'"),
    "an account twice": ("POST", "/accounts", {"name": "acme", "plan": "pro"}, 409, None, "choose another name"),
    "nothing to change": ("PATCH", "/accounts/beta", {}, 400, None, "plan, billing, billing_day"),
    "a plan of null": ("PATCH", "/accounts/beta", {"plan": None}, 400, "plan", "null"),
    "a change of the plan to none": ("PATCH", "/accounts/beta", {"plan": "max"}, 400, "plan", "one of: pro"),
    "a change of the name": ("PATCH", "/accounts/beta", {"name": "x"}, 400, "name", "there are: plan"),
    "a change of no account": ("PATCH", "/accounts/none", {"plan": "pro"}, 404, None, "'none'"),
    "no account": ("GET", "/accounts/none", None, 404, None, "'none'"),
    "a very long account": ("GET", "/accounts/" + "n" * 300, None, 404, None, "nnn"),
    "no account to delete": ("DELETE", "/accounts/none", None, 404, None, "'none'"),
    "the file's account": ("DELETE", "/accounts/acme", None, 409, None, "configuration file"),
    "projects of no account": ("GET", "/accounts/none/projects", None, 404, None, "'none'"),
    "a project of no account": ("POST", "/accounts/none/projects", {"name": "n"}, 404, None, "'none'"),
    "a project twice": ("POST", "/accounts/beta/projects", {"name": "web"}, 409, None, "choose another name"),
    "unheard-of receipts": ("POST", "/accounts/beta/projects", {"name": "n", "receipts": "x"}, 400, "receipts", "full"),
    "no project": ("PATCH", "/accounts/beta/projects/none", {"receipts": None}, 404, None, "'none'"),
    "no project to delete": ("DELETE", "/accounts/beta/projects/none", None, 404, None, "'none'"),
    "the file's project": ("DELETE", "/accounts/acme/projects/ci", None, 409, None, "configuration file"),
    "a limit of nothing": ("GET", "/accounts?limit=0", None, 400, "limit", "greater"),
    "a limit too high": ("GET", "/accounts?limit=101", None, 400, "limit", "100"),
    "a limit in words": ("GET", "/accounts?limit=all", None, 400, "limit", '"all"'),
    "an unknown parameter": ("GET", "/accounts?page=2", None, 400, "page", "limit, after"),
    "a parameter where there is none": ("GET", "/accounts/beta?x=1", None, 400, "x", "there are: none"),
    "a list": ("POST", "/accounts", [1], 400, None, "JSON object"),
    "text": ("POST", "/accounts", "x", 400, None, "JSON object"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_is_told_with_its_cure_and_neither_done_nor_noted(office: Any, name: str) -> None:
    method, path, body, status, param, words = WRONG[name]
    before = await office.get("/accounts"), await office.get("/accounts/beta/projects")
    found = await office.refused(method, path, body)
    assert (found[0], found[2]) == (status, param)
    assert found[1] == {400: "invalid_request", 404: "not_found", 409: "conflict"}[status]
    assert words in found[3]
    assert len(found[3]) < 300
    assert before == (await office.get("/accounts"), await office.get("/accounts/beta/projects"))
    assert await office.log() == []


@pytest.mark.parametrize("raw", [b"{", b"\xff", b'{"name": "n", "plan": NaN}', b'{"name":"\\ud800","plan":"pro"}'])
async def test_what_is_not_json_is_400(office: Any, raw: bytes) -> None:
    assert (await office.refused("POST", "/accounts", raw=raw))[:2] == (400, "invalid_request")


async def test_deep_json_is_400(office: Any) -> None:
    raw = b'{"name": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    assert (await office.refused("POST", "/accounts", raw=raw))[:2] == (400, "invalid_request")


async def test_a_body_is_bounded(office: Any) -> None:
    raw = b'{"name": "n", "plan": "pro"}' + b" " * 65_536
    assert (await office.refused("POST", "/accounts", raw=raw))[:2] == (413, "request_too_large")


async def test_two_administrators_who_change_different_things_do_not_undo_each_other(office: Any) -> None:
    await office.patch("/accounts/beta", {"billing": "past_due"})
    await office.patch("/accounts/beta", {"billing_day": 9})
    found = await office.get("/accounts/beta")
    assert (found["billing"], found["billing_day"]) == ("past_due", 9)


async def test_a_deleted_account_or_project_ends_its_keys_with_the_next_request(office: Any) -> None:
    web = await office.key(KeyKind.PROJECT, "beta", "web")
    team = await office.key(KeyKind.TEAM, "beta")
    assert [await office.ask(web), await office.ask(team)] == [200, 200]
    await office.delete("/accounts/beta/projects/web")
    assert [await office.ask(web), await office.ask(team)] == [401, 200]
    await office.delete("/accounts/beta")
    assert [await office.ask(web), await office.ask(team)] == [401, 401]


async def test_a_suspended_account_is_refused_with_the_next_request(office: Any) -> None:
    key = await office.key(KeyKind.TEAM, "beta")
    assert await office.ask(key) == 200
    await office.patch("/accounts/beta", {"billing": "suspended"})
    assert await office.ask(key) == 402
