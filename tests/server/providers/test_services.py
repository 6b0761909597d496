"""Every row, through the whole gateway, against a fake that has the ways of its service."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr
from tests.server.fakes import KEY, events_of, make_settings, outcomes, route
from tests.server.providers.services import KEY as SERVICE_KEY
from tests.server.providers.services import SERVICES, Fake, serving

from flatfee.server.app import create_app
from flatfee.server.providers.openai import OpenAIProvider
from flatfee.server.providers.rows import ROWS
from flatfee.server.settings import ProviderSettings
from flatfee.server.store.memory import MemoryStore

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

KINDS = sorted(kind for kind, row in ROWS.items() if row.api == "openai")
WITH_KEYS = [kind for kind in KINDS if SERVICES[kind].key is not None]
MESSAGES = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "canary-prompt"},
    {  # as a service answered, and an SDK gives it back
        "role": "assistant",
        "content": "canary-earlier",
        "refusal": None,
        "annotations": [],
        "reasoning": "t",
        "reasoning_content": "t",
        "reasoning_details": [{"type": "reasoning.text", "text": "t"}],
        "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}],
        "provider_specific_fields": None,
    },
    {"role": "user", "content": "canary-more"},
    {
        "role": "assistant",
        "tool_calls": [
            {
                "id": "0",
                "type": "function",
                "function": {"name": "f", "arguments": "{}"},
                "extra_content": {"google": {"thought_signature": "s"}},
            }
        ],
    },
    {"role": "tool", "name": "f", "tool_call_id": "0", "content": "0"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "name": "f", "tool_call_id": "1", "content": "1"},
]
ALL_THAT_SDKS_SEND = {
    "messages": MESSAGES,
    "max_completion_tokens": 7,
    "metadata": {"run": "1"},
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "seed": 3,
    "store": False,
    "temperature": 0.5,
    "user": "u",
}

OLD_NAMES = {("max_tokens" if name == "max_completion_tokens" else name): v for name, v in ALL_THAT_SDKS_SEND.items()}


class Rig:
    """A gateway with one provider of a kind, and a fake where that would be."""

    def __init__(self, client: httpx.AsyncClient, fake: Fake) -> None:
        self._client = client
        self.fake = fake

    async def ask(self, **body: Any) -> httpx.Response:
        asked = {"model": "premium", "messages": MESSAGES[1:2], **body}
        return await self._client.post("/v1/chat/completions", json=asked)

    async def receipt(self, response: httpx.Response) -> dict[str, Any]:
        found = await self._client.get(f"/v1/receipts/{response.headers['x-flatfee-request-id']}")
        receipt: dict[str, Any] = found.json()
        return receipt


@asynccontextmanager
async def rig(kind: str, *models: str, key: str = SERVICE_KEY, prefill: bool = False) -> AsyncGenerator[Rig, None]:
    """Run a gateway as the row says, but for the host. A route for each model; the larger ones behind."""
    row = ROWS[kind]
    entry = ProviderSettings(name="fake", kind=kind, base_url=row.base_url or row.example, api_key=SecretStr(key))
    assert entry.row is row
    routes = [
        route(model, priority=number, model=model, context_tokens=1000 * (number + 1), prefill=prefill)
        for number, model in enumerate(models)
    ]
    settings = make_settings(routes=routes).model_copy(update={"providers": (entry,)})
    async with serving(SERVICES[kind]) as fake:
        here = urlsplit(entry.base_url or "")._replace(scheme="http", netloc=f"127.0.0.1:{fake.port}").geturl()
        provider = OpenAIProvider(entry.model_copy(update={"base_url": here}))
        app = create_app(settings, store=MemoryStore(), providers={"fake": provider})
        app.gateway.chance = lambda: 0.0
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            app.running(),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway", headers=headers) as client,
        ):
            yield Rig(client, fake)


def text_of(events: list[Any]) -> str:
    deltas = [choice["delta"] for event in events[:-1] for choice in event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def told(service: str) -> dict[str, int]:
    prompt, output, cached = SERVICES[service].counted
    return {"prompt_tokens": prompt, "completion_tokens": output, "cached_tokens": cached}


def test_every_row_has_its_fake() -> None:
    assert sorted(SERVICES) == KINDS


@pytest.mark.parametrize("kind", KINDS)
async def test_a_plain_answer_to_all_that_sdks_send_is_charged_as_the_service_counts(kind: str) -> None:
    async with rig(kind, "whole") as gateway:
        response = await gateway.ask(**ALL_THAT_SDKS_SEND)
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["message"]["content"] == "canary-answer"
        receipt = await gateway.receipt(response)
    assert (receipt["state"], receipt["usage"]) == ("settled", told(kind))
    (body,) = gateway.fake.asked
    if kind != "openai-compatible":  # nothing is known of it, so it is sent what the caller wrote
        assert [body[name] for name in SERVICES[kind].limits & body.keys()] == [7]
    assert body["temperature"] == 0.5


@pytest.mark.parametrize("kind", KINDS)
async def test_a_streamed_answer_is_whole_and_charged_as_the_service_counts(kind: str) -> None:
    async with rig(kind, "whole") as gateway:
        response = await gateway.ask(**OLD_NAMES, stream=True)
        receipt = await gateway.receipt(response)
    assert response.status_code == 200, response.text
    events = events_of(response.content)
    assert text_of(events) == "canary-answer"
    assert events[-1] == "[DONE]"
    assert (receipt["state"], receipt["usage"]) == ("settled", told(kind))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refusal_is_passed_on_with_its_words(kind: str) -> None:
    refused = SERVICES[kind].refused
    async with rig(kind, "odd", "whole") as gateway:
        response = await gateway.ask()
    assert response.status_code == refused.status
    assert refused.words in response.json()["error"]["message"]
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_context_that_is_too_large_goes_to_a_larger_route(kind: str) -> None:
    async with rig(kind, "small", "whole") as gateway:
        response = await gateway.ask()
        receipt = await gateway.receipt(response)
    assert response.status_code == 200
    small = ("small", "context_overflow", SERVICES[kind].too_large.status)
    assert outcomes(receipt) == [small, ("whole", "ok", 200)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_service_that_cannot_now_is_left_for_the_next_route(kind: str) -> None:
    busy = SERVICES[kind].busy
    async with rig(kind, "busy", "whole") as gateway:
        response = await gateway.ask()
        receipt = await gateway.receipt(response)
    assert response.status_code == 200
    outcome = "rate_limited" if busy.status in {413, 429} else "error"
    assert outcomes(receipt) == [("busy", outcome, busy.status), ("whole", "ok", 200)]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_broke_off_is_gone_on_with_in_the_services_own_way(kind: str) -> None:
    async with rig(kind, "cut", "whole", prefill=ROWS[kind].dialect.prefill != "refused") as gateway:
        response = await gateway.ask(stream=True)
        receipt = await gateway.receipt(response)
    assert text_of(events_of(response.content)) == "canary-answer"
    assert outcomes(receipt) == [("cut", "error", 200), ("whole", "ok", 200)]
    begun = [body["messages"][-1]["role"] for body in gateway.fake.asked]
    assert begun[-1] == ("assistant" if SERVICES[kind].goes_on else "user")


@pytest.mark.parametrize("kind", WITH_KEYS)
async def test_a_wrong_key_is_the_operators_matter_and_no_callers(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        async with rig(kind, "whole", key="canary-wrong") as gateway:
            response = await gateway.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (503, "provider_unavailable")
    assert [record.message for record in caplog.records] == ["provider.misconfigured"]
    assert "no***pe" not in response.text
    assert "canary" not in caplog.text
