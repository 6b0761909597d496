"""When a try is repeated, and after how long."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import anyio
import httpx
import pytest

from flatfee import (
    NOT_GIVEN,
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    BadRequestError,
    BillingError,
    ConfigurationError,
    ErrorCode,
    FallbackExhausted,
    RateLimitError,
    RetryPolicy,
    ServiceUnavailableError,
)
from flatfee.errors import from_wire
from flatfee.wire import ERRORS, error_body


def failure(code: Any, **headers: Any) -> Any:
    return from_wire(ERRORS[code].status, {k.replace("_", "-"): v for k, v in headers.items()}, error_body(code, "No."))


@pytest.mark.parametrize("code", list(ErrorCode))
def test_the_contracts_table_decides(code: Any) -> None:
    assert RetryPolicy().repeats(failure(code)) is ERRORS[code].retryable


@pytest.mark.parametrize("code", [ErrorCode.FAIR_USE_EXHAUSTED, ErrorCode.FALLBACK_EXHAUSTED])
def test_spent_fair_use_and_an_exhausted_fallback_are_never_repeated(code: Any) -> None:
    assert not RetryPolicy().repeats(failure(code, x_should_retry="true"))


@pytest.mark.pain(11)
@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached", "quota_exceeded"])
@pytest.mark.parametrize("place", ["code", "type"])
def test_a_429_for_money_that_is_spent_is_never_repeated(code: str, place: str) -> None:
    """Pain 11, quota refusals retried: no wait of seconds brings money back, whatever a header says."""
    error = {"code": "429", "type": "error", "message": "No.", place: code}
    spent = from_wire(429, {"x-should-retry": "true"}, {"error": error})
    assert (RetryPolicy().repeats(spent), spent.retryable) == (False, False), "layers above are told the same"
    assert RetryPolicy().repeats(from_wire(429, {}, {"error": {"code": "429", "message": "No."}}))


@pytest.mark.pain(11)
async def test_a_call_that_meets_a_spent_quota_sends_one_request(driver: Any) -> None:
    """Pain 11, quota refusals retried."""
    d = driver(lambda _: httpx.Response(429, json={"error": {"code": "insufficient_quota", "message": "No."}}))
    with pytest.raises(RateLimitError) as caught:
        await d.create()
    assert (len(d.requests), d.waits, caught.value.retryable) == (1, [], False)


def test_what_the_gateway_says_in_x_should_retry_counts() -> None:
    assert not RetryPolicy().repeats(failure(ErrorCode.RATE_LIMITED, x_should_retry="false"))
    assert RetryPolicy().repeats(failure(ErrorCode.NOT_FOUND, x_should_retry="true"))


def test_other_failures_are_not_repeated() -> None:
    assert not RetryPolicy().repeats(KeyboardInterrupt())
    assert RetryPolicy().repeats(APIConnectionError("x"))


def test_a_wait_of_more_than_a_minute_is_the_callers_to_take() -> None:
    assert RetryPolicy().repeats(failure(ErrorCode.RATE_LIMITED, retry_after="60"))
    assert not RetryPolicy().repeats(failure(ErrorCode.RATE_LIMITED, retry_after="61"))


def test_the_wait_doubles_up_to_eight_seconds() -> None:
    waits = [RetryPolicy().wait_before(retry, APIConnectionError("x"), 0.0) for retry in (1, 2, 3, 4, 5, 6, 5000)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_chance_takes_up_to_a_quarter_off() -> None:
    assert RetryPolicy().wait_before(1, None, 1.0) == 0.375


def test_retry_after_sets_the_wait() -> None:
    assert RetryPolicy().wait_before(1, failure(ErrorCode.RATE_LIMITED, retry_after="7"), 0.5) == 7.0


def test_a_wait_of_nothing_tells_nothing() -> None:
    """Else all tries would be spent within a moment, and by all clients at once."""
    assert RetryPolicy().wait_before(1, failure(ErrorCode.RATE_LIMITED, retry_after="0"), 0.0) == 0.5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT", "date": "Sun, 06 Nov 1994 08:49:07 GMT"}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:07 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:07 GMT"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:07", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}, None),
        (
            {"retry-after": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"},
            None,
        ),
        ({"retry-after": "later", "date": "now"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-3"}, 0.0),
        ({}, None),
    ],
)
def test_every_way_to_say_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert from_wire(429, headers, b"").retry_after == seconds


async def test_the_policy_is_one_object(driver: Any, refuse: Any) -> None:
    policy = RetryPolicy(max_retries=3, first_wait=1.0, longest_wait=2.0)
    d = driver(refuse(ErrorCode.GATEWAY_OVERLOADED), retry=policy)
    with pytest.raises(ServiceUnavailableError):
        await d.create()
    assert [round(wait + 0.3) for wait in d.waits] == [1, 2, 2]
    assert d.client.with_options(timeout=1.0)._core.config.retry is policy
    assert d.client.with_options(max_retries=1)._core.config.retry == replace(policy, max_retries=1)
    assert d.client.with_options(retry=RetryPolicy())._core.config.max_retries == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_retries": -1}, "max_retries is -1; use a whole number, 0 to never try again."),
        ({"max_retries": True}, "max_retries is True; use a whole number, 0 to never try again."),
        ({"first_wait": "1"}, "first_wait is '1'; use seconds, 0 or more."),
        ({"longest_wait": float("inf")}, "longest_wait is inf; use seconds, 0 or more."),
        ({"longest_retry_after": -1.0}, "longest_retry_after is -1.0; use seconds, 0 or more."),
        ({"first_wait": 9.0}, "first_wait is 9.0, longer than longest_wait, 8.0; make it shorter."),
    ],
)
def test_impossible_values_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RetryPolicy(**arguments)
    assert str(caught.value) == message


def test_two_ways_to_say_one_thing_are_refused(driver: Any, answer: Any) -> None:
    with pytest.raises(ConfigurationError, match="Both retry and max_retries are given"):
        driver(answer(), retry=RetryPolicy(), max_retries=2)
    with pytest.raises(ConfigurationError, match=r"retry is 3; use flatfee.RetryPolicy\(\.\.\.\)"):
        driver(answer(), retry=3)
    with pytest.raises(ConfigurationError, match="max_retries is None"):
        driver(answer(), max_retries=None)


async def test_two_retries_and_then_the_failure_itself(driver: Any, refuse: Any) -> None:
    d = driver(refuse(ErrorCode.PROVIDER_UNAVAILABLE, retry_after="2"))
    with pytest.raises(ServiceUnavailableError) as caught:
        await d.create()
    assert caught.value.request_id == "req_9"
    assert (len(d.requests), d.waits) == (3, [2.0, 2.0])


async def test_a_later_try_may_succeed(driver: Any, refuse: Any, answer: Any) -> None:
    replies = [refuse(ErrorCode.RATE_LIMITED, retry_after="1"), answer("at last")]
    d = driver(lambda _: replies.pop(0))
    assert (await d.create()).choices[0].message.content == "at last"
    assert d.waits == [1.0]


@pytest.mark.pain(10)
async def test_every_try_carries_the_same_idempotency_key_and_body(driver: Any, refuse: Any) -> None:
    """Pain 10, a POST repeated without a key: here each call has one, the same on all its tries."""
    d = driver(refuse(ErrorCode.GATEWAY_OVERLOADED))
    for _ in range(2):
        with pytest.raises(ServiceUnavailableError):
            await d.create()
    keys = [request.headers["idempotency-key"] for request in d.requests]
    assert len(keys) == 6
    assert len(set(keys[:3])) == len(set(keys[3:])) == 1
    assert keys[0] != keys[3]
    assert len({request.content for request in d.requests}) == 1


async def test_the_callers_idempotency_key_is_sent(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer())
    await d.create(idempotency_key="mine")
    assert d.requests[0].headers["idempotency-key"] == "mine"


@pytest.mark.parametrize(
    "raised", [httpx.ConnectError("no"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("x")]
)
async def test_a_connection_that_gives_no_answer_is_tried_again(driver: Any, answer: Any, raised: Any) -> None:
    replies = [raised, answer()]

    def handle(_: Any) -> Any:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    d = driver(handle)
    assert (await d.create()).id == "chatcmpl-1"
    assert len(d.waits) == 1
    assert 0.375 <= d.waits[0] <= 0.5


@pytest.mark.pain(10)
@pytest.mark.parametrize("raised", [httpx.ReadError("no"), httpx.ReadTimeout("slow"), httpx.WriteError("no")])
async def test_without_a_key_nothing_is_sent_twice(driver: Any, raised: Any) -> None:
    """Pain 10: who takes the key away gets no second try of what the gateway may have served."""

    def handle(_: Any) -> Any:
        raise raised

    d = driver(handle)
    with pytest.raises(APIConnectionError) as caught:
        await d.create(extra_headers={"Idempotency-Key": NOT_GIVEN})
    assert "idempotency-key" not in d.requests[0].headers
    assert (len(d.requests), caught.value.unsafe_to_replay) == (1, True)


@pytest.mark.pain(10)
@pytest.mark.parametrize("raised", [httpx.ConnectError("no"), httpx.ConnectTimeout("no"), httpx.PoolTimeout("no")])
async def test_without_a_key_what_never_left_is_sent_again(driver: Any, answer: Any, raised: Any) -> None:
    """Pain 10: a connection that was never made has charged nobody."""
    replies = [raised, answer()]

    def handle(_: Any) -> Any:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    d = driver(handle)
    await d.create(extra_headers={"Idempotency-Key": NOT_GIVEN})
    assert len(d.requests) == 2


async def test_a_question_is_asked_again_without_a_key(driver: Any) -> None:
    def handle(_: Any) -> Any:
        raise httpx.ReadError("no")

    d = driver(handle, max_retries=1)
    with pytest.raises(APIConnectionError):
        await d.wait(d.client.usage.retrieve())
    assert len(d.requests) == 2


async def test_timeouts_have_a_class_of_their_own_and_keep_their_cause(driver: Any) -> None:
    def handle(_: Any) -> Any:
        raise httpx.ConnectTimeout("secret detail")

    d = driver(handle, max_retries=1)
    with pytest.raises(
        APITimeoutError, match=r"^http://gateway.test did not answer in time \(ConnectTimeout\)"
    ) as caught:
        await d.create()
    assert isinstance(caught.value.__cause__, httpx.ConnectTimeout)
    assert len(d.requests) == 2


@pytest.mark.parametrize(
    ("code", "kind"),
    [(ErrorCode.FALLBACK_EXHAUSTED, FallbackExhausted), (ErrorCode.FAIR_USE_EXHAUSTED, BillingError)],
)
@pytest.mark.pain(23)
async def test_a_final_refusal_is_raised_at_once(driver: Any, refuse: Any, code: Any, kind: Any) -> None:
    """Pain 23, layered retries: what nobody can cure is sent once, and says so to the layers above."""
    d = driver(refuse(code, x_should_retry="false"))
    with pytest.raises(kind) as caught:
        await d.create()
    assert (len(d.requests), d.waits, caught.value.retryable) == (1, [], False)


async def test_a_long_retry_after_is_raised_at_once(driver: Any, refuse: Any) -> None:
    d = driver(refuse(ErrorCode.RATE_LIMITED, retry_after="3600"))
    with pytest.raises(RateLimitError) as caught:
        await d.create()
    assert caught.value.retry_after == 3600
    assert len(d.requests) == 1


@pytest.mark.pain(23)
async def test_no_retries_when_the_caller_wants_none(driver: Any, refuse: Any) -> None:
    """Pain 23, layered retries: whoever retries outside switches it off here, and one request leaves."""
    d = driver(refuse(ErrorCode.RATE_LIMITED), max_retries=0)
    with pytest.raises(RateLimitError):
        await d.create()
    with pytest.raises(RateLimitError):
        await d.create(d.client.with_options(max_retries=1))
    assert len(d.requests) == 3


async def test_a_stream_is_tried_again_until_its_response_has_started(driver: Any, refuse: Any, sse: Any) -> None:
    finish = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    replies = [refuse(ErrorCode.RATE_LIMITED), sse(finish)]
    d = driver(lambda _: replies.pop(0))
    assert len(await d.all(await d.stream())) == 1
    assert len(d.requests) == 2


async def test_a_stream_whose_connection_fails_is_tried_again_and_then_one_of_our_errors(driver: Any) -> None:
    def handle(_: Any) -> Any:
        raise httpx.ConnectError("no")

    d = driver(handle)
    with pytest.raises(APIConnectionError):
        await d.stream()
    assert len(d.requests) == 3


async def test_a_stream_that_breaks_is_not_tried_again(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', httpx.ReadError("gone")))
    stream = await d.stream()
    with pytest.raises(APIConnectionError):
        await d.all(stream)
    assert len(d.requests) == 1


async def test_a_deadline_is_not_waited_past(driver: Any, refuse: Any) -> None:
    d = driver(refuse(ErrorCode.RATE_LIMITED, retry_after="30"))
    with pytest.raises(RateLimitError):
        await d.create(deadline=1.0)
    assert (len(d.requests), d.waits) == (1, [])
    with pytest.raises(RateLimitError):
        await d.stream(deadline=30.0)
    assert (len(d.requests), d.waits) == (2, []), "a try with nothing left is none"


async def test_every_try_tells_the_gateway_what_is_left_and_waits_no_longer(driver: Any, refuse: Any) -> None:
    limits: list[Any] = []

    def handle(request: httpx.Request) -> httpx.Response:
        limits.append(dict(request.extensions["timeout"]))
        refusal: httpx.Response = refuse(ErrorCode.RATE_LIMITED, retry_after="3")
        return refusal

    d = driver(handle, max_retries=9)
    with pytest.raises(RateLimitError):
        await d.create(deadline=10.0)
    assert [request.headers["x-flatfee-deadline-ms"] for request in d.requests] == ["10000", "7000", "4000", "1000"]
    assert limits[1:3] == [
        {"connect": 5.0, "read": 7.5, "write": 7.0, "pool": 7.0},
        {"connect": 4.0, "read": 4.5, "write": 4.0, "pool": 4.0},
    ]
    assert d.waits == [3.0, 3.0, 3.0]


@pytest.mark.pain(4)
async def test_timeouts_of_three_tries_do_not_add_up_past_the_deadline(driver: Any) -> None:
    """``timeout=30, max_retries=2`` took 91 seconds; with a deadline of 40 it takes 40, however often it is tried."""

    def silent(request: httpx.Request) -> httpx.Response:
        d.now += request.extensions["timeout"]["read"]
        raise httpx.ReadTimeout("silent")

    d = driver(silent, timeout=30.0, max_retries=2)
    with pytest.raises(APITimeoutError, match="The deadline of 40 seconds passed"):
        await d.create(deadline=40.0)
    assert len(d.requests) == 2
    assert d.now == pytest.approx(40.0, abs=1.0)


async def test_a_limit_of_none_ends_at_the_deadline_too(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer(), timeout=None)
    await d.create(deadline=2.0)
    assert dict(d.requests[0].extensions["timeout"]) == {"connect": 2.0, "read": 2.5, "write": 2.0, "pool": 2.0}


async def test_a_sleep_that_takes_too_long_is_not_followed_by_a_try(driver: Any, refuse: Any) -> None:
    d = driver(refuse(ErrorCode.RATE_LIMITED, retry_after="1"))
    client = d.client.with_options()

    def oversleep(_: float) -> Any:
        d.now += 2.5
        return None if d.kind == "sync" else anyio.lowlevel.checkpoint()

    client._use(replace(client._core, sleep=oversleep))
    with pytest.raises(APITimeoutError, match="The deadline of 2 seconds passed") as caught:
        await d.create(client, deadline=2.0)
    assert len(d.requests) == len(caught.value.tries) == 1, "a try that was never sent is not listed"


@pytest.mark.parametrize(
    "raised", [httpx.LocalProtocolError("no"), httpx.UnsupportedProtocol("no"), httpx.InvalidURL("no")]
)
async def test_a_request_that_cannot_be_sent_is_not_tried_again(driver: Any, raised: Any) -> None:
    def handle(_: Any) -> Any:
        raise raised

    d = driver(handle)
    with pytest.raises(APIConnectionError) as caught:
        await d.create()
    assert not caught.value.retryable
    assert (len(d.requests), d.waits) == (1, [])


async def test_a_final_failure_is_raised_from_where_it_was_met(driver: Any, refuse: Any) -> None:
    """Its traceback shows the caller's own lines, and nothing of a library that had nothing to repeat."""
    d = driver(lambda _: refuse("invalid_request"))
    with pytest.raises(BadRequestError) as caught:
        await d.create()
    assert not [entry for entry in caught.traceback if "tenacity" in str(entry.path)]
    assert len(d.requests) == 1


async def test_a_stream_that_a_second_try_opened_goes_when_it_is_dropped(driver: Any, refuse: Any, sse: Any) -> None:
    """Nothing of the first try's failure holds on to it until the garbage is collected."""
    replies = [refuse(ErrorCode.GATEWAY_OVERLOADED), sse(b"data: [DONE]\n\n")]
    d = driver(lambda _: replies.pop(0))
    gc.collect()
    gc.disable()
    try:
        stream = await d.stream()
        await d.wait(stream.close())
        found = weakref.ref(stream)
        del stream
        assert found() is None
    finally:
        gc.enable()


async def test_a_client_that_was_closed_meanwhile_raises_what_happened(driver: Any) -> None:
    """Not that it is closed: the request was sent, and may have been charged."""

    def handle(_: httpx.Request) -> httpx.Response:
        d.client._core.transport._shut = True
        raise httpx.ReadError("the connection is gone")

    d = driver(handle)
    with pytest.raises(APIConnectionError) as caught:
        await d.create()
    assert (caught.value.unsafe_to_replay, len(caught.value.tries), d.waits) == (True, 1, [])


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_key_that_does_not_come_ends_with_the_deadline() -> None:
    async def key() -> str:
        await anyio.sleep_forever()
        return "never"

    transport = httpx.MockTransport(lambda _: httpx.Response(500))
    async with AsyncClient(
        api_key=key, base_url="http://g.test", http_client=httpx.AsyncClient(transport=transport)
    ) as client:
        with pytest.raises(APITimeoutError, match=r"deadline of 0\.01 seconds") as caught:
            await client.chat.completions.create(model="auto", messages=[], deadline=0.01)
    assert caught.value.tries == ()
