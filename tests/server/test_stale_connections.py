"""Connections that a provider closes between two requests: each request over one fails, and the provider is well."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from tests.server.fakes import KEY, completion, make_body, make_settings, route
from tests.server.fakes_upstream import BODY, Writer, a_route, head, pair, provider, upstream

from flatfee.server.app import create_app
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.store.memory import MemoryStore
from flatfee.wire import AttemptOutcome

CALLERS = 6


class Restarting:
    """An upstream that answers one request on each connection, and ends the connection at the next.

    The first answers wait for each other, so that each has a connection of its own.
    """

    def __init__(self, callers: int) -> None:
        self._together = asyncio.Barrier(callers)
        self._first = callers
        self._seen: set[Writer] = set()

    async def answer(self, writer: Writer) -> None:
        if writer in self._seen:
            writer.close()
            return
        self._seen.add(writer)
        if len(self._seen) <= self._first:
            await self._together.wait()
        writer.write(head(len(completion())) + completion())


async def test_a_kept_connection_that_ends_under_a_request_is_told_not_tried_again() -> None:
    """Whether the provider had begun with it, nobody knows: only the relay may ask, and charge, twice."""
    async with pair(Restarting(1).answer) as (fake, api):
        async with api.send(a_route(), BODY, stream=False) as first:
            await first.read()
        with pytest.raises(ProviderFailure) as caught:
            async with api.send(a_route(), BODY, stream=False):
                pytest.fail("there is no answer")
        assert (caught.value.outcome, caught.value.stale) == (AttemptOutcome.ERROR, True)
        assert (fake.connections, len(fake.heads)) == (1, 2)


async def test_a_new_connection_that_ends_at_once_is_not_stale() -> None:
    async def close(writer: Writer) -> None:
        writer.close()

    async with pair(close) as (_fake, api):
        with pytest.raises(ProviderFailure) as caught:
            async with api.send(a_route(), BODY, stream=False):
                pytest.fail("there is no answer")
        assert not caught.value.stale


async def test_a_kept_connection_that_ends_within_a_head_is_not_stale() -> None:
    async def answer(writer: Writer) -> None:
        if len(fake.heads) == 1:
            writer.write(head(len(completion())) + completion())
        else:
            writer.write(b"HTTP/1.1 2")
            writer.close()

    async with pair(answer) as (fake, api):
        async with api.send(a_route(), BODY, stream=False) as first:
            await first.read()
        with pytest.raises(ProviderFailure) as caught:
            async with api.send(a_route(), BODY, stream=False):
                pytest.fail("there is no answer")
        assert (fake.connections, caught.value.stale) == (1, False)


async def test_many_kept_connections_that_end_at_once_cost_no_caller_its_answer() -> None:
    restarting = Restarting(CALLERS)
    settings = make_settings(routes=[route("only")], concurrent_workflows=2 * CALLERS)
    async with upstream(restarting.answer) as fake, provider(fake.port) as api:
        app = create_app(settings, store=MemoryStore(), providers={"fake": api})
        app.gateway.chance = lambda: 0.0  # all come back together: this upstream ends even a connection made meanwhile
        transport = httpx.ASGITransport(app)
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            app.running(),
            httpx.AsyncClient(transport=transport, base_url="http://g", headers=headers) as client,
        ):
            for attempts in (1, 2):
                asking = (client.post("/v1/chat/completions", json=make_body()) for _ in range(CALLERS))
                answers = await asyncio.gather(*asking)
                assert [answer.status_code for answer in answers] == [200] * CALLERS
                assert {answer.headers["x-flatfee-attempts"] for answer in answers} == {str(attempts)}
