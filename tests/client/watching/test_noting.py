"""Receipts on their way out of a client: into runs, and to ``on_receipt=``."""

import contextvars
import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

import flatfee
from flatfee import Receipt

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
LAST = (
    b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"flatfee":{"request_id":"req_1","lane":"premium","state":"settled","fair_use":{"charged":9}}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def states(receipts: Any) -> list[tuple[Any, Any]]:
    return [(receipt.request_id, receipt.state) for receipt in receipts]


async def test_a_run_has_the_receipt_of_every_answer(driver: Any, answer: Any) -> None:
    gateway = driver(answer())
    await gateway.create()
    with flatfee.receipts() as run:
        await gateway.create()
    assert states(run.receipts) == [("req_1", "settled")]
    assert (run.units, run.reasons) == (Counter(unit=7), Counter(default=1))


async def test_a_run_has_the_receipt_of_every_failed_try(driver: Any, answer: Any, refuse: Any) -> None:
    replies = [refuse("gateway_overloaded"), answer()]
    gateway = driver(lambda _: replies.pop(0))
    with flatfee.receipts() as run:
        await gateway.create()
    assert states(run.receipts) == [("req_9", "refused"), ("req_1", "settled")]
    assert run.refused == 1


async def test_a_failure_without_an_id_is_one_request(driver: Any) -> None:
    body = flatfee.wire.error_body("upstream_error", "No.", receipt={"state": "refused"})
    with flatfee.receipts() as run, pytest.raises(flatfee.APIStatusError):
        await driver(httpx.Response(503, json=body), max_retries=0).create()
    assert (run.requests, run.refused) == (1, 1)


async def test_a_stream_is_in_a_run_from_its_beginning_and_settles_there(driver: Any, sse: Any) -> None:
    gateway = driver(lambda _: sse(EVENT, LAST, DONE))
    with flatfee.receipts() as run:
        stream = await gateway.stream()
        assert states(run.receipts) == [("req_1", "in_flight")]
    await gateway.all(stream)
    assert states(run.receipts) == [("req_1", "settled")]
    assert run.units == Counter(unit=9)


async def test_a_stream_belongs_to_the_run_it_was_opened_in(driver: Any, sse: Any) -> None:
    gateway = driver(lambda _: sse(EVENT, LAST, DONE))
    outside = await gateway.stream()
    with flatfee.receipts() as run:
        await gateway.all(outside)
        inside = await gateway.stream()
    with flatfee.receipts() as other:
        await gateway.all(inside)
    assert (states(run.receipts), other.requests) == ([("req_1", "settled")], 0)


async def test_a_stream_that_is_left_stays_in_flight(driver: Any, sse: Any) -> None:
    gateway = driver(lambda _: sse(EVENT, LAST, DONE))
    with flatfee.receipts() as run:
        stream = await gateway.stream()
        await gateway.next(stream)
        await gateway.wait(stream.close())
    assert states(run.receipts) == [("req_1", "in_flight")]
    assert run.unsettled == 1


@pytest.mark.parametrize("way", ["parse", "read", "iter_lines", "left"])
async def test_what_a_caller_reads_itself_settles_in_its_run(driver: Any, answer: Any, way: str) -> None:
    gateway = driver(answer())
    opened = gateway.client.chat.completions.with_streaming_response.create(model="auto", messages=[])
    async with AsyncExitStack() as stack:
        with flatfee.receipts() as run:
            enter = stack.enter_context if gateway.kind == "sync" else stack.enter_async_context
            response = await gateway.wait(enter(opened))
        assert (states(run.receipts), run.unsettled) == ([("req_1", None)], 1)
        if way == "iter_lines":
            await gateway.all(response.iter_lines())
        elif way != "left":
            await gateway.wait(getattr(response, way)())
    read = way != "left"
    assert (run.units, run.unsettled) == (Counter(unit=7 * read), 1 - read)
    assert states([response.receipt]) == [("req_1", "settled" if read else None)]


async def test_so_does_a_stream_that_a_caller_reads_itself(driver: Any, sse: Any) -> None:
    heard: list[Receipt] = []
    gateway = driver(lambda _: sse(EVENT, LAST, DONE), on_receipt=heard.append)
    completions = gateway.client.chat.completions
    opened = completions.with_streaming_response.create(model="auto", messages=[], stream=True)
    async with AsyncExitStack() as stack:
        with flatfee.receipts() as run:
            enter = stack.enter_context if gateway.kind == "sync" else stack.enter_async_context
            response = await gateway.wait(enter(opened))
        async for line in aiter_of(response.iter_lines()):
            if line == "data: [DONE]":
                break
        assert states(run.receipts) == [("req_1", "in_flight")]
    assert states(run.receipts) == states(heard) == states([response.receipt]) == [("req_1", "settled")]
    assert run.units == Counter(unit=9)


async def aiter_of(iterable: Any) -> AsyncIterator[Any]:
    """Iterate over what either client yields."""
    if hasattr(iterable, "__aiter__"):
        async for item in iterable:
            yield item
    else:
        for item in iterable:
            yield item


async def test_a_stream_that_nobody_closes_is_told_of_when_it_is_dropped(driver: Any, sse: Any) -> None:
    heard: list[Any] = []
    d = driver(lambda _: sse(EVENT, LAST, DONE), on_receipt=heard.append)
    stream = await d.stream()
    assert await d.next(stream)
    assert heard == []
    del stream
    gc.collect()
    assert states(heard) == [("req_1", "in_flight")]


async def test_calls_that_use_nothing_are_in_no_run(driver: Any) -> None:
    """Nor is a receipt that was looked up: its request was another one's."""
    body = {"request_id": "req_7", "lane": "premium", "fair_use": {"charged": 5, "remaining": 3}}
    heard: list[Receipt] = []
    gateway = driver(httpx.Response(200, json=body), on_receipt=heard.append)
    with flatfee.receipts() as run:
        await gateway.wait(gateway.client.receipts.retrieve("req_7"))
    assert (run.requests, heard, gateway.client.fair_use) == (0, [], None)


# on_receipt


async def test_on_receipt_hears_of_each_call_once(driver: Any, answer: Any, refuse: Any, sse: Any) -> None:
    replies = [answer(), refuse("gateway_overloaded"), answer(), sse(EVENT, LAST, DONE)]
    heard: list[Receipt] = []
    gateway = driver(lambda _: replies.pop(0), on_receipt=heard.append)
    completion = await gateway.create()
    assert heard == [completion.receipt]
    await gateway.create()
    assert len(heard) == 2
    stream = await gateway.stream()
    assert len(heard) == 2
    await gateway.all(stream)
    assert states(heard) == [("req_1", "settled")] * 3


@pytest.mark.parametrize(
    ("end", "state"), [((), "in_flight"), ((httpx.ReadError("x"),), "in_flight"), ((b"data: {}\n\n",), "in_flight")]
)
async def test_on_receipt_hears_of_streams_that_fail(driver: Any, sse: Any, end: Any, state: str) -> None:
    heard: list[Receipt] = []
    gateway = driver(lambda _: sse(EVENT, *end), on_receipt=heard.append)
    stream = await gateway.stream()
    with pytest.raises(flatfee.APIError):
        await gateway.all(stream)
    await gateway.wait(stream.close())
    assert states(heard) == [("req_1", state)]


async def test_on_receipt_hears_of_a_failure(driver: Any, refuse: Any) -> None:
    heard: list[Receipt] = []
    gateway = driver(refuse("fallback_exhausted"), on_receipt=heard.append)
    with pytest.raises(flatfee.FallbackExhausted):
        await gateway.create()
    assert states(heard) == [("req_9", "refused")]


async def test_on_receipt_hears_nothing_where_there_is_no_receipt(driver: Any) -> None:
    heard: list[Receipt] = []

    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("x")

    gateway = driver(fail, on_receipt=heard.append, max_retries=0)
    with pytest.raises(flatfee.APIConnectionError):
        await gateway.create()
    assert heard == []


async def test_raw_responses_are_heard_of_too(driver: Any, answer: Any) -> None:
    """One that the caller reads is told by its headers, as soon as they are there."""
    heard: list[Receipt] = []
    gateway = driver(answer(), on_receipt=heard.append)
    completions = gateway.client.chat.completions
    await gateway.wait(completions.with_raw_response.create(model="auto", messages=[]))
    assert states(heard) == [("req_1", "settled")]
    opened = completions.with_streaming_response.create(model="auto", messages=[])
    async with AsyncExitStack() as stack:
        _ = stack.enter_context(opened) if gateway.kind == "sync" else await stack.enter_async_context(opened)
        assert states(heard) == [("req_1", "settled"), ("req_1", None)]


async def test_copies_and_workflows_tell_the_same_function(driver: Any, answer: Any) -> None:
    heard: list[Receipt] = []
    gateway = driver(answer(), on_receipt=heard.append)
    await gateway.create(gateway.client.with_options(max_retries=0))
    await gateway.create(gateway.client.workflow("run-1"))
    assert len(heard) == 2


async def test_a_failing_function_costs_nobody_an_answer(driver: Any, answer: Any, caplog: Any) -> None:
    def fail(_: Receipt) -> None:
        raise RuntimeError("with a secret in it")

    gateway = driver(answer(), on_receipt=fail)
    assert (await gateway.create()).choices[0].message.content == "hi"
    (record,) = caplog.records
    told = record.getMessage()
    assert told.startswith("client.callback_failed callback=on_receipt error=RuntimeError at=test_noting.py:")
    assert "secret" not in caplog.text


async def _later(_: Receipt) -> None: ...


class _Later:
    async def __call__(self, _: Receipt) -> None: ...


@pytest.mark.parametrize("function", [_later, _Later()])
def test_a_function_that_must_be_awaited_is_refused(function: Any) -> None:
    for make in (flatfee.Client, flatfee.AsyncClient):
        with pytest.raises(flatfee.ConfigurationError, match="on_receipt is a coroutine function"):
            make(api_key="k", on_receipt=function)


async def test_a_coroutine_that_a_function_returns_is_told_of(driver: Any, answer: Any, caplog: Any) -> None:
    def hear(receipt: Receipt) -> object:
        return _later(receipt)

    gateway = driver(answer(), on_receipt=hear)
    await gateway.create()
    assert "callback=on_receipt error=it_must_be_awaited" in caplog.text


def test_what_is_no_function_is_refused() -> None:
    wrong: Any = "print"
    with pytest.raises(flatfee.ConfigurationError, match="on_receipt is of type str"):
        flatfee.Client(api_key="k", on_receipt=wrong)


async def test_a_run_in_another_context_hears_nothing(driver: Any, answer: Any) -> None:
    gateway = driver(answer())
    elsewhere: Callable[[], Any] = flatfee.receipts().__enter__
    run = contextvars.copy_context().run(elsewhere)
    await gateway.create()
    assert run.requests == 0
