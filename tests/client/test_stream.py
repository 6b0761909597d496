"""A stream has exactly one end, and never looks whole when it is not."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatfee
from flatfee import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    BadRequestError,
    FallbackExhausted,
    InternalServerError,
    Lane,
    RateLimitError,
    Receipt,
    StreamTruncated,
)
from flatfee.client.stream import StreamState

SETTLED = {"request_id": "req_1", "lane": "fallback", "state": "settled", "fair_use": {"charged": 7, "remaining": 83}}


def event(text: Any = None, *, finish: Any = None, index: Any = 0, **extra: Any) -> Any:
    delta = {} if text is None else {"content": text}
    body = {"id": "c", "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **extra}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
WHOLE = (event("Hel"), event("lo"), event(finish="stop", flatfee=SETTLED), DONE)


def text_of(chunks: Any) -> Any:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def test_chunks_arrive_in_order_and_the_stream_ends(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE))
    stream = await d.stream()
    assert text_of(await d.all(stream)) == "Hello"
    assert await d.next(stream) is None
    assert json.loads(d.requests[0].content)["stream"] is True
    assert d.requests[0].headers["accept"] == "text/event-stream"


async def test_the_receipt_is_there_before_the_first_token_and_settled_after_the_last(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE))
    stream = await d.stream()
    assert stream.receipt.lane == Lane.PREMIUM
    assert stream.receipt.fair_use_remaining == 90
    assert stream._request_id == "req_1"
    chunks = await d.all(stream)
    assert stream.receipt.lane == Lane.FALLBACK
    assert stream.receipt.state == "settled"
    assert stream.receipt.reason == "default", "what only the headers told is kept"
    assert Receipt.of(stream) is stream.receipt
    assert chunks[0].receipt is None
    assert chunks[-1].receipt.fair_use.charged == 7


@given(cuts=st.lists(st.integers(0, 600), max_size=20))
def test_a_character_may_be_split_over_chunks(cuts: Any) -> None:
    wire = b"".join((event("Grüße "), event("🎉"), event(finish="stop"), DONE))
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    state = StreamState({})
    chunks = []
    for start, end in pairwise(edges):
        state.feed(wire[start:end])
        while (chunk := state.take()) is not None:
            chunks.append(chunk)
    assert text_of(chunks) == "Grüße 🎉"
    assert state.over


PARTS = {
    "text": event("x"),
    "other": event("y", index=1),
    "finish": event(finish="stop"),
    "finish other": event(finish="stop", index=1),
    "usage": b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n',
    "comment": b": hi\n\n",
    "done": DONE,
    "error": b'data: {"error":{"message":"x","code":"rate_limited"}}\n\n',
    "nonsense": b"data: {\n\n",
}


def read_all(state: StreamState) -> str:
    """Return what the stream ended as; ``text`` may have come before."""
    try:
        while not state.over:
            assert state.take() is not None or state.over
    except APIError as error:
        return type(error).__name__
    return "complete"


@given(names=st.lists(st.sampled_from(list(PARTS)), max_size=8), breaks=st.booleans())
def test_every_stream_has_one_end_and_complete_means_that_all_choices_finished(names: Any, breaks: Any) -> None:
    state = StreamState({})
    state.feed(b"".join(PARTS[name] for name in names))
    state.broken(APIConnectionError("gone")) if breaks else state.end()

    fatal = next((name for name in names if name in {"done", "error", "nonsense"}), "end")
    seen = set(names[: names.index(fatal)] if fatal != "end" else names)
    begun = {"finish" if name == "text" else "finish other" for name in seen & {"text", "other"}}
    whole = bool(seen & {"finish", "finish other"}) and begun <= seen
    cut = "APIConnectionError" if breaks else "StreamTruncated"
    expected = {"error": "RateLimitError", "nonsense": "APIResponseValidationError"}.get(
        fatal, "complete" if whole else cut
    )
    assert read_all(state) == expected
    if expected != "complete":
        with pytest.raises(APIError):
            state.take()


async def test_done_is_not_needed_after_a_finish_reason(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE[:-1]))
    assert text_of(await d.all(await d.stream())) == "Hello"


async def test_a_connection_that_breaks_after_the_finish_took_nothing_away(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event("Hello", finish="stop"), httpx.ReadError("gone")))
    assert text_of(await d.all(await d.stream())) == "Hello"


@pytest.mark.parametrize("end", [(), (DONE,)])
async def test_an_end_without_finish_reason_is_a_failure(driver: Any, sse: Any, end: Any) -> None:
    d = driver(lambda _: sse(event("Hel"), event("lo"), event("other", index=1), *end))
    stream = await d.stream()
    chunks = [await d.next(stream) for _ in range(3)]
    assert text_of(chunks) == "Helloother"
    for _ in range(2):
        with pytest.raises(StreamTruncated, match="without a finish reason") as caught:
            await d.next(stream)
    assert caught.value.partial == "Hello"
    assert caught.value.request_id == "req_1"
    assert caught.value.response is stream.response


@pytest.mark.parametrize("tail", [b'data: {"choices": [{"del', b"data: [DO", b"data: 1", b"data"])
async def test_a_stream_that_is_cut_inside_an_event_is_truncated(driver: Any, sse: Any, tail: Any) -> None:
    d = driver(lambda _: sse(event("Hel"), event("lo") + tail))
    with pytest.raises(StreamTruncated) as caught:
        await d.all(await d.stream())
    assert caught.value.partial == "Hello"
    d = driver(lambda _: sse(event("Hello", finish="stop"), tail))
    assert text_of(await d.all(await d.stream())) == "Hello", "after the finish a lost rest is no loss"


async def test_a_last_event_without_its_empty_line_counts(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event("Hel"), event("lo", finish="stop").rstrip()))
    assert text_of(await d.all(await d.stream())) == "Hello"


async def test_a_stream_that_was_cut_is_not_said_to_be_served(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(event("Hel")))
    stream = await d.stream()
    assert stream.receipt.state == "in_flight"
    with pytest.raises(StreamTruncated) as caught:
        await d.all(stream)
    receipt: Any = caught.value.receipt
    assert receipt.explain().startswith("Running on the premium lane")
    stream = await d.stream()
    await d.wait(stream.close())
    assert "Served" not in stream.receipt.explain()


def cut_in_halves(text: str) -> list[bytes]:
    units = text.encode("utf-16-be")
    halves = [units[at : at + 2].decode("utf-16-be", "surrogatepass") for at in range(0, len(units), 2)]
    return [b"data: " + json.dumps({"choices": [{"delta": {"content": half}}]}).encode() + b"\n\n" for half in halves]


async def test_characters_that_came_in_halves_are_put_together(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*cut_in_halves("to the 🚀🚀!"), event(finish="stop")))
    assert text_of(await d.all(await d.stream())) == "to the 🚀🚀!"


async def test_a_half_character_without_its_other_half_is_replaced(driver: Any, sse: Any) -> None:
    first, second = cut_in_halves("🚀")
    d = driver(lambda _: sse(second, event("so"), first, event("!"), event(finish="stop")))
    assert text_of(await d.all(await d.stream())) == "\ufffdso!"


async def test_half_a_character_where_no_text_is_makes_an_event_of_no_sense(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(b'data: {"choices": [{"delta": {"reasoning": "\\ud83d"}}]}\n\n'))
    with pytest.raises(APIResponseValidationError):
        await d.all(await d.stream())


async def test_nulls_in_events_are_no_obstacle(driver: Any, sse: Any) -> None:
    nulls = {"id": None, "model": None, "created": None, "usage": {"prompt_tokens": None}}
    calls = [{"index": None, "function": {"name": "f"}}]
    odd = {"choices": [{"index": None, "delta": None}, {"index": 0, "delta": {"tool_calls": calls}}], **nulls}
    bodies = [odd, {"choices": None}]
    d = driver(lambda _: sse(*(f"data: {json.dumps(b)}\n\n".encode() for b in bodies), event("x", finish="stop")))
    chunks = await d.all(await d.stream())
    assert text_of(chunks) == "x"
    assert chunks[0].choices[1].delta.tool_calls[0].index == 0


async def test_a_stream_of_nothing_is_truncated(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(b": hello\n\n"))
    with pytest.raises(StreamTruncated):
        await d.all(await d.stream())


async def test_every_choice_that_appeared_must_finish(driver: Any, sse: Any) -> None:
    begun = (event("a"), event("b", index=1), event(finish="stop"), event("late"))
    d = driver(lambda _: sse(*begun, DONE))
    with pytest.raises(StreamTruncated):
        await d.all(await d.stream())
    d = driver(lambda _: sse(*begun, event(finish="length", index=1), DONE))
    assert len(await d.all(await d.stream())) == 5


async def test_an_error_event_is_the_exception_of_its_code(driver: Any, sse: Any) -> None:
    error = {"error": {"message": "All routes failed.", "code": "fallback_exhausted"}, "flatfee": SETTLED}
    d = driver(lambda _: sse(event("Hel") + b"data: " + json.dumps(error).encode() + b"\n\n", event("never")))
    stream = await d.stream()
    assert text_of([await d.next(stream)]) == "Hel", "what came before the error is delivered first"
    with pytest.raises(FallbackExhausted) as caught:
        await d.next(stream)
    assert caught.value.status_code == 503
    assert caught.value.receipt == stream.receipt
    assert stream.receipt.lane == Lane.FALLBACK
    with pytest.raises(FallbackExhausted):
        await d.next(stream)


async def test_an_event_named_error_is_an_error_without_an_envelope(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(b'event: error\ndata: {"message": "slow down", "code": "rate_limited"}\n\n'))
    with pytest.raises(RateLimitError, match="slow down") as caught:
        await d.all(await d.stream())
    assert caught.value.request_id == "req_1"


@pytest.mark.parametrize("body", [b"{broken secret", b'{"choices": "secret"}', b"[]"])
async def test_an_event_that_makes_no_sense_is_an_error_that_does_not_quote_it(
    driver: Any, sse: Any, body: Any
) -> None:
    d = driver(lambda _: sse(b"data: " + body + b"\n\n", event(finish="stop")))
    stream = await d.stream()
    with pytest.raises(APIResponseValidationError) as caught:
        await d.all(stream)
    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.__cause__)
    assert caught.value.request_id == "req_1"


async def test_an_event_above_the_limit_is_an_error(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(b"data: ", *[b"x" * 4_000_000] * 5))
    with pytest.raises(APIResponseValidationError, match="larger than"):
        await d.all(await d.stream())


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (httpx.ReadError("gone"), APIConnectionError),
        (httpx.RemoteProtocolError("x"), APIConnectionError),
        (httpx.ReadTimeout("x"), APITimeoutError),
    ],
)
async def test_a_broken_connection_is_one_of_our_errors(driver: Any, sse: Any, raised: Any, kind: Any) -> None:
    d = driver(lambda _: sse(event("Hel"), raised))
    stream = await d.stream()
    with pytest.raises(kind) as caught:
        await d.all(stream)
    assert caught.value.__cause__ is raised
    assert caught.value.request_id == "req_1"
    assert stream.response.is_closed


async def test_what_follows_done_is_drained_so_that_the_connection_is_free(driver: Any, sse: Any) -> None:
    reply = sse(*WHOLE, b": bye\n\n", b": bye\n\n")
    d = driver(lambda _: reply)
    await d.all(await d.stream())
    assert reply.extensions["pieces"].pieces == []
    assert reply.extensions["pieces"].closed


async def test_a_failure_behind_done_is_none(driver: Any, sse: Any) -> None:
    reply = sse(*WHOLE, httpx.ReadError("gone"))
    d = driver(lambda _: reply)
    assert text_of(await d.all(await d.stream())) == "Hello"
    assert reply.extensions["pieces"].closed


async def test_leaving_the_block_early_closes_the_response(driver: Any, sse: Any) -> None:
    reply = sse(*WHOLE)
    d = driver(lambda _: reply)
    stream = await d.stream()
    if d.kind == "sync":
        with stream as entered:
            next(entered)
    else:
        async with stream as entered:
            await anext(entered)
    assert reply.extensions["pieces"].closed
    with pytest.raises(StreamTruncated, match="closed before its end") as caught:
        await d.next(stream)
    assert caught.value.partial == "Hel"


async def test_closing_after_the_end_changes_nothing(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(*WHOLE))
    stream = await d.stream()
    await d.all(stream)
    await d.wait(stream.close())
    assert await d.next(stream) is None


async def test_closing_a_failed_stream_keeps_its_failure(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(b"data: {\n\n"))
    stream = await d.stream()
    for _ in range(2):
        with pytest.raises(APIResponseValidationError):
            await d.next(stream)
        await d.wait(stream.close())


async def test_an_error_answer_to_a_streamed_call_is_raised_by_the_call(driver: Any, refuse: Any) -> None:
    d = driver(refuse("invalid_request"))
    with pytest.raises(BadRequestError) as caught:
        await d.stream()
    assert caught.value.response.status_code == 400


async def test_a_whole_json_answer_to_a_streamed_call_is_an_error(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer())
    with pytest.raises(APIResponseValidationError, match="content type application/json"):
        await d.stream()
    d = driver(httpx.Response(200, json={"error": {"message": "x", "code": "rate_limited"}}), max_retries=0)
    with pytest.raises(RateLimitError):
        await d.stream()


async def test_a_break_while_an_error_answer_is_read_is_one_of_our_errors(driver: Any, pieces: Any) -> None:
    d = driver(lambda _: httpx.Response(500, stream=pieces(httpx.ReadError("gone"))), max_retries=0)
    with pytest.raises(APIConnectionError):
        await d.stream()


async def test_an_error_without_a_message_has_status_500(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(b'data: {"error": true}\n\n'))
    with pytest.raises(InternalServerError):
        await d.all(await d.stream())


async def test_usage_and_empty_choices_are_no_obstacle(driver: Any, sse: Any) -> None:
    usage = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
    d = driver(lambda _: sse(event("x", finish="stop"), usage, DONE))
    chunks = await d.all(await d.stream())
    assert chunks[-1].usage.total_tokens == 3


async def test_a_stream_without_a_gateway_has_no_receipt(driver: Any, pieces: Any) -> None:
    d = driver(lambda _: httpx.Response(200, stream=pieces(event("x", finish="stop"))))
    stream = await d.stream()
    await d.all(stream)
    assert stream.receipt is None
    assert stream._request_id is None


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_reader_that_is_cancelled_has_left_its_stream() -> None:
    """Nothing more can be read of it, and whoever listens hears of its end at once."""
    never = anyio.Event()

    class Silent(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'
            await never.wait()

    kind = {"content-type": "text/event-stream", "x-flatfee-request-id": "req_1"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=kind, stream=Silent()))
    heard: list[Any] = []
    client = flatfee.AsyncClient(
        api_key="k",
        base_url="http://g.test",
        http_client=httpx.AsyncClient(transport=transport),
        on_receipt=heard.append,
    )
    stream = await client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    await anext(stream)
    with anyio.move_on_after(0.01):
        await anext(stream)
    assert [receipt.request_id for receipt in heard] == ["req_1"]
    with pytest.raises(flatfee.StreamTruncated, match="was closed before its end") as caught:
        await anext(stream)
    assert caught.value.partial == "half"


class SlowToClose(httpx.AsyncByteStream):
    """A body whose connection takes a moment to be given up."""

    def __init__(self) -> None:
        self.closes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in WHOLE[:2]:
            yield part

    async def aclose(self) -> None:
        self.closes += 1
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_stream_may_be_closed_by_two_at_once() -> None:
    """By its reader, who leaves ``async with``, and by whoever told that nobody listens any more."""
    body = SlowToClose()
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=body)))
    client = flatfee.AsyncClient(api_key="k", base_url="http://g.test", http_client=http)
    stream = await client.chat.completions.create(model="auto", messages=[], stream=True)
    async with anyio.create_task_group() as group:
        group.start_soon(stream.aclose)
        group.start_soon(stream.aclose)
    assert body.closes == 1
    assert stream.response.is_closed
