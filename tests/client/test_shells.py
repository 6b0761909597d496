"""Clients as objects: opening, closing, copying, and the workflow scope."""

import logging
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
import respx

from flatfee import (
    APIConnectionError,
    AsyncClient,
    Client,
    ClientClosedError,
    ConfigurationError,
    RateLimitError,
    Receipt,
)


async def scoped(d: Any, scope: Any, body: Any) -> Any:
    """Run ``body`` inside the scope, as a caller of either kind would."""
    if d.kind == "sync":
        with scope as entered:
            return await body(entered)
    async with scope as entered:
        return await body(entered)


async def test_a_workflow_scope_marks_its_calls_and_releases_its_slot(driver: Any, answer: Any) -> None:
    d = driver(lambda r: httpx.Response(204) if r.method == "DELETE" else answer())

    async def body(workflow: Any) -> Any:
        await d.create(workflow)
        await d.create(workflow, workflow="other")
        await d.create()

    await scoped(d, d.client.workflow("run-42"), body)
    sent = [request.headers.get("x-flatfee-workflow") for request in d.requests]
    assert sent == ["run-42", "other", None, None]
    assert (d.requests[-1].method, d.requests[-1].url.path) == ("DELETE", "/v1/workflows/run-42")


async def test_a_workflow_without_an_id_gets_one(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer())
    one, other = d.client.workflow(), d.client.workflow()
    assert one.id.startswith("wf-")
    assert one.id != other.id


def test_a_bad_workflow_id_is_refused(driver: Any, answer: Any) -> None:
    with pytest.raises(ValueError, match="workflow is 'a b'"):
        driver(answer).client.workflow("a b")


async def test_a_release_that_fails_does_not_hide_what_happened_inside(driver: Any) -> None:
    def handle(request: Any) -> Any:
        raise httpx.ConnectError("no")

    d = driver(handle)

    async def body(_: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await scoped(d, d.client.workflow("run-42"), body)
    assert len(d.requests) == 1, "leaving does not wait for retries"


async def test_a_release_that_fails_is_told_to_the_log_alone(driver: Any, refuse: Any, caplog: Any) -> None:
    d = driver(refuse("rate_limited"))

    async def body(workflow: Any) -> Any:
        return workflow.id

    with caplog.at_level(logging.WARNING, "flatfee"):
        assert await scoped(d, d.client.workflow("run-42"), body) == "run-42"
    assert caplog.messages == ["workflow.release_failed workflow=run-42 error=RateLimitError"]


async def test_a_key_that_cannot_be_told_at_the_end_does_not_lose_what_a_scope_came_to(
    driver: Any, answer: Any, caplog: Any
) -> None:
    def key() -> str:
        if d.requests:
            raise ConnectionError("the key vault is away")
        return "k"

    d = driver(answer(), api_key=key)

    async def body(workflow: Any) -> Any:
        return await d.create(workflow)

    done = await scoped(d, d.client.workflow("run-42"), body)
    assert done.choices[0].message.content == "hi"
    assert caplog.messages == ["workflow.release_failed workflow=run-42 error=ConnectionError"]


async def test_a_client_closed_inside_a_scope_does_not_hide_what_happened(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer())

    async def body(_: Any) -> None:
        await d.wait(d.client.close())
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await scoped(d, d.client.workflow("run-42"), body)


async def test_releasing_a_workflow_that_never_began_is_silent(driver: Any, refuse: Any, caplog: Any) -> None:
    d = driver(refuse("not_found"))
    await d.wait(d.client.workflow("run-42").release())
    assert caplog.messages == []


async def test_a_passed_http_client_stays_open_and_the_flatfee_client_is_closed(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer())
    other = d.client.with_options(timeout=1)
    http_client = d.client._core.transport._given
    await d.wait(d.client.close())
    assert d.client.is_closed()
    assert other.is_closed(), "they share their connections"
    assert not http_client.is_closed
    with pytest.raises(ClientClosedError, match="This client is closed"):
        await d.create()
    assert d.waits == []


async def test_closing_closes_connections_of_our_own() -> None:
    with Client(api_key="k") as client:
        http_client = client._core.transport._pools.current(True)
        assert not client.is_closed()
    assert client.is_closed()
    assert http_client.is_closed
    async with AsyncClient(api_key="k") as aclient:
        ahttp_client = aclient._core.transport._pools.current(True)
    assert ahttp_client.is_closed
    await aclient.aclose()


async def test_options_change_a_copy_that_shares_the_transport(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer())
    other = d.client.with_options(
        api_key="other", base_url="http://b.test", default_headers={"X-A": "1"}, timeout=2, max_retries=0
    )
    await d.create(other)
    await d.create()
    assert type(other) is type(d.client)
    assert other._core.transport is d.client._core.transport
    assert (d.requests[0].url.host, d.requests[0].headers["x-a"]) == ("b.test", "1")
    assert d.requests[0].headers["authorization"] == "Bearer other"
    assert (d.requests[1].url.host, d.requests[1].headers.get("x-a")) == ("gateway.test", None)


async def test_options_change_a_copy_of_a_scope_that_stays_the_same_workflow(driver: Any, answer: Any) -> None:
    d = driver(lambda r: httpx.Response(204) if r.method == "DELETE" else answer(), default_query={"a": 1})
    scope = d.client.workflow("run-42")
    other = scope.with_options(default_query={"b": 2}, timeout=3)
    assert (type(other), other.id) == (type(scope), "run-42")
    await d.create(other)
    await d.create(scope)
    await d.wait(other.release())
    assert [request.url.query for request in d.requests] == [b"a=1&b=2", b"a=1", b"a=1&b=2"]
    assert [request.headers.get("x-flatfee-workflow") for request in d.requests[:2]] == ["run-42", "run-42"]


async def test_an_option_that_is_none_is_a_type_error(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer())
    for owner in (d.client, d.client.workflow("run-42")):
        with pytest.raises(TypeError, match="max_retires"):
            owner.with_options(max_retires=1)


async def test_a_key_may_be_awaited_on_every_try_by_the_client_that_can(driver: Any, refuse: Any) -> None:
    keys = iter("abc")

    async def key() -> str:
        return next(keys)

    d = driver(refuse("rate_limited"), api_key=key)
    with pytest.raises(ConfigurationError if d.kind == "sync" else RateLimitError) as caught:
        await d.create()
    sent = [request.headers["authorization"] for request in d.requests]
    assert sent == ([] if d.kind == "sync" else ["Bearer a", "Bearer b", "Bearer c"])
    assert d.kind == "async" or "must be awaited; use AsyncClient" in str(caught.value)


async def test_a_rotating_key_is_asked_for_on_every_try(driver: Any, refuse: Any) -> None:
    keys = iter("abc")
    d = driver(refuse("rate_limited"), api_key=lambda: next(keys))
    with pytest.raises(RateLimitError):
        await d.create()
    assert [request.headers["authorization"] for request in d.requests] == ["Bearer a", "Bearer b", "Bearer c"]


async def test_the_message_of_a_connection_error_tells_no_key_and_no_path(driver: Any) -> None:
    def handle(_: Any) -> Any:
        raise httpx.LocalProtocolError("Illegal header value b'Bearer ff_proj_secret'")

    d = driver(handle, max_retries=0)
    with pytest.raises(APIConnectionError) as caught:
        await d.wait(d.client.receipts.retrieve("req_private"))
    assert str(caught.value) == "The connection to http://gateway.test failed (LocalProtocolError)."


@respx.mock
async def test_respx_mocks_both_shells(answer: Any) -> None:
    route = respx.post("https://api.flatfee.one/v1/chat/completions").mock(side_effect=lambda _: answer())
    messages = [{"role": "user", "content": "hi"}]
    with Client(api_key="k") as client:
        assert Receipt.of(client.chat.completions.create(model="auto", messages=messages))
    async with AsyncClient(api_key="k") as aclient:
        assert Receipt.of(await aclient.chat.completions.create(model="auto", messages=messages))
    assert route.call_count == 2


async def test_an_asgi_application_can_stand_in_for_the_network() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> Any:
        headers = [(b"content-type", b"text/event-stream"), (b"x-flatfee-request-id", b"req_1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        event = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        await send({"type": "http.response.body", "body": event})

    http_client = httpx.AsyncClient(transport=httpx.ASGITransport(app))
    async with AsyncClient(api_key="k", base_url="http://gateway.test/v1", http_client=http_client) as client:
        stream = await client.chat.completions.create(model="auto", messages=[], stream=True)
        assert [chunk.choices[0].delta.content async for chunk in stream] == ["x"]
    await http_client.aclose()


def test_a_client_of_httpx2_works_and_its_exceptions_become_ours() -> None:
    httpx2 = pytest.importorskip("httpx2")

    class Mine(httpx2.Client):  # type: ignore[misc, name-defined]  # known at run time only
        """Frameworks pass subclasses."""

    def handle(request: Any) -> Any:
        if request.url.path.endswith("/usage"):
            raise httpx2.ReadTimeout("x")
        return httpx2.Response(200, json={"choices": []})

    with Mine(transport=httpx2.MockTransport(handle)) as http_client:
        client = Client(api_key="k", http_client=http_client, max_retries=0)
        assert client.chat.completions.create(model="auto", messages=[]).choices == []
        with pytest.raises(APIConnectionError):
            client.usage.retrieve()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_workflow_whose_task_is_cancelled_frees_its_slot(answer: Any) -> None:
    asked: list[str] = []

    async def handle(request: httpx.Request) -> httpx.Response:
        await anyio.lowlevel.checkpoint()  # a cancelled task comes no further than here
        asked.append(request.method)
        reply: httpx.Response = answer()
        return reply

    http = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    client = AsyncClient(api_key="k", base_url="http://g.test", http_client=http)
    with anyio.CancelScope() as given_up:
        async with client.workflow("run-42") as run:
            await run.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}])
            given_up.cancel()
            await anyio.sleep(60)
    assert given_up.cancelled_caught
    assert asked == ["POST", "DELETE"]
