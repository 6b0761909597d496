"""More agent runs than the plan allows at once. With pacing they take turns; without it most of them fail.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see quickstart.py.
"""

import asyncio

from flatfee import AsyncClient, ConcurrencyLimitError

AGENTS = 20
STEPS = ("Plan the change.", "Make the change.", "Summarize it.")


async def agent(client: AsyncClient) -> int:
    """Run three steps in one workflow; return how often one of them was refused and sent again."""
    refused = 0
    async with client.workflow() as run:
        for prompt in STEPS:
            completion = await run.chat.completions.create(
                model="economy", messages=[{"role": "user", "content": prompt}]
            )
            refused += completion.retries_taken
    return refused


async def swarm(client: AsyncClient) -> str:
    """Run all agents at once, and tell how it went."""
    found = await asyncio.gather(*(agent(client) for _ in range(AGENTS)), return_exceptions=True)
    failed = sum(isinstance(one, ConcurrencyLimitError) for one in found)
    refused = sum(one for one in found if isinstance(one, int))
    return f"{AGENTS - failed} of {AGENTS} agents came through, after {refused} refusals that nobody had to handle"


async def main() -> None:
    async with AsyncClient(max_retries=0) as client:
        print("without pacing:", await swarm(client))
    async with AsyncClient(max_retries=0, pacing=True) as client:
        print("with pacing:", await swarm(client))


asyncio.run(main())
