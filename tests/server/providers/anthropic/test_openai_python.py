"""openai-python, unmodified: a streamed loop of tools with a thinking model, history given back as it came."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from tests.server.fakes import KEY
from tests.server.fakes_gateway import on_loopback
from tests.server.providers.anthropic.fake_messages import Says, messages_server, text, thinking, tool_use
from tests.server.providers.anthropic.test_through_gateway import configured

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


async def test_a_streamed_loop_of_tools_keeps_thoughts_and_calls() -> None:
    blocks = [
        thinking("Two cities."),
        text("Looking."),
        tool_use("a", "weather", city="Oslo"),
        tool_use("b", "weather"),
    ]
    async with (
        messages_server(Says(blocks, "tool_use"), Says([text("Rain.")])) as api,
        on_loopback(configured(api)) as served,
        openai.AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{served.port}/v1", max_retries=0) as client,
    ):
        history: list[Any] = [{"role": "user", "content": "Weather in Oslo?"}]
        first = await streamed(client, history)
        history.append(first)
        for call in first.tool_calls or ():
            assert json.loads(call.function.arguments) in ({"city": "Oslo"}, {})
            history.append({"role": "tool", "tool_call_id": call.id, "content": "rain"})
        last = await streamed(client, history)
    assert last.content == "Rain."
    assert api.refused == []
    said = api.asked[1]["messages"][1]["content"]
    assert said == [{name: value for name, value in block.items() if name != "citations"} for block in blocks]


async def streamed(client: openai.AsyncOpenAI, history: list[ChatCompletionMessageParam]) -> Any:
    """Return the message that the client makes of a stream."""
    asked = client.chat.completions.stream(model="premium", messages=history, tools=[WEATHER], reasoning_effort="high")
    async with asked as stream:
        return (await stream.get_final_completion()).choices[0].message
