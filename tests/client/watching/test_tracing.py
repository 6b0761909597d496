"""Spans: what they tell, whose children they are, and that each ends exactly once, however its call does."""

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import flatfee
from flatfee.client.watching import spans

EVENT = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
LAST = (
    b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"flatfee":{"request_id":"req_1","state":"settled","fair_use":{"charged":9},'
    b'"usage":{"prompt_tokens":3,"completion_tokens":1,"cached_tokens":2}}}\n\n'
)


class Traces:
    """An application that traces, and what it got."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("application")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def one(self) -> tuple[ReadableSpan, dict[str, Any]]:
        (span,) = self.spans
        return span, dict(span.attributes or {})


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traces]:
    made = Traces()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: made.provider)
    yield made
    made.provider.shutdown()


async def test_a_completion_is_a_span_by_the_conventions(driver: Any, answer: Any, traces: Traces) -> None:
    options = {"temperature": 0.5, "max_completion_tokens": 9, "n": 2, "seed": 7, "reasoning_effort": "high"}
    await driver(answer()).create(model="auto", workflow="run-1", **options)
    span, told = traces.one()
    assert (span.name, span.kind, span.status.status_code) == ("chat auto", SpanKind.CLIENT, StatusCode.UNSET)
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "flatfee",
        "gen_ai.request.model": "auto",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.seed": 7,
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-5.1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 1,
        "server.address": "gateway.test",
        "server.port": 80,
        "flatfee.request_id": "req_1",
        "flatfee.lane": "premium",
        "flatfee.reason": "default",
        "flatfee.state": "settled",
        "flatfee.units": 7,
        "flatfee.tries": 1,
        "flatfee.workflow": "run-1",
    }


async def test_a_span_tells_no_workflow_where_none_is_sent(driver: Any, answer: Any, traces: Traces) -> None:
    gateway = driver(answer())
    await gateway.create(gateway.client.workflow("run-1"), extra_headers={"x-flatfee-workflow": flatfee.omit})
    assert "x-flatfee-workflow" not in gateway.requests[0].headers
    _, told = traces.one()
    assert "flatfee.workflow" not in told


async def test_a_span_covers_all_tries(driver: Any, answer: Any, refuse: Any, traces: Traces) -> None:
    replies = [refuse("gateway_overloaded"), refuse("gateway_overloaded"), answer()]
    await driver(lambda _: replies.pop(0)).create()
    _, told = traces.one()
    assert (told["flatfee.tries"], "error.type" in told) == (3, False)


@pytest.mark.parametrize(
    ("code", "told_type"), [("fallback_exhausted", "fallback_exhausted"), ("my_own", "InternalServerError")]
)
async def test_a_failure_is_told_by_its_code(
    driver: Any, refuse: Any, traces: Traces, code: str, told_type: str
) -> None:
    with pytest.raises(flatfee.APIError):
        await driver(refuse(code), max_retries=0).create()
    span, told = traces.one()
    assert (span.status.status_code, span.status.description, span.events) == (StatusCode.ERROR, None, ())
    assert (told["error.type"], told["flatfee.request_id"], told["flatfee.tries"]) == (told_type, "req_9", 1)


async def test_a_call_that_is_broken_off_ends_its_span(driver: Any, traces: Traces) -> None:
    def leave(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await driver(leave).create()
    span, told = traces.one()
    assert (span.status.status_code, told["error.type"]) == (StatusCode.ERROR, "KeyboardInterrupt")
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_a_raw_response_is_a_span_as_its_answer_is(driver: Any, answer: Any, traces: Traces) -> None:
    gateway = driver(answer())
    completions = gateway.client.chat.completions.with_raw_response
    await gateway.wait(completions.create(model="auto", messages=[]))
    _, told = traces.one()
    assert (told["gen_ai.response.id"], told["flatfee.units"]) == ("chatcmpl-1", 7)


async def test_a_response_that_the_caller_reads_is_a_span_until_then(driver: Any, answer: Any, traces: Traces) -> None:
    gateway = driver(answer())
    opened = gateway.client.chat.completions.with_streaming_response.create(model="auto", messages=[])
    async with AsyncExitStack() as stack:
        if gateway.kind == "sync":
            stack.enter_context(opened)
        else:
            await stack.enter_async_context(opened)
        _, told = traces.one()
        assert (told["flatfee.lane"], told["flatfee.request_id"]) == ("premium", "req_1")
        assert trace.get_current_span() is trace.INVALID_SPAN


ENDS = {
    "whole": ((EVENT, LAST), None),
    "cut": ((EVENT,), "StreamTruncated"),
    "broken": ((EVENT, httpx.ReadError("x")), "APIConnectionError"),
    "failed by the gateway": ((EVENT, b'data: {"error":{"code":"provider_unavailable"}}\n\n'), "provider_unavailable"),
}


@pytest.mark.parametrize("end", ENDS)
async def test_the_span_of_a_stream_ends_with_it(
    driver: Any, sse: Any, traces: Traces, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts, error = ENDS[end]
    gateway = driver(lambda _: sse(*parts))
    stream = await gateway.stream()
    assert traces.spans == ()
    try:
        await gateway.all(stream)
    except flatfee.APIError:
        assert error
    await gateway.wait(stream.close())
    del stream
    gc.collect()
    assert caplog.records == []  # OpenTelemetry complains of a span that is ended twice
    span, told = traces.one()
    assert told.get("error.type") == error
    assert span.status.status_code == (StatusCode.ERROR if error else StatusCode.UNSET)
    assert (told["flatfee.stream_end"], told["gen_ai.request.stream"]) == ("failed" if error else "whole", True)
    if not error:
        assert (told["gen_ai.response.id"], told["gen_ai.response.finish_reasons"]) == ("c", ("stop",))
        assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.cache_read.input_tokens"]) == (3, 2)
        assert (told["flatfee.units"], told["flatfee.state"]) == (9, "settled")


async def test_a_stream_that_is_left_ends_its_span_without_an_error(driver: Any, sse: Any, traces: Traces) -> None:
    gateway = driver(lambda _: sse(EVENT, LAST))
    stream = await gateway.stream()
    await gateway.next(stream)
    await gateway.wait(stream.close())
    span, told = traces.one()
    assert (span.status.status_code, told["flatfee.stream_end"]) == (StatusCode.UNSET, "closed")


@pytest.mark.parametrize("in_a_circle", [False, True])
async def test_a_stream_that_nobody_closes_ends_its_span_once(
    driver: Any, sse: Any, traces: Traces, caplog: Any, in_a_circle: bool
) -> None:
    gateway = driver(lambda _: sse(EVENT, LAST))
    owner: dict[str, Any] = {"stream": await gateway.stream()}
    if in_a_circle:
        owner["owner"] = owner
    await gateway.next(owner["stream"])
    del owner
    gc.collect()
    _, told = traces.one()
    assert told["flatfee.stream_end"] == "closed"
    assert caplog.records == []  # OpenTelemetry complains of a span that is ended twice


async def test_spans_are_children_of_the_callers(driver: Any, answer: Any, sse: Any, traces: Traces) -> None:
    inner: list[Any] = []
    replies: list[httpx.Response] = [answer(), sse(EVENT, LAST), httpx.Response(500)]

    def handle(_: httpx.Request) -> httpx.Response:
        inner.append(trace.get_current_span())
        return replies.pop(0)

    gateway = driver(handle, max_retries=0)
    with traces.tracer.start_as_current_span("agent") as agent:
        await gateway.create()
        assert trace.get_current_span() is agent
        stream = await gateway.stream()
        assert trace.get_current_span() is agent
        with pytest.raises(flatfee.APIError):
            await gateway.create()
        assert trace.get_current_span() is agent
    await gateway.all(stream)
    calls = [span for span in traces.spans if span.name != "agent"]
    assert [span.parent.span_id for span in calls if span.parent] == [agent.get_span_context().span_id] * 3
    assert {span.context.span_id for span in calls if span.context} == {
        span.get_span_context().span_id for span in inner
    }


async def test_the_gateway_is_told_of_the_trace(driver: Any, answer: Any, traces: Traces) -> None:
    gateway = driver(answer())
    await gateway.create()
    span, _ = traces.one()
    assert span.context
    assert f"{span.context.trace_id:032x}-{span.context.span_id:016x}" in gateway.requests[0].headers["traceparent"]


async def test_what_a_caller_sends_itself_is_not_written_over(driver: Any, answer: Any, traces: Traces) -> None:
    gateway = driver(answer())
    await gateway.create(extra_headers={"traceparent": "own"})
    assert gateway.requests[0].headers["traceparent"] == "own"


async def test_other_calls_are_no_spans(driver: Any, traces: Traces) -> None:
    await (gateway := driver(httpx.Response(200, json={}))).wait(gateway.client.usage.retrieve())
    assert traces.spans == ()


async def test_no_word_of_a_conversation_is_in_a_span(driver: Any, sse: Any, refuse: Any, traces: Traces) -> None:
    secret = "in-clear"
    body = {"error": {"message": secret, "code": secret, "type": secret}}
    chunk = f'data: {{"choices":[{{"index":0,"delta":{{"content":"{secret}"}}}}]}}\n\n'.encode()
    replies = [httpx.Response(500, json=body), sse(chunk, f"data: {json.dumps(body)}\n\n".encode())]
    gateway = driver(lambda _: replies.pop(0), api_key=secret, max_retries=0)
    messages = [{"role": "user", "content": secret}]
    with pytest.raises(flatfee.APIError):
        await gateway.create(messages=messages, stop=[secret], user=secret)
    with pytest.raises(flatfee.APIError):
        await gateway.all(await gateway.stream(messages=messages, tools=[{"name": secret}]))
    assert len(traces.spans) == 2
    assert not any(secret in span.to_json() for span in traces.spans)


async def test_a_span_that_is_not_sampled_costs_no_reading(
    driver: Any, answer: Any, sse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
    gateway = driver(lambda request: sse(EVENT, LAST) if b'"stream":true' in request.content else answer())
    monkeypatch.setattr(spans, "receipt", None)
    await gateway.create()
    await gateway.all(await gateway.stream())
    assert "traceparent" not in gateway.requests[0].headers


@pytest.mark.parametrize("body", [None, b"", b"no json", b"[]", b'{"model": 7, "temperature": "hot", "n": 1}'])
def test_a_body_of_another_shape_tells_less(body: Any) -> None:
    assert spans.asked(body) == {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "flatfee"}


def test_who_does_not_trace_pays_for_no_opentelemetry() -> None:
    """Neither importing the package nor a call imports it."""
    code = """
import sys, httpx, flatfee
answer = lambda _: httpx.Response(200, json={"choices": []})
client = flatfee.Client(api_key="k", http_client=httpx.Client(transport=httpx.MockTransport(answer)))
client.chat.completions.create(model="auto", messages=[])
print([name for name in sys.modules if name.startswith("opentelemetry") or name == "flatfee.client.watching.spans"])
"""
    source = str(Path(flatfee.__file__).parents[1])
    told = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": source}, capture_output=True, check=True)
    assert told.stdout.decode().strip() == "[]"
