"""Who may administer: every kind of key at every endpoint."""

from __future__ import annotations

import hmac
import re
from typing import Any

import pytest
from tests.server.fakes import KEY, FailingStore, make_settings
from tests.server.fakes_gateway import running

from flatfee.server.admin.table import DOCUMENT, ENDPOINTS
from flatfee.server.keys import KeyKind, digest, new_key

NAMES = {"account": "beta", "project": "web", "id": "key_0123456789abcdef", "request_id": "req_none"}
BY_PATH = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda row: f"{row.method} {row.path}")


def path_of(endpoint: Any) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: NAMES[found[1]], endpoint.path)


@BY_PATH
async def test_no_endpoint_is_open_to_who_is_no_administrator(office: Any, endpoint: Any) -> None:
    ended = await office.key(KeyKind.ADMIN, expires_at=office.clock.now + 1)
    office.clock.advance(1)
    told = {
        "nothing": (None, 401, "missing_api_key"),
        "no key": ("short", 401, "invalid_api_key"),
        "an unknown key": (new_key(KeyKind.ADMIN), 401, "invalid_api_key"),
        "an expired key": (ended, 401, "invalid_api_key"),
        "the file's key": (KEY, 403, "permission_denied"),
        "a project key": (await office.key(KeyKind.PROJECT, "beta", "web"), 403, "permission_denied"),
        "a team key": (await office.key(KeyKind.TEAM, "beta"), 403, "permission_denied"),
    }
    for who, (key, status, code) in told.items():
        found = await office.refused(endpoint.method, path_of(endpoint), {}, key=key)
        assert found[:2] == (status, code), who
    assert await office.log() == []


@BY_PATH
async def test_every_endpoint_is_open_to_each_kind_of_administrator(office: Any, endpoint: Any) -> None:
    keys = [await office.key(KeyKind.ADMIN), await office.key(KeyKind.ADMIN)]
    office.rig.gateway.operator = None
    for key in keys:
        response = await office.send(endpoint.method, path_of(endpoint), {}, key=key)
        assert response.status_code not in {401, 403}
    response = await office.send(endpoint.method, path_of(endpoint), {})
    assert response.status_code not in {401, 403}
    office.rig.gateway.operator = "local:alice"
    response = await office.send(endpoint.method, path_of(endpoint), {}, key=None)
    assert response.status_code not in {401, 403}


async def test_the_log_names_each_kind_of_administrator(office: Any) -> None:
    key = await office.key(KeyKind.ADMIN)
    await office.patch("/accounts/beta", {"billing_day": 2}, key=key)
    await office.patch("/accounts/beta", {"billing_day": 3})
    office.rig.gateway.operator = "local:alice"
    await office.patch("/accounts/beta", {"billing_day": 4}, key=None)
    key_id = (await office.store.find_key(digest(key))).key_id
    assert [actor for actor, _, _ in await office.log()] == [key_id, "env:FLATFEE_ADMIN_KEY", "local:alice"]


async def test_no_admin_key_asks_for_completions(office: Any) -> None:
    assert await office.ask(KEY) == 200
    assert await office.ask(await office.key(KeyKind.ADMIN)) == 403
    assert await office.ask("canary-key-of-the-operator-0123456789") == 401


async def test_an_administrators_key_is_noted_as_used(office: Any) -> None:
    key = await office.key(KeyKind.ADMIN)
    await office.get("/plans", key=key)
    key_id = (await office.store.find_key(digest(key))).key_id
    assert (await office.get(f"/keys/{key_id}"))["last_used_at"] == "2026-11-01T12:00:00Z"


async def test_a_revoked_administrator_is_out_with_the_next_request(office: Any) -> None:
    key = await office.key(KeyKind.ADMIN)
    key_id = (await office.store.find_key(digest(key))).key_id
    assert (await office.delete(f"/keys/{key_id}", key=key))["state"] == "revoked"
    assert (await office.refused("GET", "/plans", key=key))[:2] == (401, "invalid_api_key")


async def test_a_revoked_key_is_out_although_the_gateways_environment_holds_it(office: Any) -> None:
    """Commands read the same variable, so it is easily exported where the gateway is started as well."""
    key = await office.key(KeyKind.ADMIN)
    gateway = office.rig.gateway
    server = gateway.settings.server.with_admin_key(key)
    gateway.settings = gateway.settings.model_copy(update={"server": server})
    key_id = (await office.store.find_key(digest(key))).key_id
    await office.patch("/accounts/beta", {"billing_day": 2}, key=key)
    assert [actor for actor, _, _ in await office.log(key=key)] == [key_id]
    await office.delete(f"/keys/{key_id}", key=key)
    assert (await office.refused("GET", "/plans", key=key))[:2] == (401, "invalid_api_key")


async def test_the_operators_key_is_compared_in_constant_time(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    really = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return really(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    await office.get("/plans")
    assert compared == [(32, 32)]


async def test_without_an_operators_key_none_is_taken_for_it() -> None:
    async with running() as rig:
        for key in ("", " ", "None" * 10):
            response = await rig.client.get("/admin/v1/plans", headers={"authorization": f"Bearer {key}"})
            assert response.status_code == 401


async def test_a_store_that_is_down_lets_nobody_in() -> None:
    async with running(make_settings(), store=FailingStore("find_key")) as rig:
        response = await rig.client.get("/admin/v1/plans")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")


async def test_the_document_needs_no_key(office: Any) -> None:
    response = await office.rig.client.get(DOCUMENT, headers={"authorization": ""})
    assert response.status_code == 200
    assert response.json()["openapi"] == "3.1.0"


async def test_a_page_that_the_operator_did_not_allow_administers_nothing(office: Any) -> None:
    headers = {"authorization": "Bearer canary-key-of-the-operator-0123456789", "origin": "https://example.com"}
    response = await office.rig.client.get("/admin/v1/plans", headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "browser_origin")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/v1"),
        ("GET", "/admin/v1/"),
        ("GET", "/admin/v1/accounts/"),
        ("PUT", "/admin/v1/accounts"),
        ("GET", "/admin/v1/accounts/a/b/c"),
        ("GET", "/admin/v2/accounts"),
        ("POST", DOCUMENT),
        ("GET", "/admin/v1/accountsx"),
    ],
)
async def test_what_is_no_endpoint_is_told_where_they_are_listed(office: Any, method: str, path: str) -> None:
    response = await office.rig.client.request(method, path)
    assert response.status_code == 404
    if path != "/admin/v1":
        assert DOCUMENT in response.json()["error"]["message"]
