"""What the ledger remembers of an idempotency key, over every store."""

from typing import Any

import pytest

from flatfee.server.store.records import Idempotency, Repeat, Ticket
from flatfee.server.store.transactions import REMEMBER_SECONDS
from flatfee.wire import ErrorCode

ONCE = Idempotency(key=b"once", body=b"{}", holder="3")


async def test_a_key_that_ended_with_an_answer_tells_which_request_it_was(desk: Any) -> None:
    settlement = await desk.settle(await desk.admitted(idempotency=ONCE), charged=4)
    again = await desk.reserve(idempotency=ONCE)
    assert again == Repeat(request_id=settlement.receipt.request_id, holder="3", receipt=settlement.json)
    assert await desk.balance() == (4, 0)


async def test_a_key_tells_its_receipt_as_it_stands_after_a_correction(desk: Any) -> None:
    ticket = await desk.admitted(desk.premium(30), idempotency=ONCE)
    await desk.store.dispatch(ticket)
    desk.clock.advance(60)
    await desk.store.sweep()
    settlement = await desk.settle(ticket, charged=4)
    again = await desk.reserve(idempotency=ONCE)
    assert again.receipt == settlement.json


async def test_a_key_of_a_running_request_is_in_flight_as_long_as_it_has_run_already(desk: Any) -> None:
    await desk.admitted(idempotency=ONCE)
    for seconds, wait in ((0.0, 1), (9.5, 10), (40.0, 11)):
        desk.clock.advance(seconds)
        refusal = await desk.refused(idempotency=ONCE)
        assert (refusal.code, refusal.retry_after) == (ErrorCode.IDEMPOTENCY_IN_FLIGHT, wait)
    desk.clock.advance(11)
    assert isinstance(await desk.reserve(idempotency=ONCE), Ticket), "its holder was lost, and nothing was spent"


async def test_another_body_is_a_mismatch_whether_the_first_runs_or_has_ended(desk: Any) -> None:
    other = Idempotency(key=b"once", body=b"[]")
    ticket = await desk.admitted(idempotency=ONCE)
    assert (await desk.refused(idempotency=other)).code is ErrorCode.IDEMPOTENCY_MISMATCH
    await desk.settle(ticket, charged=1)
    assert (await desk.refused(idempotency=other)).code is ErrorCode.IDEMPOTENCY_MISMATCH


async def test_a_request_that_ended_without_answer_or_charge_gives_its_key_back(desk: Any) -> None:
    await desk.settle(await desk.admitted(idempotency=ONCE), charged=0, answered=False)
    assert isinstance(await desk.reserve(idempotency=ONCE), Ticket)


@pytest.mark.parametrize(("charged", "answered"), [(3, False), (0, True)])
async def test_a_charge_or_an_answer_keeps_the_key_used(desk: Any, charged: int, answered: bool) -> None:
    await desk.settle(await desk.admitted(idempotency=ONCE), charged=charged, answered=answered)
    assert isinstance(await desk.reserve(idempotency=ONCE), Repeat)


@pytest.mark.parametrize(("dispatched", "answer"), [(False, Ticket), (True, Repeat)])
async def test_a_lost_request_keeps_its_key_if_it_was_charged(desk: Any, dispatched: bool, answer: type) -> None:
    ticket = await desk.admitted(idempotency=ONCE)
    if dispatched:
        await desk.store.dispatch(ticket)
    desk.clock.advance(60)
    assert isinstance(await desk.reserve(idempotency=ONCE), answer)


async def test_the_end_of_an_older_request_frees_no_key_of_a_newer_one(desk: Any) -> None:
    lost = await desk.admitted(idempotency=ONCE)
    desk.clock.advance(60)
    newer = await desk.admitted(idempotency=ONCE)
    await desk.settle(lost, charged=0, answered=False)
    assert (await desk.refused(idempotency=ONCE)).code is ErrorCode.IDEMPOTENCY_IN_FLIGHT
    await desk.settle(newer, charged=1)


async def test_a_key_is_remembered_for_a_day_even_when_the_clock_is_put_forward_an_hour(desk: Any) -> None:
    await desk.settle(await desk.admitted(idempotency=ONCE), charged=1)
    desk.clock.advance(25 * 3600 - 1)
    await desk.store.sweep()
    assert isinstance(await desk.reserve(idempotency=ONCE), Repeat)
    desk.clock.advance(1)
    assert REMEMBER_SECONDS == 25 * 3600
    assert isinstance(await desk.reserve(idempotency=ONCE), Ticket)


async def test_keys_belong_to_their_project(desk: Any) -> None:
    await desk.settle(await desk.admitted(idempotency=ONCE), charged=1)
    for caller in (desk.caller(project="web"), desk.caller(project=None), desk.caller("other")):
        ticket = await desk.admitted(idempotency=ONCE, caller=caller)
        await desk.settle(ticket, charged=0, answered=False)


async def test_a_refused_request_uses_no_key(desk: Any) -> None:
    await desk.refused(desk.premium(101), idempotency=ONCE)
    await desk.admitted(desk.premium(1), idempotency=ONCE)
