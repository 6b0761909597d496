"""The adapter on a socket: where it sends, what it keeps of an answer, what it does with one that is none."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr
from tests.server.fakes_upstream import BODY, a_route, chunked, head, say, upstream, whole
from tests.server.providers.anthropic.fake_messages import Says, text

from flatfee.server.answers.reshape import as_completion
from flatfee.server.providers import base, http
from flatfee.server.providers.anthropic import provider as module
from flatfee.server.providers.anthropic.answer import as_completion as as_message
from flatfee.server.providers.anthropic.provider import AnthropicProvider
from flatfee.server.providers.anthropic.request import read_request
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.providers.registry import make_providers
from flatfee.server.settings import ProviderSettings

ERROR = json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}).encode()


@asynccontextmanager
async def provider(port: int, path: str = "", key: str | None = "secret") -> AsyncGenerator[AnthropicProvider, None]:
    settings = ProviderSettings(
        name="a",
        kind="anthropic",
        base_url=f"http://127.0.0.1:{port}{path}",
        api_key=SecretStr(key) if key is not None else None,
    )
    made = make_providers([settings])["a"]
    assert isinstance(made, AnthropicProvider)
    try:
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize(
    ("path", "asked"),
    [("", b"/v1/messages"), ("/v1", b"/v1/messages"), ("/v1/", b"/v1/messages"), ("/a", b"/a/v1/messages")],
)
async def test_the_address_may_end_with_its_version_or_not(path: str, asked: bytes) -> None:
    async with (
        upstream(whole(ERROR, status="529 Overloaded")) as fake,
        provider(fake.port, path) as api,
        api.send(a_route(), BODY, stream=False) as answer,
    ):
        assert answer.status == 529
    assert fake.heads[0].startswith(b"POST %b HTTP" % asked)


async def test_without_a_key_none_is_sent() -> None:
    async with (
        upstream(whole(ERROR, status="529 Overloaded")) as fake,
        provider(fake.port, key=None) as api,
        api.send(a_route(), BODY, stream=False),
    ):
        pass
    assert b"x-api-key" not in fake.heads[0].lower()


async def test_an_error_keeps_its_status_and_when_to_come_back() -> None:
    lines = ("retry-after: 3", "set-cookie: a=b", "anthropic-organization-id: o")
    async with (
        upstream(whole(ERROR, *lines, status="529 Overloaded")) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=True) as answer,
    ):
        assert dict(answer.headers) == {"retry-after": "3"}
        assert json.loads(await answer.read())["error"]["message"] == "Overloaded"
        assert b"".join([part async for part in answer.chunks()]) == await answer.read()


async def test_a_proxys_error_stays_as_it_came() -> None:
    async with (
        upstream(whole(b"<html>", status="502 Bad Gateway")) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=False) as answer,
    ):
        assert await answer.read() == b"<html>"


async def test_an_error_whose_words_do_not_come_has_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "ERROR_SECONDS", 0.01)
    async with (
        upstream(say(head(100, status="529 Overloaded") + b"{")) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=False) as answer,
    ):
        assert answer.status == 529


async def test_an_error_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "ERROR_BYTES", 10)
    async with (
        upstream(say(head(None, status="529 Overloaded"), chunked(b"x" * 50))) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=False) as answer,
    ):
        assert len(await answer.read()) == 50


async def test_an_event_without_end_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatfee.server.providers.anthropic.events.MAX_EVENT", 10)
    async with (
        upstream(say(head(None), chunked(b"data: " + b"x" * 50))) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=True) as answer,
    ):
        with pytest.raises(ProviderFailure, match="more than 10 bytes"):
            async for _ in answer.chunks():
                pass


async def test_a_last_event_without_its_blank_line_counts() -> None:
    data = b'event: message_stop\ndata: {"type":"message_stop"}'
    async with (
        upstream(say(head(len(data)) + data)) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=True) as answer,
    ):
        assert [part async for part in answer.chunks()] == [b"data: [DONE]\n\n"]


async def test_a_plain_answer_to_who_asks_for_a_stream_is_a_completion() -> None:
    message = json.dumps(Says([text("Hello")]).message()).encode()
    async with (
        upstream(say(head(None), chunked(message[:9]), chunked(message[9:]), chunked(b""))) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=True) as answer,
    ):
        data = b"".join([part async for part in answer.chunks()])
    assert json.loads(data)["choices"][0]["message"]["content"] == "Hello"


async def test_a_plain_answer_to_who_asks_for_a_stream_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 10)
    async with (
        upstream(say(head(None), chunked(b"{"), chunked(b" " * 50), chunked(b""))) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=True) as answer,
    ):
        with pytest.raises(ProviderFailure, match="more than 10 bytes"):
            async for _ in answer.chunks():
                pass


async def test_a_stream_to_who_asks_for_a_plain_answer_is_a_stream_of_chunks() -> None:
    async with (
        upstream(whole(b"".join(Says([text("Hello")]).events()))) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=False) as answer,
    ):
        data = await answer.read()
    assert json.loads(as_completion(data))["choices"][0]["message"]["content"] == "Hello"


async def test_a_stream_to_who_asks_for_a_plain_answer_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINES", 10)
    async with (
        upstream(whole(b"".join(Says([text("Hello")]).events()))) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=False) as answer,
    ):
        with pytest.raises(ProviderFailure, match="more than 10 lines"):
            await answer.read()


@pytest.mark.parametrize("stream", [False, True])
async def test_what_stands_before_the_first_event_is_passed_over(stream: bool) -> None:
    async with (
        upstream(whole(b"\xef\xbb\xbf" + b'data: {"type":"message_stop"}\n\n')) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=stream) as answer,
    ):
        data = b"".join([part async for part in answer.chunks()]) if stream else await answer.read()
    assert data == b"data: [DONE]\n\n"


async def test_what_is_large_is_translated_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def seen(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            threads.append(threading.current_thread())
            return work(*given)

        return call

    monkeypatch.setattr(module, "LARGE", len(BODY) - 1)
    monkeypatch.setattr(module, "read_request", seen(read_request))
    monkeypatch.setattr(module, "as_completion", seen(as_message))
    async with (
        upstream(whole(json.dumps(Says([text("Hello")]).message()).encode())) as fake,
        provider(fake.port) as api,
        api.send(a_route(), BODY, stream=False) as answer,
    ):
        assert b"Hello" in await answer.read()
    assert len(threads) == 2
    assert threading.main_thread() not in threads
