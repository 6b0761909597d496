"""Many requests on one connection, and connections that end at every moment and in every way."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncGenerator

import pytest
from tests.server.abuse.wire import BODY, CHUNKED, LIVE, MODELS, Bench, check_refusal, head, whole
from tests.server.fakes import STREAM, Reply, ScriptedProvider, Silence, plain, streamed, until
from tests.server.fakes_gateway import on_loopback

from flatfee.server.http.connection import MAX_AHEAD

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

STREAMED = whole(body=BODY[:-1] + b', "stream": true}')


@pytest.fixture
async def scripted(bench: Bench) -> AsyncGenerator[ScriptedProvider, None]:
    """The provider, for a script; afterwards it has none."""
    yield bench.provider
    bench.provider.scripts.clear()


def script(provider: ScriptedProvider, *replies: Reply) -> None:
    provider.scripts["first"] = ScriptedProvider(first=list(replies)).scripts["first"]


async def test_requests_sent_at_once_are_answered_in_order_each_with_its_receipt(
    bench: Bench, scripted: ScriptedProvider
) -> None:
    script(scripted, *(plain(f"answer {at}") for at in range(10)))
    caller = await bench.call(whole() * 10)
    answers = [json.loads((await caller.answer()).body) for _ in range(10)]
    said = [answer["choices"][0]["message"]["content"] for answer in answers]
    ids = [answer["flatfee"]["request_id"] for answer in answers]
    assert said == [f"answer {at}" for at in range(10)]
    assert len(set(ids)) == 10
    for known in ids:
        assert (await bench.receipt(known))["state"] == "settled"


async def test_a_later_request_waits_for_a_slow_one(bench: Bench, scripted: ScriptedProvider) -> None:
    gate = asyncio.Event()
    script(scripted, Reply(plain().pieces, before=gate))
    caller = await bench.call(whole() + LIVE)
    await until(lambda: bench.gateway.running)
    gate.set()
    first, second = await caller.answer(), await caller.answer()
    assert "flatfee" in json.loads(first.body)
    assert second.status == 200


async def test_what_is_no_request_is_refused_after_the_answers_before_it(
    bench: Bench, scripted: ScriptedProvider
) -> None:
    gate = asyncio.Event()
    script(scripted, Reply(plain().pieces, before=gate))
    caller = await bench.call(whole() + LIVE + b"EVIL / HTTP/1.1\r\n\r\n" + LIVE)
    await until(lambda: bench.gateway.running)
    gate.set()
    answers = [await caller.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 400]
    check_refusal(answers[-1])
    assert await caller.rest() == b""


async def test_a_stream_is_not_cut_by_what_comes_behind_its_request(bench: Bench, scripted: ScriptedProvider) -> None:
    gate = asyncio.Event()
    script(scripted, streamed(STREAM[0], gate, *STREAM[1:]))
    caller = await bench.call(STREAMED)
    await until(lambda: bench.gateway.running)
    await caller.send(b"\0\0\0\0")
    gate.set()
    assert (await caller.answer()).body.endswith(b"data: [DONE]\n\n")
    assert (await caller.answer()).code == "invalid_request"
    assert await caller.rest() == b""


async def test_a_waiting_request_with_a_broken_body_is_refused_in_its_turn(
    bench: Bench, scripted: ScriptedProvider
) -> None:
    gate = asyncio.Event()
    script(scripted, Reply(plain().pieces, before=gate))
    caller = await bench.call(whole() + head(CHUNKED) + b"zz\r\n")
    await until(lambda: bench.gateway.running)
    gate.set()
    assert [(await caller.answer()).status for _ in range(2)] == [200, 400]
    assert await caller.rest() == b""
    await bench.at_rest()


async def test_a_body_that_is_not_asked_for_and_broken_is_refused_once(bench: Bench) -> None:
    caller = await bench.call(head(CHUNKED, b"expect: 100-continue") + b"zz\r\n")
    check_refusal(await caller.answer())
    assert await caller.rest() == b""
    await bench.at_rest()


async def test_a_body_that_breaks_behind_its_answer_ends_the_connection_without_a_second_one(bench: Bench) -> None:
    caller = await bench.call(head(CHUNKED).replace(b"canary-key", b"canary-kex"))
    assert (await caller.answer()).code == "invalid_api_key"
    await caller.send(b"zz\r\n")
    assert await caller.rest() == b""


async def test_requests_sent_ahead_are_bounded_in_number(bench: Bench, scripted: ScriptedProvider) -> None:
    script(scripted, plain())
    caller = await bench.call(whole() + LIVE * 5000)
    answers = [await caller.answer() for _ in range(MAX_AHEAD + 2)]
    assert {answer.status for answer in answers[:-1]} == {200}
    assert answers[-1].code == "invalid_request"
    assert await caller.rest() == b""


async def test_many_requests_after_each_other_are_not_bounded(bench: Bench) -> None:
    caller = await bench.call()
    for _ in range(3 * MAX_AHEAD):
        await caller.send(LIVE)
        assert (await caller.answer()).status == 200


async def test_a_caller_that_leaves_ends_the_request_that_runs_not_only_the_last_one(
    bench: Bench, scripted: ScriptedProvider
) -> None:
    script(scripted, streamed(STREAM[0], Silence.FOR_EVER))
    left = scripted.left
    caller = await bench.call(STREAMED + LIVE)
    async with asyncio.timeout(10):
        await caller.reader.readuntil(STREAM[0])
    (known,) = bench.gateway.running
    caller.reset()
    await until(lambda: scripted.left > left)
    await bench.at_rest()
    assert (await bench.receipt(known))["state"] == "estimated"


async def test_nothing_that_comes_behind_a_last_request_is_read(bench: Bench) -> None:
    asked = len(bench.provider.asked)
    caller = await bench.call(head(b"connection: close", first=MODELS) + whole())
    assert (await caller.answer()).status == 200
    assert await caller.rest() == b""
    assert len(bench.provider.asked) == asked


@pytest.mark.parametrize("raw", [LIVE, whole(), whole() + LIVE, STREAMED], ids=["live", "plain", "two", "streamed"])
async def test_who_says_that_it_sends_no_more_is_still_answered(bench: Bench, raw: bytes) -> None:
    caller = await bench.call(raw)
    caller.writer.write_eof()
    assert (await caller.rest()).count(b"HTTP/1.1 200 OK") == raw.count(b" HTTP/1.1")


@pytest.mark.parametrize("at", [5, 40, len(whole()) - 5])
async def test_half_a_request_and_no_more_is_refused(bench: Bench, at: int) -> None:
    asked = len(bench.provider.asked)
    caller = await bench.call(whole()[:at])
    caller.writer.write_eof()
    answer = await caller.answer()
    check_refusal(answer)
    assert (answer.code, await caller.rest()) == ("invalid_request", b"")
    assert len(bench.provider.asked) == asked


async def test_who_sends_no_more_and_must_wait_for_long_is_taken_to_have_left(
    bench: Bench, scripted: ScriptedProvider
) -> None:
    script(scripted, Reply(before=Silence.FOR_EVER))
    left = scripted.left
    caller = await bench.call(whole())
    await until(lambda: bench.gateway.running)
    caller.writer.write_eof()
    assert await caller.rest() == b""
    await until(lambda: scripted.left > left)
    await bench.at_rest()


async def test_who_leaves_with_half_a_request_behind_one_that_runs_has_left(
    bench: Bench, scripted: ScriptedProvider
) -> None:
    script(scripted, Reply(before=Silence.FOR_EVER))
    left = scripted.left
    caller = await bench.call(whole() + LIVE[:9])
    await until(lambda: bench.gateway.running)
    caller.writer.close()
    await until(lambda: scripted.left > left)
    await bench.at_rest()


MOMENTS = [*range(0, len(whole()), 17), len(whole()) - 1, len(whole())]


@pytest.mark.parametrize("goodbye", ["reset", "closed"])
async def test_a_connection_may_end_at_any_byte_of_its_request(bench: Bench, goodbye: str) -> None:
    before = set(bench.connections)
    for at in MOMENTS:
        caller = await bench.call(whole()[:at])
        if goodbye == "reset":
            caller.reset()
        else:
            caller.writer.close()
    await bench.at_rest()
    await until(lambda: bench.connections <= before)
    await bench.serves()


async def test_a_connection_may_be_reset_at_any_byte_of_its_answer(bench: Bench) -> None:
    whole_answer = len(await (await bench.call(STREAMED.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))).rest())
    for most in range(1, whole_answer, 97):
        caller = await bench.call(STREAMED)
        await caller.reader.read(most)
        caller.reset()
    await bench.at_rest()
    await bench.serves()


@pytest.mark.parametrize("raw", [whole(), STREAMED], ids=["plain", "stream"])
async def test_a_request_and_its_connection_leave_nothing_to_the_garbage_collector(bench: Bench, raw: bytes) -> None:
    before = set(bench.connections)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        caller = await bench.call(raw)
        assert (await caller.answer()).status == 200
        caller.reset()
        await bench.at_rest()
        await until(lambda: bench.connections <= before)
        gc.collect()
        assert [type(left) for left in gc.garbage if type(left).__module__.startswith("flatfee")] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("raw", [whole(), whole()[:-9], MODELS + b"\r\nhost: gateway\r\n\r\n"])
async def test_who_asks_a_gateway_that_drains_is_told_and_goes_elsewhere(raw: bytes) -> None:
    async with on_loopback(provider=ScriptedProvider()) as served:
        bench = Bench(served, ScriptedProvider())
        bench.gateway.draining = True
        caller = await bench.call(raw)
        answer = await caller.answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        await caller.send(raw[-9:])
        assert await caller.rest() == b""


async def test_a_gateway_that_shuts_down_does_not_wait_for_callers_in_any_state() -> None:
    async with on_loopback(provider=ScriptedProvider()) as served:
        bench = Bench(served, ScriptedProvider())
        refused = await bench.call(b"EVIL\r\n\r\n")
        assert (await refused.answer()).status == 400
        answered = await bench.call(LIVE, LIVE[:10])
        assert (await answered.answer()).status == 200
        await bench.call(LIVE[:10])
        await bench.call()
        await until(lambda: len(bench.connections) == 4)
        served.server.drain()
        async with asyncio.timeout(10):
            await served.serving
        assert not bench.connections
