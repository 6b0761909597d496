"""What happens to requests whose process was lost: leases, heartbeats and the sweep."""

from typing import Any

import pytest

from flatfee.server.store.ledger_commands import Refund
from flatfee.wire import ReceiptState


async def test_a_lost_request_that_was_never_dispatched_is_void(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30), lease=60.0)
    desk.clock.advance(60)
    assert await desk.store.sweep() == 1
    assert await desk.balance() == (0, 0)
    receipt = await desk.receipt(ticket.request_id)
    assert receipt.state == ReceiptState.REFUSED
    assert receipt.fair_use.charged == 0


async def test_a_lost_request_that_was_dispatched_keeps_its_estimate_charged(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30), workflow="run", lease=60.0)
    await desk.store.dispatch(ticket)
    desk.clock.advance(60)
    assert await desk.store.sweep() == 1
    assert await desk.balance() == (30, 0)
    receipt = await desk.receipt(ticket.request_id)
    assert receipt.state == ReceiptState.ESTIMATED
    assert receipt.fair_use.charged == 30
    assert receipt.lane == "premium"
    assert receipt.workflow.id == "run"


async def test_a_lost_request_is_charged_to_the_window_of_its_reservation(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30))
    await desk.store.dispatch(ticket)
    desk.clock.now = desk.window.end + 5.0
    await desk.store.sweep()
    assert await desk.balance() == (0, 0)
    assert await desk.balance_at(desk.window.end - 1) == (30, 0)


async def test_lost_continuation_is_charged_to_continuation(desk: Any) -> None:
    ticket = await desk.admitted(desk.continuation(40))
    await desk.store.dispatch(ticket)
    desk.clock.advance(60)
    await desk.store.sweep()
    usage = await desk.usage()
    assert (usage.continuation_used, usage.continuation_pending, usage.fair_use_used) == (40, 0, 0)
    assert (await desk.receipt(ticket.request_id)).fair_use.charged == 0


async def test_a_lost_request_of_the_budget_lane_costs_nothing(desk: Any) -> None:
    await desk.store.dispatch(await desk.admitted(desk.budget()))
    desk.clock.advance(60)
    assert await desk.store.sweep() == 1
    assert await desk.balance() == (0, 0)


async def test_a_request_is_not_swept_before_its_lease_ends(desk: Any) -> None:
    await desk.admitted(desk.premium(30), lease=60.0)
    desk.clock.advance(59.9)
    assert await desk.store.sweep() == 0
    assert await desk.balance() == (0, 30)


async def test_a_request_is_swept_once(desk: Any) -> None:
    await desk.store.dispatch(await desk.admitted(desk.premium(30)))
    desk.clock.advance(60)
    assert [await desk.store.sweep(), await desk.store.sweep()] == [1, 0]
    assert await desk.balance() == (30, 0)


async def test_a_heartbeat_keeps_running_requests_and_their_workflows_alive(desk: Any) -> None:
    named = await desk.admitted(workflow="run", lease=60.0, idle=50.0)
    single = await desk.admitted(lease=60.0)
    for _ in range(5):
        desk.clock.advance(59)
        await desk.store.heartbeat([named, single], 60.0)
        assert await desk.store.sweep() == 0
        assert (await desk.usage()).workflows_active == 2
    desk.clock.advance(60)
    assert await desk.store.sweep() == 2
    assert (await desk.usage()).workflows_active == 0


async def test_a_heartbeat_does_not_bring_back_what_has_ended(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30))
    await desk.settle(ticket, charged=3)
    await desk.store.heartbeat([ticket], 60.0)
    desk.clock.advance(1000)
    assert await desk.store.sweep() == 0
    assert await desk.balance() == (3, 0)


async def test_a_heartbeat_that_crosses_a_settlement_does_not_hold_the_slot_on(desk: Any) -> None:
    """The heartbeat's list was made before the request ended, and is written after it."""
    ticket = await desk.admitted(workflow="run", idle=5.0)
    await desk.settle(ticket)
    await desk.store.heartbeat([ticket], 60.0)
    desk.clock.advance(5)
    assert (await desk.usage()).workflows_active == 0


async def test_settling_after_the_sweep_lowers_the_estimate_to_what_was_used(desk: Any) -> None:
    ticket = await lapsed(desk)
    settlement = await desk.settle(ticket, charged=2, route="openai")
    assert (settlement.receipt.state, settlement.receipt.fair_use.charged) == (ReceiptState.SETTLED, 2)
    assert await desk.receipt(ticket.request_id) == settlement.receipt
    assert await desk.balance() == (2, 0)


async def test_settling_after_the_sweep_never_raises_what_was_charged(desk: Any) -> None:
    settlement = await desk.settle(await lapsed(desk), charged=400)
    assert settlement.receipt.fair_use.charged == 30
    assert await desk.balance() == (30, 0)


async def test_settling_late_twice_is_the_same_as_once(desk: Any) -> None:
    ticket = await lapsed(desk)
    first = await desk.settle(ticket, charged=20)
    assert (await desk.settle(ticket, charged=2)).json == first.json
    assert await desk.balance() == (20, 0)


async def test_however_many_requests_were_lost_what_they_held_is_free_without_a_sweep(desk: Any) -> None:
    for _ in range(50):
        await desk.admitted(desk.premium(2), workflow="run", fanout=50)
    desk.clock.advance(60)
    await desk.admitted(desk.premium(100), workflow="run", fanout=1)


@pytest.mark.parametrize(("refunded", "stays"), [(5, 15), (20, 0), (30, 0)])
async def test_a_late_settlement_does_not_give_back_what_was_refunded_already(
    desk: Any, refunded: int, stays: int
) -> None:
    await desk.settle(await desk.admitted(desk.premium(50)), charged=50)
    ticket = await lapsed(desk)
    await desk.store.administer("operator", Refund(request_id=ticket.request_id, units=refunded))
    settlement = await desk.settle(ticket, charged=20)
    assert settlement.receipt.fair_use.charged == stays
    assert await desk.balance() == (50 + stays, 0)


async def test_a_late_settlement_tells_what_remains_after_its_correction(desk: Any) -> None:
    settlement = await desk.settle(await lapsed(desk), charged=2)
    assert settlement.receipt.fair_use.remaining == 98


async def test_a_late_settlement_belongs_to_the_window_of_its_reservation(desk: Any) -> None:
    ticket = await lapsed(desk)
    desk.clock.now = desk.window.end + 5.0
    await desk.settle(ticket, charged=7)
    assert await desk.balance_at(desk.window.start) == (7, 0)
    assert await desk.balance() == (0, 0)


async def test_late_settlement_of_continuation_lowers_continuation(desk: Any) -> None:
    ticket = await lapsed(desk, desk.continuation(30))
    settlement = await desk.settle(ticket, charged=4)
    assert (await desk.usage()).continuation_used == 4
    assert settlement.receipt.fair_use.charged == 0


async def lapsed(desk: Any, *offers: Any) -> Any:
    """Return the ticket of a request that was dispatched and whose lease ran out."""
    ticket = await desk.admitted(*(offers or [desk.premium(30)]))
    await desk.store.dispatch(ticket)
    desk.clock.advance(60)
    await desk.store.sweep()
    return ticket


async def test_a_heartbeat_that_comes_too_late_holds_nothing(desk: Any) -> None:
    """Another may have taken the slot by then: to take it back would be one too many."""
    ticket = await desk.admitted(workflow="run", workflows=1)
    desk.clock.advance(121)
    other = await desk.admitted(workflow="other", workflows=1)
    await desk.store.heartbeat([ticket, other], 60.0)
    assert (await desk.usage()).workflows_active == 1
    assert [lease.id for lease in await desk.store.workflows(desk.caller())] == ["other"]


async def test_what_a_lost_request_held_is_free_with_the_next_request_even_before_a_sweep(desk: Any) -> None:
    await desk.admitted(desk.premium(100), workflows=1)
    desk.clock.advance(60)
    await desk.admitted(desk.premium(100), workflows=1)


async def test_settling_after_the_lease_but_before_the_sweep_counts(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30))
    await desk.store.dispatch(ticket)
    desk.clock.advance(600)
    await desk.settle(ticket, charged=2)
    assert await desk.store.sweep() == 0
    assert await desk.balance() == (2, 0)


async def test_the_slot_of_a_lost_request_is_free_when_its_lease_ends_even_before_the_sweep(desk: Any) -> None:
    await desk.admitted(workflows=1, lease=60.0)
    desk.clock.advance(59)
    await desk.refused(workflows=1)
    desk.clock.advance(1)
    await desk.admitted(workflows=1)


async def test_after_everything_has_ended_nothing_is_held(desk: Any) -> None:
    for index in range(4):
        ticket = await desk.admitted(desk.premium(10), workflow="run" if index % 2 else None)
        if index > 1:
            await desk.settle(ticket, charged=1)
    desk.clock.advance(1000)
    await desk.store.sweep()
    usage = await desk.usage()
    assert (usage.fair_use_used, usage.fair_use_pending, usage.workflows_active) == (2, 0, 0)
