"""Reserve, dispatch, settle: the life of one request's money, over every store."""

from dataclasses import replace
from typing import Any

import pytest

from flatfee.server.store.base import ForeignTicket, StoreDown
from flatfee.wire import ErrorCode


async def test_a_reservation_holds_its_units_back(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30))
    assert await desk.balance() == (0, 30)
    assert ticket.standing.remaining == 70
    assert ticket.standing.limit == 100
    assert ticket.standing.resets_at == desk.window.end


async def test_settling_posts_the_charge_and_frees_the_rest(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30))
    await desk.store.dispatch(ticket)
    settlement = await desk.settle(ticket, charged=12)
    assert await desk.balance() == (12, 0)
    assert settlement.receipt.fair_use.charged == 12
    assert settlement.receipt.fair_use.remaining == 88


async def test_settling_twice_is_the_same_as_once(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30))
    first = await desk.settle(ticket, charged=12)
    again = await desk.settle(ticket, charged=99)
    assert await desk.balance() == (12, 0)
    assert again.json == first.json
    assert again.receipt == first.receipt


async def test_settling_for_nothing_frees_everything(desk: Any) -> None:
    await desk.settle(await desk.admitted(desk.premium(30)), charged=0)
    assert await desk.balance() == (0, 0)


async def test_use_above_the_reservation_is_posted_too(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(100))
    settlement = await desk.settle(ticket, charged=130)
    assert await desk.balance() == (130, 0)
    assert settlement.receipt.fair_use.remaining == 0
    assert (await desk.refused(desk.premium(0))).standing.remaining == 0


async def test_a_window_ends_above_its_cap_by_no_more_than_answers_exceeded_their_reservations(desk: Any) -> None:
    tickets = [await desk.admitted(desk.premium(25)) for _ in range(4)]
    await desk.refused(desk.premium(1))
    for ticket in tickets:
        await desk.settle(ticket, charged=25 + 7)
    assert await desk.balance() == (100 + 4 * 7, 0)
    await desk.refused(desk.premium(1))


async def test_the_last_unit_can_be_had_and_no_more(desk: Any) -> None:
    await desk.admitted(desk.premium(99))
    await desk.refused(desk.premium(2))
    await desk.admitted(desk.premium(1))
    await desk.refused(desk.premium(1))
    assert await desk.balance() == (0, 100)


async def test_what_is_held_back_counts_as_much_as_what_is_posted(desk: Any) -> None:
    await desk.settle(await desk.admitted(desk.premium(60)), charged=60)
    await desk.admitted(desk.premium(30))
    await desk.refused(desk.premium(11))
    await desk.admitted(desk.premium(10))


async def test_the_first_offer_that_fits_is_granted(desk: Any) -> None:
    offers = (desk.premium(200), desk.premium(80), desk.continuation(200))
    first = await desk.admitted(*offers)
    second = await desk.admitted(*offers)
    assert (first.choice, first.offer) == (1, offers[1])
    assert (second.choice, second.offer) == (2, offers[2])
    usage = await desk.usage()
    assert (usage.fair_use_pending, usage.continuation_pending) == (80, 200)


async def test_a_refusal_changes_nothing(desk: Any) -> None:
    before = await desk.usage()
    refusal = await desk.refused(desk.premium(101), workflow="run")
    assert refusal.code is ErrorCode.FAIR_USE_EXHAUSTED
    assert refusal.retry_after is None
    assert await desk.usage() == before
    assert await desk.store.workflows(desk.caller()) == []


async def test_continuation_has_a_cap_of_its_own(desk: Any) -> None:
    offers = (desk.premium(1000), desk.continuation(40))
    kept = await desk.admitted(*offers, continuation_limit=100)
    await desk.settle(kept, charged=50)
    await desk.admitted(*offers, continuation_limit=100)
    refusal = await desk.refused(*offers, continuation_limit=100)
    assert refusal.code is ErrorCode.FAIR_USE_EXHAUSTED
    usage = await desk.usage()
    assert (usage.continuation_used, usage.continuation_pending) == (50, 40)
    assert await desk.balance() == (0, 0)


async def test_continuation_is_not_charged_to_fair_use(desk: Any) -> None:
    settlement = await desk.settle(await desk.admitted(desk.continuation(40)), charged=50)
    assert settlement.receipt.fair_use.charged == 0
    assert settlement.receipt.fair_use.remaining == 100


async def test_continuation_without_a_cap_is_unlimited(desk: Any) -> None:
    await desk.admitted(desk.continuation(10**12))


async def test_the_budget_lane_holds_nothing_back(desk: Any) -> None:
    ticket = await desk.admitted(desk.budget())
    settlement = await desk.settle(ticket, charged=5)
    assert await desk.balance() == (0, 0)
    assert settlement.receipt.fair_use.charged == 0


async def test_the_budget_lane_is_open_only_while_fair_use_remains(desk: Any) -> None:
    offers = (desk.budget(), desk.continuation(5))
    await desk.admitted(desk.premium(99))
    assert (await desk.admitted(*offers)).choice == 0
    await desk.admitted(desk.premium(1))
    assert (await desk.admitted(*offers)).choice == 1


async def test_windows_have_balances_of_their_own(desk: Any) -> None:
    late = await desk.admitted(desk.premium(100), lease=90 * 86_400.0)
    desk.clock.now = float(desk.window.end)
    await desk.admitted(desk.premium(60))
    await desk.settle(late, charged=90)
    assert await desk.balance() == (0, 60)
    assert await desk.balance_at(desk.window.end - 1) == (90, 0)


async def test_accounts_have_balances_of_their_own(desk: Any) -> None:
    await desk.admitted(desk.premium(100))
    await desk.admitted(desk.premium(100), caller=desk.caller("other"))
    assert (await desk.usage(account="other")).fair_use_pending == 100


async def test_the_projects_of_an_account_share_its_balance(desk: Any) -> None:
    await desk.admitted(desk.premium(100))
    await desk.refused(desk.premium(1), caller=desk.caller(project="web"))


async def test_a_smaller_plan_keeps_what_was_used_and_caps_at_once(desk: Any) -> None:
    await desk.settle(await desk.admitted(desk.premium(60)), charged=60)
    refusal = await desk.refused(desk.premium(1), fair_use=50)
    assert refusal.standing.remaining == 0
    assert (await desk.admitted(desk.premium(1), fair_use=61)).standing.remaining == 0


async def test_a_plan_without_fair_use_admits_nothing_to_premium_or_budget(desk: Any) -> None:
    await desk.refused(desk.premium(1), desk.budget(), fair_use=0)


async def test_a_request_that_was_swept_cannot_be_dispatched_unmetered(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30), lease=60.0)
    desk.clock.advance(60)
    await desk.store.sweep()
    with pytest.raises(StoreDown, match="lease ran out"):
        await desk.store.dispatch(ticket)


async def test_dispatching_twice_is_the_same_as_once(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30))
    await desk.store.dispatch(ticket)
    await desk.store.dispatch(ticket)
    await desk.settle(ticket, charged=1)
    assert await desk.balance() == (1, 0)


async def test_a_stranger_to_the_ledger_settles_nothing(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30))
    forged = replace(ticket, request_id="req_forged")
    with pytest.raises(ForeignTicket):
        await desk.settle(forged, charged=12)
    assert await desk.balance() == (0, 30)


@pytest.mark.parametrize("lost", [False, True])
async def test_a_ticket_in_anothers_name_settles_nothing(desk: Any, lost: bool) -> None:
    ticket = await desk.admitted(desk.premium(30))
    await desk.store.dispatch(ticket)
    if lost:
        desk.clock.advance(60)
        await desk.store.sweep()
    with pytest.raises(ForeignTicket):
        await desk.settle(replace(ticket, account="other"), charged=12)
    assert sum(await desk.balance()) == 30


async def test_what_a_ticket_holds_is_what_the_ledger_says(desk: Any) -> None:
    """A holder that is mistaken about its units or its purse cannot free what it does not hold."""
    ticket = await desk.admitted(desk.premium(30))
    await desk.admitted(desk.premium(50))
    mistaken = replace(ticket, offer=desk.continuation(70))
    await desk.settle(mistaken, charged=5)
    assert await desk.balance() == (5, 50)
    assert (await desk.usage()).continuation_used == 0


async def test_usage_counts_the_workflows_that_run(desk: Any) -> None:
    await desk.admitted(workflow="run")
    await desk.admitted(workflow="run")
    await desk.admitted()
    assert (await desk.usage()).workflows_active == 2


async def test_usage_of_an_unknown_account_is_nothing(desk: Any) -> None:
    usage = await desk.usage(account="nobody")
    assert (usage.fair_use_used, usage.continuation_used, usage.workflows_active) == (0, 0, 0)


async def test_a_store_is_ready_and_tells_its_time(desk: Any) -> None:
    await desk.store.ready()
    assert desk.store.now() == desk.clock.now
