"""A call that is given up, wherever it is, leaves nothing behind: one connection is all there is here.

Each test ends with ``serves``: the pool's only connection, or a new one in its place, serves the next call.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import httpx
import pytest

from flatfee import AsyncClient, Client, Timeout
from flatfee.integrations.httpx import AsyncReceiptTransport

ASK: Any = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
LIBRARIES = pytest.mark.parametrize("library", [httpx, pytest.importorskip("httpx2")], ids=["httpx", "httpx2"])
BACKENDS = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@asynccontextmanager
async def one_connection(gateway: Any, library: Any = httpx, **options: Any) -> AsyncIterator[AsyncClient]:
    async with (
        library.AsyncClient(limits=library.Limits(max_connections=1), verify=False) as http_client,
        AsyncClient(api_key="k", base_url=gateway.url, http_client=http_client, max_retries=0, **options) as client,
    ):
        yield client


async def serves(client: AsyncClient, gateway: Any) -> None:
    """Make one more call, plain and streamed; nothing of an earlier one may be in its way."""
    gateway.replies = [type(gateway.peers[0]).whole] if gateway.peers else gateway.replies
    limits = Timeout(pool=5.0)
    assert (await client.chat.completions.create(**ASK, timeout=limits)).choices
    stream = await client.chat.completions.create(**ASK, stream=True, timeout=limits)
    assert len([chunk async for chunk in stream]) == 2


async def reached(gateway: Any) -> None:
    """Wait until the gateway has a request, without holding the event loop."""
    await anyio.to_thread.run_sync(gateway.reached.wait, 30)


def stalls(peer: Any) -> None:
    peer.wait()


@pytest.fixture
def half(make_event: Any) -> Callable[[Any], None]:
    def reply(peer: Any) -> None:
        peer.stream(make_event(content="a"))
        peer.wait()

    return reply


@pytest.mark.pain(18)
@BACKENDS
@pytest.mark.parametrize("ask", [{}, {"stream": True}, {"deadline": 60.0}], ids=["plain", "stream", "deadline"])
async def test_cancelled_while_it_waits_for_headers(serve: Any, ask: Any) -> None:
    """Cancelled calls leaked slots of their pool, until it was empty."""
    gateway = serve(stalls)
    async with one_connection(gateway) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: client.chat.completions.create(**ASK, **ask))
            await reached(gateway)
            tasks.cancel_scope.cancel()
        await serves(client, gateway)


# ``httpcore`` drops the socket of a handshake that was cancelled; collecting it closes it, and warns.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@BACKENDS
async def test_cancelled_while_it_connects(serve: Any) -> None:
    """The gateway never speaks TLS, so the call is stuck in the handshake."""
    gateway = serve()
    async with one_connection(gateway) as client:
        secure = client.with_options(base_url=gateway.url.replace("http:", "https:"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: secure.chat.completions.create(**ASK))
            await anyio.to_thread.run_sync(gateway.wait_for, lambda: gateway.connections == 1)
            tasks.cancel_scope.cancel()
        gc.collect()
        await serves(client, gateway)


@BACKENDS
async def test_cancelled_while_it_waits_for_a_connection(serve: Any, half: Any) -> None:
    gateway = serve(half)
    async with one_connection(gateway) as client:
        stream = await client.chat.completions.create(**ASK, stream=True)
        with anyio.move_on_after(0.05):
            await client.chat.completions.create(**ASK)
        await stream.close()
        await serves(client, gateway)


@pytest.mark.pain(18)
@BACKENDS
@pytest.mark.parametrize("managed", [True, False], ids=["with", "without with"])
async def test_cancelled_inside_a_read(serve: Any, half: Any, managed: bool) -> None:
    gateway = serve(half)
    async with one_connection(gateway) as client:
        with anyio.CancelScope() as scope:
            stream = await client.chat.completions.create(**ASK, stream=True)
            async with AsyncExitStack() as stack:
                if managed:
                    await stack.enter_async_context(stream)
                async for _ in stream:
                    scope.deadline = anyio.current_time() + 0.02
        assert scope.cancelled_caught
        await serves(client, gateway)
        gateway.wait_for(lambda: gateway.peers[0].gone)


# trio tells of generators that are left half way, and ``httpx`` leaves its own; the connection is closed by then.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in. <async_generator object Response")
@BACKENDS
async def test_cancelled_between_reads_inside_with(serve: Any, half: Any) -> None:
    """Closing happens under a scope that is cancelled already."""
    gateway = serve(half)
    async with one_connection(gateway) as client:
        with anyio.CancelScope() as scope:
            async with await client.chat.completions.create(**ASK, stream=True) as stream:
                async for _ in stream:
                    scope.cancel()
                    await anyio.sleep(60)
        await serves(client, gateway)


async def test_cancelled_between_reads_without_with(serve: Any, half: Any) -> None:
    """Nobody closes the stream, so its event loop does when the stream is dropped."""
    gateway = serve(half)

    async def left(client: AsyncClient) -> None:
        async for _ in await client.chat.completions.create(**ASK, stream=True):
            await anyio.sleep(60)

    async with one_connection(gateway) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(left, client)
            await reached(gateway)
            tasks.cancel_scope.cancel()
        await serves(client, gateway)


@BACKENDS
async def test_cancelled_while_it_waits_to_try_again(serve: Any) -> None:
    asleep = anyio.Event()

    async def sleep(_: float) -> None:
        asleep.set()
        await anyio.sleep(60)

    gateway = serve(lambda peer: peer.send(b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n"))
    async with one_connection(gateway, sleep=sleep) as client, anyio.create_task_group() as tasks:
        again = client.with_options(max_retries=1)
        tasks.start_soon(lambda: again.chat.completions.create(**ASK))
        await asleep.wait()
        tasks.cancel_scope.cancel()
    async with one_connection(gateway) as client:
        await serves(client, gateway)


@BACKENDS
async def test_cancelled_while_it_drains(serve: Any, make_event: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("flatfee.client.bodies.LONGEST_DRAIN", 60.0)

    def reply(peer: Any) -> None:
        peer.stream(make_event("stop", content="a"), b"e\r\ndata: [DONE]\n\n\r\n")
        peer.wait()

    gateway = serve(reply)
    async with one_connection(gateway) as client:
        with anyio.move_on_after(0.1) as scope:
            async for _ in await client.chat.completions.create(**ASK, stream=True):
                pass
        assert scope.cancelled_caught
        await serves(client, gateway)


@pytest.mark.pain(18)
@pytest.mark.parametrize("rounds", range(6))
@pytest.mark.parametrize("where", ["headers", "read", "close"])
@LIBRARIES
async def test_cancelled_twice(serve: Any, half: Any, library: Any, where: str, rounds: int) -> None:
    """The second ``task.cancel()`` met the cleaning up after the first, and went through every shield.

    It comes after any number of turns of the event loop.
    """
    gateway = serve(stalls if where == "headers" else half)

    async def call(client: AsyncClient) -> None:
        async with await client.chat.completions.create(**ASK, stream=True) as stream:
            async for _ in stream:
                if where == "close":
                    break

    async with one_connection(gateway, library) as client:
        task = asyncio.ensure_future(call(client))
        await reached(gateway)
        if where != "headers":
            await anyio.sleep(0.02)
        for _ in range(2):
            task.cancel()
            for _ in range(rounds):
                await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await task
        await serves(client, gateway)


async def cancelled_in_its_turn(client: AsyncClient, rounds: int) -> None:
    """Cancel a call about when the connection that it waits for becomes free."""
    stream = await client.chat.completions.create(**ASK, stream=True)
    waiting = asyncio.ensure_future(client.chat.completions.create(**ASK))
    await anyio.sleep(0.01)
    closing = asyncio.ensure_future(stream.close())
    for _ in range(rounds):
        await asyncio.sleep(0)
    waiting.cancel()
    await closing
    with suppress(asyncio.CancelledError):
        await waiting


@pytest.mark.pain(18)
@pytest.mark.parametrize("rounds", range(5))
@LIBRARIES
async def test_cancelled_when_its_turn_for_a_connection_comes(serve: Any, half: Any, library: Any, rounds: int) -> None:
    """A call that was given a connection in the very moment of its cancellation kept it for good."""
    gateway = serve(half)
    async with one_connection(gateway, library) as client:
        await cancelled_in_its_turn(client, rounds)
        await serves(client, gateway)


@pytest.mark.parametrize("rounds", range(5))
async def test_so_it_is_behind_a_transport_that_looks_for_receipts(serve: Any, half: Any, rounds: int) -> None:
    gateway = serve(half)
    pool = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1), verify=False)
    async with (
        httpx.AsyncClient(transport=AsyncReceiptTransport(pool)) as http_client,
        AsyncClient(api_key="k", base_url=gateway.url, http_client=http_client, max_retries=0) as client,
    ):
        await cancelled_in_its_turn(client, rounds)
        await serves(client, gateway)


@BACKENDS
async def test_a_deadline_does_not_swallow_a_cancellation_from_outside(serve: Any) -> None:
    gateway = serve(stalls)
    async with one_connection(gateway) as client:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: client.chat.completions.create(**ASK, deadline=60.0))
                await reached(gateway)
                scope.cancel()
        assert scope.cancelled_caught
        await serves(client, gateway)


async def test_wait_for_and_a_task_cancelled_by_hand_under_a_deadline(serve: Any) -> None:
    gateway = serve(stalls)
    async with one_connection(gateway) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.chat.completions.create(**ASK, deadline=60.0), 0.05)
        task = asyncio.ensure_future(client.chat.completions.create(**ASK, deadline=60.0))
        await anyio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await serves(client, gateway)


# Streams that are dropped


@pytest.mark.pain(14)
@pytest.mark.parametrize("begun", [True, False])
async def test_a_dropped_stream_gives_its_connection_back(serve: Any, half: Any, begun: bool) -> None:
    """No network in ``__del__``, and no loop that is closed by then: the loop itself closes the stream."""
    gateway = serve(half)
    async with one_connection(gateway) as client:
        stream = await client.chat.completions.create(**ASK, stream=True)
        if begun:
            async for _ in stream:
                break
        del stream
        gc.collect()
        await anyio.to_thread.run_sync(gateway.wait_for, lambda: gateway.peers[0].gone)
        await serves(client, gateway)


@pytest.mark.pain(14)
@pytest.mark.parametrize("begun", [True, False])
def test_so_it_does_without_coroutines(serve: Any, half: Any, begun: bool) -> None:
    gateway = serve(half)
    with httpx.Client(limits=httpx.Limits(max_connections=1), verify=False) as http_client:
        client = Client(api_key="k", base_url=gateway.url, http_client=http_client)
        stream = client.chat.completions.create(**ASK, stream=True)
        if begun:
            next(stream)
        del stream
        gateway.wait_for(lambda: gateway.peers[0].gone)
        gateway.replies = [type(gateway.peers[0]).whole]
        assert client.chat.completions.create(**ASK, timeout=Timeout(pool=5.0)).choices


@pytest.mark.pain(14)
def test_a_stream_that_outlives_its_loop_is_silent(serve: Any, half: Any, capfd: Any) -> None:
    """``RuntimeError: Event loop is closed`` was printed at exit, long after the loop's end."""
    kept: list[Any] = []

    async def main() -> None:
        client = AsyncClient(api_key="k", base_url=serve(half).url)
        kept.append(await client.chat.completions.create(**ASK, stream=True))
        async for _ in kept[0]:
            break

    asyncio.run(main())
    kept.clear()
    gc.collect()
    assert capfd.readouterr().err == ""


# Streams that are read to their end


@pytest.mark.pain(24)
@BACKENDS
async def test_after_done_the_same_connection_serves_the_next_call(serve: Any) -> None:
    """Streams pinned their connections, and closing one was a coroutine that wrappers never awaited."""
    gateway = serve()
    async with one_connection(gateway) as client:
        for closing in ("close", "aclose"):
            stream = await client.chat.completions.create(**ASK, stream=True)
            assert len([chunk async for chunk in stream]) == 2
            assert stream.response.is_closed
            await getattr(stream, closing)()
        await serves(client, gateway)
    assert gateway.connections == 1
