"""openai-python's clients as we make them: whose errors they raise, what they send, where the receipt is."""

from __future__ import annotations

import copy
import gc
import importlib
import json
import pickle
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import openai
import pytest

import flatfee
from flatfee import errors, wire
from flatfee.integrations import openai as ours
from flatfee.integrations.openai.deadline import current
from flatfee.integrations.openai.errors import renamed

from .conftest import DONE, FAILED, HEADERS, KEY, SETTLED, answered, completion, event, refused, streamed

THEIRS = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    429: openai.RateLimitError,
    503: openai.InternalServerError,
    504: openai.InternalServerError,
}


@pytest.fixture
def run() -> Iterator[flatfee.Run]:
    with flatfee.receipts() as run:
        yield run


def is_a(error: object, *classes: type[Any]) -> bool:
    """Tell whether an error is of every class. Type checkers hold a class of both families to be impossible."""
    return all(isinstance(error, cls) for cls in classes)


async def failure(d: Any, **arguments: Any) -> Any:
    with pytest.raises(openai.APIError) as caught:
        await d.create(**arguments)
    error: Any = caught.value
    return error


@pytest.mark.parametrize("code", wire.ErrorCode)
async def test_every_code_is_their_class_and_ours(driver: Any, code: wire.ErrorCode) -> None:
    error = await failure(driver(refused(code)))
    status = wire.ERRORS[code].status
    assert is_a(error, THEIRS.get(status, openai.APIStatusError))
    assert is_a(error, errors.CODE_CLASSES[code])
    assert (error.status_code, error.code, error.message) == (status, code, "No.")
    assert type(error).__name__ == errors.CODE_CLASSES[code].__name__


@pytest.mark.parametrize("status", [402, 413, 415, 418, 431])
async def test_a_status_without_a_class_of_theirs_is_a_status_error(driver: Any, status: int) -> None:
    error = await failure(driver(refused("other", status)))
    assert is_a(error, openai.APIStatusError)
    assert is_a(error, errors.STATUS_CLASSES.get(status, flatfee.APIStatusError))
    assert error.status_code == status


async def test_an_exhausted_fallback_tells_all_it_knows(driver: Any) -> None:
    d = driver(refused("fallback_exhausted"), max_retries=3)
    with pytest.raises(flatfee.FallbackExhausted) as caught:
        await d.create()
    error: Any = caught.value
    assert is_a(error, openai.InternalServerError)
    assert [attempt.route for attempt in error.attempts] == ["a", "b"]
    assert (error.request_id, error.retryable, error.retry_after) == ("req_1", False, None)
    assert error.body == {"message": "No.", "type": "server_error", "param": None, "code": "fallback_exhausted"}
    assert error.response.status_code == 503
    assert error.request.url == "http://gateway.test/v1/chat/completions"
    assert len(d.requests) == 1, "x-should-retry was obeyed"
    assert not any(figure in str(error) for figure in ("503", "429")), "some frameworks look for them"


@pytest.mark.pain(15)
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
async def test_errors_survive_pickling_and_copying_without_key_or_prompt(driver: Any, again: Any) -> None:
    """Pain: exceptions do not unpickle, and a pool hangs or loses the status."""
    error = await failure(driver(refused("workflow_limit", retry_after="7")))
    twin = again(error)
    assert type(twin) is type(error)
    assert is_a(twin, openai.RateLimitError)
    assert (twin.retry_after, twin.status_code, twin.receipt, str(twin)) == (7.0, 429, error.receipt, str(error))
    assert (twin.request, twin.response) == (None, None)
    assert KEY.encode() not in pickle.dumps(error)
    assert b"Hello there" not in pickle.dumps(error)


@pytest.mark.parametrize(
    ("fault", "expected"), [(httpx.ConnectError, "APIConnectionError"), (httpx.ReadTimeout, "APITimeoutError")]
)
async def test_connections_and_time_limits_fail_with_both_names(driver: Any, fault: Any, expected: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise fault("no", request=request)

    error = await failure(driver(handler, max_retries=0))
    assert is_a(error, getattr(openai, expected))
    assert is_a(error, getattr(flatfee, expected))
    assert isinstance(error.__cause__, fault)
    assert isinstance(pickle.loads(pickle.dumps(error)), getattr(openai, expected))


async def test_an_answer_that_is_refused_as_invalid_has_both_names(driver: Any) -> None:
    d = driver(httpx.Response(200, headers=HEADERS, json={"id": 1}), _strict_response_validation=True)
    assert is_a(await failure(d), openai.APIResponseValidationError, flatfee.APIResponseValidationError)


def test_an_error_of_theirs_without_a_kind_is_an_error_of_ours() -> None:
    theirs = openai.APIError("No.", request=None, body={"code": "odd"})  # type: ignore[arg-type]  # it is passed on
    found = renamed(theirs)
    assert (found.code, found.message, found.body) == ("odd", "No.", {"code": "odd"})
    assert is_a(found, openai.APIError, flatfee.APIError)


@pytest.mark.pain(20)
async def test_an_error_with_status_200_is_an_error(driver: Any) -> None:
    """Pain: a gateway answers HTTP 200 with ``{"error"}``, and it looks like an empty completion."""
    body = wire.error_body("fallback_exhausted", "No.", receipt=FAILED)
    error = await failure(driver(httpx.Response(200, headers=HEADERS, json=body)))
    assert is_a(error, flatfee.FallbackExhausted)
    assert is_a(error, openai.InternalServerError)


async def test_a_completion_keeps_its_receipt_and_is_noted(driver: Any, run: flatfee.Run) -> None:
    found = await driver(answered()).create()
    receipt = flatfee.Receipt.of(found)
    assert receipt is not None
    assert receipt.fair_use is not None
    assert (receipt.state, receipt.fair_use.charged) == ("settled", 7)
    assert found.flatfee == SETTLED
    assert [noted.request_id for noted in run.receipts] == ["req_1"]
    assert run.receipts[0].reason == "default", "the headers count as well"


async def test_a_raw_response_and_an_error_are_noted(driver: Any, run: flatfee.Run) -> None:
    d = driver(answered())
    raw = await d.wait(d.client.chat.completions.with_raw_response.create(model="auto", messages=[]))
    assert raw.headers["x-flatfee-lane"] == "premium"
    assert [noted.state for noted in run.receipts] == ["settled"]
    with flatfee.receipts() as inner:
        await failure(driver(refused("fallback_exhausted")))
    assert [noted.state for noted in inner.receipts] == ["refused"]


async def test_a_try_that_is_repeated_is_noted_once(driver: Any, run: flatfee.Run) -> None:
    again = {"x-should-retry": "true", "retry-after-ms": "1", "x-flatfee-request-id": "req_0"}
    body = wire.error_body("gateway_overloaded", "No.", receipt={"request_id": "req_0", "state": "refused"})
    replies = [httpx.Response(503, headers=again, json=body), answered()]
    await driver(lambda _: replies.pop(0)).create()
    assert [(noted.request_id, noted.state) for noted in run.receipts] == [("req_0", "refused"), ("req_1", "settled")]


async def test_what_was_never_routed_is_not_noted(driver: Any, run: flatfee.Run) -> None:
    page = httpx.Response(200, headers={"x-flatfee-request-id": "req_1"}, json={"object": "list", "data": []})
    d = driver(page)
    await d.wait(d.client.models.list())
    assert run.requests == 0


async def test_the_environment_of_flatfee_is_used_and_that_of_openai_is_not(
    driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", "sk-other")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.test/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-other: sk-other\nauthorization: Bearer sk-other")
    monkeypatch.setenv("FLATFEE_API_KEY", KEY)
    monkeypatch.setenv("FLATFEE_BASE_URL", "http://gateway.test/v1/")
    monkeypatch.setenv("FLATFEE_CUSTOM_HEADERS", "x-mine: yes")
    d = driver(answered(), api_key=None, base_url=None)
    await d.create()
    await d.create(d.client.with_options(timeout=3))
    for request in d.requests:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["x-mine"] == "yes"
        assert "openai" in request.headers["user-agent"].lower()
        assert request.url.host == "gateway.test"
        assert "sk-other" not in str(request.headers.raw)


@pytest.mark.parametrize("cls", [ours.OpenAI, ours.AsyncOpenAI])
def test_without_a_key_the_error_names_the_cure(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLATFEE_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    with pytest.raises(flatfee.ConfigurationError, match="Set FLATFEE_API_KEY"):
        cls()


@pytest.mark.pain(10)
async def test_every_try_sends_the_same_idempotency_key(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pain: a POST is repeated without an idempotency key; openai-python makes one and never sends it."""
    replies = [refused("provider_unavailable", x_should_retry="true", retry_after_ms="1"), answered(), answered()]
    d = driver(lambda _: replies.pop(0))
    await d.create()
    await d.create(extra_headers={"Idempotency-Key": "mine"})
    keys = [request.headers["idempotency-key"] for request in d.requests]
    assert keys[0] == keys[1] != ""
    assert keys[2] == "mine"


async def test_options_for_the_gateway_travel_as_headers_and_survive_copies(driver: Any) -> None:
    d = driver(answered(), workflow="run-1", default_headers={"x-mine": "1"})
    await d.create(d.client.with_flatfee(task="review", on_exhausted="fail").with_options(max_retries=0))
    sent = d.requests[0].headers
    assert (sent["x-flatfee-workflow"], sent["x-flatfee-task"], sent["x-flatfee-on-exhausted"], sent["x-mine"]) == (
        *("run-1", "review", "fail", "1"),
    )
    with pytest.raises(flatfee.ConfigurationError, match="task is 'dance'"):
        d.client.with_flatfee(task="dance")


class TestDeadline:
    async def test_each_try_sends_what_is_left_and_waits_no_longer(self, driver: Any) -> None:
        replies = [refused("provider_unavailable", x_should_retry="true", retry_after_ms="20"), answered()]
        d = driver(lambda _: replies.pop(0), deadline=30, timeout=600)
        await d.create()
        first, second = (int(request.headers["x-flatfee-deadline-ms"]) for request in d.requests)
        assert 0 < second < first <= 30_000
        assert all(0 < request.extensions["timeout"]["read"] <= 30.5 for request in d.requests)

    async def test_it_may_be_set_for_one_call(self, driver: Any) -> None:
        d = driver(answered(), timeout=httpx.Timeout(600, connect=2))
        await d.create(extra_headers={"X-Flatfee-Deadline-Ms": "5000"})
        await d.create()
        (sent,) = d.requests[0].headers.get_list("x-flatfee-deadline-ms")
        assert int(sent) <= 5000
        assert d.requests[0].extensions["timeout"]["connect"] == 2
        assert 0 < d.requests[0].extensions["timeout"]["read"] <= 5.5
        assert "x-flatfee-deadline-ms" not in d.requests[1].headers
        assert d.requests[1].extensions["timeout"]["read"] == 600

    async def test_it_limits_a_client_without_a_timeout(self, driver: Any) -> None:
        d = driver(answered(), deadline=5, timeout=None)
        await d.create()
        assert 0 < d.requests[0].extensions["timeout"]["read"] <= 5.5

    async def test_a_wait_that_would_outlast_it_is_not_begun(self, driver: Any) -> None:
        d = driver(refused("workflow_limit", x_should_retry="true", retry_after="60"), deadline=10)
        with pytest.raises(flatfee.ConcurrencyLimitError):
            await d.create()
        assert len(d.requests) == 1

    async def test_waits_between_tries_end_with_it(self, driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []

        async def asleep(seconds: float) -> None:
            waits.append(seconds)

        monkeypatch.setattr(time, "sleep", waits.append)
        monkeypatch.setattr(anyio, "sleep", asleep)
        d = driver(refused("provider_unavailable", x_should_retry="true"), deadline=0.3, max_retries=2)
        with pytest.raises(openai.APIError):
            await d.create()
        assert waits
        assert max(waits) <= 0.3

    async def test_it_is_over_with_its_call(self, driver: Any) -> None:
        await driver(answered(), deadline=5).create()
        assert current() is None

    async def test_past_it_nothing_is_sent(self, driver: Any) -> None:
        d = driver(refused("provider_unavailable", x_should_retry="true"), deadline=0.01, max_retries=100)
        with pytest.raises(openai.APIError) as caught:
            await d.create()
        assert is_a(caught.value, flatfee.APITimeoutError)
        assert len(d.requests) < 5


class TestStreams:
    async def test_the_receipt_is_there_before_the_first_token_and_settled_at_the_end(self, driver: Any) -> None:
        stream = await driver(streamed(event("a"), event("b", "stop", flatfee=SETTLED), DONE)).stream()
        assert (stream.receipt.lane, stream.receipt.state) == ("premium", "in_flight")
        chunks = await everything(stream)
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["a", "b"]
        assert stream.receipt.state == "settled"
        assert stream.receipt.fair_use.charged == 7

    async def test_a_stream_is_noted_at_its_beginning_and_its_end(self, driver: Any, run: flatfee.Run) -> None:
        stream = await driver(streamed(event("a"), event("b", "stop", flatfee=SETTLED), DONE)).stream()
        assert [receipt.state for receipt in run.receipts] == ["in_flight"]
        await everything(stream)
        assert [receipt.state for receipt in run.receipts] == ["settled"]
        assert run.units.total() == 7

    @pytest.mark.pain(8)
    async def test_an_error_in_the_middle_has_its_name_status_and_receipt(self, driver: Any) -> None:
        """Pain: openai-python raises a bare ``APIError`` without a status for an error in mid-stream."""
        envelope = wire.error_body("fallback_exhausted", "No.", receipt=FAILED)
        stream = await driver(streamed(event("par"), event("tial"), data(envelope))).stream()
        with pytest.raises(flatfee.FallbackExhausted) as caught:
            await everything(stream)
        error: Any = caught.value
        assert is_a(error, openai.InternalServerError)
        assert (error.status_code, error.code, error.partial) == (503, "fallback_exhausted", "partial")
        assert [attempt.outcome for attempt in error.attempts] == ["timeout", "error"]
        assert stream.receipt.state == "refused"
        assert pickle.loads(pickle.dumps(error)).partial == "partial"

    @pytest.mark.pain(9)
    @pytest.mark.parametrize("pieces", [(), (event("half"),), (event("half"), DONE), (event("half"), event("x")[:20])])
    async def test_an_end_without_a_finish_is_a_truncation(self, driver: Any, pieces: Any) -> None:
        """Pain: a clean end of the connection without a finish reason is a silently cut answer."""
        stream = await driver(streamed(*pieces)).stream()
        with pytest.raises(flatfee.StreamTruncated) as caught:
            await everything(stream)
        assert is_a(caught.value, openai.APIError)
        assert caught.value.partial == ("half" if pieces else "")
        assert caught.value.receipt is not None

    async def test_a_finished_answer_needs_no_done(self, driver: Any) -> None:
        stream = await driver(streamed(event("a", "stop"))).stream()
        assert len(await everything(stream)) == 1

    @pytest.mark.pain(7)
    async def test_a_connection_that_breaks_in_the_middle_has_both_names(self, driver: Any) -> None:
        """Pain: transport errors in mid-stream escape as those of the HTTP library."""
        stream = await driver(streamed(event("a"), httpx.ReadError("gone"))).stream()
        with pytest.raises(flatfee.APIConnectionError) as caught:
            await everything(stream)
        error: Any = caught.value
        assert is_a(error, openai.APIConnectionError)
        assert (error.partial, error.receipt.lane) == ("a", "premium")

    async def test_what_has_nothing_to_do_with_the_gateway_comes_as_it_is(self, driver: Any) -> None:
        stream = await driver(streamed(event("a"), RuntimeError("a bug"))).stream()
        with pytest.raises(RuntimeError, match="a bug"):
            await everything(stream)

    async def test_a_connection_that_breaks_after_the_finish_is_no_failure(self, driver: Any) -> None:
        stream = await driver(streamed(event("a", "stop"), httpx.ReadError("gone"))).stream()
        assert len(await everything(stream)) == 1

    async def test_an_error_after_the_finish_is_a_failure_all_the_same(self, driver: Any) -> None:
        stream = await driver(streamed(event("a", "stop"), data(wire.error_body("store_unavailable", "No.")))).stream()
        with pytest.raises(flatfee.ServiceUnavailableError):
            await everything(stream)

    @pytest.mark.parametrize("data", ["{oops", '{"choices": "oops"}', '{"choices": ["oops"]}', '{"choices": 1}'])
    async def test_an_event_that_is_none_is_an_error_with_both_names(self, driver: Any, data: str) -> None:
        stream = await driver(streamed(event("a"), f"data: {data}\n\n".encode())).stream()
        with pytest.raises(flatfee.APIResponseValidationError) as caught:
            await everything(stream)
        assert is_a(caught.value, openai.APIResponseValidationError)
        assert caught.value.partial == "a"

    async def test_a_web_page_is_no_completion(self, driver: Any) -> None:
        page = httpx.Response(200, headers={"content-type": "text/html"}, text="<p>Sign in.</p>")
        with pytest.raises(flatfee.APIResponseValidationError, match="text/html") as caught:
            await driver(page).create()
        assert is_a(caught.value, openai.APIResponseValidationError)

    async def test_leaving_early_closes_the_response(self, driver: Any) -> None:
        d = driver(streamed(event("a"), event("b"), event("c", "stop")))
        stream = await d.stream()
        await d.next(stream)
        await d.wait(stream.close())
        assert stream.response.is_closed

    async def test_an_idle_connection_keeps_nothing_of_a_stream_that_was_read(self) -> None:
        class Connection:
            def read(self, _: int, timeout: float | None = None) -> bytes:
                raise NotImplementedError(timeout)

        connection = Connection()

        def handle(_: httpx.Request) -> httpx.Response:
            response = streamed(event("a", "stop"), DONE)
            response.extensions["network_stream"] = connection
            return response

        client = ours.OpenAI(api_key=KEY, http_client=httpx.Client(transport=httpx.MockTransport(handle)))
        stream = client.chat.completions.create(model="auto", messages=[], stream=True)
        assert len(list(stream)) == 1
        request = weakref.ref(stream.response.request)
        del stream
        gc.collect()
        assert request() is None, "it holds the prompt and the key"

    async def test_a_raw_response_parses_to_the_same_stream(self, driver: Any) -> None:
        d = driver(streamed(event("a"), DONE))
        completions = d.client.chat.completions.with_raw_response
        raw = await d.wait(completions.create(model="auto", messages=[], stream=True))
        with pytest.raises(flatfee.StreamTruncated):
            await everything(raw.parse())

    async def test_their_event_helpers_read_it(self, driver: Any) -> None:
        d = driver(streamed(event("a"), event("b", "stop", flatfee=SETTLED), DONE))
        manager = d.client.chat.completions.stream(model="auto", messages=[])
        if d.kind == "sync":
            with manager as events:
                found = events.get_final_completion()
        else:
            async with manager as events:
                found = await events.get_final_completion()
        assert found.choices[0].message.content == "ab"

    async def test_streams_of_other_things_are_left_alone(self, driver: Any) -> None:
        d = driver(streamed(b'event: response.created\ndata: {"type": "response.created"}\n\n'))
        stream = await d.wait(d.client.responses.create(model="auto", input="hi", stream=True))
        assert [found.type for found in await everything(stream)] == ["response.created"]


def data(envelope: Any) -> bytes:
    return f"data: {json.dumps(envelope)}\n\n".encode()


async def everything(stream: Any) -> list[Any]:
    if hasattr(stream, "__aiter__"):
        return [chunk async for chunk in stream]
    return list(stream)


def test_an_older_release_is_refused_with_the_cure() -> None:
    for version in ("1.108.2", "0.28.1"):
        with pytest.raises(ImportError, match=rf"does not work with openai-python {version}; install openai>=1\.109"):
            ours._check(version)
    for version in ("1.109.1", "2.0.0", "3.54.0", "4.0.0rc1"):
        ours._check(version)


def test_without_openai_python_the_import_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "flatfee.integrations.openai")
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r"needs openai-python; install openai>=1\.109"):
        importlib.import_module("flatfee.integrations.openai")


def test_a_completion_without_a_receipt_is_left_alone() -> None:
    client = ours.OpenAI(
        api_key=KEY,
        base_url="http://elsewhere.test/v1",
        http_client=httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=completion()))),
    )
    found = client.chat.completions.create(model="auto", messages=[])
    assert flatfee.Receipt.of(found) is None
