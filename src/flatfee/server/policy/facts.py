"""What policy knows of a request: frozen facts, read off the ask once."""

from __future__ import annotations

from dataclasses import dataclass

from flatfee.server.ask import Ask
from flatfee.wire import OnExhausted, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts of one request. ``model`` is ``auto``, ``premium`` or ``economy``: aliases are resolved."""

    model: str
    task: Task | None
    reasoning_effort: str | None
    prompt_tokens: int
    output_tokens: int | None
    choices: int
    tools: bool
    images: bool
    json_schema: bool
    on_exhausted: OnExhausted
    tool_loop_route: str | None = None

    @classmethod
    def of(cls, ask: Ask, model: str, tool_loop_route: str | None = None) -> Facts:
        """Read the facts of ``ask``; ``tool_loop_route`` answered the turn before, if a tool loop is open."""
        return cls(
            model=model,
            task=ask.task,
            reasoning_effort=ask.reasoning_effort,
            prompt_tokens=ask.prompt_tokens,
            output_tokens=ask.output_tokens,
            choices=ask.choices,
            tools=ask.tools,
            images=ask.images,
            json_schema=ask.json_schema,
            on_exhausted=ask.on_exhausted,
            tool_loop_route=tool_loop_route,
        )
