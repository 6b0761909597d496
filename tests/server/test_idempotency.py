"""A repeated ``Idempotency-Key``: one charge, the same answer again, or one of three conflicts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from tests.server.fakes import (
    OTHER_KEY,
    STREAM,
    FailingStore,
    ScriptedProvider,
    Silence,
    cut,
    delta,
    error,
    make_settings,
    plain,
    streamed,
    until,
)
from tests.server.fakes_gateway import on_loopback, request, running

from flatfee.server import kept
from flatfee.server.gateway import LEASE_SECONDS
from flatfee.server.kept import KeptAnswer, KeptAnswers
from flatfee.server.store.memory import MemoryStore

ONCE = {"idempotency-key": "once"}


def code(response: httpx.Response) -> str:
    found: str = response.json()["error"]["code"]
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_request_again_gets_the_same_answer_and_is_charged_once(stream: bool) -> None:
    async with running() as rig:
        first = await rig.ask(ONCE, stream=stream)
        used = (await rig.usage())["fair_use"]["used"]
        second = await rig.ask(ONCE, stream=stream)
        assert (await rig.usage())["fair_use"]["used"] == used > 0
        assert len(rig.provider.asked) == 1
    assert (second.status_code, second.content) == (200, first.content)
    again = dict(second.headers)
    assert again.pop("idempotent-replayed") == "true"
    assert again == dict(first.headers)


async def test_the_same_key_of_another_project_is_another_key() -> None:
    async with running() as rig:
        await rig.ask(ONCE)
        other = await rig.ask({**ONCE, "authorization": f"Bearer {OTHER_KEY}"})
        assert other.status_code == 200
        assert "idempotent-replayed" not in other.headers
        assert len(rig.provider.asked) == 2


async def test_another_body_is_a_mismatch_and_consumes_nothing() -> None:
    async with running() as rig:
        await rig.ask(ONCE)
        used = (await rig.usage())["fair_use"]
        response = await rig.ask(ONCE, max_tokens=7)
        assert (response.status_code, code(response)) == (409, "idempotency_mismatch")
        assert response.headers["x-should-retry"] == "false"
        assert (await rig.usage())["fair_use"] == used


async def test_while_the_first_runs_the_second_is_told_to_wait() -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(first=streamed(STREAM[0], gate, *STREAM[1:]))
    async with running(provider=provider) as rig:
        first = asyncio.create_task(rig.ask(ONCE, stream=True))
        await until(lambda: provider.asked)
        second = await rig.ask(ONCE, stream=True)
        assert (second.status_code, code(second)) == (409, "idempotency_in_flight")
        assert second.headers["x-should-retry"] == "true"
        assert int(second.headers["retry-after"]) >= 1
        gate.set()
        answer = await first
        assert (await rig.ask(ONCE, stream=True)).content == answer.content
        assert len(provider.asked) == 1


async def test_in_the_moment_between_settlement_and_keeping_the_second_is_told_to_wait() -> None:
    async with running() as rig:
        first = await rig.ask(ONCE)
        request_id = first.headers["x-flatfee-request-id"]
        rig.gateway.answers = KeptAnswers(rig.gateway.monotonic)
        rig.gateway.running[request_id] = object()  # type: ignore[assignment]  # only the id is looked at
        second = await rig.ask(ONCE)
        del rig.gateway.running[request_id]
    assert code(second) == "idempotency_in_flight"


async def test_an_answer_that_is_gone_is_told_with_its_receipt() -> None:
    async with running() as rig:
        first = await rig.ask(ONCE)
        rig.gateway.answers = KeptAnswers(rig.gateway.monotonic)
        second = await rig.ask(ONCE)
        assert (second.status_code, code(second)) == (409, "idempotency_expired")
        assert second.headers["x-should-retry"] == "false"
        assert second.json()["flatfee"] == first.json()["flatfee"]
        assert second.json()["flatfee"]["fair_use"]["charged"] > 0
        assert len(rig.provider.asked) == 1


async def test_a_request_whose_receipt_is_gone_too_is_told_by_its_id_and_leaves_no_other() -> None:
    async with running(store=MemoryStore(max_receipts=1)) as rig:
        first = (await rig.ask(ONCE)).headers["x-flatfee-request-id"]
        last = (await rig.ask()).headers["x-flatfee-request-id"]
        rig.gateway.answers = KeptAnswers(rig.gateway.monotonic)
        again = await rig.ask(ONCE)
        assert code(again) == "idempotency_expired"
        assert again.json()["flatfee"] == {"request_id": first}
        kept = (await rig.client.get("/v1/receipts")).json()["data"]
        assert [receipt["request_id"] for receipt in kept] == [last]


@pytest.mark.parametrize("reply", [cut(), error(500)])
async def test_a_request_that_failed_and_cost_nothing_may_be_sent_again(reply: Any) -> None:
    """Clients send the same key on every try: a failed one must not stand in the way of the next."""
    provider = ScriptedProvider(first=[reply, reply, plain()], second=[reply, reply, plain()], thrifty=reply)
    async with running(provider=provider) as rig:
        failed = await rig.ask(ONCE)
        assert failed.status_code == 503
        answered = await rig.ask(ONCE)
        assert answered.status_code == 200
        assert (await rig.ask(ONCE)).content == answered.content


async def test_a_stream_that_broke_midway_and_cost_nothing_may_be_sent_again() -> None:
    provider = ScriptedProvider(first=[streamed(delta("half")), streamed()])
    async with running(provider=provider) as rig:
        broken = await rig.ask(ONCE, stream=True)
        assert "provider_unavailable" in broken.text
        assert (await rig.ask(ONCE, stream=True)).text.endswith("data: [DONE]\n\n")


async def test_a_caller_that_left_and_was_charged_is_told_so() -> None:
    provider = ScriptedProvider(first=streamed(STREAM[0], Silence.FOR_EVER))
    async with on_loopback(provider=provider) as served:
        _, writer = await served.open(request("/v1/chat/completions", None, "idempotency-key: once", stream=True))
        await until(lambda: provider.asked)
        writer.transport.abort()
        await until(lambda: provider.left)
        await until(lambda: not served.app.gateway.running)
        status, headers, body = await served.exchange(
            request("/v1/chat/completions", None, "idempotency-key: once", stream=True)
        )
    told = json.loads(body)
    assert (status, told["error"]["code"]) == (409, "idempotency_expired")
    assert told["flatfee"]["state"] == "estimated"
    assert "was cut off" in told["error"]["message"]
    assert headers["x-flatfee-request-id"] == told["flatfee"]["request_id"].lower()


async def test_an_uncharged_answer_is_given_again_too() -> None:
    """Economy costs no fair-use; the key is used all the same."""
    async with running() as rig:
        first = await rig.ask(ONCE, model="economy")
        second = await rig.ask(ONCE, model="economy")
        assert second.content == first.content
        assert len(rig.provider.asked) == 1


async def test_a_refusal_uses_no_key() -> None:
    async with running(make_settings(fair_use=1, continuation=False)) as rig:
        assert code(await rig.ask(ONCE)) == "fair_use_exhausted"
        assert code(await rig.ask(ONCE)) == "fair_use_exhausted"


async def test_the_charge_of_a_crashed_request_is_remembered_and_its_answer_is_gone() -> None:
    now = 1_800_000_000.0
    store = MemoryStore(lambda: now)
    gate = asyncio.Event()
    async with running(provider=ScriptedProvider(first=streamed(STREAM[0], gate)), store=store) as rig:
        asking = asyncio.create_task(rig.ask(ONCE, stream=True))
        await until(lambda: rig.provider.asked)
        rig.gateway.running.clear()  # nobody extends its lease any more
        now += LEASE_SECONDS + 1
        second = await rig.ask(ONCE, stream=True)
        assert code(second) == "idempotency_expired"
        assert second.json()["flatfee"]["fair_use"]["charged"] > 0
        asking.cancel()


async def test_without_a_ledger_no_repeat_is_served() -> None:
    store = FailingStore()
    async with running(store=store) as rig:
        await rig.ask(ONCE)
        store.down.add("reserve")
        assert code(await rig.ask(ONCE)) == "store_unavailable"


def answer(size: int, *, streamed: bool = False) -> KeptAnswer:
    return KeptAnswer((), b"x" * size, streamed)


def test_answers_are_kept_within_their_memory_oldest_first_out() -> None:
    answers = KeptAnswers(lambda: 0.0, most=10_000)
    for name in ("a", "b", "c"):
        answers.put(name, answer(4_000))
    assert [answers.get(name) is not None for name in ("a", "b", "c")] == [False, True, True]


def test_small_answers_count_for_what_their_objects_weigh() -> None:
    """Else sixty-four megabytes of them would be a hundred and fifty."""
    small = KeptAnswer(((b"a", b"b"),) * 10, b"", streamed=False)
    assert small.size > 10 * 100


def test_an_answer_larger_than_the_memory_is_not_kept_and_drives_nobody_out() -> None:
    answers = KeptAnswers(lambda: 0.0, most=10_000)
    answers.put("a", answer(4_000))
    answers.put("b", answer(9_900))
    assert answers.get("a") is not None
    assert answers.get("b") is None


def test_a_stream_is_kept_up_to_its_own_limit() -> None:
    answers = KeptAnswers(lambda: 0.0)
    answers.put("small", answer(kept.MOST_STREAMED, streamed=True))
    answers.put("large", answer(kept.MOST_STREAMED + 1, streamed=True))
    answers.put("plain", answer(kept.MOST_STREAMED + 1))
    assert [answers.get(name) is not None for name in ("small", "large", "plain")] == [True, False, True]


def test_answers_are_gone_after_their_time() -> None:
    now = 0.0
    answers = KeptAnswers(lambda: now)
    answers.put("a", answer(1))
    now = kept.KEEP_SECONDS - 0.1
    assert answers.get("a") is not None
    now = kept.KEEP_SECONDS
    assert answers.get("a") is None


async def test_a_long_stream_is_charged_once_though_its_answer_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatfee.server.pipeline.MOST_STREAMED", 50)
    async with running() as rig:
        await rig.ask(ONCE, stream=True)
        assert code(await rig.ask(ONCE, stream=True)) == "idempotency_expired"
        assert len(rig.provider.asked) == 1
