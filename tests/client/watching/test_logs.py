"""The client's log: its events, its set-up by the environment, and that no secret is ever in it."""

import io
import itertools
import json
import logging
import re
from contextlib import suppress
from typing import Any

import httpx
import pytest

import flatfee
from flatfee.client.watching import logs
from flatfee.client.watching.logs import set_up

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "flatfee")
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[str]:
    told = [record.getMessage() for record in log.records if record.name.startswith("flatfee")]
    numbers = list(dict.fromkeys(re.findall(r"call=(\d+)", "\n".join(told))))
    return [re.sub(r"call=(\d+)", lambda found: f"call={numbers.index(found[1]) + 1}", line) for line in told]


PLACE = "call=1 method=POST path=/chat/completions"
ROUTED = "lane=premium reason=default request_id=req_1"


async def test_a_call_is_two_lines(driver: Any, answer: Any, log: Any) -> None:
    await driver(answer()).create()
    assert lines(log) == [f"client.request {PLACE}", f"client.answer {PLACE} {ROUTED} ms=0"]


async def test_failed_tries_and_failures_are_lines(driver: Any, refuse: Any, log: Any) -> None:
    gateway = driver(refuse("gateway_overloaded", retry_after="2"), max_retries=1)
    with pytest.raises(flatfee.ServiceUnavailableError):
        await gateway.create()
    failure = "error=ServiceUnavailableError status=503 code=gateway_overloaded request_id=req_9"
    assert lines(log)[1:] == [
        f"client.try_failed call=1 try=1 {failure}",
        f"client.try_failed call=1 try=2 {failure}",
        f"client.failed {PLACE} {failure} ms=2000",
    ]


async def test_a_refusal_that_ends_a_wait_is_no_further_try(driver: Any, refuse: Any, log: Any) -> None:
    now = itertools.count(0.0, 0.01)
    pacing = flatfee.Pacing(longest_wait=0.05, clock=lambda: next(now), chance=lambda: 0.0)
    gateway = driver(refuse("rate_limited", retry_after="0.05"), pacing=pacing)
    with pytest.raises(flatfee.RateLimitError) as caught:
        await gateway.create()
    assert (
        len([line for line in lines(log) if "try_failed" in line]) == len(caught.value.tries) == len(gateway.requests)
    )


async def test_a_deadline_that_passes_before_anything_is_sent_is_no_try(driver: Any, answer: Any, log: Any) -> None:
    def late_key() -> str:
        gateway.now = 10.0
        return "k"

    gateway = driver(answer(), api_key=late_key)
    with pytest.raises(flatfee.APITimeoutError):
        await gateway.create(deadline=5.0)
    assert [line.split()[0] for line in lines(log)] == ["client.request", "client.failed"]


async def test_calls_are_told_apart_by_their_number(driver: Any, answer: Any, log: Any) -> None:
    gateway = driver(answer())
    await gateway.create()
    await gateway.create()
    assert [re.findall(r"call=\d+", line) for line in lines(log)] == [["call=1"]] * 2 + [["call=2"]] * 2


@pytest.mark.parametrize(
    ("parts", "end"),
    [
        ((EVENT, LAST), f"end=whole {ROUTED}"),
        ((EVENT,), "end=failed error=StreamTruncated request_id=req_1"),
        ((EVENT, httpx.ReadError("x")), "end=failed error=APIConnectionError request_id=req_1"),
    ],
)
async def test_a_stream_is_a_line_at_either_end(driver: Any, sse: Any, log: Any, parts: Any, end: str) -> None:
    gateway = driver(lambda _: sse(*parts))
    stream = await gateway.stream()
    assert lines(log)[1:] == [f"client.stream {PLACE} {ROUTED} ms=0"]
    with suppress(flatfee.APIError):
        await gateway.all(stream)
    assert lines(log)[2:] == [f"client.stream_end {PLACE} {end} ms=0"]


async def test_a_stream_that_is_left_says_so(driver: Any, sse: Any, log: Any) -> None:
    gateway = driver(lambda _: sse(EVENT, LAST))
    stream = await gateway.stream()
    await gateway.wait(stream.close())
    assert lines(log)[2:] == [f"client.stream_end {PLACE} end=closed {ROUTED} ms=0"]


async def test_nothing_is_made_for_a_log_that_is_off(
    driver: Any, answer: Any, refuse: Any, sse: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "flatfee")
    for maker in ("_Course", "_told", "_failure", "_place"):
        monkeypatch.setattr(logs, maker, None)
    replies = [refuse("gateway_overloaded"), answer(), sse(EVENT, LAST), refuse("not_found")]
    gateway = driver(lambda _: replies.pop(0))
    await gateway.create()
    await gateway.all(await gateway.stream())
    with pytest.raises(flatfee.NotFoundError):
        await gateway.create()
    assert lines(caplog) == []


SECRETS = {
    "key": "ff_proj_" + "Ab3" * 14 + "Z9zzzzz",
    "prompt": "the-prompt-in-clear",
    "completion": "the-completion-in-clear",
    "query": "the-query-in-clear",
    "header": "the-header-in-clear",
}


def leaky(request: httpx.Request) -> httpx.Response:
    """Answer with everything that was sent, wherever there is room for it."""
    told = json.loads(request.content or b"{}")
    words = " ".join(SECRETS.values())
    headers = {
        "x-flatfee-request-id": SECRETS["key"],
        "x-flatfee-lane": SECRETS["key"],
        "x-flatfee-reason": SECRETS["prompt"],
        "x-echo": words,
        "retry-after": "1",
    }
    if told.get("model") == "refused":
        return httpx.Response(
            503,
            headers=headers,
            json={"error": {"message": words, "code": SECRETS["key"], "type": words, "param": words}},
        )
    if told.get("model") == "broken":
        raise httpx.ConnectError(words)
    if told.get("model") == "odd":
        return httpx.Response(200, headers=headers, text=words)
    message = {"role": "assistant", "content": SECRETS["completion"]}
    if told.get("stream"):
        body = json.dumps({"choices": [{"index": 0, "delta": message}]})
        end = json.dumps({"error": {"message": words, "code": SECRETS["key"]}})
        kind = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=headers | kind, text=f"data: {body}\n\ndata: {end}\n\n")
    return httpx.Response(200, headers=headers, json={"choices": [{"index": 0, "message": message}]})


async def test_no_secret_is_in_any_line_at_any_level(driver: Any, log: Any) -> None:
    gateway = driver(
        leaky,
        api_key=lambda: SECRETS["key"],
        max_retries=1,
        default_headers={"x-mine": SECRETS["header"]},
        default_query={"q": SECRETS["query"]},
        on_receipt=lambda _: SECRETS[" ".join(SECRETS.values())],
    )
    messages = [{"role": "user", "content": SECRETS["prompt"]}]
    for model in ("auto", "refused", "broken", "odd"):
        try:
            await gateway.create(model=model, messages=messages, workflow="run-1", stop=SECRETS["prompt"])
        except flatfee.APIError:
            assert model != "auto"
        with pytest.raises(flatfee.APIError):
            await gateway.all(await gateway.stream(model=model, messages=messages))
    told = log.text + "".join(str(record.__dict__) for record in log.records if record.name.startswith("flatfee"))
    assert "lane=?" in told
    assert "client.try_failed" in told
    assert "client.callback_failed" in told
    assert [name for name, secret in SECRETS.items() if secret in told] == []


async def test_no_line_is_broken_by_what_a_gateway_sends(driver: Any, log: Any) -> None:
    headers = {"x-flatfee-request-id": "req 1\tlane=premium", "x-flatfee-lane": "Premium!"}
    await driver(httpx.Response(200, headers=headers, json={"choices": []})).create()
    assert lines(log)[1].endswith("lane=? request_id=? ms=0")


# Set-up


@pytest.fixture
def lonely() -> logging.Logger:
    """Return a logger that nobody has configured."""
    logger = logging.Logger("flatfee-alone")  # noqa: LOG001 - pytest adds handlers to those it can find
    logger.propagate = False
    return logger


def test_without_the_variable_nothing_is_set_up(lonely: logging.Logger) -> None:
    for env in ({}, {"FLATFEE_LOG": ""}, {"FLATFEE_LOG": "  "}):
        set_up(env, lonely)
    assert (lonely.handlers, lonely.level) == ([], logging.NOTSET)


def test_the_variable_sets_the_level_and_shows_the_log_once(lonely: logging.Logger) -> None:
    for _ in range(3):
        set_up({"FLATFEE_LOG": "DEBUG"}, lonely)
    assert (len(lonely.handlers), lonely.level) == (1, logging.DEBUG)


def test_what_the_application_has_configured_stays(lonely: logging.Logger) -> None:
    own = logging.NullHandler()
    lonely.addHandler(own)
    set_up({"FLATFEE_LOG": "info"}, lonely)
    assert (lonely.handlers, lonely.level) == ([own], logging.INFO)


def test_a_handler_of_the_root_that_comes_later_takes_over(lonely: logging.Logger, monkeypatch: Any) -> None:
    set_up({"FLATFEE_LOG": "info"}, lonely)
    (handler,) = lonely.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(io.StringIO())
    lonely.info("a")  # pytest's own handlers are on the root
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    lonely.info("b")
    assert handler.stream.getvalue().endswith("INFO flatfee-alone b\n")
    assert "a\n" not in handler.stream.getvalue().replace("alone", "")


def test_a_level_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATFEE_LOG", "verbose")
    with pytest.raises(flatfee.ConfigurationError, match="FLATFEE_LOG is 'verbose'; use one of debug, info"):
        flatfee.Client(api_key="k")
