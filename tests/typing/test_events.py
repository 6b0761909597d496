"""How callers write a stream of events, type-checked by mypy and pyright, and run once against a fake gateway."""

from typing import assert_never, assert_type

import httpx
from pydantic import BaseModel

from flatfee import (
    AsyncChatCompletionStream,
    AsyncClient,
    ChatCompletionChunk,
    ChatCompletionStream,
    Client,
    ParsedChatCompletion,
    Receipt,
)
from flatfee.types import MessageParam
from flatfee.types.events import ChatCompletionStreamEvent, ChunkEvent, ContentDeltaEvent

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
MESSAGES: list[MessageParam] = [{"role": "user", "content": "hi"}]


def gateway(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=EVENT, headers={"content-type": "text/event-stream"})


def told(event: ChatCompletionStreamEvent[None]) -> str:
    """Tell an event apart by its type alone, as a checker must be able to."""
    if event.type == "chunk":
        assert_type(event, ChunkEvent)
        assert_type(event.chunk, ChatCompletionChunk)
        return f"{len(event.snapshot.choices)} choice"
    if event.type == "content.delta":
        assert_type(event, ContentDeltaEvent)
        return event.snapshot
    if event.type == "content.done":
        return event.content
    if event.type == "refusal.delta":
        return event.delta
    if event.type == "refusal.done":
        return event.refusal
    if event.type == "tool_calls.function.arguments.delta":
        return event.arguments_delta
    if event.type == "tool_calls.function.arguments.done":
        return event.arguments
    if event.type == "logprobs.content.delta" or event.type == "logprobs.content.done":
        return event.content[0].token
    if event.type == "logprobs.refusal.delta" or event.type == "logprobs.refusal.done":
        return event.refusal[0].token
    assert_never(event)


def test_a_type_tells_which_event_it_is() -> None:
    client = Client(api_key="k", http_client=httpx.Client(transport=httpx.MockTransport(gateway)))
    with client.chat.completions.stream(model="auto", messages=MESSAGES, temperature=0) as stream:
        assert_type(stream, ChatCompletionStream[None])
        assert_type(stream.receipt, Receipt | None)
        assert [told(event) for event in stream] == ["1 choice", "hi", "hi"]
        assert_type(stream.current_completion_snapshot, ParsedChatCompletion[object])
        assert_type(stream.get_final_completion(), ParsedChatCompletion[None])


async def test_the_same_for_coroutines() -> None:
    client = AsyncClient(api_key="k", http_client=httpx.AsyncClient(transport=httpx.MockTransport(gateway)))
    async with client.chat.completions.stream(model="auto", messages=MESSAGES) as stream:
        assert_type(stream, AsyncChatCompletionStream[None])
        assert [told(event) async for event in stream] == ["1 choice", "hi", "hi"]
        assert_type(await stream.get_final_completion(), ParsedChatCompletion[None])


class Verdict(BaseModel):
    passed: bool = True


def test_what_is_read_is_of_the_type_that_was_asked_for() -> None:
    def gateway(_: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, content=EVENT.replace(b'"hi"', b'"{}"'), headers={"content-type": "text/event-stream"}
        )

    client = Client(api_key="k", http_client=httpx.Client(transport=httpx.MockTransport(gateway)))
    with client.chat.completions.stream(model="auto", messages=MESSAGES, response_format=Verdict) as stream:
        assert_type(stream, ChatCompletionStream[Verdict])
        for event in stream:
            if event.type == "content.delta":
                assert_type(event.parsed, object)
            elif event.type == "content.done":
                assert_type(event.parsed, Verdict | None)
        whole = stream.get_final_completion()
        assert_type(whole, ParsedChatCompletion[Verdict])
        assert_type(whole.choices[0].message.parsed, Verdict | None)
    assert whole.choices[0].message.parsed == Verdict()


def test_a_format_that_is_no_type_reads_nothing() -> None:
    client = Client(api_key="k", http_client=httpx.Client(transport=httpx.MockTransport(gateway)))
    with client.chat.completions.stream(
        model="auto", messages=MESSAGES, response_format={"type": "json_object"}
    ) as stream:
        assert_type(stream.get_final_completion(), ParsedChatCompletion[None])
