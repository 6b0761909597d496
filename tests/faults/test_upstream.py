"""The faulty provider itself: it does what its catalogue says, and notes what it saw."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.faults.catalogue import CATALOGUE
from tests.faults.speech import TEXT
from tests.faults.steps import Ending, Pause
from tests.faults.upstream import FaultyUpstream
from tests.server.fakes import LIMIT, until


def request(model: str, *, stream: bool = False) -> bytes:
    messages = [{"role": "user", "content": "Hello."}]
    body = json.dumps({"model": model, "messages": messages, "stream": stream}).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1].removesuffix("/v1")))


async def answer(upstream: FaultyUpstream, model: str) -> bytes:
    """Ask once, and read to the end of the first answer or of the connection."""
    reader, writer = await connect(upstream.url)
    writer.write(request(model))
    async with asyncio.timeout(LIMIT):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
    writer.close()
    return head + body


async def test_a_model_plays_its_faults_in_turn_and_is_healthy_then() -> None:
    async with FaultyUpstream() as upstream:
        upstream.plays("flaky", "http-500", "http-429")
        answers = [await answer(upstream, "flaky") for _ in range(4)]
        assert [int(each.split()[1]) for each in answers] == [500, 429, 200, 200]
        assert json.loads(answers[-1].partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"] == TEXT
        assert [seen.fault for seen in upstream.of("flaky")] == ["http-500", "http-429", "healthy", "healthy"]


async def test_a_connection_is_kept_and_counts_its_requests() -> None:
    async with FaultyUpstream() as upstream:
        reader, writer = await connect(upstream.url)
        writer.write(request("healthy") + request("healthy"))
        await until(lambda: len(upstream.seen) == 2)
        assert [seen.nth for seen in upstream.seen] == [1, 2]
        assert upstream.connections == 1
        del reader
        writer.close()


async def test_it_notes_when_the_other_side_goes() -> None:
    async with FaultyUpstream() as upstream:
        reader, writer = await connect(upstream.url)
        writer.write(request("silent"))
        await until(lambda: upstream.seen)
        assert upstream.seen[0].gone_at is None
        writer.close()
        await until(lambda: upstream.seen[0].gone_at)
        assert upstream.seen[0].over.is_set()
        await until(lambda: not upstream.open)
        del reader


async def test_a_script_may_be_given_in_place_of_a_name() -> None:
    async with FaultyUpstream() as upstream:
        upstream.plays("own", lambda _: [b"HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n", Pause(0.001), Ending.FIN])
        assert (await answer(upstream, "own")).startswith(b"HTTP/1.1 204")


async def test_a_reset_is_a_reset() -> None:
    async with FaultyUpstream() as upstream:
        reader, writer = await connect(upstream.url)
        writer.write(request("reset-before-a-byte"))
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(LIMIT):
                await reader.read()
        writer.close()


async def test_nobody_listens_where_connections_are_refused() -> None:
    async with FaultyUpstream() as upstream:
        with pytest.raises(ConnectionRefusedError):
            await connect(upstream.refusing)


async def test_nobody_takes_the_connection_where_it_is_deaf() -> None:
    async with FaultyUpstream() as upstream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connect(upstream.deaf)


async def test_a_model_that_is_not_in_the_catalogue_is_not_found() -> None:
    async with FaultyUpstream() as upstream:
        assert (await answer(upstream, "no-such")).startswith(b"HTTP/1.1 404")


def test_the_catalogue_is_large() -> None:
    assert len(CATALOGUE) > 90
