"""What a tool loop leaves behind: its steps, what they cost, and the conversation to go on with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from flatfee.receipt import Receipt
from flatfee.types.chat import ParsedChatCompletion
from flatfee.types.params import MessageParam

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """One tool call, done. ``arguments`` are as the model gave them, ``content`` is what it was told.

    ``error`` says what went wrong, ``None`` if nothing did; the model was told the same. ``seconds`` is the
    time the tool took.
    """

    id: str
    name: str
    arguments: str = field(repr=False)
    content: str = field(repr=False)
    error: str | None = field(default=None, repr=False)
    seconds: float = 0.0


# No slots: Python 3.11 cannot make a frozen class with slots from ``Name[type](...)``.
@dataclass(frozen=True, kw_only=True)
class ToolStep(Generic[T]):
    """One answer of the model, and the results of the calls in it, in their order. The last step has none."""

    completion: ParsedChatCompletion[T] = field(repr=False)
    results: tuple[ToolResult, ...] = ()

    @property
    def receipt(self) -> Receipt | None:
        """Who served the answer, why, and what it cost."""
        return self.completion.receipt


@dataclass(frozen=True, kw_only=True)
class ToolRun(Generic[T]):
    """A tool loop, at its end, or in an error as far as it came.

    ``messages`` are the whole conversation, plain dictionaries from the first answer on: to go on, send them
    again with one more. They end with the last step that is whole. ``workflow`` is the id all steps had.
    """

    messages: tuple[MessageParam, ...] = field(repr=False)
    steps: tuple[ToolStep[T], ...]
    workflow: str

    @property
    def completion(self) -> ParsedChatCompletion[T]:
        """The last answer. Raises ``LookupError`` in a run that failed before its first."""
        if not self.steps:
            raise LookupError("The run has no step: it failed before its first answer.")
        return self.steps[-1].completion

    @property
    def text(self) -> str:
        """The last answer's text; empty if it has none."""
        return self.completion.choices[0].message.content or ""

    @property
    def parsed(self) -> T | None:
        """The last answer as the ``response_format`` that was asked for."""
        return self.completion.choices[0].message.parsed

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """The receipts of all steps, in their order."""
        return tuple(receipt for step in self.steps if (receipt := step.receipt))

    @property
    def units(self) -> int:
        """Units of fair-use that all steps were charged together."""
        return sum(receipt.fair_use.charged or 0 for receipt in self.receipts if receipt.fair_use)
