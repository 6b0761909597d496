"""Several agent runs side by side. Each is a workflow: one slot of the plan, however many calls it makes.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see quickstart.py.
"""

import asyncio

from flatfee import AsyncClient, Task

STEPS = ((Task.PLAN, "Plan the change."), (Task.EDIT, "Make the change."), (Task.SUMMARIZE, "Summarize it."))


async def agent(client: AsyncClient, name: str) -> str:
    """Run three steps in one workflow; leaving the block gives its slot back at once."""
    lanes: list[str] = []
    async with client.workflow(name) as run:
        for task, prompt in STEPS:
            completion = await run.chat.completions.create(
                model="auto", task=task, messages=[{"role": "user", "content": prompt}]
            )
            if completion.receipt:
                lanes.append(f"{task} on {completion.receipt.lane}")
    return f"{name}: {', '.join(lanes)}"


async def main() -> None:
    async with AsyncClient() as client:
        async with asyncio.TaskGroup() as group:
            agents = [group.create_task(agent(client, f"agent-{number}")) for number in range(3)]
        for done in agents:
            print(done.result())

        live = [workflow.id async for workflow in client.workflows.list()]
        print("workflows still holding a slot:", len(live))
        async for receipt in client.receipts.list(workflow="agent-0"):
            print(receipt.request_id, receipt.lane, receipt.reason)


asyncio.run(main())
