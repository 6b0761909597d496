"""The OpenAI adapter against an upstream made of a raw socket, byte for byte."""

from __future__ import annotations

import asyncio
import gzip
import socket
from contextlib import suppress

import pytest
from pydantic import SecretStr
from tests.server.fakes import LIMIT, STREAM, completion, until
from tests.server.fakes_upstream import (
    BODY,
    SECRET,
    Reader,
    Writer,
    a_route,
    chunked,
    fails,
    head,
    pair,
    provider,
    say,
    upstream,
    whole,
)

from flatfee.server.providers import http
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.providers.http import HttpConnection
from flatfee.server.providers.openai import OpenAIProvider
from flatfee.server.providers.registry import make_providers
from flatfee.server.settings import ProviderSettings
from flatfee.wire import AttemptOutcome


async def test_a_plain_answer_comes_as_it_was_sent() -> None:
    body = completion()
    async with pair(whole(body, "X-Odd: 1")) as (fake, api), api.send(a_route(), BODY, stream=False) as answer:
        assert answer.status == 200
        assert answer.headers["x-odd"] == "1"
        assert await answer.read() == body
    assert fake.bodies == [BODY]


async def test_the_request_says_what_it_must_and_no_more() -> None:
    async with pair(whole(completion())) as (fake, api), api.send(a_route(), BODY, stream=False) as answer:
        await answer.read()
    first, *lines = fake.heads[0].decode().split("\r\n")
    sent = dict(line.lower().split(": ", 1) for line in lines if line)
    assert first == "POST /v1/chat/completions HTTP/1.1"
    assert sent.pop("host") == f"127.0.0.1:{fake.port}"
    sent.pop("accept-encoding")
    assert sent == {
        "authorization": f"bearer {SECRET}",
        "content-type": "application/json",
        "user-agent": "flatfee",
        "accept": "application/json",
        "content-length": str(len(BODY)),
    }


async def test_without_a_key_no_authorization_is_sent() -> None:
    async with pair(whole(completion()), key=None) as (fake, api), api.send(a_route(), BODY, stream=True) as answer:
        await answer.read()
    assert b"authorization" not in fake.heads[0].lower()
    assert b"accept: text/event-stream" in fake.heads[0].lower()


async def test_a_streamed_answer_comes_in_chunks_and_ends() -> None:
    parts = [head(None, "content-type: text/event-stream"), *map(chunked, STREAM), b"0\r\n\r\n"]
    async with pair(say(*parts)) as (_fake, api), api.send(a_route(), BODY, stream=True) as answer:
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"".join(STREAM)


async def test_each_part_of_a_stream_is_passed_on_before_the_next_is_sent() -> None:
    heard = asyncio.Event()

    async def answer_in_turn(writer: Writer) -> None:
        writer.write(head(None) + chunked(STREAM[0]))
        await heard.wait()
        writer.write(chunked(STREAM[1]) + b"0\r\n\r\n")

    async with (
        pair(answer_in_turn) as (_fake, api),
        asyncio.timeout(LIMIT),
        api.send(a_route(), BODY, stream=True) as answer,
    ):
        chunks = answer.chunks()
        assert await anext(chunks) == STREAM[0]
        heard.set()
        assert [chunk async for chunk in chunks] == [STREAM[1]]


async def test_a_connection_is_used_again_after_a_whole_answer() -> None:
    async with pair(whole(completion())) as (fake, api):
        for _ in range(3):
            async with api.send(a_route(), BODY, stream=False) as answer:
                await answer.read()
        assert fake.connections == 1


async def test_a_connection_is_not_used_again_after_half_an_answer() -> None:
    async with pair(say(head(None) + chunked(STREAM[0]))) as (fake, api):
        for _ in range(2):
            async with api.send(a_route(), BODY, stream=True) as answer:
                assert await anext(answer.chunks()) == STREAM[0]
        assert fake.connections == 2


async def test_leaving_in_mid_stream_closes_the_upstream_connection() -> None:
    async with pair(say(head(None) + chunked(STREAM[0]))) as (fake, api):
        async with api.send(a_route(), BODY, stream=True) as answer:
            assert await anext(answer.chunks()) == STREAM[0]
            assert fake.ended == 0
        await until(lambda: fake.ended == 1)


async def test_a_cancelled_request_closes_the_upstream_connection() -> None:
    async def say_nothing(writer: Writer) -> None:
        pass

    async with pair(say_nothing) as (fake, api):

        async def ask() -> None:
            async with api.send(a_route(), BODY, stream=False):
                pytest.fail("there is no answer")

        asking = asyncio.create_task(ask())
        await until(lambda: fake.heads)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: fake.ended == 1)


async def test_a_refused_connection_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        failure = await fails(taken.getsockname()[1])
    assert failure.outcome is AttemptOutcome.UNAVAILABLE


async def test_a_connection_that_is_not_accepted_in_time_is_a_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        try:
            for queued in waiting:  # fill the backlog, so that the next connection is left hanging
                queued.setblocking(False)
                queued.connect_ex(full.getsockname())
            failure = await fails(full.getsockname()[1], connect_timeout=0.05)
        finally:
            for queued in waiting:
                queued.close()
    assert failure.outcome is AttemptOutcome.TIMEOUT


@pytest.mark.parametrize(
    "parts",
    {
        "before the head": [b""],
        "within the head": [b"HTTP/1.1 200 OK\r\ncontent-le"],
        "within the body": [head(100) + b'{"choices"'],
        "within the chunks": [head(None) + chunked(b"abc") + b"ff\r\nabc"],
    }.items(),
    ids=lambda item: item[0],
)
async def test_an_answer_that_breaks_off_is_an_error(parts: tuple[str, list[bytes]]) -> None:
    async with upstream(say(*parts[1], close=True)) as fake:
        assert (await fails(fake.port)).outcome is AttemptOutcome.ERROR


NO_HTTP = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "a bad chunk": head(None) + b"zz\r\n",
    "bad gzip": head(5, "content-encoding: gzip") + b"12345",
    "a header without end": b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000,
}


@pytest.mark.parametrize("answer", NO_HTTP.values(), ids=NO_HTTP)
async def test_an_answer_that_is_not_http_is_an_error(answer: bytes) -> None:
    async with upstream(say(answer, close=True)) as fake:
        assert (await fails(fake.port)).outcome is AttemptOutcome.ERROR


async def test_a_redirect_is_not_followed() -> None:
    async with upstream(whole(b"", "location: /elsewhere", status="307 Temporary Redirect")) as fake:
        async with provider(fake.port) as api, api.send(a_route(), BODY, stream=False) as answer:
            assert answer.status == 307
        assert len(fake.heads) == 1


async def test_a_compressed_answer_is_unpacked() -> None:
    packed = gzip.compress(completion())
    async with (
        pair(whole(packed, "content-encoding: gzip")) as (_fake, api),
        api.send(a_route(), BODY, stream=False) as answer,
    ):
        assert await answer.read() == completion()


async def test_an_answer_without_bound_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 1000)
    async with upstream(whole(gzip.compress(b"x" * 1_000_000), "content-encoding: gzip")) as fake:
        failure = await fails(fake.port)
    assert (failure.outcome, str(failure)) == (AttemptOutcome.ERROR, "answered with more than 1000 bytes")


async def test_a_large_request_comes_whole() -> None:
    body = bytes(range(256)) * 16_000
    async with pair(whole(completion())) as (fake, api), api.send(a_route(), body, stream=False) as answer:
        assert await answer.read() == completion()
    assert fake.bodies == [body]


async def test_an_answer_before_the_request_was_read_is_an_answer() -> None:
    ended = asyncio.Event()

    async def refuse(reader: Reader, writer: Writer) -> None:
        await reader.read(1)
        await whole(b"{}", status="413 Too Large")(writer)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1024)
    async with server, asyncio.timeout(LIMIT):
        async with (
            provider(server.sockets[0].getsockname()[1]) as api,
            api.send(a_route(), b"x" * 4_000_000, stream=False) as answer,
        ):
            assert (answer.status, await answer.read()) == (413, b"{}")
        await ended.wait()


async def test_an_answer_that_was_left_takes_nothing_from_the_next() -> None:
    parts = [head(None), *map(chunked, STREAM), b"0\r\n\r\n"]
    async with pair(say(b"".join(parts))) as (fake, api):
        async with api.send(a_route(), BODY, stream=True) as left:
            chunks = left.chunks()
            await anext(chunks)
        async with api.send(a_route(), BODY, stream=True) as answer:
            for late in (left.read(), anext(chunks)):
                with pytest.raises(ProviderFailure, match="was let go of"):
                    await late
            assert await answer.read() == b"".join(STREAM)
        assert fake.connections == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1/models", "https://other.example/v1/models"])
async def test_a_document_of_another_server_is_not_asked_for(url: str) -> None:
    connection = HttpConnection("https://127.0.0.1:9/v1/chat/completions", {})
    with pytest.raises(ValueError, match="is not at 127"):
        await connection.get(url, patience=1.0)


def test_a_key_that_would_be_a_header_of_its_own_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="header 'authorization' cannot be sent") as caught:
        HttpConnection("https://127.0.0.1:9/v1", {"authorization": f"Bearer {SECRET}\r\nx: y"})
    assert SECRET not in str(caught.value)


async def test_cookies_of_the_provider_are_not_kept() -> None:
    async with pair(whole(completion(), "set-cookie: a=b")) as (fake, api):
        for _ in range(2):
            async with api.send(a_route(), BODY, stream=False) as answer:
                await answer.read()
    assert b"cookie" not in fake.heads[1].lower()


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with pair(whole(completion())) as (_fake, api), api.send(a_route(), BODY, stream=False) as answer:
        assert answer.status == 200


async def test_a_provider_that_was_never_asked_closes() -> None:
    async with provider(9):
        pass


def test_each_kind_is_made_by_its_row() -> None:
    rows = [
        ProviderSettings(name="a", kind="openai", base_url="http://127.0.0.1:9", api_key=SecretStr(SECRET)),
        ProviderSettings(name="b", kind="simulated"),
    ]
    made = make_providers(rows)
    assert list(made) == ["a", "b"]
    assert isinstance(made["a"], OpenAIProvider)
    assert SECRET not in repr(made) + repr(vars(made["a"]))
