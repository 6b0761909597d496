"""What an administrator sees of the ledger: everybody's, over every store."""

from typing import Any

import pytest

from flatfee.receipt import Receipt
from flatfee.server.store.records import LedgerQuery
from flatfee.wire import ReceiptState


async def settled(
    desk: Any, account: str, project: str | None, workflow: str | None = None, budget: bool = False
) -> str:
    offer = desk.budget() if budget else desk.premium(0)
    ticket = await desk.admitted(offer, caller=desk.caller(account, project), workflow=workflow)
    await desk.settle(ticket)
    found: str = ticket.request_id
    return found


async def listed(desk: Any, **query: Any) -> tuple[list[str], bool]:
    found, more = await desk.store.all_receipts(LedgerQuery(**query))
    return [Receipt.model_validate_json(receipt.json).request_id or "" for receipt in found], more


async def test_receipts_of_everybody_are_filtered_by_whom_they_belong_to(desk: Any) -> None:
    a = await settled(desk, "acme", "ci", "run")
    b = await settled(desk, "acme", "web", "run")
    c = await settled(desk, "acme", None)
    d = await settled(desk, "beta", "ci", "run", budget=True)
    assert await listed(desk) == ([d, c, b, a], False)
    assert await listed(desk, account="acme") == ([c, b, a], False)
    assert await listed(desk, account="acme", project="ci") == ([a], False)
    assert await listed(desk, account="acme", project="web", workflow="run") == ([b], False)
    assert await listed(desk, workflow="run") == ([d, b, a], False)
    assert await listed(desk, lane="budget") == ([d], False)
    assert await listed(desk, account="none") == ([], False)
    assert await listed(desk, limit=2) == ([d, c], True)
    assert await listed(desk, limit=2, after=c) == ([b, a], False)


async def test_a_receipt_is_found_with_its_owner(desk: Any) -> None:
    ended = await settled(desk, "acme", None)
    running = (await desk.admitted(caller=desk.caller("beta", "web"))).request_id
    found = await desk.store.any_receipt(ended)
    assert (found.account, found.project) == ("acme", None)
    assert found.json == await desk.store.receipt(desk.caller("acme", None), ended)
    found = await desk.store.any_receipt(running)
    assert (found.account, found.project) == ("beta", "web")
    assert Receipt.model_validate_json(found.json).state == ReceiptState.IN_FLIGHT
    assert await desk.store.any_receipt("req_none") is None


@pytest.mark.parametrize("project", ["ci", None])
async def test_every_live_workflow_is_listed_with_its_owner_oldest_first(desk: Any, project: str | None) -> None:
    await settled(desk, "acme", project, "run")
    desk.clock.advance(60)
    await desk.admitted(caller=desk.caller("beta", "web"), workflow="run")
    found = await desk.store.all_workflows()
    assert [(lease.account, lease.project, lease.id, lease.in_flight) for lease in found] == [
        ("acme", project, "run", 0),
        ("beta", "web", "run", 1),
    ]
    desk.clock.advance(60)
    assert [lease.account for lease in await desk.store.all_workflows()] == ["beta"]
