"""smolagents over a flatfee gateway: plain, streamed, an agent with a tool, and when every route fails.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see ../quickstart.py. Needs `pip install smolagents`.
"""

from smolagents import AgentError, OpenAIModel, ToolCallingAgent, tool

import flatfee

QUESTION = [{"role": "user", "content": "Name three colours."}]


@tool
def weather(city: str) -> str:
    """Tell the weather in a city.

    Args:
        city: its name.
    """
    return f"21 degrees in {city}"


def plain(model: OpenAIModel) -> None:
    """Ask. smolagents keeps our completion as ``raw``."""
    message = model.generate(QUESTION)
    print("plain:", message.content)
    receipt = flatfee.Receipt.of(message)
    if receipt:
        print(receipt.explain())


def streamed(model: OpenAIModel) -> None:
    """Ask for a stream. Its pieces keep nothing of ours: the run around them knows the receipt."""
    print("streamed:", "".join(piece.content or "" for piece in model.generate_stream(QUESTION)))


def agent_with_tool(model: OpenAIModel) -> None:
    """Let an agent call a tool until it has an answer. Each step has its receipt."""
    agent = ToolCallingAgent(tools=[weather], model=model, max_steps=4, verbosity_level=0)
    print("agent:", agent.run("How warm is it in Lisbon?"))
    for step in agent.memory.steps:
        receipt = flatfee.Receipt.of(getattr(step, "model_output_message", None))
        if receipt:
            print("step", step.step_number, "on the lane", receipt.lane)


def main() -> None:
    # A workflow may stand for the client: its calls belong to one agent run.
    with flatfee.Client() as client, client.workflow() as workflow, flatfee.receipts() as run:
        # Our client repeats what is worth repeating; smolagents would wait a minute before each try.
        model = OpenAIModel("auto", client=workflow, retry=False)
        try:
            plain(model)
            streamed(model)
            agent_with_tool(model)
        except (flatfee.FallbackExhausted, AgentError) as error:  # an agent raises its own, caused by ours
            failure = flatfee.classify(error)
            if not isinstance(failure, flatfee.FallbackExhausted):
                raise
            print("FallbackExhausted: tried", ", ".join(f"{it.route} ({it.outcome})" for it in failure.attempts))
    print(run.summary())


main()
