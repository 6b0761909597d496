"""pydantic-ai over a flatfee gateway: plain, streamed, with a tool, and when every route fails.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see ../quickstart.py. Needs `pip install "pydantic-ai-slim[openai]"`.
"""

import asyncio
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIStreamedResponse
from pydantic_ai.providers.openai import OpenAIProvider

import flatfee
from flatfee.integrations.openai import AsyncOpenAI


class ReceiptStream(OpenAIStreamedResponse):
    """A stream whose message keeps the receipt of its last event."""

    def _map_chunk_provider_details(self, chunk: ChatCompletionChunk) -> dict[str, Any] | None:
        receipt = (chunk.model_extra or {}).get("flatfee")
        return {"flatfee": receipt} if receipt else None


class ReceiptModel(OpenAIChatModel):
    """A model whose messages keep their receipts in ``provider_details["flatfee"]``, also in a stored history."""

    def _process_provider_details(self, response: ChatCompletion) -> dict[str, Any] | None:
        receipt = (response.model_extra or {}).get("flatfee")
        return {**(super()._process_provider_details(response) or {}), **({"flatfee": receipt} if receipt else {})}

    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return ReceiptStream


async def plain(agent: Agent) -> None:
    """Ask. The message has the receipt."""
    result = await agent.run("Name three colours.")
    print("plain:", result.output)
    receipt = flatfee.Receipt.of(result.response)
    if receipt:
        print(receipt.explain())


async def streamed(agent: Agent) -> None:
    """Ask for a stream. At its end the message has the receipt."""
    async with agent.run_stream("Name three colours.") as stream:
        print("streamed: ", end="")
        async for text in stream.stream_text(delta=True):
            print(text, end="")
        print()
        receipt = flatfee.Receipt.of(stream.response)
    if receipt and receipt.fair_use:
        print("lane:", receipt.lane, "| charged:", receipt.fair_use.charged)


async def with_tool(agent: Agent) -> None:
    """Let the model call a tool; each of the two requests has its own receipt."""

    async def weather(city: str) -> str:
        """Tell the weather in a city."""
        return f"21 degrees in {city}"

    able = Agent(agent.model, tools=[weather])
    with flatfee.receipts() as run:
        result = await able.run("How warm is it in Lisbon?")
    print("tool:", result.output)
    print("requests:", run.requests)


async def main() -> None:
    # The client repeats what is worth repeating. workflow= makes one agent run of all its calls.
    async with AsyncOpenAI(workflow="pydantic-ai-example", task="review") as client:
        agent = Agent(ReceiptModel("auto", provider=OpenAIProvider(openai_client=client)))
        with flatfee.receipts() as run:
            try:
                await plain(agent)
                await streamed(agent)
                await with_tool(agent)
            except ModelAPIError as error:  # pydantic-ai's own, caused by ours
                match flatfee.classify(error):
                    case flatfee.FallbackExhausted() as failure:
                        tried = ", ".join(f"{attempt.route} ({attempt.outcome})" for attempt in failure.attempts)
                        print("FallbackExhausted: tried", tried)
                    case _:
                        raise
        print(run.summary())


if __name__ == "__main__":
    asyncio.run(main())
