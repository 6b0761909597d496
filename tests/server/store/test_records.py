"""Receipts: kept, found by their owner only, listed in pages."""

from datetime import UTC, datetime
from typing import Any

import pytest

from flatfee.receipt import Receipt
from flatfee.server.store.records import ReceiptQuery
from flatfee.wire import ReceiptState


async def test_a_settled_receipt_is_found_as_it_was_given_out(desk: Any) -> None:
    ticket = await desk.admitted(workflow="run")
    settlement = await desk.settle(ticket, charged=4, route="openai")
    assert await desk.store.receipt(desk.caller(), ticket.request_id) == settlement.json
    assert Receipt.model_validate_json(settlement.json) == settlement.receipt
    assert settlement.receipt.workflow.id == "run"
    assert settlement.receipt.route == "openai"
    assert settlement.receipt.fair_use.unit == "token"


async def test_a_running_request_has_a_receipt_in_flight(desk: Any) -> None:
    named = await desk.admitted(workflow="run")
    single = await desk.admitted()
    receipt = await desk.receipt(named.request_id)
    assert receipt.state == ReceiptState.IN_FLIGHT
    assert (receipt.lane, receipt.reason, receipt.model_requested) == ("premium", "default", "auto")
    assert receipt.workflow.id == "run"
    assert (await desk.receipt(single.request_id)).workflow is None


@pytest.mark.parametrize("dispatched", [False, True])
async def test_a_request_was_made_at_the_same_millisecond_whatever_became_of_it(desk: Any, dispatched: bool) -> None:
    start = int(desk.clock.now)
    desk.clock.now = start + 0.1239
    ticket = await desk.admitted()
    if dispatched:
        await desk.store.dispatch(ticket)
    running = await desk.receipt(ticket.request_id)
    desk.clock.advance(60)
    await desk.store.sweep()
    lost = await desk.receipt(ticket.request_id)
    assert running.created_at == lost.created_at == datetime.fromtimestamp(start + 0.123, UTC)


@pytest.mark.parametrize("ended", [False, True])
async def test_a_receipt_does_not_exist_for_another_project_or_account(desk: Any, ended: bool) -> None:
    ticket = await desk.admitted()
    if ended:
        await desk.settle(ticket)
    assert await desk.receipt(ticket.request_id) is not None
    assert await desk.receipt(ticket.request_id, desk.caller(project="web")) is None
    assert await desk.receipt(ticket.request_id, desk.caller("other")) is None
    assert await desk.receipt(ticket.request_id, desk.caller("other", project=None)) is None


@pytest.mark.parametrize("ended", [False, True])
async def test_a_team_key_sees_every_receipt_of_its_account(desk: Any, ended: bool) -> None:
    ticket = await desk.admitted()
    if ended:
        await desk.settle(ticket)
    assert await desk.receipt(ticket.request_id, desk.caller(project=None)) is not None


async def test_a_team_keys_own_requests_belong_to_no_project(desk: Any) -> None:
    ticket = await desk.admitted(caller=desk.caller(project=None))
    assert await desk.receipt(ticket.request_id) is None
    await desk.settle(ticket)
    assert await desk.receipt(ticket.request_id) is None
    assert await desk.receipt(ticket.request_id, desk.caller(project=None)) is not None


async def test_an_unknown_receipt_is_none(desk: Any) -> None:
    assert await desk.receipt("req_unknown") is None


async def test_a_refusal_before_admission_is_kept(desk: Any) -> None:
    refused = Receipt(request_id="req_refused", state=ReceiptState.REFUSED)
    await desk.store.record(desk.caller(), refused)
    assert await desk.receipt("req_refused") == refused


async def test_a_kept_receipt_is_never_written_over(desk: Any) -> None:
    settlement = await desk.settle(await desk.admitted(), charged=3)
    id_ = settlement.receipt.request_id
    await desk.store.record(desk.caller("other"), Receipt(request_id=id_, state=ReceiptState.REFUSED))
    assert await desk.store.receipt(desk.caller(), id_) == settlement.json
    assert await desk.receipt(id_, desk.caller("other")) is None


async def settled(desk: Any, count: int, **wanted: Any) -> list[str]:
    found = []
    for _ in range(count):
        ticket = await desk.admitted(desk.premium(0), **wanted)
        await desk.settle(ticket)
        found.append(ticket.request_id)
    return found


async def listed(desk: Any, caller: Any = None, **query: Any) -> tuple[list[str], bool]:
    found, more = await desk.store.receipts(caller or desk.caller(), ReceiptQuery(**query))
    return [Receipt.model_validate_json(json).request_id or "" for json in found], more


async def test_receipts_are_listed_newest_first(desk: Any) -> None:
    ids = await settled(desk, 3)
    assert await listed(desk) == (ids[::-1], False)


async def test_pages_join_without_gap_or_repetition(desk: Any) -> None:
    ids = await settled(desk, 7)
    pages: list[list[str]] = []
    after, more = None, True
    while more:
        page, more = await listed(desk, limit=3, after=after)
        pages.append(page)
        after = page[-1]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [id_ for page in pages for id_ in page] == ids[::-1]


async def test_a_page_that_is_just_full_says_that_nothing_follows(desk: Any) -> None:
    await settled(desk, 3)
    assert (await listed(desk, limit=3))[1] is False
    assert (await listed(desk, limit=2))[1] is True


async def test_receipts_are_filtered_by_workflow_and_lane(desk: Any) -> None:
    first = await settled(desk, 2, workflow="a")
    second = await settled(desk, 1, workflow="b")
    third = (await desk.settle(await desk.admitted(desk.budget(), workflow="a"))).receipt.request_id
    assert (await listed(desk, workflow="a"))[0] == [third, *first[::-1]]
    assert (await listed(desk, lane="premium"))[0] == [*second, *first[::-1]]
    assert (await listed(desk, workflow="a", lane="budget"))[0] == [third]
    assert (await listed(desk, workflow="a", limit=1, after=third))[0] == [first[1]]
    assert await listed(desk, lane="unheard-of") == ([], False)


async def test_a_project_lists_its_own_receipts_and_a_team_key_the_accounts(desk: Any) -> None:
    mine = await settled(desk, 1)
    web = await settled(desk, 1, caller=desk.caller(project="web"))
    await settled(desk, 1, caller=desk.caller("other"))
    team = await settled(desk, 1, caller=desk.caller(project=None))
    assert (await listed(desk))[0] == mine
    assert (await listed(desk, desk.caller(project=None)))[0] == [*team, *web, *mine]
