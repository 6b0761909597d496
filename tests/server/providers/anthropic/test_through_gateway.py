"""The whole way: a caller of chat completions, the gateway, and a Messages API that refuses what the real one does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tests.server.fakes import KEY, LIMIT, ScriptedProvider, make_body, make_settings, route
from tests.server.fakes_gateway import on_loopback, request
from tests.server.providers.anthropic.fake_messages import (
    MODEL,
    Fails,
    MessagesServer,
    Says,
    messages_server,
    text,
    thinking,
    tool_use,
)

from flatfee.server.app import create_app
from flatfee.server.providers.anthropic.provider import AnthropicProvider
from flatfee.server.settings import ProviderSettings, Settings
from flatfee.server.store.memory import MemoryStore

SECRET = "canary-upstream-secret"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
PNG = "data:image/png;base64,iVBORw0KGgo="
QUESTION = {"role": "user", "content": "Weather in Oslo and Rome?"}
BLAME = "messages.1.content.0: Invalid `signature` in `thinking` block"


@dataclass
class Rig:
    client: httpx.AsyncClient
    api: MessagesServer
    other: ScriptedProvider

    async def ask(self, **body: Any) -> dict[str, Any]:
        response = await self.client.post("/v1/chat/completions", json=make_body(**body))
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def stream(self, **body: Any) -> list[dict[str, Any]]:
        response = await self.client.post("/v1/chat/completions", json=make_body(stream=True, **body))
        assert response.status_code == 200, response.text
        lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines[:-1]]


def configured(api: MessagesServer, routes: Sequence[dict[str, Any]] = ()) -> Settings:
    """Return settings with the fake API as a provider."""
    upstream = ProviderSettings(name="anthropic", kind="anthropic", base_url=api.url, api_key=SecretStr(SECRET))
    settings = make_settings(routes=routes or [route("claude", provider="anthropic", model=MODEL)])
    return settings.model_copy(update={"providers": (*settings.providers, upstream)})


@asynccontextmanager
async def rig(
    *script: Says | Fails, model: str = MODEL, others: Sequence[str] = (), **options: Any
) -> AsyncGenerator[Rig, None]:
    """Run a gateway whose first route is the fake API, and behind it routes of a scripted provider."""
    routes = [route("claude", provider="anthropic", model=model, **options)]
    routes += [route(name, priority=2) for name in others]
    other = ScriptedProvider()
    async with messages_server(*script) as api:
        settings = configured(api, routes)
        provider = AnthropicProvider(settings.providers[-1])
        app = create_app(settings, store=MemoryStore(), providers={"anthropic": provider, "fake": other})
        async with app.running():
            headers = {"authorization": f"Bearer {KEY}"}
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
                yield Rig(client, api, other)
        await provider.close()


async def test_a_plain_answer_comes_as_a_chat_completion() -> None:
    async with rig(Says([text("Hello"), text(", you")])) as run:
        answer = await run.ask(messages=[{"role": "system", "content": "Be brief."}, QUESTION], temperature=1.7)
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello, you", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["id"] == "msg_01"
    assert answer["flatfee"]["state"] == "settled"
    assert run.api.asked[0]["system"] == [{"type": "text", "text": "Be brief."}]
    head = run.api.heads[0].lower()
    assert head.startswith(b"post /v1/messages http")
    assert f"x-api-key: {SECRET}".encode() in head
    assert b"anthropic-version: 2023-06-01" in head
    assert b"authorization" not in head


async def test_cached_tokens_are_charged_as_the_route_says() -> None:
    meter = {"input": 1.0, "cached_input": 0.1, "output": 4.0}
    async with rig(Says([text("Hello")]), meter=meter) as run:
        answer = await run.ask()
    assert answer["usage"] == {
        "prompt_tokens": 53,
        "completion_tokens": 7,
        "total_tokens": 60,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 3},
    }
    receipt = answer["flatfee"]
    assert receipt["usage"] == {"prompt_tokens": 53, "completion_tokens": 7, "cached_tokens": 40}
    assert receipt["fair_use"]["charged"] == 13 + 4 + 28


async def test_a_stream_says_what_the_plain_answer_says() -> None:
    says = Says([thinking("Hm."), text("Hello, yóu 🎉"), tool_use("toolu_1", "weather", city="Oslo")], "tool_use")
    async with rig(says, says) as run:
        plain = await run.ask(tools=[TOOL])
        chunks = await run.stream(tools=[TOOL], stream_options={"include_usage": True})
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    message = plain["choices"][0]["message"]
    assert "".join(delta.get("content") or "" for delta in deltas) == message["content"]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message["reasoning_content"]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [call["id"] for call in calls if "id" in call] == ["toolu_1"]
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"city": "Oslo"}
    assert chunks[-1]["usage"] == plain["usage"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]][-1] == "tool_calls"
    assert chunks[-1]["flatfee"]["usage"] == plain["flatfee"]["usage"]


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", MODEL])
async def test_a_loop_of_parallel_tools_goes_on_with_its_thinking(model: str) -> None:
    calls = [tool_use("toolu_1", "weather", city="Oslo"), tool_use("toolu_2", "weather", city="Rome")]
    thought = [thinking("Two cities."), {"type": "redacted_thinking", "data": "opaque"}]
    async with rig(Says([*thought, *calls], "tool_use"), Says([text("Rain and sun.")]), model=model) as run:
        asked = {"tools": [TOOL], "reasoning_effort": "medium"}
        first = (await run.ask(messages=[QUESTION], **asked))["choices"][0]["message"]
        assert [call["id"] for call in first["tool_calls"]] == ["toolu_1", "toolu_2"]
        results = [
            {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"},
            {"role": "tool", "tool_call_id": "toolu_2", "content": [{"type": "text", "text": "sun"}]},
        ]
        second = await run.ask(messages=[QUESTION, first, *results], **asked)
    assert second["choices"][0]["message"]["content"] == "Rain and sun."
    assert run.api.refused == []
    _, said, given = run.api.asked[1]["messages"]
    assert said == {"role": "assistant", "content": [*thought, *calls]}
    assert [block["tool_use_id"] for block in given["content"]] == ["toolu_1", "toolu_2"]
    assert run.api.asked[1]["thinking"] == run.api.asked[0]["thinking"]


async def test_thoughts_of_another_model_are_left_out_when_they_are_refused() -> None:
    foreign = {"type": "reasoning.text", "text": "Hm.", "signature": "another's"}
    said = {"role": "assistant", "content": "Hi.", "reasoning_details": [foreign]}
    async with rig(Says([text("Hello")])) as run:
        answer = await run.ask(messages=[QUESTION, said, QUESTION])
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["flatfee"]["attempts"][0]["outcome"] == "ok"
    assert run.api.refused == [[BLAME]]
    assert [message["content"][0]["type"] for message in run.api.asked[0]["messages"]] == ["text"] * 3


async def test_asking_without_thoughts_takes_of_the_same_time() -> None:
    foreign = {"type": "reasoning.text", "text": "Hm.", "signature": "another's"}
    history = [QUESTION, {"role": "assistant", "content": "Hi.", "reasoning_details": [foreign]}, QUESTION]
    silent = Says([text("Hello")], breaks_off=2)  # before the first token
    async with rig(silent, others=["second"], first_token_timeout=0.2) as run:
        chunks = await run.stream(messages=history)
        run.api.may_break.set()
    tried = chunks[-1]["flatfee"]["attempts"]
    assert [(one["route"], one["outcome"]) for one in tried] == [("claude", "timeout"), ("second", "ok")]
    assert tried[0]["duration_ms"] >= 190
    assert (len(run.api.refused), len(run.api.asked)) == (1, 1)


async def test_a_refusal_that_no_thoughts_are_to_blame_for_is_not_asked_again() -> None:
    said = {"role": "assistant", "content": "Hi.", "thinking_blocks": [thinking("Hm.")]}
    async with rig(Fails(400, "invalid_request_error", "max_tokens: too many"), others=["second"]) as run:
        response = await run.client.post("/v1/chat/completions", json=make_body(messages=[QUESTION, said, QUESTION]))
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "max_tokens: too many"
    assert len(run.api.asked) == 1
    assert run.other.asked == []


async def test_images_go_along() -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PNG}}]
    async with rig(Says([text("A dot.")])) as run:
        await run.ask(messages=[{"role": "user", "content": parts}])
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert run.api.asked[0]["messages"][0]["content"][1] == {"type": "image", "source": source}


async def test_a_model_that_refuses_says_so() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    says = Says([text("I ")], "refusal", stop_details=details)
    async with rig(says, says) as run:
        answer = await run.ask()
        chunks = await run.stream()
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["choices"][0]["message"]["refusal"] == "Not this."
    last = chunks[-1]["choices"][0]
    assert (last["finish_reason"], last["delta"]) == ("content_filter", {"refusal": "Not this."})


@pytest.mark.parametrize("stream", [False, True])
async def test_an_overloaded_api_is_left_for_the_next_route_at_once(stream: bool) -> None:
    async with rig(Fails(529, "overloaded_error", "Overloaded"), others=["second"]) as run:
        response = await run.client.post("/v1/chat/completions", json=make_body(stream=stream))
        assert response.status_code == 200
    assert len(run.api.asked) == 1
    assert response.headers["x-flatfee-lane"] == "fallback"
    assert response.headers["x-flatfee-route"] == "second"


@pytest.mark.parametrize(
    ("fails", "tries"),
    [
        (Fails(429, "rate_limit_error", "slow down", ("retry-after: 30",)), 1),
        (Fails(429, "rate_limit_error", "slow down", ("retry-after: 0",)), 2),
        (Fails(429, "rate_limit_error", "spent", details={"error_code": "enforced_spend_limit_reached"}), 1),
        (Fails(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."), 1),
        (Fails(400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum"), 1),
        (Fails(401, "authentication_error", "invalid x-api-key"), 1),
        (Fails(402, "billing_error", "no card"), 1),
        (Fails(403, "permission_error", "not yours"), 1),
        (Fails(404, "not_found_error", "model: claude-none"), 1),
        (Fails(413, "request_too_large", "too large"), 1),
        (Fails(500, "api_error", "Internal server error"), 2),
        (Fails(504, "timeout_error", "took too long"), 2),
        (Fails(529, "overloaded_error", "Overloaded"), 1),
    ],
    ids=lambda value: f"{value.status}-{value.type}" if isinstance(value, Fails) else None,
)
async def test_an_error_that_another_route_can_cure_goes_to_it(fails: Fails, tries: int) -> None:
    async with rig(fails, others=["second"]) as run:
        answer = await run.ask()
    assert [attempt["route"] for attempt in answer["flatfee"]["attempts"]] == ["claude"] * tries + ["second"]
    assert answer["flatfee"]["attempts"][0]["status"] == fails.status


async def test_an_overload_in_mid_stream_is_no_whole_answer() -> None:
    async with messages_server(Says([text("Hello, you")], breaks_off=4)) as api, on_loopback(configured(api)) as served:
        reader, _ = await served.open(request(stream=True))
        async with asyncio.timeout(LIMIT):
            begun = await reader.readuntil(b"Hello")
            api.may_break.set()
            rest = (await reader.read()).decode()
    assert begun.startswith(b"HTTP/1.1 200")
    assert "[DONE]" not in rest
    assert '"code":"provider_unavailable"' in rest
    assert "Overloaded" not in rest


async def test_a_text_that_breaks_off_is_gone_on_with_by_another_route() -> None:
    broken, whole = Says([text("Hello, you")], breaks_off=4), Says([text("Hello, you two.")])
    async with messages_server(broken) as api, messages_server(whole) as other:
        routes = [route("claude", provider="anthropic"), route("other", provider="other", priority=2)]
        settings = configured(api, routes)
        spare = ProviderSettings(name="other", kind="anthropic", base_url=other.url)
        settings = settings.model_copy(update={"providers": (*settings.providers, spare)})
        async with on_loopback(settings) as served:
            reader, _ = await served.open(request(stream=True))
            async with asyncio.timeout(LIMIT):
                data = await reader.readuntil(b"Hello")
                api.may_break.set()
                data += await reader.read()
    chunks = [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: {")]
    texts = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(texts) == "Hello, you two."
    assert chunks[-1]["flatfee"]["route"] == "other"
    assert chunks[-1]["flatfee"]["lane"] == "fallback"


async def test_an_overload_before_the_first_token_goes_to_the_next_route() -> None:
    async with rig(Says([text("Hello")], breaks_off=2), others=["second"]) as run:
        run.api.may_break.set()
        chunks = await run.stream()
    assert chunks[-1]["flatfee"]["route"] == "second"


async def test_what_cannot_be_said_there_is_refused_before_asking() -> None:
    async with rig(Says([text("Hello")])) as run:
        response = await run.client.post("/v1/chat/completions", json=make_body(n=2))
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_value", "n")
    assert run.api.heads == []


@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_said_there_is_asked_of_the_next_route(stream: bool) -> None:
    async with rig(Says([text("Hello")]), others=["second"]) as run:
        answers = [await run.client.post("/v1/chat/completions", json=make_body(n=2, stream=stream)) for _ in range(4)]
        receipt = (await run.ask())["flatfee"]
    assert [answer.headers["x-flatfee-route"] for answer in answers] == ["second"] * 4
    assert receipt["route"] == "claude"  # it is not blamed for what it was not asked
    assert len(run.api.heads) == 1


async def test_what_the_model_cannot_do_is_asked_of_the_next_route() -> None:
    why = 'tool_choice: type "tool" and "any" are not supported for this model.'
    async with rig(Fails(400, "invalid_request_error", why), others=["second"]) as run:
        receipt = (await run.ask(tools=[TOOL], tool_choice="required"))["flatfee"]
    assert [(tried["route"], tried["outcome"]) for tried in receipt["attempts"]] == [
        ("claude", "refused"),
        ("second", "ok"),
    ]


async def test_the_key_is_told_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with rig(Fails(401, "authentication_error", "invalid x-api-key")) as run:
        response = await run.client.post("/v1/chat/completions", json=make_body())
    assert response.status_code == 503
    assert SECRET not in response.text + str(response.headers) + caplog.text
