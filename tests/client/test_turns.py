"""Calls that wait for their turn: threads, coroutines of asyncio and trio, and who gives up meanwhile."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from tests.client.conftest import completion

from flatfee import AsyncClient, Client, ConcurrencyLimitError, ConfigurationError, ErrorCode, Pacing, RateLimitError
from flatfee.client.pacing import Limit
from flatfee.client.raw_cores import AsyncStreamedCore, StreamedCore
from flatfee.client.resources.chat import AsyncCompletions, Completions
from flatfee.client.turns import Turn, limit_of
from flatfee.errors import APIStatusError, from_wire
from flatfee.wire import ERRORS, error_body

HI: Any = [{"role": "user", "content": "hi"}]
FINISH = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
SOON = {"retry-after": "0.01"}
both_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


def refusal(code: str = ErrorCode.WORKFLOW_LIMIT, **headers: str) -> APIStatusError:
    told = {"retry-after": "30", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return from_wire(429, told, error_body(code, "No."))


def held(pacing: Pacing) -> int:
    assert pacing.waiting >= 0  # which has those leave who are gone
    return pacing._line.slots_held


def in_front(pacing: Pacing) -> Turn:
    """Return the turn of a call that was refused and waits, so that all others wait behind it."""
    turn = pacing.turn(None)
    turn.wait(None)
    assert turn.refused(refusal())
    return turn


class Slots:
    """A gateway that grants ``limit`` calls at once; ``refusals`` counts the others."""

    def __init__(self, limit: int) -> None:
        self.limit, self.active, self.refusals, self.lock = limit, 0, 0, threading.Lock()

    def enter(self) -> bool:
        with self.lock:
            if self.active >= self.limit:
                self.refusals += 1
                return False
            self.active += 1
            return True

    def answer(self, served: bool) -> httpx.Response:
        if not served:
            return httpx.Response(429, headers=SOON, json=error_body(ErrorCode.WORKFLOW_LIMIT, "No."))
        with self.lock:
            self.active -= 1
        return httpx.Response(200, json=completion())


# What a caller sees


async def test_a_refused_call_is_sent_again_though_nothing_is_to_be_retried(
    driver: Any, refuse: Any, answer: Any
) -> None:
    replies = [refuse(ErrorCode.WORKFLOW_LIMIT, **SOON), refuse(ErrorCode.RATE_LIMITED, **SOON), answer("at last")]
    d = driver(lambda _: replies.pop(0), max_retries=0, pacing=True)
    found = await d.create()
    assert found.choices[0].message.content == "at last"
    assert [(one.code, one.status) for one in found.tries] == [
        ("workflow_limit", 429),
        ("rate_limited", 429),
        (None, 200),
    ]
    assert len({request.headers["idempotency-key"] for request in d.requests}) == 1
    assert d.waits == [], "the wait is not the policy's"


async def test_the_refusal_itself_is_raised_when_the_wait_is_over(driver: Any, refuse: Any) -> None:
    d = driver(refuse(ErrorCode.WORKFLOW_LIMIT, **SOON), pacing=Pacing(longest_wait=0.05))
    with pytest.raises(ConcurrencyLimitError) as caught:
        await d.create()
    assert len(caught.value.tries) == len(d.requests) >= 1
    assert caught.value.request_id == "req_9"
    assert d.waits == [], "who has waited for long enough does not begin anew"
    assert d.client._core.config.pacing.waiting == 0


async def test_a_deadline_ends_the_wait(driver: Any, refuse: Any) -> None:
    d = driver(refuse(ErrorCode.WORKFLOW_LIMIT, retry_after="30"), pacing=True)
    with pytest.raises(ConcurrencyLimitError):
        await d.create(deadline=0.5)
    assert len(d.requests) == 1


async def test_a_call_that_was_never_sent_says_so(driver: Any, answer: Any) -> None:
    pacing = Pacing(longest_wait=0.02)
    in_front(pacing)
    d = driver(answer(), pacing=pacing)
    with pytest.raises(ConcurrencyLimitError, match=r"behind others .* \(workflow_limit\), and was not sent") as caught:
        await d.create()
    assert (d.requests, caught.value.tries, caught.value.retryable) == ([], (), True)


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (refusal(), Limit.SLOTS),
        (refusal(ErrorCode.RATE_LIMITED), Limit.RATE),
        (refusal("too_many_requests"), Limit.RATE),
        (refusal("insufficient_quota"), None),
        (refusal(ErrorCode.RATE_LIMITED, x_should_retry="false"), None),
        (from_wire(503, {}, error_body(ErrorCode.GATEWAY_OVERLOADED, "No.")), None),
    ],
)
def test_only_limits_that_pass_are_waited_for(error: Any, limit: Limit | None) -> None:
    assert limit_of(error) is limit


async def test_a_rate_limit_that_outlasts_the_longest_wait_is_raised_at_once(driver: Any, refuse: Any) -> None:
    d = driver(refuse(ErrorCode.RATE_LIMITED, retry_after="3600"), pacing=True)
    with pytest.raises(RateLimitError):
        await d.create()
    assert len(d.requests) == 1


@pytest.mark.parametrize("code", [ErrorCode.RATE_LIMITED, ErrorCode.WORKFLOW_LIMIT])
async def test_a_gateway_that_asks_for_no_wait_is_not_asked_for_ever(driver: Any, refuse: Any, code: str) -> None:
    d = driver(refuse(code, retry_after="0"), pacing=Pacing(longest_wait=0.05), max_retries=0)
    with pytest.raises(RateLimitError):
        await d.create()
    assert len(d.requests) == 1


def test_a_line_keeps_nothing_of_a_refused_request(refuse: Any) -> None:
    """A failure's traceback holds the request that was sent, prompt and all."""
    http = httpx.Client(transport=httpx.MockTransport(lambda _: refuse(ErrorCode.WORKFLOW_LIMIT, **SOON)))
    client = Client(api_key="k", base_url="http://g.test", http_client=http, pacing=Pacing(longest_wait=0.02))
    with pytest.raises(ConcurrencyLimitError) as caught:
        client.chat.completions.create(model="auto", messages=HI)
    refused = weakref.ref(caught.value)
    del caught
    gc.collect()
    assert refused() is None


async def test_copies_and_workflows_stand_in_the_same_line(driver: Any, answer: Any) -> None:
    d = driver(answer(), pacing=True)
    pacing = d.client._core.config.pacing
    scope = d.client.with_options(max_retries=0).workflow("run-1")
    assert scope.chat.completions._core.config.pacing is pacing
    assert driver(answer()).client._core.config.pacing is None, "off unless asked for"


async def test_a_copy_may_stand_in_another_line(driver: Any, answer: Any) -> None:
    client = driver(answer(), pacing=True).client
    mine, other = client._core.config.pacing, Pacing()
    assert client.with_options(pacing=other)._core.config.pacing is other
    assert client.with_options(pacing=False)._core.config.pacing is None
    assert client.with_options(pacing=True)._core.config.pacing not in (None, mine)
    assert client._core.config.pacing is mine


async def test_other_failures_give_the_place_back(driver: Any, refuse: Any, answer: Any) -> None:
    replies = [refuse(ErrorCode.GATEWAY_OVERLOADED), httpx.ConnectError("no"), answer()]

    def handle(_: Any) -> Any:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    d = driver(handle, pacing=True)
    assert len((await d.create()).tries) == 3
    assert held(d.client._core.config.pacing) == 0


async def test_a_workflow_holds_its_slot_until_it_is_released(driver: Any, answer: Any, refuse: Any) -> None:
    gone = refuse(ErrorCode.NOT_FOUND)
    d = driver(lambda request: gone if request.method == "DELETE" else answer(), pacing=True)
    pacing, scope = d.client._core.config.pacing, d.client.workflow("run-1")
    await d.create(scope)
    await d.create(scope)
    assert held(pacing) == 1
    await d.wait(scope.release())
    assert held(pacing) == 0


async def test_a_stream_holds_its_slot_until_its_end(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(FINISH), pacing=True)
    pacing = d.client._core.config.pacing
    stream = await d.stream()
    assert held(pacing) == 1
    await d.all(stream)
    assert held(pacing) == 0
    stream = await d.stream()
    await d.wait(stream.close())
    assert held(pacing) == 0


async def test_a_stream_that_nobody_closed_gives_its_slot_back(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(FINISH), pacing=True)
    stream = await d.stream()
    del stream
    gc.collect()
    assert held(d.client._core.config.pacing) == 0


async def unread(d: Any, opened: AsyncExitStack) -> Any:
    """Return a response whose headers are there, as ``with_streaming_response`` gives it."""
    options: Any = {"model": "auto", "messages": HI}
    context = d.client.chat.completions.with_streaming_response.create(**options)
    return opened.enter_context(context) if d.kind == "sync" else await opened.enter_async_context(context)


async def test_a_response_that_is_still_read_holds_its_slot(driver: Any, answer: Any) -> None:
    d = driver(answer(), pacing=True)
    pacing = d.client._core.config.pacing
    async with AsyncExitStack() as opened:
        response = await unread(d, opened)
        assert held(pacing) == 1
        assert (await d.wait(response.parse())).choices[0].message.content == "hi"
    assert held(pacing) == 0


async def test_a_response_that_nobody_closed_gives_its_slot_back(driver: Any, answer: Any) -> None:
    d = driver(answer(), pacing=True)
    pacing, core = d.client._core.config.pacing, d.client._core
    completions: Any = (
        Completions(StreamedCore(core)) if d.kind == "sync" else AsyncCompletions(AsyncStreamedCore(core))
    )
    response = await d.wait(completions.create(model="auto", messages=HI))
    assert held(pacing) == 1
    del response
    gc.collect()
    assert held(pacing) == 0


def test_a_call_that_the_garbage_collector_ends_waits_for_no_lock() -> None:
    """Whoever holds the lock may be the very thread that collects; who waits is woken all the same."""
    pacing = Pacing()
    first = in_front(pacing)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pacing.turn(None).wait, None)
        while pacing.waiting < 2:
            threading.Event().wait(0.001)
        pacing._line._slots.room = 1
        with pacing._lock:
            first.over()
        assert waiting.result(20) is True


def test_a_wait_may_be_longer_than_a_system_can_count() -> None:
    pacing = Pacing(longest_wait=1e300)
    first = in_front(pacing)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pacing.turn(None).wait, None)
        while pacing.waiting < 2:
            threading.Event().wait(0.001)
        pacing._line._slots.room = 1
        first.over()
        assert waiting.result(20) is True


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "5", True, None])
def test_the_longest_wait_is_a_number_of_seconds(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"longest_wait is .*; use seconds above 0"):
        Pacing(longest_wait=value)


def test_pacing_is_a_switch_or_an_object() -> None:
    with pytest.raises(ConfigurationError, match=r"pacing is 'yes'; use True, False or flatfee.Pacing"):
        Client(api_key="k", pacing="yes")  # type: ignore[arg-type]  # what is tested
    assert Pacing.of(None) is Pacing.of(False) is None


def test_a_copy_is_the_same_line_and_a_pickle_a_new_one() -> None:
    pacing = Pacing(longest_wait=7)
    assert copy.deepcopy(pacing) is copy.copy(pacing) is pacing
    client = pickle.loads(pickle.dumps(Client(api_key="k", pacing=pacing)))
    other = client._core.config.pacing
    assert (other.longest_wait, other.waiting, repr(other)) == (7.0, 0, "Pacing(longest_wait=7.0)")


# Who waits, and how


def test_threads_take_turns_and_none_is_left_behind() -> None:
    slots, pacing, before = Slots(2), Pacing(), threading.active_count()

    def handle(_: httpx.Request) -> httpx.Response:
        served = slots.enter()
        threading.Event().wait(0.002 if served else 0)
        return slots.answer(served)

    def work(_: int) -> str:
        return client.chat.completions.create(model="auto", messages=HI).id

    http = httpx.Client(transport=httpx.MockTransport(handle))
    client = Client(api_key="k", base_url="http://g.test", http_client=http, pacing=pacing, max_retries=0)
    with client, ThreadPoolExecutor(10) as pool:
        assert set(pool.map(work, range(40))) == {"chatcmpl-1"}
    assert (pacing.waiting, held(pacing)) == (0, 0)
    assert threading.active_count() <= before  # another test's may have ended meanwhile


async def hundred(slots: Slots, pacing: Pacing, calls: int = 30) -> None:
    async def handle(_: httpx.Request) -> httpx.Response:
        served = slots.enter()
        await anyio.sleep(0.002)
        return slots.answer(served)

    http = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    client = AsyncClient(api_key="k", base_url="http://g.test", http_client=http, pacing=pacing, max_retries=0)

    async def work() -> None:
        await client.chat.completions.create(model="auto", messages=HI)

    async with anyio.create_task_group() as group:
        for _ in range(calls):
            group.start_soon(work)
    assert (pacing.waiting, held(pacing)) == (0, 0)


@both_loops
async def test_tasks_take_turns() -> None:
    await hundred(Slots(3), Pacing())


def test_event_loops_in_several_threads_wake_each_other() -> None:
    """One line, two loops of asyncio and one of trio: whoever ends a call wakes the next, wherever it waits."""
    slots, pacing = Slots(1), Pacing()

    async def work() -> None:
        turns = [pacing.turn(None) for _ in range(10)]
        for turn in turns:
            await turn.awaited(None)
            while not slots.enter():
                assert turn.refused(refusal(retry_after="0.01"))
                await turn.awaited(None)
            await anyio.lowlevel.checkpoint()
            slots.answer(True)
            turn.over()

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(partial(anyio.run, work, backend=name)) for name in ("asyncio", "asyncio", "trio")]
        for one in running:
            one.result(60)
    assert (pacing.waiting, held(pacing)) == (0, 0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_sleeps_is_woken_from_another_thread(backend: str) -> None:
    pacing = Pacing()
    first = in_front(pacing)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(partial(anyio.run, pacing.turn(None).awaited, None, backend=backend))
        while pacing.waiting < 2:
            threading.Event().wait(0.001)
        pacing._line._slots.room = 1
        first.over()
        assert waiting.result(20) is True


@both_loops
async def test_a_cancelled_waiter_leaves_no_hole() -> None:
    pacing = Pacing()
    first = in_front(pacing)
    served = anyio.Event()

    async def third() -> None:
        await pacing.turn(None).awaited(None)
        served.set()

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0.01):
            await pacing.turn(None).awaited(None)
        assert pacing.waiting == 1
        group.start_soon(third)
        with anyio.move_on_after(0.01):
            await served.wait()
        assert not served.is_set()
        pacing._line._slots.room = 1  # as the end of a call in another process would
        first.over()
        with anyio.fail_after(10):
            await served.wait()


def test_a_waiter_that_is_interrupted_leaves_no_hole() -> None:
    readings: Iterator[Any] = iter([0.0, 0.0, 0.0, 0.0, KeyboardInterrupt()])

    def clock() -> float:
        reading = next(readings, 0.0)
        if isinstance(reading, BaseException):
            raise reading
        return float(reading)

    pacing = Pacing(clock=clock)
    in_front(pacing)
    with pytest.raises(KeyboardInterrupt):
        pacing.turn(None).wait(None)
    assert pacing.waiting == 1


def test_a_waiter_whose_loop_was_closed_is_passed_over() -> None:
    pacing = Pacing()
    first, lost, last = in_front(pacing), pacing.turn(None), pacing.turn(None)
    loop = asyncio.new_event_loop()
    waiting: Callable[..., Any] = lost.awaited
    coroutine = waiting(None)
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    pacing._line._slots.room = 1
    first.over()
    last.wait(10.0)
    assert (pacing.waiting, held(pacing)) == (0, 1)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was left pending on purpose
    with suppress(RuntimeError):  # anyio's, who misses the loop
        coroutine.close()


def test_a_forked_process_begins_a_line_of_its_own() -> None:
    pacing = Pacing()
    in_front(pacing)
    pacing._lock.acquire()
    pacing._pid -= 1  # what a child finds: another process's number, and a lock that nobody is going to release
    pacing.turn(None).wait(0.0)
    assert pacing.waiting == 0


def test_every_code_that_is_waited_for_is_retryable() -> None:
    assert all(ERRORS[code].retryable for code in (ErrorCode.WORKFLOW_LIMIT, ErrorCode.RATE_LIMITED))
