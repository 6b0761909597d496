"""Connections stay where they were made: event loops, threads, processes; and many clients cost little."""

import asyncio
import gc
import os
import ssl
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest

import flatfee
from flatfee import APITimeoutError, AsyncClient, Client, ConfigurationError, Timeout
from flatfee.client.pools import mend

ASK: Any = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
SOURCES = {"PYTHONPATH": str(Path(flatfee.__file__).parents[1]), "PYTHONWARNINGS": "error"}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not used


linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors as Linux shows them")


# Event loops


class LostConnection:
    """A connection of a pool that no request uses, and that is not idle: a cancelled one left it behind."""

    def __init__(self) -> None:
        self.closed = anyio.Event()

    def is_idle(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self.closed.is_set()

    async def aclose(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_connection_that_was_lost_is_closed_by_whichever_loop_runs() -> None:
    lost = LostConnection()
    pool = SimpleNamespace(_requests=[], _connections=[lost], _assign_requests_to_connections=list)
    client = SimpleNamespace(_transport_for_url=lambda _: SimpleNamespace(_pool=pool))
    mend(client, httpx.Request("GET", "http://g.test"))
    with anyio.fail_after(30):
        await lost.closed.wait()
    assert pool._connections == []


@pytest.mark.pain(14)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_client_serves_many_event_loops(serve: Any, backend: str) -> None:
    """A global client was bound to its first loop: "Event loop is closed" on the second ``asyncio.run``."""
    gateway = serve()
    client = AsyncClient(api_key="k", base_url=gateway.url)

    async def main() -> None:
        for _ in range(2):
            assert (await client.chat.completions.create(**ASK)).choices

    for count in (1, 2, 3):
        anyio.run(main, backend=backend)
        assert gateway.connections == count, "one for each loop"
        gateway.wait_for(lambda: gateway.open == 0)


def test_loops_of_several_threads_share_a_client(serve: Any) -> None:
    gateway = serve()
    client = AsyncClient(api_key="k", base_url=gateway.url)

    async def main() -> int:
        answers = await asyncio.gather(*(client.chat.completions.create(**ASK) for _ in range(3)))
        return len(answers)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: asyncio.run(main()), range(8))) == [3] * 8
    gateway.wait_for(lambda: gateway.open == 0)


def test_a_loop_that_is_closed_without_ceremony_is_forgotten(serve: Any) -> None:
    """Whoever runs a loop by hand may leave its sockets to the garbage collector; the client goes on elsewhere."""
    gateway = serve()
    client = AsyncClient(api_key="k", base_url=gateway.url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(3):
            loop = asyncio.new_event_loop()
            assert loop.run_until_complete(client.chat.completions.create(**ASK)).choices
            loop.close()
            assert len(client._core.transport._pools._clients) == 1
        del client
        gc.collect()
    gateway.wait_for(lambda: gateway.open == 0)


async def test_closing_a_client_on_one_loop_lets_the_others_close_theirs(serve: Any) -> None:
    gateway = serve()
    client = AsyncClient(api_key="k", base_url=gateway.url)
    ready, closed = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        await client.chat.completions.create(**ASK)
        ready.set()
        await anyio.to_thread.run_sync(closed.wait, 30)
        while gateway.open:  # noqa: ASYNC110 - the gateway runs in threads, and this loop has work to do
            await anyio.sleep(0.005)

    other = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    other.start()
    await anyio.to_thread.run_sync(ready.wait, 30)
    await client.chat.completions.create(**ASK)
    assert gateway.open == 2
    await client.close()
    closed.set()
    await anyio.to_thread.run_sync(other.join, 30)
    assert gateway.open == 0


async def test_a_dropped_client_is_closed_by_its_loop(serve: Any) -> None:
    gateway = serve()
    client = AsyncClient(api_key="k", base_url=gateway.url)
    await client.chat.completions.create(**ASK)
    del client
    gc.collect()
    await anyio.to_thread.run_sync(gateway.wait_for, lambda: gateway.open == 0)


# Threads


def test_threads_share_a_client(serve: Any) -> None:
    gateway = serve()
    barrier = threading.Barrier(8)

    def work(_: int) -> int:
        barrier.wait(30)
        plain = [client.chat.completions.create(**ASK) for _ in range(3)]
        streams = [list(client.chat.completions.create(**ASK, stream=True)) for _ in range(3)]
        return len(plain) + sum(map(len, streams))

    with Client(api_key="k", base_url=gateway.url) as client, ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(8))) == [9] * 8
    assert gateway.connections <= 8
    gateway.wait_for(lambda: gateway.open == 0)


# Many clients


@linux
@pytest.mark.pain(2)
async def test_a_thousand_clients_made_and_dropped_leave_nothing(serve: Any) -> None:
    """A client per request leaked sockets, and each had certificates of its own: 31 ms and 0.8 MB apiece."""
    gateway = serve()
    await one_call_each(gateway)
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    made = [Client(api_key="k") for _ in range(500)] + [AsyncClient(api_key="k") for _ in range(500)]
    for client in made:
        assert client._core.transport._pools.current(True)
    assert descriptors() <= before
    assert threading.active_count() <= threads
    del client, made
    for _ in range(20):
        await one_call_each(gateway)
    gc.collect()
    await anyio.to_thread.run_sync(gateway.wait_for, lambda: gateway.open == 0)
    with anyio.fail_after(30):
        while descriptors() > before:  # noqa: ASYNC110 - the operating system tells nobody
            await anyio.sleep(0.005)


async def one_call_each(gateway: Any) -> None:
    assert Client(api_key="k", base_url=gateway.url).chat.completions.create(**ASK).choices
    assert (await AsyncClient(api_key="k", base_url=gateway.url).chat.completions.create(**ASK)).choices


@pytest.mark.pain(2)
def test_options_and_workflows_share_one_pool(serve: Any) -> None:
    """``with_options`` made a client, and a pool, for each call."""
    gateway = serve()
    with Client(api_key="k", base_url=gateway.url) as client:
        for timeout in (1.0, 2.0, 3.0):
            assert client.with_options(timeout=timeout).chat.completions.create(**ASK).choices
        assert client.workflow("run-1").chat.completions.create(**ASK).choices
        assert gateway.connections == 1


@pytest.mark.pain(2)
def test_all_clients_trust_by_one_context(monkeypatch: Any, tmp_path: Path) -> None:
    """Each setting of the environment has one; a client for plain HTTP reads no certificates at all."""
    loaded: list[str | None] = []
    load = ssl.SSLContext.load_verify_locations

    def counted(self: Any, cafile: Any = None, *more: Any) -> None:
        loaded.append(cafile)
        load(self, cafile, *more)

    def context_of(client: Any, secure: bool) -> Any:
        return client._core.transport._pools.current(secure)._transport._pool._ssl_context

    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    flatfee.client.http._certificates.cache_clear()
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", counted)
    clients = [Client(api_key="k") for _ in range(5)]
    assert len({id(context_of(client, False)) for client in clients}) == 1
    assert loaded == []
    contexts = {id(context_of(client, True)) for client in clients}
    with flatfee.DefaultHttpxClient() as http_client:
        contexts.add(id(http_client._transport._pool._ssl_context))  # type: ignore[attr-defined]  # no public name
    assert (len(contexts), len(loaded)) == (1, 1)
    mine = tmp_path / "ca.pem"
    mine.write_bytes(Path(loaded[0] or "").read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(mine))
    assert id(context_of(Client(api_key="k"), True)) not in contexts
    assert loaded[1:] == [str(mine)]


@pytest.mark.pain(3)
async def test_a_full_pool_tells_the_cure(serve: Any, make_event: Any) -> None:
    """One client for the whole program ran into ``PoolTimeout``, which named neither cause nor cure."""

    def reply(peer: Any) -> None:
        peer.stream(make_event(content="a"))
        peer.wait()

    gateway = serve(reply)
    few = flatfee.DefaultAsyncHttpxClient(limits=httpx.Limits(max_connections=1))
    async with few, AsyncClient(api_key="k", base_url=gateway.url, http_client=few, max_retries=0) as client:
        stream = await client.chat.completions.create(**ASK, stream=True)
        with pytest.raises(APITimeoutError, match=r"became free in time .*max_connections"):
            await client.chat.completions.create(**ASK, timeout=Timeout(pool=0.02))
        await stream.close()


@pytest.mark.pain(3)
def test_a_client_of_our_own_holds_a_thousand_calls_at_once() -> None:
    pool = Client(api_key="k")._core.transport._pools.current(False)._transport._pool
    assert (pool._max_connections, pool._max_keepalive_connections) == (1000, 100)


def test_a_certificate_file_that_is_not_there_is_named(monkeypatch: Any) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with (
        Client(api_key="k") as client,
        pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE is .*/no/such/file\.pem"),
    ):
        client.usage.retrieve()


# Processes


FORKED = """
import os, sys, threading
import flatfee

client = flatfee.Client(api_key="k", base_url=sys.argv[1])
ask = dict(model="auto", messages=[{"role": "user", "content": "hi"}])
stream = client.chat.completions.create(**ask, stream=True)
next(stream)
assert client.chat.completions.create(**ask).choices
child = os.fork()
assert client.chat.completions.create(**ask).choices
assert len(list(stream)) == 1 if child else True
if child:
    _, status = os.waitpid(child, 0)
    assert client.chat.completions.create(**ask).choices
    client.close()
    sys.exit(os.waitstatus_to_exitcode(status))
client.close()
"""

FORKED_LOOP = """
import asyncio, os, sys
import flatfee

client = flatfee.AsyncClient(api_key="k", base_url=sys.argv[1])

async def main():
    ask = dict(model="auto", messages=[{"role": "user", "content": "hi"}])
    for _ in range(2):
        assert (await client.chat.completions.create(**ask)).choices

asyncio.run(main())
child = os.fork()
asyncio.run(main())
if child:
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
"""

TOGETHER = """
import sys, threading

def work():
    barrier.wait()
    import flatfee
    client = flatfee.Client(api_key="k", base_url=sys.argv[1])
    answer = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}])
    done.append(answer.choices[0].message.content)
    client.close()

barrier, done = threading.Barrier(32), []
threads = [threading.Thread(target=work, daemon=True) for _ in range(32)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
sys.exit(0 if done == ["hi"] * 32 else "stuck")
"""


def run(code: str, gateway: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code, gateway.url], env=SOURCES, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.processes
def test_a_child_makes_connections_of_its_own(serve: Any) -> None:
    """Neither process writes to a socket of the other, and a stream of the parent goes on."""
    gateway = serve()
    run(FORKED, gateway)
    assert (gateway.connections, len(gateway.peers)) == (3, 5)


@pytest.mark.processes
def test_so_it_does_with_coroutines(serve: Any) -> None:
    gateway = serve()
    run(FORKED_LOOP, gateway)
    assert gateway.connections == 3


@pytest.mark.processes
@pytest.mark.pain(25)
def test_threads_that_begin_together_do_not_wait_for_each_other_for_ever(serve: Any) -> None:
    """Modules that are imported when first used deadlocked in threads that used them first at once."""
    run(TOGETHER, serve())
