"""What only the memory store can meet: that memory ends."""

from collections.abc import Callable

from tests.server.store.rows import make_known

from flatfee.receipt import Receipt
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import (
    Changed,
    Idempotency,
    Outcome,
    ReceiptQuery,
    Refusal,
    Repeat,
    Reservation,
    Ticket,
)


async def test_the_newest_receipts_are_kept_and_no_more(want: Callable[..., Reservation]) -> None:
    store, caller = MemoryStore(max_receipts=3), want(1).caller
    for number in range(5):
        await store.record(caller, Receipt(request_id=f"req_{number}"))
    found, more = await store.receipts(caller, ReceiptQuery())
    assert [Receipt.model_validate_json(json).request_id for json in found] == ["req_4", "req_3", "req_2"]
    assert not more
    assert await store.receipt(caller, "req_1") is None


async def test_the_newest_used_keys_are_kept_and_no_more_but_for_those_of_running_requests(
    want: Callable[..., Reservation],
) -> None:
    store = MemoryStore(max_receipts=2)
    make_known(store._book, want(0).caller, b"digest")

    async def use(name: str) -> Ticket | Refusal | Repeat | Changed:
        return await store.reserve(want(0, workflow="run", idempotency=Idempotency(key=name.encode(), body=b"")))

    tickets = {name: await use(name) for name in "abcd"}
    assert isinstance(await use("a"), Refusal), "it still runs"
    for name in "abcd":
        ticket = tickets[name]
        assert isinstance(ticket, Ticket)
        await store.settle(ticket, Outcome(charged=0, receipt=Receipt(request_id=ticket.request_id), answered=True))
    assert isinstance(await use("e"), Ticket)
    assert [isinstance(await use(name), Repeat) for name in "dcba"] == [True, False, False, False]


async def test_a_request_that_runs_is_not_forgotten_for_newer_ones(want: Callable[..., Reservation]) -> None:
    store = MemoryStore(max_receipts=1)
    wanted = want(1)
    make_known(store._book, wanted.caller, b"digest")
    assert isinstance(await store.reserve(wanted), Ticket)
    for number in range(3):
        await store.record(wanted.caller, Receipt(request_id=f"req_{number}"))
    assert await store.receipt(wanted.caller, wanted.request_id) is not None
