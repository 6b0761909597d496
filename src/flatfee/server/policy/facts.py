"""What policy knows of a request: frozen facts, read off the ask, its caller and the moment once."""

from __future__ import annotations

from datetime import datetime

import msgspec

from flatfee.server.ask import Ask
from flatfee.server.asked import Asked
from flatfee.server.store.records import Caller, Usage
from flatfee.wire import OnExhausted, Task, Tier


def share_left(limit: int, usage: Usage) -> float:
    """Return the share (0 to 1) of ``limit`` units of fair-use that is neither used nor pending."""
    return max(0, limit - usage.fair_use_used - usage.fair_use_pending) / limit if limit else 0.0


class Facts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Facts of one request. ``model`` is ``auto``, ``premium`` or ``economy``: aliases are resolved.

    Tokens are estimates; ``output_tokens`` is what was asked for. ``project`` is ``None`` for a team key, ``at`` knows
    its timezone. ``fair_use_left`` is the share (0 to 1) of the plan's fair-use that is neither used nor pending;
    ``None`` where it was not read, because no rule asks for it. ``tool_loop_route`` answered the turn before, if a
    tool loop is open. ``economy_tokens`` is the prompt as economy is asked it on a lane of its own, where that decides
    on a route; ``None`` where it is ``prompt_tokens``.
    """

    model: str
    account: str
    project: str | None
    workflow: str | None
    at: datetime
    task: Task | None
    reasoning_effort: str | None
    prompt_tokens: int
    output_tokens: int | None
    choices: int
    tools: bool
    images: bool
    json_schema: bool
    on_exhausted: OnExhausted
    fair_use_left: float | None = None
    tool_loop_route: str | None = None
    economy_tokens: int | None = None

    def prompt_for(self, tier: Tier) -> int:
        """Return the prompt's tokens as a route of a tier is asked it on a lane of its own."""
        if self.economy_tokens is None or tier is Tier.PREMIUM:
            return self.prompt_tokens
        return self.economy_tokens

    @classmethod
    def of(
        cls,
        ask: Ask | Asked,
        model: str,
        caller: Caller,
        at: datetime,
        *,
        workflow: str | None,
        fair_use_left: float | None = None,
        tool_loop_route: str | None = None,
    ) -> Facts:
        """Read the facts of a request, or of what was kept of it, as it came from ``caller`` at a moment."""
        return cls(
            model=model,
            account=caller.account,
            project=caller.project,
            workflow=workflow,
            at=at,
            task=ask.task,
            reasoning_effort=ask.reasoning_effort,
            prompt_tokens=ask.prompt_tokens,
            output_tokens=ask.output_tokens,
            choices=ask.choices,
            tools=ask.tools,
            images=ask.images,
            json_schema=ask.json_schema,
            on_exhausted=ask.on_exhausted,
            fair_use_left=fair_use_left,
            tool_loop_route=tool_loop_route,
        )
