"""What an agent run came to: lanes, fallbacks, units and time, whoever made the calls.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see quickstart.py.
"""

import asyncio

import flatfee


async def step(client: flatfee.AsyncClient, task: flatfee.Task) -> str:
    """Ask for one step; knows nothing of who counts."""
    messages = [{"role": "user", "content": f"Please {task} the release notes."}]
    completion = await client.chat.completions.create(model="auto", task=task, messages=messages)
    return completion.choices[0].message.content or ""


async def main() -> None:
    seen: list[flatfee.Receipt] = []
    async with flatfee.AsyncClient(on_receipt=seen.append) as client:
        client.on_fair_use(below=0.1, call=lambda use: print("nearly spent:", use.remaining, "units left"))

        with flatfee.receipts() as run:
            with flatfee.receipts() as planning:
                await step(client, flatfee.Task.PLAN)
            async with asyncio.TaskGroup() as group:
                for task in (flatfee.Task.EDIT, flatfee.Task.REVIEW, flatfee.Task.SUMMARIZE):
                    group.create_task(step(client, task))

        print(run)
        print("planning alone:", planning.units.total(), "units")
        print("last receipt:", seen[-1].explain())
        if client.fair_use:
            print("left:", client.fair_use.remaining, "of", client.fair_use.limit)


asyncio.run(main())
