"""Clients of ``httpx`` and of ``httpx2``, blocking and not, on asyncio and trio: what holds for one holds for all."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from flatfee import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncClient,
    Client,
    ClientClosedError,
    ConfigurationError,
    Timeout,
)

httpx2: Any = pytest.importorskip("httpx2")

pytestmark = pytest.mark.usefixtures("little_grace")

ASK: Any = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
KINDS = [
    pytest.param(library, kind, backend, id=f"{library.__name__}-{kind}-{backend}")
    for library in (httpx, httpx2)
    for kind, backend in (("Client", "asyncio"), ("AsyncClient", "asyncio"), ("AsyncClient", "trio"))
]
all_kinds = pytest.mark.parametrize(("library", "kind", "anyio_backend"), KINDS)


class Caller:
    """A flatfee client over one of the library's, whichever way it is called."""

    def __init__(self, http_client: Any, url: str, **options: Any) -> None:
        self.http_client = http_client
        options = {"api_key": "k", "base_url": url, "http_client": http_client, "max_retries": 0, **options}
        self.blocking = type(http_client).__name__ == "Client"
        self.client: Any = Client(**options) if self.blocking else AsyncClient(**options)

    async def create(self, **more: Any) -> Any:
        answer = self.client.chat.completions.create(**ASK, **more)
        return answer if self.blocking else await answer

    async def all(self, stream: Any) -> list[Any]:
        return list(stream) if self.blocking else [chunk async for chunk in stream]

    async def failure(self, **more: Any) -> APIError:
        with pytest.raises(APIError) as caught:
            await self.all(await self.create(**more))
        return caught.value


@asynccontextmanager
async def calling(library: Any, kind: str, url: str, **options: Any) -> AsyncIterator[Caller]:
    limits = library.Limits(max_connections=1)
    async with AsyncExitStack() as stack:
        http_client: Any = getattr(library, kind)(limits=limits, verify=False)
        await stack.enter_async_context(http_client) if kind == "AsyncClient" else stack.enter_context(http_client)
        yield Caller(http_client, url, **options)


@all_kinds
async def test_answers_and_streams(serve: Any, library: Any, kind: str) -> None:
    gateway = serve()
    async with calling(library, kind, gateway.url) as caller:
        assert (await caller.create()).choices[0].message.content == "hi"
        assert len(await caller.all(await caller.create(stream=True))) == 2
        assert (await caller.create(deadline=30.0)).choices
        assert len(await caller.all(await caller.create(stream=True, deadline=30.0))) == 2
    assert gateway.connections == 1


@all_kinds
async def test_every_limit_of_time(serve: Any, make_event: Any, make_chunk: Any, library: Any, kind: str) -> None:
    def stalls(peer: Any) -> None:
        peer.stream(make_event(content="a"))
        peer.drip(make_chunk(b":\n\n"))

    def silent(peer: Any) -> None:
        peer.wait()

    gateway = serve(stalls)
    async with calling(library, kind, gateway.url) as caller:
        stalled = await caller.failure(stream=True, timeout=Timeout(idle=0.05))
        assert ("(timeout: idle)" in str(stalled), stalled.partial) == (True, "a")
        assert "deadline of 0.02 seconds" in str(await caller.failure(stream=True, deadline=0.02))
        gateway.replies = [silent]
        assert "(timeout: first_token)" in str(await caller.failure(stream=True, timeout=Timeout(first_token=0.05)))
        assert "(ReadTimeout)" in str(await caller.failure(timeout=Timeout(read=0.05)))


@all_kinds
async def test_failures_of_the_library_become_ours(serve: Any, make_event: Any, library: Any, kind: str) -> None:
    def hangs_up(peer: Any) -> None:
        peer.stream(make_event(content="a"))
        peer.connection.close()

    gateway = serve(hangs_up)
    async with calling(library, kind, gateway.url) as caller:
        error = await caller.failure(stream=True)
        assert (type(error), error.partial) == (APIConnectionError, "a")
        stream = await caller.create(stream=True)
        full = await caller.failure(timeout=Timeout(pool=0.02))
        assert (type(full), "max_connections" in str(full)) == (APITimeoutError, True)
        await caller.all(stream) if stream._state.over else None
        stream.close() if caller.blocking else await stream.close()


@all_kinds
async def test_a_closed_client_is_named(serve: Any, library: Any, kind: str) -> None:
    async with calling(library, kind, serve().url) as caller:
        pass
    with pytest.raises(ClientClosedError):
        await caller.create()


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_client_of_the_other_kind_is_refused(library: Any) -> None:
    blocking, other = library.Client(verify=False), library.AsyncClient(verify=False)
    with pytest.raises(ConfigurationError, match=rf"{library.__name__}.*\.Client; pass an httpx\.AsyncClient or"):
        AsyncClient(api_key="k", http_client=blocking)
    with pytest.raises(ConfigurationError, match=r"\.AsyncClient; pass an httpx\.Client or httpx2\.Client"):
        Client(api_key="k", http_client=other)
    with pytest.raises(ConfigurationError, match="pass an"):
        Client(api_key="k", http_client=object())  # type: ignore[arg-type]  # that is the mistake
