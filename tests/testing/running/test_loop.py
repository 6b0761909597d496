"""Time goes by where the gateway only waits for it, and nobody else is hurt by that."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.testing.fakes import HELLO, PATIENCE, SILENT, Gate, answer, held, play, refusal, said, stream, until

import flatfee
from flatfee.testing import Edge, ScriptedGateway, running_gateway
from flatfee.testing.scripting.played import Held, Pause


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with running_gateway(concurrent_workflows=1000, fair_use=10**9) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: ScriptedGateway) -> flatfee.Client:
    return gateway.client(memory=True, max_retries=0)


def virtual(gateway: ScriptedGateway, call: Callable[[], Any]) -> float:
    """Return the seconds that a call takes by the gateway's clock."""
    before = gateway.now
    call()
    return (gateway.now - before).total_seconds()


def wants_to_move(gateway: ScriptedGateway) -> bool:
    return bool(gateway._inside.thread.loop._aims)


def ask(client: flatfee.Client, model: str = "premium", **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=HELLO, **more)


def test_a_silent_provider_costs_no_real_time(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    play(gateway, premium_a=SILENT)
    began = time.monotonic()
    assert virtual(gateway, lambda: ask(client)) >= 600
    assert time.monotonic() - began < 60


def test_without_autojump_time_is_waited_for() -> None:
    with running_gateway(autojump=False) as gateway:
        play(gateway, premium_a=stream(Pause(0.05), said("Hi")))
        began = time.monotonic()
        list(ask(gateway.client(), stream=True))
        assert time.monotonic() - began >= 0.05


def test_real_waits_end_while_the_clock_stands_still() -> None:
    with running_gateway(frozen=True) as gateway:
        gateway.script(Edge.stall(seconds=0.02))
        client = gateway.client(max_retries=0)
        assert virtual(gateway, lambda: ask(client)) == 0


def test_a_deadline_passes_by_the_gateways_clock(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    play(gateway, premium_a=SILENT, premium_b=SILENT, economy_a=SILENT, economy_b=SILENT)
    began = time.monotonic()
    with pytest.raises(flatfee.DeadlineExceededError):
        ask(client, extra_headers={"x-flatfee-deadline-ms": "50000"})
    assert time.monotonic() - began < 50


@pytest.mark.parametrize(("asked", "waited"), [("4", 4.0), ("6", 0.0)])
def test_a_short_wish_of_a_provider_is_obeyed_virtually(
    gateway: ScriptedGateway, client: flatfee.Client, asked: str, waited: float
) -> None:
    play(gateway, premium_a=refusal(429, retry_after=asked))
    assert waited <= virtual(gateway, lambda: ask(client)) < waited + 2


def test_a_silence_in_mid_stream_meets_the_idle_limit(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    play(gateway, premium_a=stream(said("one"), Pause()))
    stop = pytest.raises(flatfee.APIError)
    with stop, ask(client, stream=True) as events:
        assert 30 <= virtual(gateway, lambda: list(events)) < 60


def test_pauses_ring_in_their_order(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gate = Gate()
    play(
        gateway,
        premium_a=stream(Held(gate), Pause(3), said("3")),
        economy_a=stream(Held(gate), Pause(2), said("2")),
    )
    with ThreadPoolExecutor() as threads, gate:
        for model in ("premium", "economy"):
            threads.submit(lambda model: list(ask(client, model, stream=True)), model)
        until(lambda: gateway._inside.front.traffic.held == 2)
    ended = {json.loads(each.raw)["model"]: each.ended or 0.0 for each in gateway.journal.completions}
    assert ended["economy"] < ended["premium"]


def test_nothing_is_skipped_while_an_answer_is_held_back(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    gate = Gate()
    play(gateway, premium_a=held(gate), economy_a=SILENT)
    with ThreadPoolExecutor() as threads, gate:
        late = threads.submit(ask, client)
        until(lambda: gate.waited_at)
        silent = threads.submit(ask, client, "economy")
        until(lambda: gateway._inside.gateway.active == 2)
        assert virtual(gateway, lambda: time.sleep(0.05)) < 5
        assert not silent.done()
        gate.open()
        assert late.result(PATIENCE).choices[0].message.content == "late"
        silent.result(PATIENCE)


def test_nothing_is_skipped_while_a_caller_reads_slowly(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    play(gateway, premium_a=stream(*[said("x" * 1000)] * 100), economy_a=SILENT)
    with ThreadPoolExecutor() as threads, ask(client, stream=True) as slow:
        next(iter(slow))
        silent = threads.submit(ask, client, "economy")
        until(lambda: gateway._inside.gateway.active == 2)
        assert virtual(gateway, lambda: time.sleep(0.05)) < 5
        assert not silent.done()
        assert "".join(event.choices[0].delta.content or "" for event in slow if event.choices).count("x") >= 99_000
        silent.result(PATIENCE)


def test_nothing_is_skipped_while_a_caller_is_sending(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    play(gateway, economy_a=SILENT)
    body = json.dumps({"model": "premium", "messages": HELLO}).encode()
    with socket.create_connection((gateway.host, gateway.port)) as slow, ThreadPoolExecutor() as threads:
        slow.sendall(_head(gateway, body) + body[:5])
        until(lambda: gateway._inside.gateway.active == 1)
        silent = threads.submit(ask, client, "economy")
        until(lambda: gateway._inside.gateway.active == 2)
        assert virtual(gateway, lambda: time.sleep(0.05)) < 5
        slow.sendall(body[5:])
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        silent.result(PATIENCE)


def test_nothing_is_skipped_while_a_thread_works(gateway: ScriptedGateway) -> None:
    working, done = threading.Event(), threading.Event()

    def work() -> None:
        working.set()
        done.wait(PATIENCE)

    async def elsewhere() -> None:
        await asyncio.to_thread(work)

    with ThreadPoolExecutor() as threads:
        begun = threads.submit(gateway.run, elsewhere())
        until(working.is_set)
        moved = threads.submit(gateway.advance, 100)
        until(lambda: wants_to_move(gateway) or moved.done())
        assert not moved.done()
        done.set()
        begun.result(PATIENCE)
        moved.result(PATIENCE)


def test_a_plain_answer_becomes_a_stream_in_a_thread(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    play(gateway, premium_a=answer("whole"))
    assert "".join(event.choices[0].delta.content or "" for event in ask(client, stream=True)) == "whole"


@pytest.mark.parametrize("sent", [0, 20])
def test_skipped_time_does_not_end_a_connection_whose_request_has_not_come(
    gateway: ScriptedGateway, client: flatfee.Client, sent: int
) -> None:
    body = json.dumps({"model": "premium", "messages": HELLO}).encode()
    request = _head(gateway, body) + body
    play(gateway, economy_a=SILENT)
    with socket.create_connection((gateway.host, gateway.port)) as innocent:
        innocent.sendall(request[:sent])
        ask(client, "economy")
        gateway.advance(3600)
        innocent.sendall(request[sent:])
        assert innocent.recv(100).startswith(b"HTTP/1.1 200")


def test_an_advance_waits_a_moment_for_who_is_sending(gateway: ScriptedGateway) -> None:
    body = json.dumps({"model": "premium", "messages": HELLO}).encode()
    with socket.create_connection((gateway.host, gateway.port)) as slow, ThreadPoolExecutor() as threads:
        slow.sendall(_head(gateway, body) + body[:5])
        until(lambda: gateway._inside.front.traffic.sending == 1)
        moved = threads.submit(gateway.advance, 3600)
        until(lambda: wants_to_move(gateway) or moved.done())
        assert not moved.done()
        slow.sendall(body[5:])
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        moved.result(PATIENCE)


@pytest.mark.slow
def test_an_advance_makes_who_sends_nothing_more_late(gateway: ScriptedGateway) -> None:
    with socket.create_connection((gateway.host, gateway.port)) as slow:
        slow.sendall(_head(gateway, b"12345678") + b"1234")
        until(lambda: gateway._inside.front.traffic.sending == 1)
        gateway.advance(61)
        assert b"did not arrive within 60 seconds" in slow.recv(4096)


def test_an_advance_goes_on_while_a_stream_is_not_read(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    play(gateway, premium_a=stream(*[said("x" * 1000)] * 100))
    with ask(client, stream=True) as slow:
        next(iter(slow))
        assert virtual(gateway, lambda: gateway.advance(100)) >= 100
        list(slow)


def test_a_request_survives_an_advance_within_its_limits(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    """Its lease of 60 seconds is extended on the way."""
    gate = Gate()
    play(gateway, premium_a=held(gate))
    with ThreadPoolExecutor() as threads, gate:
        late = threads.submit(ask, client, extra_headers={"x-flatfee-workflow": "run-1"})
        until(lambda: gate.waited_at)
        gateway.advance(500)
        assert [workflow.in_flight for workflow in gateway.workflows.active] == [1]
        gate.open()
        receipt = late.result(PATIENCE).receipt
    assert receipt is not None
    assert receipt.state == "settled"
    assert gateway.run(gateway._inside.store.audit_books()) == []


def test_a_year_goes_by_over_a_request_that_never_ends(gateway: ScriptedGateway, client: flatfee.Client) -> None:
    routes = ("premium_a", "premium_b", "economy_a", "economy_b")
    gates = {name: Gate() for name in routes}
    play(gateway, **{name: held(gate) for name, gate in gates.items()})
    with ThreadPoolExecutor() as threads:
        late = threads.submit(ask, client)
        until(lambda: gates["premium_a"].waited_at)
        assert virtual(gateway, lambda: gateway.advance(365 * 86400)) >= 365 * 86400
        with pytest.raises(flatfee.FallbackExhausted):
            late.result(PATIENCE)


def test_several_threads_advance_one_after_the_other(gateway: ScriptedGateway) -> None:
    def all_at_once() -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(gateway.advance, [100.0] * 8))

    assert 800 <= virtual(gateway, all_at_once) < 830


def test_who_sleep_at_the_same_time_sleep_beside_each_other(gateway: ScriptedGateway) -> None:
    done = threading.Event()

    def all_at_once() -> None:
        with ThreadPoolExecutor(9) as threads:
            threads.submit(gateway.run, asyncio.to_thread(done.wait, PATIENCE))
            until(lambda: gateway._inside.thread.loop._elsewhere == 1)
            sleeping = [threads.submit(gateway.sleep, 1000 + number) for number in range(8)]
            until(lambda: len(gateway._inside.thread.loop._aims) == len(sleeping))
            done.set()

    assert 1007 <= virtual(gateway, all_at_once) < 1100


def test_a_function_of_the_script_cannot_ask_its_gateway(gateway: ScriptedGateway) -> None:
    async def inside() -> None:
        gateway.advance(1)

    with pytest.raises(RuntimeError, match="let the test ask it"):
        gateway.run(inside())


def test_a_gateway_that_has_ended_says_so() -> None:
    with running_gateway() as gateway:
        pass
    with pytest.raises(RuntimeError, match="has ended"):
        gateway.advance(1)


@pytest.mark.slow
@pytest.mark.parametrize("memory", [False, True])
def test_a_third_of_two_hundred_is_silent_and_nobody_else_fails(gateway: ScriptedGateway, memory: bool) -> None:
    play(gateway, economy_a=SILENT, economy_b=SILENT)
    outcomes: Counter[str] = Counter()

    async def main() -> None:
        async with gateway.async_client(memory=memory, max_retries=0) as client:

            async def silent() -> None:
                with pytest.raises(flatfee.FallbackExhausted):
                    await client.chat.completions.create(model="economy", messages=HELLO)

            async def innocent(number: int) -> None:
                if number % 2:
                    answered = await client.chat.completions.create(model="premium", messages=HELLO)
                    outcomes[str(answered.receipt and answered.receipt.lane)] += 1
                    return
                events = await client.chat.completions.create(model="premium", messages=HELLO, stream=True)
                async for _ in events:
                    continue
                outcomes[str(events.receipt and events.receipt.lane)] += 1

            await asyncio.gather(*(silent() if n % 3 == 0 else innocent(n) for n in range(200)))

    asyncio.run(main())
    assert outcomes == {"premium": 133}
    assert gateway.run(gateway._inside.store.audit_books()) == []


def _head(gateway: ScriptedGateway, body: bytes) -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n"
        % (gateway.api_key.encode(), len(body))
    )
