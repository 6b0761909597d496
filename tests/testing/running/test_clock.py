"""The clock of a gateway flows, is moved forward, and everything that ends by time ends by it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import pytest
from tests.testing.fakes import BROKEN, HELLO, SILENT, play

import flatfee
from flatfee.testing import Edge, ScriptedGateway, VirtualClock, running_gateway
from flatfee.testing.running.clock import START, stopped
from flatfee.testing.running.moving import client_clock

ON_BOTH = pytest.mark.parametrize("run", [partial(anyio.run, backend=name) for name in ("asyncio", "trio")])


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with running_gateway(socket=False) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: ScriptedGateway) -> flatfee.Client:
    return gateway.client(max_retries=0)


def ask(client: flatfee.Client, **more: Any) -> flatfee.Receipt:
    receipt: flatfee.Receipt | None = client.chat.completions.create(model="premium", messages=HELLO, **more).receipt
    assert receipt is not None
    return receipt


def test_a_clock_flows_and_can_be_moved() -> None:
    steady = iter([10.0, 11.0, 12.0, 13.0])
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC), lambda: next(steady))
    assert clock.monotonic() == 1.0
    clock.skip(100)
    clock.skip(-5)
    assert clock.monotonic() == 102.0
    assert clock.skipped == 100
    assert repr(clock) == "<VirtualClock 2026-01-01T00:01:43+00:00>"


def test_a_stopped_clock_moves_by_what_is_skipped_only() -> None:
    clock = VirtualClock(START, stopped)
    clock.skip(5)
    assert [clock.monotonic(), clock.wall()] == [5.0, START.timestamp() + 5]


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (datetime(2026, 1, 1), "start=2026-01-01T00:00:00 has no time zone; write 2026-01-01T00:00:00\\+00:00"),  # noqa: DTZ001 - that is the test
        ("2026-01-01", "has no time zone"),
        ("today", "start='today' is no date and time"),
        (5, "start=5 is no date and time"),
    ],
)
def test_a_start_needs_a_zone(start: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told), running_gateway(start=start):
        pass


def test_a_gateway_starts_when_it_is_told() -> None:
    with running_gateway(start="2027-03-01T12:00:00+02:00", frozen=True, socket=False) as gateway:
        assert gateway.now == datetime(2027, 3, 1, 10, tzinfo=UTC)


# Moving


@pytest.mark.parametrize("by", [90, 90.0, timedelta(seconds=90)])
def test_time_goes_by_in_seconds(by: float | timedelta) -> None:
    with running_gateway(frozen=True, socket=False) as gateway:
        gateway.advance(by)
        assert gateway.now == START + timedelta(seconds=90)


@pytest.mark.parametrize("by", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_time_goes_forward_only(gateway: ScriptedGateway, by: float | timedelta) -> None:
    with pytest.raises(ValueError, match="time only goes forward"):
        gateway.advance(by)
    if not isinstance(by, timedelta):
        with pytest.raises(ValueError, match="time only goes forward"):
            gateway.sleep(by)


def test_time_ends_where_dates_do(gateway: ScriptedGateway) -> None:
    with pytest.raises(ValueError, match="to the year 9000 and no further"):
        gateway.advance(1e12)
    with pytest.raises(ValueError, match="to the year 9000 and no further"):
        gateway.advance_to("9999-01-01T00:00:00Z")
    assert gateway.now.year == 2026


def test_time_can_be_set_to_a_moment(gateway: ScriptedGateway) -> None:
    gateway.advance_to(START + timedelta(days=3))
    gateway.advance_to("2026-01-20T00:00:00Z")
    assert START + timedelta(days=4.5) <= gateway.now < START + timedelta(days=4.6)
    with pytest.raises(ValueError, match="already, and time only goes forward"):
        gateway.advance_to(START)
    with pytest.raises(ValueError, match="has no time zone"):
        gateway.advance_to("2027-01-01")


@pytest.mark.parametrize(
    ("window", "billing_day", "end"),
    [
        ("month", 1, datetime(2026, 2, 1, tzinfo=UTC)),
        ("month", 31, datetime(2026, 1, 31, tzinfo=UTC)),
        ("5h", 1, datetime(2026, 1, 15, 13, tzinfo=UTC)),
        ("7d", 1, None),
    ],
)
def test_a_window_ends(window: str, billing_day: int, end: datetime | None) -> None:
    with running_gateway(window=window, billing_day=billing_day, fair_use=50, frozen=True, socket=False) as gateway:
        client = gateway.client()
        gateway.account.set(used=50)
        before = gateway.account.usage.window
        gateway.advance_to_window_end()
        after = gateway.account.usage.window
        assert before is not None
        assert after is not None
        assert after.start == before.end == gateway.now
        assert end in (None, gateway.now)
        assert ask(client, max_tokens=5).lane == "premium"


def test_a_virtual_sleep_moves_the_clock(gateway: ScriptedGateway) -> None:
    before, clock = gateway.now, client_clock()
    gateway.sleep(3600)
    assert gateway.now - before >= timedelta(hours=1)
    assert client_clock() - clock >= 3600


@ON_BOTH
def test_coroutines_sleep_virtually(gateway: ScriptedGateway, run: Callable[..., None]) -> None:
    before = gateway.now

    async def main() -> None:
        await gateway.asleep(3600)

    run(main)
    assert gateway.now - before >= timedelta(hours=1)


def test_the_sleep_of_others_does_not_count_for_a_client(gateway: ScriptedGateway) -> None:
    clock = client_clock()
    sleeper = threading.Thread(target=gateway.sleep, args=(3600,))
    sleeper.start()
    sleeper.join()
    assert client_clock() - clock < 3600


def test_time_goes_by_while_the_ledger_is_down(gateway: ScriptedGateway) -> None:
    with gateway.ledger_down():
        gateway.advance(5)
        with pytest.raises(flatfee.ServiceUnavailableError):
            ask(gateway.client(max_retries=2))
        assert len(gateway.journal.completions) == 3
        assert gateway.verdict().violations == ()


def test_a_cancelled_sleep_ends(gateway: ScriptedGateway) -> None:
    async def main() -> None:
        busy = threading.Event()
        begun = gateway._inside.thread.begin(asyncio.to_thread(busy.wait, 60))  # so that no time is skipped
        with anyio.move_on_after(0.01):
            await gateway.asleep(3600)
        busy.set()
        await asyncio.wrap_future(begun)

    asyncio.run(main())
    assert gateway.now < START + timedelta(hours=1)


# What ends by it


def test_a_rate_limit_refills() -> None:
    with running_gateway(requests_per_minute=6, frozen=True, socket=False) as gateway:
        client = gateway.client(max_retries=0)
        for _ in range(6):
            ask(client)
        with pytest.raises(flatfee.RateLimitError) as refused:
            ask(client)
        assert refused.value.retry_after == 10
        gateway.advance(10)
        ask(client)
        gateway.advance(60)
        for _ in range(6):
            ask(client)


def test_an_idempotency_key_is_forgotten_after_a_day(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    once = {"extra_headers": {"Idempotency-Key": "once"}}
    first = ask(client, **once)
    assert ask(client, **once).request_id == first.request_id
    gateway.advance(timedelta(hours=1))
    with pytest.raises(flatfee.ConflictError) as expired:
        ask(client, **once)
    assert expired.value.code == "idempotency_expired"
    gateway.advance(timedelta(hours=25))
    assert ask(client, **once).request_id != first.request_id


def test_an_idle_workflow_ends(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    ask(client, extra_headers={"x-flatfee-workflow": "run-1"})
    gateway.advance(119)
    assert len(gateway.workflows.active) == 1
    gateway.advance(2)
    assert not gateway.workflows.active


def test_a_circuit_cools_down(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    play(gateway, premium_a=BROKEN)
    for _ in range(2):
        ask(client)
    assert gateway.routes["premium-a"].health.circuit == "open"
    gateway.advance(10)
    assert gateway.routes["premium-a"].health.circuit == "half_open"


# The same again


def test_the_same_requests_get_the_same_receipts() -> None:
    def receipts() -> list[str]:
        with running_gateway(frozen=True, seed=7, socket=False) as gateway:
            client = gateway.client(max_retries=1)
            play(gateway, premium_a=SILENT)
            told = [ask(client, extra_headers={"x-flatfee-workflow": "run-1"}) for _ in range(3)]
            gateway.advance(5)
            play(gateway, premium_a=BROKEN)
            told += [ask(client, extra_headers={"x-flatfee-workflow": "run-1"}) for _ in range(3)]
            return [receipt.model_dump_json() for receipt in told]

    first, second = receipts(), receipts()
    assert first == second
    assert len({json.loads(text)["request_id"] for text in first}) == 6
    assert first == sorted(first, key=lambda text: json.loads(text)["request_id"])


def test_what_an_edge_says_has_the_same_id_again() -> None:
    def told() -> str | None:
        with running_gateway(frozen=True, socket=False) as gateway:
            gateway.script(Edge.error("gateway_overloaded"))
            with pytest.raises(flatfee.ServiceUnavailableError) as refused:
                ask(gateway.client(max_retries=0))
            return refused.value.request_id

    assert told() == told()


def test_requests_have_ids_of_their_own_while_time_flows(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    with running_gateway(socket=False) as other:
        assert ask(client).request_id != ask(other.client()).request_id


def test_a_year_passes_at_once(gateway: ScriptedGateway) -> None:
    began = time.monotonic()
    gateway.advance(timedelta(days=365))
    assert time.monotonic() - began < 30
