"""A small agent that calls a tool, streams a report, and says what kept it from doing so.

What it does when premium is used up, when it is refused, when every provider is down, and when an answer breaks
off is tried in test_agent.py, without a key, a network, or a real second of waiting.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

import flatfee


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a report. ``lanes`` are those that its requests took."""

    status: Literal["done", "partial", "busy", "unpaid", "outage"]
    text: str = ""
    why: str = ""
    lanes: tuple[str, ...] = ()


def temperature(city: str) -> str:
    """Tell how warm it is in a city."""
    return f"21 degrees in {city}"


def report(client: flatfee.Client, city: str) -> Outcome:
    """Report on the weather in a city."""
    with flatfee.receipts() as seen:
        try:
            text = _written(client, city)
        except flatfee.BillingError as error:  # only the operator can help
            return Outcome(status="unpaid", why=str(error.code))
        except flatfee.ConcurrencyLimitError as error:  # the client has waited its turn as often as it may
            return Outcome(status="busy", why=f"try again in {error.retry_after:.0f} s")
        except flatfee.FallbackExhausted as error:  # the gateway has tried them all: nothing to repeat at once
            tried = sorted({attempt.route for attempt in error.attempts})
            return Outcome(status="outage", why=f"tried {', '.join(tried)}")
        except flatfee.APIError as error:
            if not error.partial:
                raise
            # A stream that broke off: StreamTruncated, a lost connection, an error in its midst.
            return Outcome(status="partial", text=error.partial, why=type(error).__name__)
        return Outcome(status="done", text=text, lanes=tuple(str(receipt.lane) for receipt in seen.receipts))


def _written(client: flatfee.Client, city: str) -> str:
    with client.workflow() as workflow:  # one agent run, one slot, which is free again when it ends
        asked = f"How is the weather in {city}? Use your tools, then say what you found."
        found = workflow.chat.completions.run_tools(
            model="auto", task="plan", messages=[{"role": "user", "content": asked}], tools=[temperature], max_steps=4
        )
        messages = [*found.messages, {"role": "user", "content": "Write the report."}]
        stream = workflow.chat.completions.create(model="auto", task="final", messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


if __name__ == "__main__":
    with flatfee.Client() as own:
        print(report(own, sys.argv[1] if len(sys.argv) > 1 else "Lisbon"))
