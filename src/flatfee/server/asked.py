"""What is kept beside a receipt, so that the past can be played again: figures and flags, never text. Pure.

The caller is told the receipt; the ledger keeps it together with what the request asked for, when it ended, and
the code of the error it was refused with. A word of the caller's own is kept only where it can be no sentence.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from flatfee.wire import ErrorCode, OnExhausted, Task

if TYPE_CHECKING:
    from flatfee.server.ask import Ask  # which knows of faults, and those of the store that keeps these facts

_WORD: Final = re.compile(r"[a-z_]{1,16}")
OTHER: Final = "other"
"""Stands for a ``reasoning_effort`` that is no short word."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of a request. Tokens are the gateway's estimates; ``output_tokens`` is what was asked for."""

    prompt_tokens: int = 0
    output_tokens: int | None = None
    choices: int = 1
    tools: bool = False
    images: bool = False
    json_schema: bool = False
    tool_loop: bool = False
    stream: bool = False
    task: Task | None = None
    reasoning_effort: str | None = None
    on_exhausted: OnExhausted = OnExhausted.CONTINUE

    @classmethod
    def of(cls, ask: Ask) -> Asked:
        """Read the facts of a request."""
        effort = ask.reasoning_effort
        return cls(
            prompt_tokens=ask.prompt_tokens,
            output_tokens=ask.output_tokens,
            choices=ask.choices,
            tools=ask.tools,
            images=ask.images,
            json_schema=ask.json_schema,
            tool_loop=ask.in_tool_loop,
            stream=ask.stream,
            task=ask.task,
            reasoning_effort=effort if effort is None or _WORD.fullmatch(effort) else OTHER,
            on_exhausted=ask.on_exhausted,
        )

    def figures(self) -> Asked:
        """Return the figures alone, for a receipt that is to tell no more."""
        return Asked(prompt_tokens=self.prompt_tokens, output_tokens=self.output_tokens, choices=self.choices)


class Beside(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the gateway knows of a request beside its receipt. ``code``: what it was refused with, if it was."""

    code: ErrorCode | None = None
    facts: Asked | None = None


class _Tail(Beside, frozen=True, kw_only=True):
    ended_at: datetime


BESIDE: Final = frozenset(_Tail.__struct_fields__)
"""Names of what is kept beside a receipt."""

_encode: Final = msgspec.json.Encoder().encode


def with_beside(json: bytes, beside: Beside | None, ended_at: datetime, *, reduced: bool) -> bytes:
    """Return a receipt's JSON object with what is kept beside it; as it is where nothing is."""
    if beside is None:
        return json
    facts = beside.facts.figures() if beside.facts is not None and reduced else beside.facts
    tail = _encode(_Tail(ended_at=ended_at, code=beside.code, facts=facts))
    return b"%b,%b" % (json[:-1], tail[1:])
