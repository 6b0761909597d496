"""Every try of a call is listed: on the answer, on the stream, on the exception."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import httpx
import pytest

from flatfee import APIConnectionError, ErrorCode, ServiceUnavailableError, Try
from flatfee.client.tries import Tries

FINISH = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'


def after_two_failures(refuse: Any, last: Any) -> Any:
    replies = [httpx.ConnectError("no"), refuse(ErrorCode.GATEWAY_OVERLOADED, retry_after="2"), last]

    def handle(_: Any) -> Any:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return handle


async def test_a_call_that_succeeds_at_once_lists_nothing(driver: Any, answer: Any) -> None:
    found = await driver(answer()).create()
    assert (found.tries, found.retries_taken) == ((), 0)


async def test_an_answer_lists_the_failed_tries_and_the_one_that_brought_it(
    driver: Any, refuse: Any, answer: Any
) -> None:
    d = driver(after_two_failures(refuse, answer()))
    found = await d.create()
    assert found.retries_taken == 2
    first_wait, second_wait = d.waits
    assert found.tries[2].waited == pytest.approx(second_wait)
    assert (*found.tries[:2], replace(found.tries[2], waited=0.0)) == (
        Try(number=1, error="APIConnectionError"),
        Try(
            number=2,
            status=503,
            code="gateway_overloaded",
            error="ServiceUnavailableError",
            request_id="req_9",
            waited=first_wait,
        ),
        Try(number=3, status=200, request_id="req_1"),
    )
    assert copy.deepcopy(found).tries == pickle.loads(pickle.dumps(found)).tries == found.tries


async def test_a_stream_lists_what_came_before_its_start(driver: Any, refuse: Any, sse: Any) -> None:
    d = driver(after_two_failures(refuse, sse(FINISH)))
    stream = await d.stream()
    assert [one.status for one in stream.tries] == [None, 503, 200]
    await d.all(stream)


@pytest.mark.pain(23)
async def test_an_exception_lists_every_try_and_says_whether_to_go_on(driver: Any, refuse: Any) -> None:
    """Pain 23, layered retries: an outer layer sees how often was tried, and need not multiply it."""
    d = driver(refuse(ErrorCode.PROVIDER_UNAVAILABLE, retry_after="1"))
    with pytest.raises(ServiceUnavailableError) as caught:
        await d.create()
    error = pickle.loads(pickle.dumps(caught.value))
    assert [(one.number, one.code, one.waited) for one in error.tries] == [
        (1, "provider_unavailable", 0.0),
        (2, "provider_unavailable", 1.0),
        (3, "provider_unavailable", 1.0),
    ]
    assert (error.retryable, error.unsafe_to_replay) == (True, False)


@pytest.mark.parametrize(
    ("raised", "sent"),
    [
        (httpx.ConnectError("no"), False),
        (httpx.ConnectTimeout("no"), False),
        (httpx.PoolTimeout("no"), False),
        (httpx.ProxyError("no"), False),
        (httpx.ReadTimeout("no"), True),
        (httpx.WriteError("no"), True),
        (httpx.RemoteProtocolError("no"), True),
    ],
)
async def test_an_exception_tells_whether_anything_was_sent(driver: Any, raised: Any, sent: bool) -> None:
    def handle(_: Any) -> Any:
        raise raised

    with pytest.raises(APIConnectionError) as caught:
        await driver(handle, max_retries=0).create()
    assert (caught.value.sent, caught.value.unsafe_to_replay) == (sent, sent)
    assert len(caught.value.tries) == 1


def test_a_wait_of_several_parts_is_one() -> None:
    readings = iter([1.0, 4.0, 9.0])
    tries = Tries(lambda: next(readings), 0.0)
    tries.again()
    tries.again()
    tries.failed(APIConnectionError("no"))
    assert tries.listed() == (Try(number=1, error="APIConnectionError", waited=4.0, seconds=5.0),)
