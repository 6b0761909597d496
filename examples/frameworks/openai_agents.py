"""openai-agents over a flatfee gateway: plain, streamed, with a tool, and when every route fails.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see ../quickstart.py. Needs `pip install openai-agents`.
"""

import asyncio

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled

import flatfee
from flatfee.integrations.openai import AsyncOpenAI

set_tracing_disabled(True)  # traces go to OpenAI, prompts and answers included


@function_tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"21 degrees in {city}"


async def plain(agent: Agent) -> None:
    """Ask. The framework keeps the id of each request; the receipts around the run have the rest."""
    with flatfee.receipts() as run:
        result = await Runner.run(agent, "Name three colours.")
    print("plain:", result.final_output)
    receipts = {receipt.request_id: receipt for receipt in run.receipts}
    for response in result.raw_responses:
        print(receipts[response.request_id].explain())


async def streamed(agent: Agent) -> None:
    """Ask for a stream. Its receipt is settled when the stream has ended."""
    with flatfee.receipts() as run:
        result = Runner.run_streamed(agent, "Name three colours.")
        print("streamed: ", end="")
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                print(event.data.delta, end="")
        print()
    for receipt in run.receipts:
        print("lane:", receipt.lane, "| charged:", receipt.fair_use.charged if receipt.fair_use else None)


async def with_tool(agent: Agent) -> None:
    """Let the model call a tool; each of the two requests has its own receipt."""
    with flatfee.receipts() as run:
        result = await Runner.run(agent.clone(tools=[weather]), "How warm is it in Lisbon?")
    print("tool:", result.final_output)
    print("requests:", run.requests)


async def main() -> None:
    # The client repeats what is worth repeating. workflow= makes one agent run of all its calls.
    async with AsyncOpenAI(workflow="openai-agents-example", task="review") as client:
        agent = Agent(name="Painter", model=OpenAIChatCompletionsModel(model="auto", openai_client=client))
        with flatfee.receipts() as run:
            try:
                await plain(agent)
                await streamed(agent)
                await with_tool(agent)
            except flatfee.FallbackExhausted as error:  # an openai.InternalServerError as well
                tried = ", ".join(f"{attempt.route} ({attempt.outcome})" for attempt in error.attempts)
                print("FallbackExhausted: tried", tried)
        print(run.summary())


asyncio.run(main())
