"""What the demo's agent does: a short run, as data, and the loop that plays it against a gateway.

The steps only ask. Which lane each takes is the gateway's decision, and is read from its receipts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from flatfee.client.sync import Client, WorkflowScope
from flatfee.errors import FallbackExhausted
from flatfee.receipt import Receipt
from flatfee.types.params import CompletionParams
from flatfee.wire import Lane, Task

WORKFLOW: Final = "demo-run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request of the agent. ``says`` is for people; ``failing`` names providers that fail from here on."""

    says: str
    prompt: str
    task: Task | None = None
    most: int = 32
    stream: bool = False
    failing: tuple[str, ...] = ()


_CODE: Final = """
def parse(line):
    name, _, value = line.partition("=")
    if not name or not value:
        raise ValueError(f"line {line!r} has no name or no value")
    return name.strip(), value.strip()
"""

RUN: Final = (
    Step(says="plan the fix", task=Task.PLAN, prompt="A test fails on empty lines. Plan the fix in three steps."),
    Step(says="name the branch", most=16, prompt="Name a branch for this fix."),
    Step(says="summarize logs", task=Task.SUMMARIZE, prompt="Summarize: 41 passed, 1 failed, 2 warnings."),
    Step(says="edit parser.py", task=Task.EDIT, prompt="Let parse() skip empty lines." + _CODE),
    Step(says="review, streamed", task=Task.REVIEW, stream=True, prompt="Review parse()." + _CODE),
    Step(says="edit the tests", task=Task.EDIT, prompt="Add a test for empty lines to parse()." + _CODE),
    Step(says="edit the docs", task=Task.EDIT, prompt="Document what parse() skips." + _CODE),
    Step(says="review, streamed", task=Task.REVIEW, stream=True, prompt="Review everything." + _CODE),
    Step(says="write changelog", task=Task.EDIT, failing=("north",), prompt="Write a line for the changelog."),
    Step(says="final report", task=Task.FINAL, failing=("south",), prompt="Say what was done."),
)
"""From best to worst: fair-use runs out on the way, then one provider fails, then the other."""


class Audience(Protocol):
    """Who watches the run."""

    def begins(self, step: Step) -> None:
        """See a step begin."""
        ...

    def hears(self, text: str) -> None:
        """See what a stream has delivered so far."""
        ...

    def served(self, step: Step, receipt: Receipt) -> None:
        """See how a step was served."""
        ...

    def failed(self, step: Step, error: FallbackExhausted) -> None:
        """See that no route was left for a step."""
        ...


@dataclass(slots=True)
class Outcome:
    """What a run has shown: every lane a receipt named, and the failure that was caught by name."""

    lanes: set[str] = field(default_factory=set)
    exhausted: FallbackExhausted | None = None

    def missing(self) -> list[str]:
        """Return what the demo promises and did not show."""
        lanes = [f"the {lane} lane" for lane in Lane if lane not in self.lanes]
        return lanes if self.exhausted else [*lanes, FallbackExhausted.__name__]


def play(
    steps: Iterable[Step], client: Client, audience: Audience, *, fail: Callable[[str], None], pace: float
) -> Outcome:
    """Play the run in one workflow; ``fail`` lets a provider fail, ``pace`` is the seconds between steps."""
    outcome = Outcome()
    with client.workflow(WORKFLOW) as run:
        for step in steps:
            for provider in step.failing:
                fail(provider)
            audience.begins(step)
            try:
                receipt = _ask(run, step, audience, pace / 16)
            except FallbackExhausted as error:
                outcome.exhausted = error
                audience.failed(step, error)
            else:
                outcome.lanes.add(str(receipt.lane))
                audience.served(step, receipt)
            time.sleep(pace)
    return outcome


def _ask(run: WorkflowScope, step: Step, audience: Audience, pace: float) -> Receipt:
    """Return the receipt of one step. A gateway always sends one."""
    messages = [{"role": "user", "content": step.prompt}]
    options: CompletionParams = {"task": step.task, "max_completion_tokens": step.most}
    if not step.stream:
        completion = run.chat.completions.create(messages=messages, model="auto", **options)
        return completion.receipt or Receipt()
    heard = ""
    with run.chat.completions.create(messages=messages, model="auto", stream=True, **options) as stream:
        for chunk in stream:
            heard += "".join(choice.delta.content or "" for choice in chunk.choices)
            audience.hears(heard)
            time.sleep(pace)
    return stream.receipt or Receipt()
