"""LiteLLM's SDK over a flatfee gateway: plain, streamed, with a tool, and when every route fails.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see ../quickstart.py. Needs `pip install litellm mcp`: LiteLLM
imports `mcp` when tools are used. Set LITELLM_LOCAL_MODEL_COST_MAP=True to keep it from fetching prices.
"""

from typing import Any

import litellm

import flatfee
from flatfee.integrations.openai import OpenAI

litellm.suppress_debug_info = True  # else it prints hints on where to get help

QUESTION = [{"role": "user", "content": "Name three colours."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def ask(client: OpenAI, messages: list[Any], **options: Any) -> Any:
    """Ask through our client. It repeats what is worth repeating: ``num_retries`` would multiply that."""
    return litellm.completion(model="openai/auto", client=client, messages=messages, **options)


def plain(client: OpenAI) -> None:
    """Ask. LiteLLM keeps the receipt in the answer, and the headers in ``_hidden_params``."""
    response = ask(client, QUESTION)
    print("plain:", response.choices[0].message.content)
    receipt = flatfee.Receipt.of(response)
    if receipt:
        print(receipt.explain())


def streamed(client: OpenAI) -> None:
    """Ask for a stream. The receipt of its headers is there before the first piece."""
    stream = ask(client, QUESTION, stream=True)
    receipt = flatfee.Receipt.of(stream)
    print("streamed:", f"[{receipt.lane}] " if receipt else "", end="")
    print("".join(piece.choices[0].delta.content or "" for piece in stream))


def with_tool(client: OpenAI) -> None:
    """Let the model call a tool, and tell it the result."""
    messages: list[Any] = [{"role": "user", "content": "How warm is it in Lisbon?"}]
    message = ask(client, messages, tools=[WEATHER]).choices[0].message
    messages.append(message)
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": "21 degrees in Lisbon"} for call in message.tool_calls
    ]
    print("tool:", ask(client, messages, tools=[WEATHER]).choices[0].message.content)


def main() -> None:
    with OpenAI(workflow="litellm-example") as client, flatfee.receipts() as run:
        try:
            plain(client)
            streamed(client)
            with_tool(client)
        except litellm.ServiceUnavailableError as error:  # LiteLLM raises its own, made while it handled ours
            failure = flatfee.classify(error)
            if not isinstance(failure, flatfee.FallbackExhausted):
                raise
            print("FallbackExhausted: tried", ", ".join(f"{it.route} ({it.outcome})" for it in failure.attempts))
    print(run.summary())


main()
