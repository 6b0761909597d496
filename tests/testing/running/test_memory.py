"""Without a socket the gateway is the same: answers, streams, limits, disconnects and errors as over the network."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import httpx
import httpx2
import openai
import pytest
from tests.testing.fakes import HELLO, Gate, held, play, said, stream, until

import flatfee
from flatfee.testing import Edge, ScriptedGateway, running_gateway
from flatfee.testing.gateway import make_gateway
from flatfee.testing.running.visits import END, Visit

ON_BOTH = pytest.mark.parametrize(
    "run", [partial(anyio.run, backend=name) for name in ("asyncio", "trio")], ids=["asyncio", "trio"]
)
BODY = {"model": "premium", "messages": HELLO}


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with running_gateway(socket=False) as gateway:
        yield gateway


@pytest.fixture
def http(gateway: ScriptedGateway) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {gateway.api_key}"}
    with httpx.Client(transport=gateway.transport(), base_url=gateway.base_url, headers=headers) as client:
        yield client


def ahttp(gateway: ScriptedGateway, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {gateway.api_key}"}
    return httpx.AsyncClient(
        transport=transport or gateway.async_transport(), base_url=gateway.base_url, headers=headers
    )


def last_receipt(gateway: ScriptedGateway) -> dict[str, Any]:
    with gateway.client() as client:
        return client.receipts.list(limit=1).data[0].model_dump()


def test_without_a_socket_there_is_no_port(gateway: ScriptedGateway) -> None:
    assert gateway.base_url == "http://gateway/v1"
    with pytest.raises(flatfee.APIConnectionError), flatfee.Client(**_account(gateway), max_retries=0) as client:
        client.models.list()


def test_a_client_in_memory_gets_answers_and_streams(gateway: ScriptedGateway) -> None:
    client = gateway.client()
    answered = client.chat.completions.create(model="premium", messages=HELLO)
    assert answered.receipt is not None
    assert answered.receipt.route == "premium-a"
    with client.chat.completions.create(model="premium", messages=HELLO, stream=True) as events:
        assert sum(len(event.choices) for event in events) > 2


@ON_BOTH
def test_coroutines_get_answers_and_streams(gateway: ScriptedGateway, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with gateway.async_client() as client:
            answered = await client.chat.completions.create(model="premium", messages=HELLO)
            assert answered.receipt is not None
            events = await client.chat.completions.create(model="premium", messages=HELLO, stream=True)
            assert len([event async for event in events]) > 2

    run(main)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_openai_python_takes_the_transport(gateway: ScriptedGateway, library: Any) -> None:
    http = library.Client(transport=gateway.transport())
    with openai.OpenAI(**_account(gateway), http_client=http) as client:
        answered = client.chat.completions.create(model="premium", messages=[{"role": "user", "content": "Hello"}])
        assert answered.choices[0].finish_reason == "stop"


def test_coroutines_of_openai_python_take_the_transport(gateway: ScriptedGateway) -> None:
    async def main() -> None:
        http: Any = gateway.async_transport()
        async with openai.AsyncOpenAI(**_account(gateway), http_client=httpx2.AsyncClient(transport=http)) as client:
            events = await client.chat.completions.create(
                model="premium", messages=[{"role": "user", "content": "Hello"}], stream=True
            )
            assert [event.choices[0].finish_reason async for event in events if event.choices][-1] == "stop"

    asyncio.run(main())


def test_what_goes_wrong_is_told_in_the_words_of_the_callers_library(gateway: ScriptedGateway) -> None:
    http: Any = gateway.transport()
    gateway.script(Edge.lost())
    with httpx2.Client(transport=http) as client, pytest.raises(httpx2.RemoteProtocolError):
        client.post(f"{gateway.base_url}/chat/completions", json={})


def test_a_gateway_on_a_socket_can_be_reached_in_memory_too() -> None:
    with running_gateway() as gateway:
        receipts = [
            gateway.client(memory=memory).chat.completions.create(model="premium", messages=HELLO).receipt
            for memory in (False, True)
        ]
    first, second = (receipt.fair_use.remaining for receipt in receipts if receipt and receipt.fair_use)
    assert first is not None
    assert second is not None
    assert second < first


def test_a_stream_comes_part_by_part(gateway: ScriptedGateway, http: httpx.Client) -> None:
    gate = Gate()
    play(gateway, premium_a=stream(said("one"), _hold(gate), said("two")))
    with gate, http.stream("POST", "chat/completions", json=BODY | {"stream": True}) as response:
        parts = response.iter_raw()
        assert b"one" in next(parts)
        gate.open()
        assert b"two" in b"".join(parts)


def test_who_does_not_read_holds_the_provider_up(gateway: ScriptedGateway, http: httpx.Client) -> None:
    passed = Counting()
    play(gateway, premium_a=stream(*[piece for _ in range(200) for piece in (said("x" * 1000), _hold(passed))]))
    with http.stream("POST", "chat/completions", json=BODY | {"stream": True}) as response:
        parts = response.iter_raw()
        next(parts)
        until(lambda: gateway._inside.front.traffic.talking == 1)
        assert passed.count < 40
        assert b"".join(parts).count(b"x" * 1000) == 199
    assert passed.count == 200


def test_leaving_early_is_a_disconnect(gateway: ScriptedGateway, http: httpx.Client) -> None:
    play(gateway, premium_a=stream(said("one"), _hold(Gate())))
    with http.stream("POST", "chat/completions", json=BODY | {"stream": True}) as response:
        next(response.iter_raw())
    until(lambda: not gateway._inside.gateway.active)
    receipt = last_receipt(gateway)
    assert receipt["state"] == "estimated"
    assert receipt["attempts"][0]["outcome"] == "cancelled"
    assert gateway.journal[0].ending == "left"


def test_leaving_a_stream_that_nobody_reads_ends_it(gateway: ScriptedGateway, http: httpx.Client) -> None:
    play(gateway, premium_a=stream(*[said("x" * 1000)] * 200))
    with http.stream("POST", "chat/completions", json=BODY | {"stream": True}):
        until(lambda: gateway._inside.front.traffic.talking == 1)
    until(lambda: not gateway._inside.gateway.active)


@ON_BOTH
def test_a_cancelled_request_is_a_disconnect(gateway: ScriptedGateway, run: Callable[..., None]) -> None:
    gate = Gate()
    play(gateway, premium_a=held(gate))

    async def main() -> None:
        async with ahttp(gateway) as http, anyio.create_task_group() as group:
            group.start_soon(lambda: http.post("chat/completions", json=BODY))
            await anyio.to_thread.run_sync(until, lambda: gate.waited_at)
            group.cancel_scope.cancel()

    run(main)
    until(lambda: not gateway._inside.gateway.active)


def test_the_limit_of_a_read_is_kept(gateway: ScriptedGateway, http: httpx.Client) -> None:
    gate = Gate()
    play(gateway, premium_a=held(gate))
    with pytest.raises(httpx.ReadTimeout), gate:
        http.post("chat/completions", json=BODY, timeout=0.01)


@ON_BOTH
def test_a_coroutines_limit_of_a_read_is_kept(gateway: ScriptedGateway, run: Callable[..., None]) -> None:
    gate = Gate()
    play(gateway, premium_a=stream(said("one"), _hold(gate)))

    async def main() -> None:
        async with ahttp(gateway) as http:
            with pytest.raises(httpx.ReadTimeout):
                async with http.stream("POST", "chat/completions", json=BODY | {"stream": True}, timeout=0.2) as got:
                    await got.aread()

    with gate:
        run(main)


@pytest.mark.parametrize(
    ("sent", "error"),
    [(None, httpx.RemoteProtocolError), (b"half", httpx.RemoteProtocolError), (OSError("reset"), httpx.ReadError)],
)
def test_an_answer_that_breaks_off_is_an_error_of_httpx(
    gateway: ScriptedGateway, http: httpx.Client, sent: bytes | OSError | None, error: type[Exception]
) -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        if isinstance(sent, OSError):
            raise sent
        if sent is not None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": sent, "more_body": True})

    gateway.serve_beside("broken", breaks)
    with pytest.raises(error):
        http.get("http://gateway/broken")


def test_who_is_served_when_the_gateway_ends_is_told(gateway: ScriptedGateway) -> None:
    with running_gateway(socket=False) as ending:
        gate = Gate()
        play(ending, premium_a=held(gate))
        outcome: list[object] = []

        def ask() -> None:
            try:
                outcome.append(ending.client(max_retries=0).chat.completions.create(model="premium", messages=HELLO))
            except flatfee.APIError as error:
                outcome.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: gate.waited_at)
    asking.join(60)
    assert isinstance(outcome[0], flatfee.APIError)
    with pytest.raises(httpx.ConnectError), httpx.Client(transport=ending.transport()) as late:
        late.get(ending.base_url)


def test_who_is_cut_off_before_being_served_is_told(gateway: ScriptedGateway) -> None:
    memory = gateway._built.memory
    visit = Visit(memory.front, memory.thread.loop, {}, b"")

    async def at_once() -> None:
        await memory._serve(visit)
        await memory.close()

    gateway.run(at_once())
    assert visit.pipe.take(lambda: None) is END


def test_who_comes_as_the_gateway_goes_down_is_not_served(gateway: ScriptedGateway) -> None:
    memory = gateway._built.memory
    asked = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/health/live", "query_string": b""}
    visit = Visit(memory.front, memory.thread.loop, {**asked, "headers": [(b"host", b"gateway")]}, b"")

    async def come() -> None:
        await memory._serve(visit)
        await asyncio.wait([*memory.visits])

    with gateway.down():
        gateway.run(come())
        assert visit.pipe.take(lambda: None) is END


def test_whoever_comes_while_a_gateway_ends_is_told(caplog: pytest.LogCaptureFixture) -> None:
    ending = make_gateway(socket=False)
    served = threading.Semaphore(0)

    def ask_until_it_has_ended() -> None:
        with httpx.Client(transport=ending.transport(), timeout=None) as http, suppress(httpx.TransportError):
            while True:
                http.get(f"{ending.base_url}/models", headers={"authorization": f"Bearer {ending.api_key}"})
                served.release()

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask_until_it_has_ended) for _ in range(4)]
        for _ in range(20):
            served.acquire()
        ending.close()
        for each in asking:
            each.result(60)
    assert caplog.records == []


def test_an_ended_client_is_closed_with_its_gateway() -> None:
    with running_gateway(socket=False) as gateway:
        client = gateway.client()
    assert client.is_closed()


@ON_BOTH
def test_the_asgi_app_serves_from_the_callers_event_loop(gateway: ScriptedGateway, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with ahttp(gateway, httpx.ASGITransport(gateway.asgi)) as http:
            answered = await http.post("chat/completions", json=BODY)
            assert answered.json()["flatfee"]["lane"] == "premium"
            streamed = await http.post("chat/completions", json=BODY | {"stream": True})
            assert streamed.text.endswith("data: [DONE]\n\n")
            assert (await http.get("models")).status_code == 200

    run(main)


def test_the_asgi_app_says_yes_to_the_lifespan_and_no_to_what_is_too_large(gateway: ScriptedGateway) -> None:
    said_so: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        said_so.append(message)

    async def receive() -> Any:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": bytes(12 << 20), "more_body": True}

    async def main() -> None:
        await gateway.asgi({"type": "lifespan"}, receive, send)
        request = httpx.Request("POST", "http://gateway/v1/chat/completions")
        scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": request.url.path, "query_string": b""}
        key = (b"authorization", f"Bearer {gateway.api_key}".encode())
        await gateway.asgi(scope | {"headers": [(b"host", b"gateway"), key]}, receive, send)

    asyncio.run(main())
    assert [message["type"] for message in said_so[:2]] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert said_so[2]["status"] == 413


@ON_BOTH
def test_who_leaves_the_asgi_app_leaves_the_gateway(gateway: ScriptedGateway, run: Callable[..., None]) -> None:
    gate = Gate()
    play(gateway, premium_a=held(gate))

    async def main() -> None:
        async with ahttp(gateway, httpx.ASGITransport(gateway.asgi)) as http:
            with anyio.move_on_after(0.05):
                await http.post("chat/completions", json=BODY)

    run(main)
    until(lambda: not gateway._inside.gateway.active)


def test_a_retry_is_waited_for_by_the_gateways_clock(gateway: ScriptedGateway) -> None:
    gateway.account.set(workflow_idle=30.0, concurrent_workflows=1)
    gateway.workflows.hold("other")
    began = time.monotonic()
    before = gateway.now
    answered = gateway.client(max_retries=3).chat.completions.create(model="premium", messages=HELLO)
    assert answered.receipt is not None
    assert (gateway.now - before).total_seconds() >= 29
    assert time.monotonic() - began < 29


@ON_BOTH
def test_a_coroutines_retry_is_waited_for_by_the_gateways_clock(
    gateway: ScriptedGateway, run: Callable[..., None]
) -> None:
    gateway.account.set(workflow_idle=30.0, concurrent_workflows=1)
    gateway.workflows.hold("other")

    async def main() -> None:
        async with gateway.async_client() as client:
            await client.chat.completions.create(model="premium", messages=HELLO)

    run(main)
    assert [each.id for each in gateway.workflows.active] == []


def test_virtual_sleep_counts_against_a_clients_deadline(gateway: ScriptedGateway) -> None:
    gateway.account.set(workflow_idle=3600.0, concurrent_workflows=1)
    gateway.workflows.hold("other")
    client = gateway.client(retry=flatfee.RetryPolicy(max_retries=100, longest_retry_after=3600))
    with pytest.raises(flatfee.ConcurrencyLimitError):
        client.chat.completions.create(model="premium", messages=HELLO, deadline=100)


class Counting:
    """A gate that lets everybody pass, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    async def passed(self) -> None:
        self.count += 1


def _hold(gate: Any) -> Any:
    from flatfee.testing.scripting.played import Held

    return Held(gate)


def _account(gateway: ScriptedGateway) -> dict[str, Any]:
    return {"api_key": gateway.api_key, "base_url": gateway.base_url}
