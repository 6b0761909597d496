"""A small agent: typed functions as tools, a typed answer, and what it all cost.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see quickstart.py.
"""

from pydantic import BaseModel, Field

import flatfee


class Trip(BaseModel):
    destination: str
    nights: int = Field(ge=1)
    reasons: list[str]


def flights(destination: str, nights: int = 2) -> list[dict[str, object]]:
    """List flights there and back.

    Args:
        destination: The city to fly to.
        nights: How many nights to stay.
    """
    return [{"to": destination, "nights": nights, "price": 120 + 10 * nights}]


def told(step: flatfee.ToolStep[Trip]) -> None:
    for result in step.results:
        print(f"{result.name}({result.arguments}) -> {result.content}")


with flatfee.Client() as client:
    try:
        run = client.chat.completions.run_tools(
            model="auto",
            task="plan",
            messages=[{"role": "user", "content": "Plan a short trip to the sea."}],
            tools=[flights],
            response_format=Trip,
            max_steps=4,
            deadline=60.0,
            on_step=told,
        )
    except flatfee.ToolLoopExceeded as error:
        raise SystemExit(f"no end after {len(error.run.steps)} steps and {error.run.units} units") from error

print("trip:", run.parsed)
for number, receipt in enumerate(run.receipts, 1):
    print(f"step {number}: {receipt.lane} lane, {receipt.reason}")
print("charged in all:", run.units, "units")
