"""Limits of time over real sockets: which error comes, not how fast."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from flatfee import APIError, APITimeoutError, AsyncClient, Client, Timeout

pytestmark = pytest.mark.usefixtures("little_grace")

ASK: Any = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
BACKENDS = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


async def fails(url: str, kind: str, *, http_client: Any = None, **ask: Any) -> tuple[list[Any], APIError]:
    """Return the chunks that a caller of either kind got, and the error that ended its call."""
    options: Any = {"api_key": "k", "base_url": url, "max_retries": 0, "timeout": ask.pop("limits", Timeout())}
    got: list[Any] = []

    async def call() -> None:
        if kind == "sync":
            with Client(**options, http_client=http_client) as client:
                for chunk in client.chat.completions.create(**ASK, **ask):
                    got.append(chunk)  # noqa: PERF402 - what came before the error counts
        else:
            async with AsyncClient(**options, http_client=http_client) as aclient:
                async for chunk in await aclient.chat.completions.create(**ASK, **ask):
                    got.append(chunk)  # noqa: PERF401 - so it does here

    with pytest.raises(APIError) as caught:
        await call()
    return got, caught.value


both = pytest.mark.parametrize(
    ("kind", "anyio_backend"), [("sync", "asyncio"), ("async", "asyncio"), ("async", "trio")]
)


@pytest.mark.slow
@pytest.mark.pain(6)
@both
async def test_comments_do_not_keep_a_stream_alive_that_never_begins(
    serve: Any, make_event: Any, make_chunk: Any, kind: str
) -> None:
    """A stalled stream held its caller for hours, because keep-alives reset the read timeout."""

    def reply(peer: Any) -> None:
        peer.stream(make_event(role="assistant", content=""))
        peer.drip(make_chunk(b": keep-alive\n\n"))

    _, error = await fails(serve(reply).url, kind, stream=True, limits=Timeout(first_token=2.0))
    assert isinstance(error, APITimeoutError)
    assert str(error) == "The gateway is silent: no token came within 2 seconds (timeout: first_token)."
    assert error.request_id == "req_1", "the receipt so far"


@pytest.mark.pain(6)
@both
async def test_nor_one_that_stalls_half_way(serve: Any, make_event: Any, make_chunk: Any, kind: str) -> None:
    """The same, after some tokens: what was delivered is in the error."""

    def reply(peer: Any) -> None:
        peer.stream(make_event(content="Hello, "), make_event(content="wor"))
        peer.drip(make_chunk(b": keep-alive\n\n"))

    gateway = serve(reply)
    got, error = await fails(gateway.url, kind, stream=True, limits=Timeout(idle=0.1))
    assert isinstance(error, APITimeoutError)
    assert "idle" in str(error)
    assert (len(got), error.partial) == (2, "Hello, wor")
    gateway.wait_for(lambda: gateway.peers[0].gone)


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"refusal": "no"},
        {"function_call": {"name": "f"}},
    ],
    ids=lambda delta: next(iter(delta)),
)
async def test_whatever_the_model_says_is_a_token(serve: Any, make_event: Any, delta: Any) -> None:
    def reply(peer: Any) -> None:
        peer.stream(make_event(**delta))
        peer.wait()

    _, error = await fails(serve(reply).url, "sync", stream=True, limits=Timeout(first_token=60.0, idle=0.05))
    assert "(timeout: idle)" in str(error)


async def test_a_gateway_that_sends_no_headers_is_silent_too(serve: Any) -> None:
    gateway = serve(lambda peer: peer.wait())
    for kind in ("sync", "async"):
        _, error = await fails(gateway.url, kind, stream=True, limits=Timeout(first_token=0.05))
        assert "(timeout: first_token)" in str(error)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_the_limit_of_the_first_token_does_not_shorten_the_reads_after_it(kind: str) -> None:
    """Until the response starts its first token is waited for; from then on the limits are the stream's."""
    sent: list[httpx.Request] = []
    reads: list[float] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        reads.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"")

    transport, limits = httpx.MockTransport(handle), Timeout(first_token=30.0, read=60.0)
    if kind == "sync":
        with httpx.Client(transport=transport) as http_client:
            await fails("http://gateway.test", kind, stream=True, limits=limits, http_client=http_client)
    else:
        async with httpx.AsyncClient(transport=transport) as ahttp_client:
            await fails("http://gateway.test", kind, stream=True, limits=limits, http_client=ahttp_client)
    reads.append(sent[0].extensions["timeout"]["read"])
    assert reads == [30.0, 60.0]


@pytest.mark.slow
def test_a_stream_has_the_limit_between_two_pieces_as_well(serve: Any, make_event: Any) -> None:
    def reply(peer: Any) -> None:
        peer.stream(make_event(content="a"))
        peer.wait()

    limits = Timeout(read=2.0, first_token=60.0, idle=60.0)
    with Client(api_key="k", base_url=serve(reply).url, timeout=limits) as client:
        stream = client.chat.completions.create(**ASK, stream=True)
        with pytest.raises(APITimeoutError, match="ReadTimeout"):
            list(stream)


def test_a_plain_answer_has_no_idle_limit(serve: Any) -> None:
    release: list[Callable[[], None]] = []

    def reply(peer: Any) -> None:
        release.append(peer.whole)
        peer.connection.settimeout(0.1)
        peer.wait()
        peer.whole()

    with Client(api_key="k", base_url=serve(reply).url, timeout=Timeout(first_token=0.01, idle=0.01)) as client:
        assert client.chat.completions.create(**ASK).choices


@pytest.mark.slow
@pytest.mark.pain(5)
@both
async def test_a_deadline_ends_a_stream_that_flows(serve: Any, make_event: Any, kind: str) -> None:
    """A timeout was never total: each piece began it anew. A deadline is, over the whole stream."""

    def reply(peer: Any) -> None:
        peer.stream(make_event(content="x"))
        peer.drip(make_event(content="x"))

    gateway = serve(reply)
    got, error = await fails(gateway.url, kind, stream=True, deadline=2.0)
    assert isinstance(error, APITimeoutError)
    assert str(error) == "The deadline of 2 seconds passed before the answer was whole."
    assert error.partial == "x" * len(got)
    assert error.request_id == "req_1"
    assert b"x-flatfee-deadline-ms: " in gateway.peers[0].request
    gateway.wait_for(lambda: gateway.peers[0].gone)


@pytest.mark.pain(5)
@both
async def test_a_deadline_ends_a_plain_answer_that_comes_in_drops(serve: Any, kind: str) -> None:
    """The same for an answer that is not streamed: its bytes may not keep a call alive either."""

    def reply(peer: Any) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n")
        peer.drip(b" ")

    gateway = serve(reply)
    _, error = await fails(gateway.url, kind, deadline=0.1)
    assert "The deadline of 0.1 seconds passed" in str(error)
    gateway.wait_for(lambda: gateway.peers[0].gone)


@both
async def test_a_deadline_covers_the_wait_for_headers_and_for_a_connection(serve: Any, kind: str) -> None:
    gateway = serve(lambda peer: peer.wait())
    _, error = await fails(gateway.url, kind, deadline=0.05)
    assert "The deadline of 0.05 seconds" in str(error)
    limits = httpx.Limits(max_connections=1)
    if kind == "sync":
        with httpx.Client(limits=limits) as http_client, http_client.stream("GET", serve().url):  # noqa: ASYNC212
            _, error = await fails(gateway.url, kind, deadline=0.05, http_client=http_client)
    else:
        async with httpx.AsyncClient(limits=limits) as ahttp_client, ahttp_client.stream("GET", serve().url):
            _, error = await fails(gateway.url, kind, deadline=0.05, http_client=ahttp_client)
    assert "The deadline of 0.05 seconds" in str(error)


async def test_an_answer_in_time_is_an_answer(serve: Any) -> None:
    gateway = serve()
    with Client(api_key="k", base_url=gateway.url) as client:
        assert client.chat.completions.create(**ASK, deadline=30.0).choices
        assert len(list(client.chat.completions.create(**ASK, deadline=30.0, stream=True))) == 2
    async with AsyncClient(api_key="k", base_url=gateway.url) as aclient:
        assert (await aclient.chat.completions.create(**ASK, deadline=30.0)).choices
        stream = await aclient.chat.completions.create(**ASK, deadline=30.0, stream=True)
        assert len([chunk async for chunk in stream]) == 2
    assert gateway.connections == 2, "each client kept its one connection"


def test_limits_of_one_stream_do_not_reach_the_next_call_on_its_connection(serve: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("flatfee.client.bodies.LONGEST_DRAIN", 0.05)
    gateway = serve()
    with Client(api_key="k", base_url=gateway.url) as client:
        list(client.chat.completions.create(**ASK, stream=True, timeout=Timeout(first_token=5.0, idle=0.001)))
        gateway.replies = [lambda peer: (peer.connection.settimeout(0.1), peer.wait(), peer.whole())]
        assert client.chat.completions.create(**ASK).choices
        assert len(list(client.chat.completions.create(**ASK, stream=True))) == 2
    assert gateway.connections == 1
