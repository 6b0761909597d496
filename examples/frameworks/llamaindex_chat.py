"""LlamaIndex over a flatfee gateway: plain, streamed, with a tool, and when every route fails.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see ../quickstart.py. Needs `pip install llama-index-llms-openai`.
"""

from typing import Any

from llama_index.core.llms import ChatMessage, LLMMetadata
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI

import flatfee


class Flatfee(OpenAI):
    """LlamaIndex's OpenAI, for models that it has no table of."""

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex asks of a model before it calls it."""
        return LLMMetadata(
            model_name=self.model, context_window=128_000, is_chat_model=True, is_function_calling_model=True
        )


def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"21 degrees in {city}"


def plain(llm: Flatfee) -> None:
    """Ask. LlamaIndex keeps our completion as ``raw``."""
    response = llm.chat([ChatMessage("Name three colours.")])
    print("plain:", response.message.content)
    receipt = flatfee.Receipt.of(response)
    if receipt:
        print(receipt.explain())


def streamed(llm: Flatfee) -> None:
    """Ask for a stream. The last response has the receipt, with what was charged."""
    last: Any = None
    print("streamed: ", end="")
    for response in llm.stream_chat([ChatMessage("Name three colours.")]):
        print(response.delta, end="")
        last = response
    receipt = flatfee.Receipt.of(last)
    print(f"[{receipt.lane}]" if receipt else "")


def with_tool(llm: Flatfee) -> None:
    """Let the model call a tool, and tell it the result."""
    tool = FunctionTool.from_defaults(weather)
    history = [ChatMessage("How warm is it in Lisbon?")]
    response = llm.chat_with_tools([tool], chat_history=history)
    history.append(response.message)
    for call in llm.get_tool_calls_from_response(response):
        result = tool(**call.tool_kwargs)
        history.append(ChatMessage(role="tool", content=str(result), additional_kwargs={"tool_call_id": call.tool_id}))
    print("tool:", llm.chat_with_tools([tool], chat_history=history).message.content)


def main() -> None:
    # A workflow may stand for the client: its calls belong to one agent run.
    with flatfee.Client() as client, client.workflow() as workflow, flatfee.receipts() as run:
        # Our client repeats what is worth repeating, so LlamaIndex need not.
        llm = Flatfee(model="auto", openai_client=workflow, max_retries=0)
        try:
            plain(llm)
            streamed(llm)
            with_tool(llm)
        except flatfee.FallbackExhausted as error:
            print("FallbackExhausted: tried", ", ".join(f"{it.route} ({it.outcome})" for it in error.attempts))
    print(run.summary())


main()
