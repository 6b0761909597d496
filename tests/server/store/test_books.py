"""Balances follow from receipts, adjustments and open tickets: windows, plans, refunds, retention."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from flatfee.server.store.account_commands import ChangeAccount
from flatfee.server.store.accounts import NoSuch, NotAllowed
from flatfee.server.store.key_commands import RevokeKey
from flatfee.server.store.ledger_commands import Refund
from flatfee.server.store.records import Changed, ReceiptQuery
from flatfee.server.windows import Calendar

WEEK = Calendar("7d", 1)


async def spent(desk: Any, units: int, **wanted: Any) -> str:
    """Spend units; return the request's id."""
    settlement = await desk.settle(await desk.admitted(desk.premium(units), fair_use=1000, **wanted), charged=units)
    return str(settlement.receipt.request_id)


async def test_a_plan_with_another_kind_of_window_keeps_what_was_used_within_it(desk: Any) -> None:
    await spent(desk, 50)
    desk.clock.advance(8 * 86_400)
    await spent(desk, 30)
    running = await desk.admitted(desk.premium(5))
    assert await desk.balance() == (80, 5)
    assert await desk.balance(WEEK) == (30, 5)
    await desk.refused(desk.premium(66), calendar=WEEK)
    await desk.admitted(desk.premium(65), calendar=WEEK)
    await desk.settle(running, charged=9)
    assert await desk.balance(WEEK) == (39, 65)
    assert await desk.balance() == (89, 65), "and back again: nothing is lost on the way"
    assert await desk.store.audit_books() == []


async def test_a_smaller_plan_stops_admissions_and_takes_nothing_back(desk: Any) -> None:
    await spent(desk, 60)
    refusal = await desk.refused(desk.premium(1), fair_use=50)
    assert (refusal.standing.remaining, refusal.standing.limit) == (0, 50)
    assert await desk.balance() == (60, 0)
    await desk.admitted(desk.premium(1), fair_use=61)


async def test_another_unit_is_counted_apart(desk: Any) -> None:
    await spent(desk, 60)
    await desk.admitted(desk.premium(1), unit="request", fair_use=1)
    assert await desk.balance() == (60, 0)


@pytest.mark.parametrize(("offset", "counts"), [(-0.001, True), (0.0, False), (0.001, False)])
async def test_a_request_a_millisecond_from_the_edge_belongs_to_its_side(
    desk: Any, offset: float, counts: bool
) -> None:
    """Planned before midnight, reserved after: the store's clock decides, in the transaction."""
    desk.clock.now = desk.window.end + offset
    ticket = await desk.admitted(desk.premium(30))
    assert (ticket.window.start == desk.window.start) is counts
    assert await desk.balance_at(desk.window.end - 1) == ((0, 30) if counts else (0, 0))
    desk.clock.now = desk.window.end + 60.0
    await desk.settle(ticket, charged=7)
    assert await desk.balance_at(desk.window.end - 1) == ((7, 0) if counts else (0, 0))
    assert await desk.balance() == ((0, 0) if counts else (7, 0))


async def test_the_window_before_is_found_again_when_the_clock_is_put_back(desk: Any) -> None:
    desk.clock.now = desk.window.end + 1800.0
    await spent(desk, 10)
    desk.clock.advance(-3600)
    await spent(desk, 20)
    assert await desk.balance() == (20, 0)
    desk.clock.advance(3600)
    assert await desk.balance() == (10, 0)


async def test_a_refund_gives_units_back_in_the_window_they_were_charged_in(desk: Any) -> None:
    request_id = await spent(desk, 40)
    desk.clock.now = desk.window.end + 5.0
    json = await desk.store.administer("ann", Refund(request_id=request_id, units=15, note="cut off"))
    assert (await desk.receipt(request_id)).fair_use.charged == 25
    assert json == await desk.store.receipt(desk.caller(), request_id)
    assert await desk.balance_at(desk.window.start) == (25, 0)
    await desk.store.administer("ann", Refund(request_id=request_id))
    assert (await desk.receipt(request_id)).fair_use.charged == 0
    assert await desk.store.audit_books() == []


async def test_a_refund_is_shown_in_lists_too(desk: Any) -> None:
    request_id = await spent(desk, 40)
    await spent(desk, 1)
    await desk.store.administer("ann", Refund(request_id=request_id))
    found, _ = await desk.store.receipts(desk.caller(), ReceiptQuery())
    assert [b'"charged":1' in found[0], b'"charged":0' in found[1]] == [True, True]


async def test_no_more_is_refunded_than_was_charged(desk: Any) -> None:
    request_id = await spent(desk, 40)
    await desk.store.administer("ann", Refund(request_id=request_id, units=30))
    for units in (11, 0, -5):
        with pytest.raises(NotAllowed, match="charged 10"):
            await desk.store.administer("ann", Refund(request_id=request_id, units=units))
    with pytest.raises(NoSuch, match="req_nobody"):
        await desk.store.administer("ann", Refund(request_id="req_nobody"))
    assert await desk.balance() == (10, 0)


async def test_a_key_that_was_revoked_after_it_was_looked_up_admits_nobody(desk: Any) -> None:
    caller = desk.caller()
    await desk.admitted(caller=caller)
    await desk.store.administer("ann", RevokeKey(id=caller.key_id))
    assert await desk.reserve(caller=caller) == Changed(None)
    assert await desk.balance() == (0, 10)


async def test_a_plan_that_changed_after_the_look_up_is_planned_for_anew(desk: Any) -> None:
    caller = desk.caller()
    await desk.know(caller)
    await desk.store.administer("ann", ChangeAccount(name="acme", plan="team"))
    changed = await desk.reserve(caller=caller)
    assert isinstance(changed, Changed)
    assert changed.caller is not None
    assert changed.caller.plan == "team"
    await desk.admitted(caller=changed.caller)


async def test_a_reduced_receipt_keeps_figures_only_and_the_answer_tells_all(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30), workflow="secret-run", reduced=True)
    settlement = await desk.settle(ticket, charged=7, route="openai")
    assert settlement.receipt.route == "openai"
    kept = await desk.store.receipt(desk.caller(), ticket.request_id)
    assert b"openai" not in kept
    assert b"secret-run" not in kept
    receipt = await desk.receipt(ticket.request_id)
    assert (receipt.lane, receipt.fair_use.charged, receipt.fair_use.limit) == ("premium", 7, 100)
    found, _ = await desk.store.receipts(desk.caller(), ReceiptQuery(workflow="secret-run"))
    assert found == []


@pytest.mark.parametrize("late", [False, True])
async def test_a_reduced_receipt_of_a_lost_request_keeps_figures_only(desk: Any, late: bool) -> None:
    ticket = await desk.admitted(desk.premium(30), workflow="secret-run", reduced=True)
    await desk.store.dispatch(ticket)
    desk.clock.advance(60)
    await desk.store.sweep()
    if late:
        await desk.settle(ticket, charged=7, route="openai")
    kept = await desk.store.receipt(desk.caller(), ticket.request_id)
    assert b"secret-run" not in kept
    assert b"openai" not in kept
    assert b"model_requested" not in kept
    assert (await desk.receipt(ticket.request_id)).fair_use.charged == (7 if late else 30)


async def test_old_receipts_are_forgotten_and_newer_ones_kept(desk: Any) -> None:
    from flatfee.server.ids import request_id

    ids = [request_id(desk.clock.now + day * 86_400, lambda bits: 0) for day in range(4)]
    for id_ in ids:
        await desk.settle(await desk.admitted(desk.premium(1), request_id=id_), charged=1)
        await desk.store.administer("ann", Refund(request_id=id_))
    before = desk.clock.now + 2 * 86_400
    assert await desk.store.prune(before, 1) == 1
    assert await desk.store.prune(before, 10) == 1
    assert await desk.store.prune(before, 10) == 0
    assert [await desk.receipt(id_) is not None for id_ in ids] == [False, False, True, True]


async def test_balances_of_long_ago_are_read_from_their_receipts(desk: Any) -> None:
    await spent(desk, 12)
    desk.clock.now = desk.window.end + 2 * 86_400.0
    await desk.store.sweep()
    assert await desk.balance_at(desk.window.start) == (12, 0)


async def test_what_was_used_is_told_after_the_cache_of_balances_is_gone(open_sqlite: Any, path: Path) -> None:
    desk = open_sqlite()
    await spent(desk, 12)
    await desk.admitted(desk.premium(5))
    with sqlite3.connect(path) as rows:
        rows.execute("DELETE FROM balances")
    rows.close()
    assert await desk.balance() == (12, 5)
    await desk.refused(desk.premium(84))
    await desk.admitted(desk.premium(83))


async def test_a_balance_that_does_not_follow_from_its_entries_is_named(open_sqlite: Any, path: Path) -> None:
    desk = open_sqlite()
    await spent(desk, 12)
    with sqlite3.connect(path) as rows:
        rows.execute("UPDATE balances SET posted = 11")
    rows.close()
    (found,) = await desk.store.audit_books()
    assert "'acme'" in found
    assert "posted=11" in found
    assert "posted=12" in found


async def test_a_memory_that_forgets_receipts_keeps_what_they_were_charged(clock: Any) -> None:
    from tests.server.store.conftest import Desk

    from flatfee.server.store.memory import MemoryStore

    desk = Desk(MemoryStore(clock, max_receipts=2), clock)
    for _ in range(5):
        await spent(desk, 10)
    assert await desk.balance() == (50, 0)
    assert await desk.store.audit_books() == []
