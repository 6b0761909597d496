"""What a rule of ``[policy]`` may say: its conditions, tier and reason, and the table that is built in.

How a condition is checked stands in ``conditions``; what is wrong with rules taken together is found by ``mistakes``.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from flatfee.server.policy.patterns import ANY
from flatfee.server.policy.times import Day, Times, check_span
from flatfee.server.table import Name, Table
from flatfee.wire import WORKFLOW_ID, Reason, Task, Tier

POLICY_REASONS = (Reason.FRAGILE_REASONING, Reason.SMALL_TASK, Reason.CONTEXT_SIZE, Reason.DEFAULT)
"""The reasons a rule may give; the others tell what happened, not what was chosen."""


def _policy_reason(value: object) -> object:
    if isinstance(value, str) and value not in POLICY_REASONS:
        raise ValueError(f"{value[:40]!r} is not a reason of the policy; use one of: {', '.join(POLICY_REASONS)}")
    return value


def _workflow_patterns(value: object) -> object:
    if isinstance(value, bool):
        return (ANY,) if value else ()
    if value in ([], ()):
        raise ValueError("needs at least one entry; false asks for requests without a workflow")
    return value


def _workflow_pattern(text: str) -> str:
    if text != ANY and not WORKFLOW_ID.fullmatch(text.removesuffix(ANY)):
        raise ValueError(f"{text[:40]!r} is no workflow: use 1 to 128 of A-Z a-z 0-9 . _ : -, with * at the end only")
    return text


WorkflowPattern = Annotated[str, AfterValidator(_workflow_pattern)]
Hours = Annotated[str, AfterValidator(check_span)]


class Condition(Table):
    """``when`` of a rule: every key that is given must hold. Tokens are the gateway's estimates, shares 0 to 1.

    ``workflow = true`` asks for any that is named, which is the pattern ``*``; ``false`` for none, which is no pattern.
    """

    task: tuple[Task, ...] | None = Field(default=None, min_length=1)
    reasoning_effort: tuple[str, ...] | None = Field(default=None, min_length=1)
    context_over: int | None = Field(default=None, ge=0)
    context_under: int | None = Field(default=None, ge=1)
    output_over: int | None = Field(default=None, ge=0)
    output_at_most: int | None = Field(default=None, ge=1)
    tools: bool | None = None
    images: bool | None = None
    json_schema: bool | None = None
    workflow: Annotated[tuple[WorkflowPattern, ...] | None, BeforeValidator(_workflow_patterns)] = None
    account: tuple[Name, ...] | None = Field(default=None, min_length=1)
    project: tuple[Name, ...] | None = Field(default=None, min_length=1)
    hours: tuple[Hours, ...] | None = Field(default=None, min_length=1)
    days: tuple[Day, ...] | None = Field(default=None, min_length=1)
    fair_use_left_under: float | None = Field(default=None, gt=0, le=1)
    fair_use_left_over: float | None = Field(default=None, ge=0, lt=1)

    @cached_property
    def given(self) -> tuple[tuple[str, object], ...]:
        """The conditions that are set, with what they say; ``hours`` and ``days`` are one, called ``times``."""
        told = [(name, value) for name in type(self).model_fields if (value := getattr(self, name)) is not None]
        plain = [(name, value) for name, value in told if name not in {"hours", "days"}]
        times = [("times", Times.of(self.hours, self.days))] if len(plain) < len(told) else []
        return (*plain, *times)


class RuleSettings(Table):
    """One row of the policy's table: the first row whose condition holds decides the tier."""

    name: Name | None = None
    when: Condition = Condition()
    tier: Tier
    reason: Annotated[Reason, BeforeValidator(_policy_reason)]

    @property
    def called(self) -> str:
        """How a dry run calls it."""
        return self.name or self.reason


DEFAULT_RULES: tuple[RuleSettings, ...] = (
    RuleSettings(
        when=Condition(task=(Task.PLAN, Task.EDIT, Task.REVIEW, Task.FINAL)),
        tier=Tier.PREMIUM,
        reason=Reason.FRAGILE_REASONING,
    ),
    RuleSettings(
        when=Condition(reasoning_effort=("high", "xhigh")), tier=Tier.PREMIUM, reason=Reason.FRAGILE_REASONING
    ),
    RuleSettings(when=Condition(context_over=120_000), tier=Tier.ECONOMY, reason=Reason.CONTEXT_SIZE),
    RuleSettings(when=Condition(task=(Task.CHAT, Task.SUMMARIZE)), tier=Tier.ECONOMY, reason=Reason.SMALL_TASK),
    RuleSettings(
        when=Condition(tools=False, context_under=2000, output_at_most=256),
        tier=Tier.ECONOMY,
        reason=Reason.SMALL_TASK,
    ),
    RuleSettings(tier=Tier.PREMIUM, reason=Reason.DEFAULT),
)
"""The built-in table for ``auto`` (docs/concepts/lanes.md); "or" is two rows with one reason. The last row
also ends every table of an operator that has no such row of its own."""
