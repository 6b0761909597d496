"""Which route is asked, and which is left alone: priorities, weights, circuits."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.faults.catalogue.healthy import said
from tests.faults.scenario import FIRST, OTHER, settings_with, to
from tests.faults.steps import Seen, Step
from tests.faults.upstream import FaultyUpstream
from tests.server.fakes import LIMIT, until
from tests.server.fakes_gateway import Served, on_loopback, request

pytestmark = pytest.mark.faults
MANY = 20
COOL_DOWN = 10.0
FAILURES = 3


class Clock:
    """The gateway's monotonic clock, set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def gateway(*routes: dict[str, Any]) -> AsyncGenerator[tuple[FaultyUpstream, Served, Clock]]:
    """Run a gateway with some routes, by a clock that stands still; without routes, with two of priorities 1 and 2."""
    async with FaultyUpstream() as upstream:
        upstream.plays(FIRST)
        upstream.plays(OTHER)
        settings = settings_with(
            upstream, *(routes or (to(FIRST), to(OTHER, priority=2))), concurrent_workflows=100, fair_use=10_000_000
        )
        async with on_loopback(settings) as served:
            clock = Clock()
            served.app.gateway.monotonic = clock
            yield upstream, served, clock


async def ask(served: Served, **body: Any) -> tuple[str, list[tuple[str, str]]]:
    """Ask once; return the route that answered, and every attempt."""
    status, headers, answer = await served.exchange(request(**body))
    assert status == 200, answer
    receipt = json.loads(answer)["flatfee"]
    return headers["x-flatfee-route"], [(each["route"], each["outcome"]) for each in receipt["attempts"]]


async def open_the_circuit(upstream: FaultyUpstream, served: Served) -> int:
    """Let the first route fail until it is left alone; return how often it was asked by then."""
    upstream.plays(FIRST, then="http-408")  # which is not asked again within one request
    for _ in range(FAILURES):
        assert await ask(served) == (OTHER, [(FIRST, "error"), (OTHER, "ok")])
    return len(upstream.of(FIRST))


async def test_the_lowest_priority_number_is_asked_first_every_time() -> None:
    async with gateway(to(OTHER, priority=7), to(FIRST, priority=3)) as (upstream, served, _):
        for _ in range(10):
            assert await ask(served) == (FIRST, [(FIRST, "ok")])
        assert not upstream.of(OTHER)


async def test_routes_of_one_priority_share_by_weight() -> None:
    async with gateway(to(FIRST, weight=3), to(OTHER, weight=1)) as (_, served, _):
        served.app.gateway.chance = random.Random(7).random
        answered = Counter([(await ask(served))[0] for _ in range(200)])
        assert 120 < answered[FIRST] < 180
        assert answered[FIRST] + answered[OTHER] == 200


async def test_a_failing_route_of_the_same_priority_leaves_its_share_to_the_other() -> None:
    async with gateway(to(FIRST), to(OTHER)) as (upstream, served, _):
        upstream.plays(FIRST, then="http-401")
        assert {(await ask(served))[0] for _ in range(MANY)} == {OTHER}
        assert len(upstream.of(FIRST)) <= FAILURES


async def test_a_route_whose_circuit_is_open_is_not_asked_at_all() -> None:
    async with gateway() as (upstream, served, clock):
        asked = await open_the_circuit(upstream, served)
        clock.now += COOL_DOWN - 0.1
        route, attempts = await ask(served)
        assert (route, attempts) == (OTHER, [(FIRST, "unavailable"), (OTHER, "ok")])
        assert len(upstream.of(FIRST)) == asked


async def test_one_of_twenty_requests_at_once_probes_a_route_whose_cool_down_is_over() -> None:
    async with gateway() as (upstream, served, clock):
        asked = await open_the_circuit(upstream, served)
        clock.now += COOL_DOWN + 0.1
        go_on = asyncio.Event()

        def held(seen: Seen) -> Iterable[Step]:
            yield go_on
            yield from said(seen)

        upstream.plays(FIRST, then=held)
        asking = [asyncio.create_task(ask(served)) for _ in range(MANY)]
        await until(lambda: sum(task.done() for task in asking) == MANY - 1)
        assert len(upstream.of(FIRST)) == asked + 1
        go_on.set()
        async with asyncio.timeout(LIMIT):
            answered = Counter(route for route, _ in await asyncio.gather(*asking))
        assert answered == {OTHER: MANY - 1, FIRST: 1}
        assert await ask(served) == (FIRST, [(FIRST, "ok")])


async def test_a_probe_that_fails_is_the_only_one_for_twice_as_long() -> None:
    async with gateway() as (upstream, served, clock):
        asked = await open_the_circuit(upstream, served)
        clock.now += COOL_DOWN + 0.1
        assert (await ask(served))[1] == [(FIRST, "error"), (OTHER, "ok")]
        clock.now += COOL_DOWN + 0.1
        assert (await ask(served))[1] == [(FIRST, "unavailable"), (OTHER, "ok")]
        assert len(upstream.of(FIRST)) == asked + 1
        clock.now += COOL_DOWN
        assert (await ask(served))[1] == [(FIRST, "error"), (OTHER, "ok")]


async def test_a_probe_that_fails_is_not_tried_again_at_once() -> None:
    async with gateway() as (upstream, served, clock):
        asked = await open_the_circuit(upstream, served)
        clock.now += COOL_DOWN + 0.1
        upstream.plays(FIRST, then="http-500")
        assert (await ask(served))[1] == [(FIRST, "error"), (OTHER, "ok")]
        assert len(upstream.of(FIRST)) == asked + 1


async def test_many_at_once_do_not_hammer_a_route_that_fails() -> None:
    """Each has its one try; by the time of the second, the circuit is open."""
    async with gateway() as (upstream, served, _):
        upstream.plays(FIRST, then="http-500")
        async with asyncio.timeout(LIMIT):
            answered = await asyncio.gather(*(ask(served) for _ in range(MANY)))
        assert {route for route, _ in answered} == {OTHER}
        assert len(upstream.of(FIRST)) == MANY


async def test_where_no_premium_route_answers_an_economy_route_does_for_free() -> None:
    thrifty = to(OTHER, priority=1) | {"tier": "economy"}
    async with gateway(to(FIRST), thrifty) as (upstream, served, _):
        upstream.plays(FIRST, then="reset-before-a-byte")
        _, headers, body = await served.exchange(request())
        receipt = json.loads(body)["flatfee"]
        assert (headers["x-flatfee-lane"], headers["x-flatfee-reason"]) == ("fallback", "provider_error")
        assert (receipt["tier"], receipt["fair_use"].get("charged", 0)) == ("economy", 0)


async def test_who_is_told_to_come_back_is_told_when_the_provider_will_be_there() -> None:
    async with gateway(to(FIRST)) as (upstream, served, _):
        upstream.plays(FIRST, "429-retry-after-30")
        status, headers, _ = await served.exchange(request())
        assert (status, headers["retry-after"], headers["x-should-retry"]) == (503, "30", "true")
        status, headers, _ = await served.exchange(request())
        assert (status, headers["retry-after"]) == (503, "30")
        assert len(upstream.of(FIRST)) == 1


async def test_a_probe_whose_caller_leaves_makes_room_for_the_next() -> None:
    async with gateway() as (upstream, served, clock):
        asked = await open_the_circuit(upstream, served)
        clock.now += COOL_DOWN + 0.1
        upstream.plays(FIRST, "silent")
        _, writer = await served.open(request())
        await until(lambda: len(upstream.of(FIRST)) == asked + 1)
        writer.transport.abort()
        await until(lambda: not served.app.gateway.running)
        assert await ask(served) == (FIRST, [(FIRST, "ok")])


async def test_a_long_retry_after_leaves_the_route_alone_for_that_long() -> None:
    async with gateway() as (upstream, served, clock):
        upstream.plays(FIRST, "429-retry-after-30")
        assert (await ask(served))[1] == [(FIRST, "rate_limited"), (OTHER, "ok")]
        clock.now += 29
        assert (await ask(served))[1] == [(FIRST, "unavailable"), (OTHER, "ok")]
        assert len(upstream.of(FIRST)) == 1
        clock.now += 2
        assert await ask(served) == (FIRST, [(FIRST, "ok")])


async def test_a_request_that_is_refused_does_not_count_against_the_route() -> None:
    async with gateway() as (upstream, served, _):
        upstream.plays(FIRST, *["content-policy-400"] * (2 * FAILURES))
        for _ in range(2 * FAILURES):
            status, _, _ = await served.exchange(request())
            assert status == 400
        assert await ask(served) == (FIRST, [(FIRST, "ok")])


async def test_bytes_that_nobody_asked_for_are_never_the_next_answer() -> None:
    async with gateway() as (upstream, served, _):
        upstream.plays(FIRST, then="bytes-after-the-answer")
        for _ in range(MANY):
            status, _, body = await served.exchange(request())
            assert (status, b"WRONG" in body) == (200, False)
