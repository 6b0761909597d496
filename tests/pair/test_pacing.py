"""A swarm before a plan of two workflows: with pacing it slows down, without it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from flatfee import AsyncClient, Client, ConcurrencyLimitError, Pacing
from flatfee.cli.demo.gateway import DemoGateway
from flatfee.server.app import create_app
from flatfee.server.configuration import parse_settings
from flatfee.server.keys import KeyKind, new_key
from flatfee.server.providers.simulated import SimulatedProvider

from .conftest import CONFIGURATION, HELLO

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

TASKS = 30
SLOTS = 2
SERVICE = 0.02


class Thinking(SimulatedProvider):
    """A provider that takes a moment, so that calls meet."""

    @asynccontextmanager
    async def send(self, *args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        await asyncio.sleep(SERVICE)
        async with super().send(*args, **options) as answer:
            yield answer


class Counting(httpx.ASGITransport):
    """Counts the refusals on the wire."""

    refusals = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        self.refusals += response.status_code == 429
        return response


@asynccontextmanager
async def swarm(**options: Any) -> AsyncGenerator[tuple[AsyncClient, Counting], None]:
    key = new_key(KeyKind.PROJECT)
    settings = parse_settings(
        CONFIGURATION.replace("fair_use = 20000", "fair_use = 2000000"), source="it", env={"FLATFEE_DEMO_KEY": key}
    )
    app = create_app(settings, providers={"north": Thinking(), "south": Thinking()})
    transport = Counting(app)
    async with app.running(), httpx.AsyncClient(transport=transport) as http:
        yield AsyncClient(api_key=key, base_url="http://gateway.test/v1", http_client=http, **options), transport


async def plain(client: AsyncClient) -> str | None:
    return (await client.chat.completions.create(model="premium", messages=HELLO)).choices[0].finish_reason


async def streamed(client: AsyncClient) -> str | None:
    stream = await client.chat.completions.create(model="premium", messages=HELLO, stream=True)
    return [chunk.choices[0].finish_reason async for chunk in stream if chunk.choices][-1]


async def agent(client: AsyncClient) -> str | None:
    async with client.workflow() as run:
        await asyncio.gather(plain(run), streamed(run))  # type: ignore[arg-type]  # a scope has the client's surface
        return await plain(run)  # type: ignore[arg-type]


async def outcomes(client: AsyncClient, work: Callable[[AsyncClient], Coroutine[Any, Any, Any]]) -> list[Any]:
    return await asyncio.gather(*(work(client) for _ in range(TASKS)), return_exceptions=True)


@pytest.mark.pain(23)
@pytest.mark.parametrize("work", [plain, streamed, agent])
async def test_with_pacing_every_task_of_a_swarm_succeeds(work: Any) -> None:
    """Pain 23, layered retries: the wait is in one place, and each call is refused about once, however many wait."""
    async with swarm(max_retries=0, pacing=True) as (client, transport):
        assert await outcomes(client, work) == ["stop"] * TASKS
        sent_at_once = TASKS * (2 if work is agent else 1)
        assert transport.refusals <= sent_at_once + TASKS // 2
        assert client._core.config.pacing is not None
        pacing = client._core.config.pacing
        assert (pacing.waiting, pacing._line.slots_held) == (0, 0)
        live = (await client.workflows.list()).data
    assert live == []


async def test_without_pacing_most_of_it_fails() -> None:
    async with swarm(max_retries=0) as (client, _):
        found = await outcomes(client, plain)
    assert sum(isinstance(one, ConcurrencyLimitError) for one in found) == TASKS - SLOTS


def test_threads_and_their_workflows_wait_for_each_other(gateway: DemoGateway) -> None:
    pacing = Pacing(longest_wait=60.0)

    def run(_: int) -> str | None:
        with Client(api_key=gateway.key, base_url=gateway.url, max_retries=0, pacing=pacing) as client:
            with client.workflow() as scope:
                for _ in range(2):
                    completion = scope.chat.completions.create(model="economy", messages=HELLO)
            return completion.choices[0].finish_reason

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(16))) == ["stop"] * 16
    assert (pacing.waiting, pacing._line.slots_held) == (0, 0)
