"""Answers with their HTTP response: the plain call's answer, errors and retries, and what it came in."""

import json
import pickle
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pydantic
import pytest
import respx

import flatfee
from flatfee import (
    APIConnectionError,
    APIResponseValidationError,
    AsyncStreamedResponse,
    FlatfeeError,
    RateLimitError,
    RawResponse,
    Receipt,
    StreamedResponse,
    Timeout,
)
from flatfee.client.pieces import Chunks, Lines

HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
ONE = b'data: {"choices":[{"index":0,"delta":{"content":"h\xc3\xa9"}}]}\n\n'
LAST = (
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"flatfee":{"request_id":"req_1","state":"settled"}}\n\n'
)
DONE = b"data: [DONE]\n\n"


async def raw(d: Any, **arguments: Any) -> Any:
    return await d.wait(d.client.chat.completions.with_raw_response.create(**HELLO, **arguments))


async def inside(d: Any, manager: Any, body: Any) -> Any:
    """Run ``body`` with what the context manager of either kind gives."""
    if d.kind == "sync":
        with manager as response:
            return await body(response)
    async with manager as response:
        return await body(response)


async def told(value: Any) -> Any:
    return value


def streaming(d: Any, **arguments: Any) -> Any:
    return d.client.chat.completions.with_streaming_response.create(**HELLO, **arguments)


@pytest.mark.pain(12)
async def test_headers_are_at_hand_beside_the_answer(driver: Any, answer: Any) -> None:
    """Pain 12: headers are awkward to get at. The receipt and the id need no detour; all headers take one."""
    d = driver(lambda _: answer())
    completion = await d.create()
    assert (completion.receipt.lane, completion._request_id) == ("premium", "req_1")
    response = await raw(d)
    assert response.headers["X-Flatfee-Fair-Use-Remaining"] == "90"
    assert (response.status_code, response.request_id, response.receipt.state) == (200, "req_1", "settled")
    assert response.parse() == completion


async def test_a_raw_response_has_what_frameworks_read(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer("hé"))
    response = await raw(d)
    assert isinstance(response, RawResponse)
    assert response.parse() is response.parse()
    assert response.parse().choices[0].message.content == "hé"
    assert response.json() == json.loads(response.text) == json.loads(response.content) == json.loads(response.read())
    assert isinstance(response.http_response, httpx.Response)
    assert (response.method, response.http_request.url) == ("POST", response.url)
    assert (response.http_version, response.retries_taken) == ("HTTP/1.1", 0)
    assert repr(response) == "RawResponse(status_code=200, request_id='req_1')"


async def test_a_response_over_a_socket_knows_how_long_it_took(driver: Any) -> None:
    d = driver(lambda _: httpx.Response(200, stream=httpx.ByteStream(b'{"choices": []}')))
    response = await raw(d)
    assert response.elapsed.total_seconds() >= 0
    assert response.is_closed


async def test_a_raw_stream_is_parsed_into_the_stream(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(ONE, LAST, DONE))
    response = await raw(d, stream=True)
    assert (response.status_code, response.receipt.state) == (200, "in_flight")
    stream = response.parse()
    assert isinstance(stream, flatfee.Stream | flatfee.AsyncStream)
    assert [chunk.choices[0].delta.content for chunk in await d.all(stream)] == ["hé", None]
    assert response.receipt.state == "settled"
    with pytest.raises(FlatfeeError, match="iterate over parse"):
        _ = response.content


async def test_a_raw_response_is_parsed_into_what_was_asked_for(driver: Any, answer: Any) -> None:
    class Colour(pydantic.BaseModel):
        name: str

    d = driver(lambda _: answer('{"name": "red"}'))
    completions = d.client.chat.completions
    parsed = (await d.wait(completions.with_raw_response.parse(**HELLO, response_format=Colour))).parse()
    assert parsed.choices[0].message.parsed == Colour(name="red")
    manager = completions.with_streaming_response.parse(**HELLO, response_format=Colour)
    assert await inside(d, manager, lambda response: d.wait(response.parse())) == parsed


async def test_errors_and_retries_are_those_of_the_plain_call(driver: Any, answer: Any, refuse: Any) -> None:
    replies = [refuse("rate_limited"), answer()]
    d = driver(lambda _: replies.pop(0))
    response = await raw(d)
    assert response.parse().choices[0].message.content == "hi"
    assert (response.retries_taken, [one.status for one in response.tries]) == (1, [429, 200])
    assert (len(d.requests), len(d.waits)) == (2, 1)
    assert len({request.headers["idempotency-key"] for request in d.requests}) == 1
    d = driver(refuse("rate_limited"), max_retries=0)
    with pytest.raises(RateLimitError) as caught:
        await raw(d)
    assert Receipt.of(caught.value) == Receipt(request_id="req_9", state="refused")


async def test_an_error_that_comes_as_a_success_is_raised_as_in_the_plain_call(driver: Any) -> None:
    d = driver(httpx.Response(200, json={"error": {"message": "x", "code": "rate_limited"}}), max_retries=0)
    with pytest.raises(RateLimitError):
        await raw(d)
    with pytest.raises(RateLimitError):
        await inside(d, streaming(d), lambda response: d.wait(response.parse()))


async def test_every_resource_has_raw_responses(driver: Any) -> None:
    model = {"id": "auto", "request_id": "req_5"}

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path in {"/v1/models", "/v1/receipts"}:
            page = {"object": "list", "data": [model], "has_more": "after" not in request.url.params}
            return httpx.Response(200, json=page)
        return httpx.Response(200, json=model)

    d = driver(handle)
    for resource, arguments in ((d.client.models, ["auto"]), (d.client.receipts, ["req_5"]), (d.client.usage, [])):
        response = await d.wait(resource.with_raw_response.retrieve(*arguments))
        manager = resource.with_streaming_response.retrieve(*arguments)
        assert await inside(d, manager, lambda response: d.wait(response.parse())) == response.parse()
    for resource in (d.client.models, d.client.receipts):
        page = (await d.wait(resource.with_raw_response.list())).parse()
        assert len(await d.all(page)) == 2, "the pages that come after are plain ones"
        manager = resource.with_streaming_response.list()
        page = await inside(d, manager, lambda response: d.wait(response.parse()))
        assert len(await d.all(page)) == 2


async def test_a_streaming_response_reads_its_body_when_asked(driver: Any, pieces: Any) -> None:
    body = pieces(b'{"choices"', b": []}")
    d = driver(
        lambda _: httpx.Response(
            200, headers={"x-flatfee-request-id": "req_1", "x-flatfee-lane": "budget"}, stream=body
        )
    )

    async def look(response: Any) -> None:
        assert type(response) in {StreamedResponse, AsyncStreamedResponse}
        assert (response.headers["x-flatfee-lane"], response.receipt.lane) == ("budget", "budget")
        assert len(body.pieces) == 2, "nothing was read yet"
        assert await d.wait(response.read()) == b'{"choices": []}'
        assert await d.wait(response.text()) == '{"choices": []}'
        assert await d.wait(response.json()) == {"choices": []}
        assert (await d.wait(response.parse())).choices == []
        assert response.receipt.lane == "budget"

    await inside(d, streaming(d), look)
    assert body.closed


async def test_leaving_a_streaming_response_early_frees_its_connection(driver: Any, pieces: Any) -> None:
    body = pieces(b"a", b"b")
    d = driver(lambda _: httpx.Response(200, stream=body))

    async def fail(response: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await inside(d, streaming(d), fail)
    assert body.closed


async def test_a_streaming_response_comes_in_pieces_of_any_size(driver: Any, pieces: Any) -> None:
    d = driver(lambda _: httpx.Response(200, stream=pieces(b"one\r", b"\ntw\xc3", b"\xa9o\nthree")))
    assert await inside(d, streaming(d), lambda r: d.all(r.iter_lines())) == ["one", "twéo", "three"]
    assert await inside(d, streaming(d), lambda r: d.all(r.iter_text())) == ["one\r", "\ntw", "éo\nthree"]
    assert await inside(d, streaming(d), lambda r: d.all(r.iter_bytes())) == [b"one\r", b"\ntw\xc3", b"\xa9o\nthree"]
    sizes = await inside(d, streaming(d), lambda r: d.all(r.iter_bytes(6)))
    assert [len(piece) for piece in sizes] == [6, 6, 4]
    cut = driver(lambda _: httpx.Response(200, stream=pieces(b"tw\xc3")))
    for read in ("iter_text", "iter_lines"):
        parts = await inside(cut, streaming(cut), lambda r, read=read: cut.all(getattr(r, read)()))
        assert "".join(parts) == "tw\ufffd"
    with pytest.raises(ValueError, match="chunk_size is 0"):
        await inside(d, streaming(d), lambda r: d.all(r.iter_bytes(0)))


async def test_a_streamed_completion_may_be_read_as_lines_or_as_the_stream(driver: Any, sse: Any) -> None:
    d = driver(lambda _: sse(ONE, LAST, DONE))
    lines = await inside(d, streaming(d, stream=True), lambda r: d.all(r.iter_lines()))
    assert lines[0].startswith("data: {")
    assert lines[-2:] == ["data: [DONE]", ""]

    async def chunks(response: Any) -> Any:
        found = await d.all(await d.wait(response.parse()))
        return found, response.receipt.state

    found, state = await inside(d, streaming(d, stream=True), chunks)
    assert (len(found), state) == (2, "settled")


async def test_a_body_is_handed_out_once_or_kept(driver: Any, answer: Any, sse: Any) -> None:
    """What came from the connection does not come again; an empty body would be a silent loss."""

    async def keep(response: Any) -> Any:
        content = await d.wait(response.read())
        return content, b"".join(await d.all(response.iter_bytes(5))), await d.wait(response.parse())

    async def iterate(response: Any) -> None:
        await d.all(response.iter_bytes())
        await d.wait(response.read())

    async def parse(response: Any) -> Any:
        stream = await d.wait(response.parse())
        assert stream is await d.wait(response.parse())
        await d.all(response.iter_lines())

    d = driver(lambda _: answer("kept"))
    content, again, found = await inside(d, streaming(d), keep)
    assert content == again
    assert found.choices[0].message.content == "kept"
    with pytest.raises(FlatfeeError, match=r"read already, by iterating; .* call read\(\) first"):
        await inside(d, streaming(d), iterate)
    d = driver(lambda _: sse(ONE, LAST, DONE))
    with pytest.raises(FlatfeeError, match=r"read already, by parse\(\)"):
        await inside(d, streaming(d, stream=True), parse)


async def test_a_streaming_response_begins_with_the_retries_and_errors_of_the_plain_call(
    driver: Any, answer: Any, refuse: Any
) -> None:
    replies = [refuse("rate_limited"), answer()]
    d = driver(lambda _: replies.pop(0))
    completion = await inside(d, streaming(d), lambda response: d.wait(response.parse()))
    replies = [refuse("rate_limited"), answer()]
    assert await inside(d, streaming(d), lambda response: told(response.retries_taken)) == 1
    assert completion.receipt.state == "settled"
    assert (completion.retries_taken, [one.status for one in completion.tries]) == (1, [429, 200])
    replies = [refuse("rate_limited"), httpx.Response(200, content=b"<html>")]
    with pytest.raises(APIResponseValidationError) as refused:
        await inside(d, streaming(d), lambda response: d.wait(response.parse()))
    assert [one.status for one in refused.value.tries] == [429, 200]
    d = driver(refuse("rate_limited"), max_retries=0)
    with pytest.raises(RateLimitError):
        await inside(d, streaming(d), d.wait)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_connection_that_breaks_tells_whose_answer_was_lost(
    driver: Any, pieces: Any, caplog: Any, streamed: bool
) -> None:
    head = {"x-flatfee-request-id": "req_1", "x-flatfee-lane": "premium", "content-type": "text/event-stream"}
    body = pieces(ONE, httpx.ReadError("gone"))
    d = driver(lambda _: httpx.Response(200, headers=head, stream=body))
    with caplog.at_level("INFO", "flatfee"), pytest.raises(APIConnectionError) as caught:
        await inside(d, streaming(d, stream=streamed), lambda response: d.wait(response.read()))
    assert (caught.value.request_id, caught.value.response.status_code) == ("req_1", 200)
    if streamed:
        assert "end=failed error=APIConnectionError" in caplog.messages[-1]


async def test_a_raw_response_tells_its_tries_whatever_the_answer_is(driver: Any, refuse: Any) -> None:
    replies = [refuse("rate_limited"), httpx.Response(200, json={"request_id": "req_1", "state": "settled"})]
    d = driver(lambda _: replies.pop(0))
    response = await d.wait(d.client.receipts.with_raw_response.retrieve("req_1"))
    assert response.parse() == Receipt(request_id="req_1", state="settled")
    assert (response.retries_taken, [one.status for one in response.tries]) == (1, [429, 200])
    assert pickle.loads(pickle.dumps(response)).tries == response.tries


async def test_limits_of_tokens_are_for_streams_alone(driver: Any, answer: Any, sse: Any) -> None:
    """A plain answer begins when it is whole: its first byte may take longer than a stream's first token."""
    limits = []

    def handle(request: httpx.Request) -> Any:
        limits.append(request.extensions["timeout"]["read"])
        return sse(LAST) if request.headers["accept"] == "text/event-stream" else answer()

    d = driver(handle, timeout=Timeout(read=90, first_token=2, idle=1))
    for stream in (False, True):
        await inside(d, streaming(d, stream=stream), lambda response: d.wait(response.read()))
    assert limits == [90, 2]


class Told:
    """A body that keeps what it was told of the pieces before."""

    def __init__(self) -> None:
        self.status, self.headers, self.raw = 200, httpx.Headers(), None
        self.pieces = [ONE, b": still here\n\n", LAST]
        self.told: list[bool] = []

    def read(self, heard: bool) -> bytes | None:
        self.told.append(heard)
        return self.pieces.pop(0) if self.pieces else None


class AsyncTold(Told):
    """The same for coroutines."""

    async def read(self, heard: bool) -> bytes | None:  # type: ignore[override]  # awaited
        return super().read(heard)


async def test_comments_of_a_stream_that_is_read_raw_are_no_tokens() -> None:
    call: Any = SimpleNamespace(metered=True)
    body, abody = Told(), AsyncTold()
    assert len(list(StreamedResponse(call, body).iter_bytes())) == 3
    assert [data async for data in AsyncStreamedResponse(call, abody).iter_bytes()] != []
    assert body.told == abody.told == [False, True, False, True]


async def test_a_connection_that_breaks_while_a_body_is_read_is_a_connection_error(driver: Any, pieces: Any) -> None:
    d = driver(lambda _: httpx.Response(200, stream=pieces(b"a", httpx.ReadError("gone"))))
    with pytest.raises(APIConnectionError):
        await inside(d, streaming(d), lambda response: d.wait(response.read()))


async def test_an_answer_that_makes_no_sense_has_its_response(driver: Any) -> None:
    d = driver(lambda _: httpx.Response(200, text="no"))
    with pytest.raises(APIResponseValidationError) as caught:
        await inside(d, streaming(d), lambda response: d.wait(response.parse()))
    assert caught.value.response is not None


async def test_a_response_without_a_receipt_has_none(driver: Any) -> None:
    d = driver(httpx.Response(200, json={"choices": []}))
    assert (await raw(d)).receipt is None
    assert (await raw(d)).request_id is None


def test_the_beta_namespace_is_the_same_completions(driver: Any, answer: Any) -> None:
    client = driver(answer).client
    assert client.beta.chat.completions is client.chat.completions
    scope = client.workflow("run-42")
    assert scope.beta.chat is scope.chat


@respx.mock
async def test_what_openai_python_shows_of_a_raw_response_is_here_too(answer: Any) -> None:
    """Every public name that its raw and its streamed responses have, apart from those listed."""
    respx.post("https://api.flatfee.one/v1/chat/completions").mock(side_effect=lambda _: answer())
    with flatfee.Client(api_key="k") as client:
        ours = client.chat.completions.with_raw_response.create(**HELLO)
    theirs = openai._legacy_response.LegacyAPIResponse
    names = {name for name in dir(theirs) if not name.startswith("_")} | {"http_response", "retries_taken"}
    assert {name for name in names if not hasattr(ours, name)} == set()
    for kind, like in (
        (StreamedResponse, openai._response.APIResponse),
        (AsyncStreamedResponse, openai._response.AsyncAPIResponse),
    ):
        missing = {name for name in dir(like) if not name.startswith("_") and not hasattr(kind, name)}
        assert missing == {"headers", "status_code"}, "each response has these from its beginning"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pieces_of_one_size_lose_nothing(size: int) -> None:
    chunks = Chunks(size)
    found = [piece for data in (b"abc", b"", b"defg") for piece in chunks.feed(data)]
    found += chunks.flush()
    assert b"".join(found) == b"abcdefg"
    assert {len(piece) for piece in found[:-1]} <= {size}
    assert chunks.flush() == []


def test_lines_are_whole_however_the_bytes_come() -> None:
    text = "a\r\n\nlö\rng\nend".encode()
    for size in range(1, len(text) + 1):
        lines = Lines()
        found = [line for i in range(0, len(text), size) for line in lines.feed(text[i : i + size])]
        assert [*found, *lines.flush()] == ["a", "", "lö\rng", "end"]
