"""The endpoints that only tell, each in the exact shape of the contract."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from tests.server.fakes import (
    OTHER_KEY,
    FailingStore,
    ScriptedProvider,
    Silence,
    make_settings,
    route,
    streamed,
    until,
)
from tests.server.fakes_gateway import Rig, running

from flatfee.server.keys import KeyKind
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Caller

KEYED = ["/v1/models", "/v1/models/auto", "/v1/receipts", "/v1/receipts/req_1", "/v1/usage", "/v1/workflows"]


async def get(rig: Rig, path: str, status: int = 200) -> Any:
    response = await rig.client.get(path)
    assert response.status_code == status, response.text
    assert response.headers["x-flatfee-request-id"].startswith("req_")
    return response.json()


@pytest.mark.parametrize("path", KEYED)
async def test_every_query_needs_a_key(path: str) -> None:
    async with running() as rig:
        response = await rig.client.get(path, headers={"authorization": ""})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "missing_api_key")
    assert response.headers["x-flatfee-request-id"] == response.json()["flatfee"]["request_id"]


async def test_models_are_listed_with_tier_context_and_what_their_routes_can_do() -> None:
    routes = [
        route("big", context_tokens=400, capabilities=["tools"]),
        route("huge", context_tokens=900, capabilities=["json_schema"]),
        route("eco", "economy"),
    ]
    aliases = {"gpt-5": "premium", "mini": "economy", "claude-*": "premium"}
    async with running(make_settings(routes=routes, aliases=aliases)) as rig:
        listed = await get(rig, "/v1/models")
        assert await get(rig, "/v1/models/gpt-5") == listed["data"][3]
    model = {"object": "model", "created": 0, "owned_by": "flatfee"}
    premium = {"tier": "premium", "context_tokens": 900, "capabilities": ["json_schema", "tools"]}
    everything = ["images", "json_schema", "tools"]
    assert listed == {
        "object": "list",
        "data": [
            {"id": "auto", **model, "context_tokens": 900, "capabilities": everything},
            {"id": "premium", **model, **premium},
            {"id": "economy", **model, "tier": "economy", "capabilities": everything},
            {"id": "gpt-5", **model, **premium},
            {"id": "mini", **model, "tier": "economy", "capabilities": everything},
        ],
        "has_more": False,
    }


async def test_a_models_context_is_by_the_estimate_as_a_prompt_is() -> None:
    async with running(make_settings(routes=[route("wordy", context_tokens=1000, token_factor=1.3)])) as rig:
        assert (await get(rig, "/v1/models/premium"))["context_tokens"] == 769


async def test_a_name_that_an_alias_with_a_star_covers_is_a_model_though_no_list_has_it() -> None:
    async with running(make_settings(aliases={"claude-*": "premium"})) as rig:
        listed = await get(rig, "/v1/models")
        found = await get(rig, "/v1/models/claude-sonnet-4-5-20250929")
    assert [model["id"] for model in listed["data"]] == ["auto", "premium", "economy"]
    assert (found["id"], found["tier"]) == ("claude-sonnet-4-5-20250929", "premium")


async def test_a_model_that_is_none_is_404_and_the_message_lists_what_exists() -> None:
    async with running(make_settings(aliases={"gpt-5": "premium"})) as rig:
        told = await get(rig, "/v1/models/gpt-6", 404)
    assert told["error"]["code"] == "model_not_found"
    assert told["error"]["message"] == "There is no model 'gpt-6'; use one of: auto, premium, economy, gpt-5."


async def test_usage_tells_plan_window_and_limits() -> None:
    async with running() as rig:
        await rig.ask()
        usage = await get(rig, "/v1/usage")
    window = usage.pop("window")
    assert set(window) == {"start", "end"}
    assert all(text.endswith("-01T00:00:00Z") for text in window.values())
    assert usage == {
        "object": "usage",
        "account": "acme",
        "project": "ci",
        "plan": "pro",
        "billing": "active",
        "fair_use": {"unit": "token", "limit": 100_000, "used": 30, "pending": 0, "remaining": 99_970},
        "continuation": {"used": 0},
        "workflows": {"active": 0, "limit": 4},
    }


async def test_usage_tells_the_limit_of_continuation_where_there_is_one() -> None:
    async with running(make_settings(fair_use=0, continuation_limit=5000)) as rig:
        receipt = (await rig.ask()).json()["flatfee"]
        usage = await get(rig, "/v1/usage")
    assert receipt["lane"] == "continuation"
    assert usage["continuation"] == {"limit": 5000, "used": 30, "remaining": 4970}
    assert usage["fair_use"]["remaining"] == 0


async def test_usage_in_requests_and_without_continuation() -> None:
    async with running(make_settings(meter="requests", fair_use=3, continuation=False)) as rig:
        await rig.ask()
        usage = await get(rig, "/v1/usage")
    assert usage["fair_use"] == {"unit": "request", "limit": 3, "used": 1, "pending": 0, "remaining": 2}
    assert "continuation" not in usage


async def test_a_team_key_sees_its_account() -> None:
    class Store(MemoryStore):
        team = False

        async def find_key(self, digest: bytes) -> Caller | None:
            caller = await super().find_key(digest)
            return replace(caller, kind=KeyKind.TEAM, project=None) if caller and self.team else caller

    store = Store()
    async with running(store=store) as rig:
        mine = await rig.ask()
        store.team = True
        rig.client.headers["authorization"] = f"Bearer {OTHER_KEY}"
        assert "project" not in await get(rig, "/v1/usage")
        assert await rig.receipt(mine) == mine.json()["flatfee"]


async def test_receipts_are_listed_newest_first_and_filtered() -> None:
    async with running() as rig:
        ids = []
        for workflow, model in (("a", "premium"), ("b", "premium"), ("a", "economy")):
            response = await rig.ask({"x-flatfee-workflow": workflow}, model=model)
            ids.append(response.headers["x-request-id"])
        every = await get(rig, "/v1/receipts")
        of_a = await get(rig, "/v1/receipts?workflow=a")
        cheap = await get(rig, "/v1/receipts?lane=budget&workflow=a")
        newest = sorted(ids, reverse=True)
        assert [told["request_id"] for told in every["data"]] == newest
        assert {told["request_id"] for told in of_a["data"]} == {ids[0], ids[2]}
        assert [told["request_id"] for told in cheap["data"]] == [ids[2]]
        assert (every["object"], every["has_more"]) == ("list", False)
        first = await get(rig, "/v1/receipts?limit=2")
        assert first["has_more"]
        rest = await get(rig, f"/v1/receipts?limit=2&after={first['data'][-1]['request_id']}")
        assert not rest["has_more"]
    assert [told["request_id"] for told in [*first["data"], *rest["data"]]] == newest


@pytest.mark.parametrize(
    "limit", ["0", "101", "-1", "x", "1.0", "%C2%B2", "9" * 5000, "0" * 20 + "5", "000000001000", "%D9%A3"]
)
async def test_a_limit_that_is_no_page_is_400(limit: str) -> None:
    async with running() as rig:
        told = await get(rig, f"/v1/receipts?limit={limit}", 400)
    assert (told["error"]["code"], told["error"]["param"]) == ("invalid_request", "limit")


async def test_a_query_of_too_many_parameters_is_400() -> None:
    async with running() as rig:
        told = await get(rig, "/v1/receipts?" + "&".join(["lane=x"] * 21), 400)
    assert told["error"]["code"] == "invalid_request"


async def test_a_receipt_that_is_none_is_404() -> None:
    async with running() as rig:
        told = await get(rig, "/v1/receipts/" + "x" * 50, 404)
    assert told["error"]["message"] == f"There is no receipt {'x' * 40!r} for this key."


async def test_live_workflows_are_listed_and_released() -> None:
    provider = ScriptedProvider(first=streamed(Silence.FOR_EVER))
    async with running(provider=provider) as rig:
        asking = asyncio.create_task(rig.ask({"x-flatfee-workflow": "run-42"}, stream=True))
        await until(lambda: provider.asked)
        listed = await get(rig, "/v1/workflows")
        (lease,) = listed["data"]
        started, expires = lease.pop("started_at"), lease.pop("expires_at")
        assert started < expires
        assert started.endswith("Z")
        assert lease == {"object": "workflow", "id": "run-42", "in_flight": 1}
        released = await rig.client.delete("/v1/workflows/run-42")
        assert released.json() == {"object": "workflow", "id": "run-42", "deleted": True}
        assert len((await get(rig, "/v1/workflows"))["data"]) == 1  # until its request ends
        asking.cancel()
        await rig.gateway.until_idle()
        assert (await get(rig, "/v1/workflows"))["data"] == []
        again = await rig.client.delete("/v1/workflows/run-42")
        assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")


async def test_releasing_what_cannot_be_a_workflow_is_404() -> None:
    async with running() as rig:
        response = await rig.client.delete("/v1/workflows/" + "%20" * 200)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


async def test_health_needs_no_key() -> None:
    async with running() as rig:
        rig.client.headers.pop("authorization")
        assert await get(rig, "/health/live") == {"status": "live"}
        assert await get(rig, "/health/ready") == {"status": "ready"}


async def test_ready_tells_what_is_missing() -> None:
    async with running() as rig:
        rig.take_down("first", "second")
        assert await get(rig, "/health/ready") == {"status": "ready"}
        rig.take_down("thrifty")
        assert (await get(rig, "/health/ready", 503))["error"]["code"] == "provider_unavailable"
        rig.gateway.draining = True
        told = await get(rig, "/health/ready", 503)
        assert (told["error"]["code"], told["error"]["message"]) == (
            "gateway_overloaded",
            "The gateway is shutting down.",
        )
        assert await get(rig, "/health/live") == {"status": "live"}
    async with running(store=FailingStore("ready")) as rig:
        assert (await get(rig, "/health/ready", 503))["error"]["code"] == "store_unavailable"
