"""A month of requests as agents, chats and scripts send them. Everything follows from a seed.

All moments are in the middle of a millisecond, and all lengths whole milliseconds: a receipt rounds both down, and
what is rounded alike stays in order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

START: Final = 1_793_491_200.0
"""1 November 2026, 00:00 UTC."""
DAY: Final = 86_400
SHY: Final = 0.00005
"""Seconds by which whatever takes whole milliseconds is shorter."""
_TASKS: Final = ("plan", "edit", "review", "final", "chat", "summarize", None, None, None)
_MODELS: Final = ("auto",) * 14 + ("premium", "premium", "economy", "gpt-5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One request, and what a provider that is well makes of it. ``at`` is in seconds since the epoch.

    ``leaves`` is after how many seconds its caller hangs up, if nothing has come by then.
    """

    number: int
    at: float
    account: str
    project: str
    workflow: str | None
    model: str
    task: str | None
    effort: str | None
    on_exhausted: str | None
    stream: bool
    tool_loop: bool
    tools: bool
    schema: bool
    prompt: int
    output: int | None
    told: tuple[int, int, int]
    takes: float
    leaves: float | None
    declined: bool


def traffic(seed: int, accounts: int, requests: int, days: int) -> list[Asking]:
    """Return about ``requests`` requests of each of ``accounts`` accounts, in the order of their arrival."""
    rng = random.Random(seed)
    drafts: list[tuple[float, dict[str, object]]] = []
    for number in range(accounts):
        busy = rng.lognormvariate(0, 0.5)
        drafts += list(_account(rng, f"a{number:04}", max(1, int(requests * busy)), days))
    taken: set[float] = set()
    found = []
    for draft_at, draft in sorted(drafts, key=lambda each: each[0]):
        at = draft_at
        while at in taken:
            at += 0.001
        taken.add(at)
        found.append((at, draft))
    found.sort(key=lambda each: each[0])
    return [Asking(number=number, at=at, **draft) for number, (at, draft) in enumerate(found)]  # type: ignore[arg-type]  # as drafted below


def _account(rng: random.Random, name: str, requests: int, days: int) -> Iterator[tuple[float, dict[str, object]]]:
    """Draft an account's requests: runs of an agent, several at once at times, and single questions."""
    run = 0
    while requests > 0:
        run += 1
        begin = int(rng.random() * days * DAY * 1000)
        together = rng.choice((1, 1, 1, 1, 2, 3, 6))
        for branch in range(together):
            workflow = f"run-{run}-{branch}" if rng.random() < 0.9 else None
            for at, draft in _run(rng, begin + rng.randrange(4000), workflow):
                requests -= 1
                project = "ci" if rng.random() < 0.8 else "docs"
                yield START + at / 1000 + 0.0005, {"account": name, "project": project, **draft}


def _run(rng: random.Random, at: int, workflow: str | None) -> Iterator[tuple[int, dict[str, object]]]:
    """Draft one run: a turn of the user, then tool results that follow fast on each other, then the next turn."""
    context = int(rng.lognormvariate(6.5, 1.2))
    for turn in range(rng.randint(1, 4)):
        for step in range(rng.choice((1, 1, 2, 4, 8))):
            takes = int(rng.lognormvariate(7.5, 0.8)) + 20
            for _ in range(rng.choice((1,) * 12 + (3, 5))):
                yield at + rng.randrange(900), _draft(rng, workflow, context, takes, tool_loop=step > 0)
            context += int(rng.lognormvariate(6, 1))
            at += takes + rng.randrange(200, 9000)
        at += rng.choice((5, 20, 60, 200)) * 1000 * (turn + 1)


def _draft(rng: random.Random, workflow: str | None, context: int, takes: int, *, tool_loop: bool) -> dict[str, object]:
    prompt = min(context if rng.random() < 0.995 else context + 130_000, 190_000)
    output = rng.choice((None, None, 64, 200, 1000, 8000))
    written = min(int(rng.lognormvariate(5, 1)) + 1, output or 4000)
    return {
        "workflow": workflow,
        "model": rng.choice(_MODELS),
        "task": rng.choice(_TASKS),
        "effort": rng.choice((None,) * 9 + ("high",)),
        "on_exhausted": rng.choice((None,) * 9 + ("fail",)),
        "stream": rng.random() < 0.4,
        "tool_loop": tool_loop,
        "tools": tool_loop or rng.random() < 0.5,
        "schema": rng.random() < 0.05,
        "prompt": prompt,
        "output": output,
        "told": (max(1, int(prompt * rng.uniform(0.8, 1.15))), written, int(prompt * rng.choice((0, 0, 0.5)))),
        "takes": takes / 1000,
        "leaves": rng.randrange(50, 4000) / 1000 if rng.random() < 0.01 else None,
        "declined": rng.random() < 0.005,
    }
