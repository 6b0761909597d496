"""Keys over HTTP: made, scoped, rotated, revoked. Their secrets are seen once."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from tests.server.fakes import KEY

from flatfee.server.keys import KeyKind, digest, well_formed

MADE = {
    "object": "key",
    "kind": "project",
    "account": "beta",
    "project": "web",
    "name": "build",
    "models": None,
    "created_at": "2026-11-01T12:00:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
    "source": "api",
    "state": "active",
}
OWNERS = {
    "project": {"account": "beta", "project": "web"},
    "team": {"account": "beta"},
    "admin": {},
}


async def made(office: Any, kind: str = "project", **more: Any) -> dict[str, Any]:
    key: dict[str, Any] = await office.post("/keys", {"kind": kind, "name": "build", **OWNERS[kind], **more})
    return key


async def file_key(office: Any) -> str:
    found: str = (await office.store.find_key(digest(KEY))).key_id
    return found


async def test_a_key_is_made_with_its_secret_shown_this_once(office: Any) -> None:
    key = await made(office)
    secret = key.pop("secret")
    assert well_formed(secret)
    assert secret.startswith("ff_proj_")
    assert re.fullmatch("key_[0-9A-Za-z]{16}", key.pop("id"))
    assert key.pop("last4") == secret[-4:]
    assert key == MADE
    assert await office.ask(secret) == 200


@pytest.mark.parametrize(("kind", "prefix"), [("project", "ff_proj_"), ("team", "ff_team_"), ("admin", "ff_admin_")])
async def test_each_kind_of_key_does_what_it_is_for(office: Any, kind: str, prefix: str) -> None:
    key = await made(office, kind)
    assert key["secret"].startswith(prefix)
    assert await office.ask(key["secret"]) == (403 if kind == "admin" else 200)
    assert (await office.send("GET", "/plans", key=key["secret"])).status_code == (200 if kind == "admin" else 403)


async def test_no_secret_is_in_a_list_a_key_the_audit_log_or_the_log(
    office: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        key = await made(office)
        rotated = await office.post(f"/keys/{key['id']}/rotate")
        told = [
            await office.get("/keys"),
            await office.get(f"/keys/{key['id']}"),
            await office.patch(f"/keys/{key['id']}", {"name": "x"}),
            await office.delete(f"/keys/{key['id']}"),
            await office.get("/audit"),
            await office.get("/receipts"),
        ]
        await office.refused("POST", "/keys", {"kind": "project", "name": "x", "secret": key["secret"]})
    for secret in (key["secret"], rotated["secret"], KEY, "canary-key-of-the-operator-0123456789"):
        for text in (str(told), caplog.text, str([record.__dict__ for record in caplog.records])):
            assert secret not in text
            assert digest(secret).hex() not in text


async def test_a_refusal_does_not_repeat_a_secret_that_was_sent_in_the_wrong_place(office: Any) -> None:
    made_here, own = (await made(office))["secret"], "canary-key-of-32-characters-----"
    for secret in (made_here, own):
        await not_repeated(office, secret)


async def not_repeated(office: Any, secret: str) -> None:
    for body in ({"kind": secret}, {"kind": "admin", "name": secret + " "}, {"kind": "admin", "name": "x", secret: 1}):
        assert secret not in (await office.send("POST", "/keys", body)).text


async def test_keys_are_listed_by_owner(office: Any) -> None:
    project, team = await made(office), await made(office, "team")

    async def ids(query: str) -> list[str]:
        return [key["id"] for key in (await office.get(f"/keys{query}"))["data"]]

    assert set(await ids("?account=beta")) == {project["id"], team["id"]}
    assert await ids("?account=beta&project=web") == [project["id"]]
    assert len(await ids("")) == 4
    first = await office.get("/keys?limit=3")
    assert (len(first["data"]), first["has_more"]) == (3, True)
    assert len(await ids(f"?limit=3&after={first['data'][-1]['id']}")) == 1


async def test_what_is_sent_of_a_key_is_changed_and_no_more(office: Any) -> None:
    key = await made(office, models=["gpt", "economy"], expires_at="2027-01-01T00:00:00+01:00")
    assert (key["models"], key["expires_at"]) == (["economy", "gpt"], "2026-12-31T23:00:00Z")
    at = f"/keys/{key['id']}"
    assert (await office.patch(at, {"name": "renamed"}))["models"] == ["economy", "gpt"]
    assert (await office.patch(at, {"models": None}))["expires_at"] == "2026-12-31T23:00:00Z"
    found = await office.patch(at, {"expires_at": None})
    assert (found["name"], found["models"], found["expires_at"]) == ("renamed", None, None)


async def test_a_key_is_held_to_its_models_with_the_next_request(office: Any) -> None:
    key = await made(office)
    assert await office.ask(key["secret"]) == 200
    await office.patch(f"/keys/{key['id']}", {"models": ["economy"]})
    assert await office.ask(key["secret"]) == 403


async def test_a_key_may_be_held_to_an_alias_that_stands_for_many_names(office: Any) -> None:
    key = await made(office, models=["claude-*", "claude-haiku-4-5-20251001"])
    assert key["models"] == ["claude-*", "claude-haiku-4-5-20251001"]
    assert await office.ask(key["secret"], model="claude-sonnet-4-5-20250929") == 200
    assert await office.ask(key["secret"], model="premium") == 403


async def test_a_key_ends_with_its_expiry_by_the_stores_clock(office: Any) -> None:
    key = await made(office, expires_at="2026-11-01T12:01:00Z")
    assert await office.ask(key["secret"]) == 200
    office.clock.advance(60)
    assert await office.ask(key["secret"]) == 401
    assert (await office.get(f"/keys/{key['id']}"))["state"] == "expired"


async def test_a_revoked_key_is_out_with_the_next_request(office: Any) -> None:
    key = await made(office)
    assert await office.ask(key["secret"]) == 200
    revoked = await office.delete(f"/keys/{key['id']}")
    assert (revoked["state"], revoked["revoked_at"]) == ("revoked", "2026-11-01T12:00:00Z")
    assert await office.ask(key["secret"]) == 401
    assert (await office.get(f"/keys/{key['id']}"))["state"] == "revoked"


async def test_a_rotated_key_goes_on_for_the_overlap(office: Any) -> None:
    old = await made(office, models=["premium"])
    response = await office.send("POST", f"/keys/{old['id']}/rotate", {"overlap_seconds": 60})
    new = response.json()
    assert (response.status_code, new["replaces"], new["models"]) == (201, old["id"], ["premium"])
    assert {old["id"], old["secret"]} & {new["id"], new["secret"]} == set()
    office.clock.advance(59)
    assert [await office.ask(old["secret"]), await office.ask(new["secret"])] == [200, 200]
    office.clock.advance(1)
    assert [await office.ask(old["secret"]), await office.ask(new["secret"])] == [401, 200]


async def test_the_overlap_is_a_day_unless_said_otherwise(office: Any) -> None:
    old = await made(office)
    await office.post(f"/keys/{old['id']}/rotate")
    assert (await office.get(f"/keys/{old['id']}"))["expires_at"] == "2026-11-02T12:00:00Z"
    await office.post(f"/keys/{old['id']}/rotate", {"overlap_seconds": 0})
    assert await office.ask(old["secret"]) == 401


async def test_every_writing_is_in_the_audit_log(office: Any) -> None:
    key = await made(office)
    new = await office.post(f"/keys/{key['id']}/rotate")
    await office.patch(f"/keys/{new['id']}", {"name": "x"})
    await office.delete(f"/keys/{new['id']}")
    assert [(action, subject) for _, action, subject in await office.log()] == [
        ("key.create", key["id"]),
        ("key.rotate", key["id"]),
        ("key.change", new["id"]),
        ("key.revoke", new["id"]),
    ]


NO_KEY = "/keys/key_none"
WRONG: dict[str, tuple[str, str, Any, int, str | None, str]] = {
    "no kind": ("POST", "/keys", {"name": "n"}, 400, "kind", "is missing"),
    "another kind": ("POST", "/keys", {"kind": "proj", "name": "n"}, 400, "kind", "'project', 'team' or 'admin'"),
    "no owner": ("POST", "/keys", {"kind": "project", "name": "n"}, 400, None, "send account and project"),
    "half an owner": ("POST", "/keys", {"kind": "project", "name": "n", "account": "beta"}, 400, None, "and project"),
    "a team's project": ("POST", "/keys", {"kind": "team", "name": "n", **OWNERS["project"]}, 400, None, "no project"),
    "an owner of all": ("POST", "/keys", {"kind": "admin", "name": "n", "account": "beta"}, 400, None, "neither"),
    "an admin's models": ("POST", "/keys", {"kind": "admin", "name": "n", "models": ["auto"]}, 400, None, "models out"),
    "no account": ("POST", "/keys", {"kind": "team", "name": "n", "account": "none"}, 404, None, "'none'"),
    "no project": (
        "POST",
        "/keys",
        {"kind": "project", "name": "n", "account": "beta", "project": "none"},
        404,
        None,
        "'none'",
    ),
    "no such model": (
        "POST",
        "/keys",
        {"kind": "team", "name": "n", "account": "beta", "models": ["gpt-9"]},
        400,
        "models",
        "auto, premium, economy, gpt",
    ),
    "models as text": (
        "POST",
        "/keys",
        {"kind": "team", "name": "n", "account": "beta", "models": "auto"},
        400,
        "models",
        '"auto"',
    ),
    "an own secret": ("POST", "/keys", {"kind": "admin", "name": "n", "secret": "x"}, 400, "secret", "no member"),
    "an expiry that is past": (
        "POST",
        "/keys",
        {"kind": "admin", "name": "n", "expires_at": "2026-11-01T12:00:00Z"},
        400,
        "expires_at",
        "is past",
    ),
    "an expiry without a zone": (
        "POST",
        "/keys",
        {"kind": "admin", "name": "n", "expires_at": "2027-11-01T12:00:00"},
        400,
        "expires_at",
        "timezone",
    ),
    "an expiry as a number": (
        "POST",
        "/keys",
        {"kind": "admin", "name": "n", "expires_at": 1893456000},
        400,
        "expires_at",
        "datetime",
    ),
    "no key": ("GET", NO_KEY, None, 404, None, "'key_none'"),
    "no key to change": ("PATCH", NO_KEY, {"name": "x"}, 404, None, "'key_none'"),
    "no key to rotate": ("POST", f"{NO_KEY}/rotate", None, 404, None, "'key_none'"),
    "no key to revoke": ("DELETE", NO_KEY, None, 404, None, "'key_none'"),
    "nothing to change": ("PATCH", NO_KEY, {}, 400, None, "name, models, expires_at"),
    "an overlap too long": ("POST", f"{NO_KEY}/rotate", {"overlap_seconds": 2_592_001}, 400, "overlap_seconds", ""),
    "an overlap before": ("POST", f"{NO_KEY}/rotate", {"overlap_seconds": -1}, 400, "overlap_seconds", ""),
    "a project of no account": ("GET", "/keys?project=web", None, 400, None, "send account too"),
    "an account that is no name": ("GET", "/keys?account=a%20b", None, 400, "account", "use letters"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_is_told_with_its_cure_and_neither_done_nor_noted(office: Any, name: str) -> None:
    method, path, body, status, param, words = WRONG[name]
    before = await office.get("/keys")
    found = await office.refused(method, path, body)
    assert (found[0], found[2]) == (status, param)
    assert found[1] == {400: "invalid_request", 404: "not_found"}[status]
    assert words in found[3]
    assert await office.get("/keys") == before
    assert await office.log() == []


async def test_a_key_of_the_file_is_changed_in_the_file(office: Any) -> None:
    at = f"/keys/{await file_key(office)}"
    assert (await office.get(at))["source"] == "file"
    for method, path, body in (("PATCH", at, {"name": "x"}), ("DELETE", at, None), ("POST", f"{at}/rotate", None)):
        status, code, _, message = await office.refused(method, path, body)
        assert (status, code) == (409, "conflict")
        assert "configuration file" in message
    assert await office.ask(KEY) == 200
    assert await office.log() == []


async def test_a_revoked_key_is_neither_changed_nor_rotated(office: Any) -> None:
    at = f"/keys/{(await made(office))['id']}"
    await office.delete(at)
    assert (await office.refused("PATCH", at, {"name": "x"}))[:2] == (409, "conflict")
    assert (await office.refused("POST", f"{at}/rotate"))[:2] == (409, "conflict")
    assert (await office.delete(at))["state"] == "revoked"


async def test_a_team_key_of_the_store_keeps_its_kind_when_rotated(office: Any) -> None:
    team = await office.key(KeyKind.TEAM, "beta")
    key_id = (await office.store.find_key(digest(team))).key_id
    new = await office.post(f"/keys/{key_id}/rotate")
    assert new["secret"].startswith("ff_team_")
    assert (new["kind"], new["project"]) == ("team", None)


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
async def test_a_time_that_no_answer_could_tell_is_refused(office: Any, time: str) -> None:
    """Kept, it would be in the way of every list of keys from then on."""
    key = await made(office)
    body = {"kind": "team", "account": "beta", "name": "b", "expires_at": time}
    for method, path, sent in (("POST", "/keys", body), ("PATCH", f"/keys/{key['id']}", {"expires_at": time})):
        status, code, param, message = await office.refused(method, path, sent)
        assert (status, code, param) == (400, "invalid_request", "expires_at")
        assert "1 to 9999" in message
    assert [found["id"] for found in (await office.get("/keys?account=beta"))["data"]] == [key["id"]]


async def test_the_last_second_that_can_be_told_is_a_time(office: Any) -> None:
    key = await made(office, expires_at="9999-12-31T23:59:59.999Z")
    assert (await office.get(f"/keys/{key['id']}"))["expires_at"] == "9999-12-31T23:59:59Z"


async def test_a_key_that_has_ended_is_not_brought_back(office: Any) -> None:
    """Neither by its expiry, nor where it was rotated away: its secret may be in the wrong hands."""
    old = await made(office)
    await office.post(f"/keys/{old['id']}/rotate", {"overlap_seconds": 0})
    for change in ({"expires_at": None}, {"expires_at": "2027-01-01T00:00:00Z"}, {"name": "other"}):
        status, code, _, message = await office.refused("PATCH", f"/keys/{old['id']}", change)
        assert (status, code) == (409, "conflict")
        assert "has expired; make a new one" in message
    assert await office.ask(old["secret"]) == 401
