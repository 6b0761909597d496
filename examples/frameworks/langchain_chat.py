"""LangChain over a flatfee gateway: plain, streamed, with a tool, and when every route fails.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see ../quickstart.py. Needs `pip install langchain-openai`.
LangChain takes answers of openai-python's own classes only, so the clients are the integration's.
"""

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import InternalServerError

import flatfee
from flatfee.integrations.openai import AsyncOpenAI, OpenAI


def chat_model() -> ChatOpenAI:
    """Return LangChain's model over our clients. They repeat what is worth repeating; LangChain repeats nothing."""
    client, async_client = OpenAI(task="review"), AsyncOpenAI(task="review")
    return ChatOpenAI(
        model="auto",
        client=client.chat.completions,
        root_client=client,
        async_client=async_client.chat.completions,
        root_async_client=async_client,
        include_response_headers=True,  # they bring the receipt into each message
    )


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"21 degrees in {city}"


def plain(model: ChatOpenAI) -> None:
    """Ask. The receipt on the message tells what headers can: who serves, and why."""
    message = model.invoke("Name three colours.")
    print("plain:", message.content)
    receipt = flatfee.Receipt.of(message)
    if receipt:
        print(receipt.explain())


def streamed(model: ChatOpenAI) -> None:
    """Ask for a stream. Its first piece has the receipt, and so has the sum of all."""
    print("streamed: ", end="")
    for number, piece in enumerate(model.stream("Name three colours.")):
        receipt = flatfee.Receipt.of(piece) if number == 0 else None
        print(f"[{receipt.lane}] " if receipt else "", piece.content, sep="", end="")
    print()


def with_tool(model: ChatOpenAI) -> None:
    """Let the model call a tool, and tell it the result."""
    able = model.bind_tools([weather])
    messages: list[BaseMessage] = [HumanMessage("How warm is it in Lisbon?")]
    answer = able.invoke(messages)
    messages += [answer, *(weather.invoke(call) for call in answer.tool_calls)]
    print("tool:", able.invoke(messages).content)


def main() -> None:
    model = chat_model()
    with flatfee.receipts() as run:
        try:
            plain(model)
            streamed(model)
            with_tool(model)
        except InternalServerError as error:  # LangChain raises its own kind of it, caused by ours
            failure = flatfee.classify(error)
            if not isinstance(failure, flatfee.FallbackExhausted):
                raise
            print("FallbackExhausted: tried", ", ".join(f"{it.route} ({it.outcome})" for it in failure.attempts))
    print(run.summary())


main()
