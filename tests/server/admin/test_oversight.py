"""What an administrator sees: plans, usage, receipts, workflows and the audit log of everybody."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.fakes import KEY, OTHER_KEY, PROMPT, make_settings

from flatfee.server.keys import KeyKind
from flatfee.server.store.book import OpenTicket
from flatfee.server.store.records import Purse
from flatfee.wire import Lane, Reason


async def asked(office: Any, key: str, workflow: str | None = None) -> str:
    """Send a completion; return its request id."""
    headers = {"authorization": f"Bearer {key}"} | ({"x-flatfee-workflow": workflow} if workflow else {})
    response = await office.rig.ask(headers)
    assert response.status_code == 200
    found: str = response.headers["x-flatfee-request-id"]
    office.clock.advance(1)
    return found


async def test_plans_are_listed_with_all_of_their_settings(office: Any) -> None:
    (plan,) = (await office.get("/plans"))["data"]
    configured = make_settings().plans[0].model_dump()
    assert plan == {"object": "plan", **configured}


async def test_usage_is_what_a_team_key_of_the_account_is_told(office: Any) -> None:
    team = await office.key(KeyKind.TEAM, "acme")
    await asked(office, KEY)
    told = await office.rig.client.get("/v1/usage", headers={"authorization": f"Bearer {team}"})
    usage = await office.get("/accounts/acme/usage")
    assert usage == told.json()
    assert usage["fair_use"]["used"] > 0
    assert (await office.get("/accounts/beta/usage"))["fair_use"]["used"] == 0


async def test_usage_of_a_plan_that_is_gone_is_told_with_the_cure(office: Any) -> None:
    settings = office.rig.gateway.settings
    plans = tuple(plan.model_copy(update={"name": "other"}) for plan in settings.plans)
    office.rig.gateway.settings = settings.model_copy(update={"plans": plans})
    status, code, _, message = await office.refused("GET", "/accounts/acme/usage")
    assert (status, code) == (409, "conflict")
    assert "change the account's plan" in message


async def test_usage_of_no_account_is_not_found(office: Any) -> None:
    assert (await office.refused("GET", "/accounts/none/usage"))[:2] == (404, "not_found")


async def test_receipts_of_everybody_are_listed_newest_first_with_their_owners(office: Any) -> None:
    team = await office.key(KeyKind.TEAM, "beta")
    ids = [await asked(office, KEY, "run"), await asked(office, OTHER_KEY), await asked(office, team, "run")]
    data = (await office.get("/receipts"))["data"]
    assert [receipt["request_id"] for receipt in data] == ids[::-1]
    owners = [(receipt["account"], receipt["project"]) for receipt in data]
    assert owners == [("beta", None), ("acme", "docs"), ("acme", "ci")]

    async def listed(query: str) -> list[int]:
        found = (await office.get(f"/receipts?{query}"))["data"]
        return [ids.index(receipt["request_id"]) for receipt in found]

    assert await listed("account=acme") == [1, 0]
    assert await listed("account=acme&project=ci") == [0]
    assert await listed("workflow=run") == [2, 0]
    assert await listed("account=acme&workflow=run") == [0]
    assert await listed("account=acme&project=docs&workflow=run") == []
    assert await listed("lane=premium") == [2, 1, 0]
    assert await listed("lane=fallback") == []
    assert await listed(f"after={ids[2]}") == [1, 0]
    page = await office.get("/receipts?limit=2")
    assert (len(page["data"]), page["has_more"]) == (2, True)


async def test_a_receipt_is_what_its_caller_was_told_and_whose_it_is(office: Any) -> None:
    request_id = await asked(office, KEY, "run")
    told = (await office.rig.client.get(f"/v1/receipts/{request_id}")).json()
    found = await office.get(f"/receipts/{request_id}")
    assert found == {**told, "account": "acme", "project": "ci"}
    assert PROMPT not in str(found)


async def test_a_receipt_of_a_running_request_is_in_flight(office: Any) -> None:
    office.store._book.add_ticket(running_ticket("req_running"))
    found = await office.get("/receipts/req_running")
    assert (found["state"], found["account"], found["project"]) == ("in_flight", "acme", "ci")
    assert (await office.get("/receipts"))["data"] == []


def running_ticket(request_id: str) -> OpenTicket:
    return OpenTicket(
        request_id=request_id,
        account="acme",
        project="ci",
        workflow=None,
        lane=Lane.BUDGET,
        reason=Reason.SMALL_TASK,
        purse=Purse.NONE,
        units=0,
        unit="token",
        model_requested="auto",
        at=1.0,
        expires_at=1e12,
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("GET", "/receipts/req_none", None, 404, None),
        ("POST", "/receipts/req_none/refund", None, 404, None),
        ("POST", "/receipts/req_none/refund", {"units": 0}, 400, "units"),
        ("POST", "/receipts/req_none/refund", {"units": -1}, 400, "units"),
        ("POST", "/receipts/req_none/refund", {"units": 1.5}, 400, "units"),
        ("POST", "/receipts/req_none/refund", {"note": "n" * 201}, 400, "note"),
        ("POST", "/receipts/req_none/refund", {"all": True}, 400, "all"),
        ("GET", "/receipts?project=ci", None, 400, None),
        ("GET", "/receipts?limit=1000", None, 400, "limit"),
        ("GET", "/receipts?kind=x", None, 400, "kind"),
        ("GET", "/workflows?limit=1", None, 400, "limit"),
        ("DELETE", "/workflows/run", None, 400, "account"),
        ("DELETE", "/workflows/none?account=acme&project=ci", None, 404, None),
        ("DELETE", "/workflows/a%20b?account=acme&project=ci", None, 404, None),
        ("GET", "/audit?after=x", None, 400, "after"),
        ("GET", "/plans?x=1", None, 400, "x"),
    ],
)
async def test_what_is_wrong_is_told_and_not_noted(
    office: Any, method: str, path: str, body: Any, status: int, param: str | None
) -> None:
    found = await office.refused(method, path, body)
    assert (found[0], found[2]) == (status, param)
    assert await office.log() == []


async def test_a_refund_gives_units_back_to_the_window_and_is_noted(office: Any) -> None:
    request_id = await asked(office, KEY)
    charged = (await office.get(f"/receipts/{request_id}"))["fair_use"]["charged"]
    at = f"/receipts/{request_id}/refund"
    part = await office.post(at, {"units": 3, "note": "it was our fault"})
    assert part["fair_use"]["charged"] == charged - 3
    assert (await office.get("/accounts/acme/usage"))["fair_use"]["used"] == charged - 3
    assert (await office.post(at))["fair_use"]["charged"] == 0
    assert (await office.get("/accounts/acme/usage"))["fair_use"]["used"] == 0
    assert (await office.get(f"/receipts/{request_id}"))["fair_use"]["charged"] == 0
    entry = (await office.get("/audit?limit=2"))["data"][1]
    assert (entry["action"], entry["subject"]) == ("receipt.refund", request_id)
    assert (entry["details"]["units"], entry["details"]["note"]) == (3, "it was our fault")


async def test_no_more_is_refunded_than_was_charged(office: Any) -> None:
    request_id = await asked(office, KEY)
    charged = (await office.get(f"/receipts/{request_id}"))["fair_use"]["charged"]
    at = f"/receipts/{request_id}/refund"
    assert (await office.refused("POST", at, {"units": charged + 1}))[:2] == (409, "conflict")
    await office.post(at, {})
    assert (await office.refused("POST", at))[:2] == (409, "conflict")
    assert len(await office.log()) == 1


async def test_live_workflows_are_listed_with_their_owners_and_released(office: Any) -> None:
    team = await office.key(KeyKind.TEAM, "beta")
    await asked(office, KEY, "run")
    await asked(office, team, "run")
    data = (await office.get("/workflows"))["data"]
    assert [(one["account"], one["project"], one["id"], one["in_flight"]) for one in data] == [
        ("acme", "ci", "run", 0),
        ("beta", None, "run", 0),
    ]
    assert [one["account"] for one in (await office.get("/workflows?account=beta"))["data"]] == ["beta"]
    released = await office.delete("/workflows/run?account=acme&project=ci")
    assert released == {"object": "workflow", "id": "run", "account": "acme", "project": "ci", "deleted": True}
    await office.delete("/workflows/run?account=beta")
    assert (await office.get("/workflows"))["data"] == []
    assert [entry[1:] for entry in await office.log()] == [
        ("workflow.release", "acme/ci/run"),
        ("workflow.release", "beta/run"),
    ]


async def test_the_audit_log_is_read_newest_first_in_pages(office: Any) -> None:
    for day in (2, 3, 4):
        await office.patch("/accounts/beta", {"billing_day": day})
    first = await office.get("/audit?limit=2")
    assert first["has_more"]
    newest = first["data"][0]
    assert (newest["object"], newest["at"]) == ("audit_entry", "2026-11-01T12:00:00Z")
    assert newest["details"] == {"billing_day": 4, "billing_day_was": 3}
    rest = await office.get(f"/audit?limit=1&after={first['data'][-1]['id']}")
    assert rest["data"][0]["details"] == {"billing_day": 2, "billing_day_was": 1}


async def test_the_log_tells_times_as_the_rest_of_the_api_does(office: Any) -> None:
    body = {"kind": "team", "account": "beta", "name": "b", "expires_at": "2027-01-01T00:00:00Z"}
    key = await office.post("/keys", body)
    await office.patch(f"/keys/{key['id']}", {"expires_at": "2027-02-01T01:00:00+01:00"})
    newest = (await office.get("/audit?limit=1"))["data"][0]
    assert newest["details"] == {"expires_at": "2027-02-01T00:00:00Z", "expires_at_was": "2027-01-01T00:00:00Z"}


async def test_a_place_in_the_log_is_a_number(office: Any) -> None:
    status, code, param, message = await office.refused("GET", "/audit?after=key_1")
    assert (status, code, param) == (400, "invalid_request", "after")
    assert "use the id of an entry" in message
