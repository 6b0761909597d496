"""The tool loop: ask, run what the model calls, tell it the results, ask again. Sans-IO.

``ToolLoop`` decides: what to ask next, which calls mean what, when it is over. The drivers in
``tooldrive`` send, and call the tools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import to_json

from flatfee.client.exchange import Call
from flatfee.client.retry import Budget
from flatfee.errors import (
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    ConfigurationError,
    ToolError,
    ToolLoopExceeded,
)
from flatfee.tools.definition import FunctionTool, function_tool
from flatfee.types.chat import ChatCompletionMessageToolCall, ParsedChatCompletion
from flatfee.types.params import MessageParam, OnToolError
from flatfee.types.runs import ToolResult, ToolRun, ToolStep

T = TypeVar("T")

AskWith = Callable[[tuple[MessageParam, ...], int, float | None], Call[ParsedChatCompletion[T]]]
"""Makes the call of a step from the messages, the step's number (from 1) and the seconds that are left."""

MOST_TOOLS_AT_ONCE: Final = 16
"""Calls of one answer that run at the same time, where the client is for coroutines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A tool call, understood: either ``tool`` and its ``arguments``, or the ``problem`` to tell the model."""

    id: str
    name: str
    given: str
    tool: FunctionTool[..., Any] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a tool call: the value that the tool returned, or what it raised."""

    wanted: Wanted
    value: object = None
    raised: BaseException | None = None
    seconds: float = 0.0


class ToolLoop(Generic[T]):
    """The state of one loop.

    Args:
        messages: the conversation so far.
        tools: what the model may call, by name.
        ask_with: makes the calls.
        max_steps: how many answers it may take.
        on_tool_error: whether the model is told what a tool raised, or the caller.
        workflow: the id of the run; ``own_workflow`` if nobody else knows of it.
        budget: the time that all of it may take.
    """

    def __init__(
        self,
        *,
        messages: Iterable[MessageParam],
        tools: Mapping[str, FunctionTool[..., Any]],
        ask_with: AskWith[T],
        max_steps: int,
        on_tool_error: OnToolError,
        workflow: str,
        own_workflow: bool,
        budget: Budget | None,
    ) -> None:
        self.done = False
        self.tools = tools
        self.workflow = workflow
        self.raises = on_tool_error == "raise"
        self.holds_slot = False
        self._messages = tuple(messages)
        self._ask_with = ask_with
        self._max_steps = max_steps
        self._own_workflow = own_workflow
        self._budget = budget
        self._steps: list[ToolStep[T]] = []

    @property
    def run(self) -> ToolRun[T]:
        """What happened so far."""
        return ToolRun(messages=self._messages, steps=tuple(self._steps), workflow=self.workflow)

    def left(self) -> float | None:
        """Return the seconds that are left; ``None`` where there is no deadline.

        Raises:
            APITimeoutError: none are.
        """
        left = self._budget.left() if self._budget else None
        if left is not None and left <= 0:
            raise self.late()
        return left

    def late(self) -> APIError:
        """Return the exception for a run whose deadline has passed."""
        return APITimeoutError(f"The deadline of the tool loop passed after {_counted(len(self._steps), 'step')}.")

    def ask(self) -> Call[ParsedChatCompletion[T]]:
        """Return the call of the next step.

        Raises:
            ToolLoopExceeded: there have been ``max_steps``.
            APITimeoutError: the deadline has passed.
        """
        step = len(self._steps) + 1
        if step > self._max_steps:
            raise ToolLoopExceeded(
                f"The model still called tools in step {self._max_steps}, the last that max_steps allows.", run=self.run
            )
        call = self._ask_with(self._messages, step, self.left())
        self.holds_slot = self._own_workflow
        return call

    def heard(self, completion: ParsedChatCompletion[T]) -> list[Wanted]:
        """Take an answer, and return the tool calls in it; without any, the loop is done."""
        if not completion.choices:
            raise APIResponseValidationError("The answer has no choice.", receipt=completion.receipt)
        calls = completion.choices[0].message.tool_calls or []
        self._steps.append(ToolStep(completion=completion))
        if not calls:
            self._messages = (*self._messages, _said(completion))
            self.done = True
        return [self._understood(call) for call in calls]

    def _understood(self, call: ChatCompletionMessageToolCall) -> Wanted:
        name = call.function.name if call.function else call.custom.name if call.custom else ""
        given = call.function.arguments if call.function else ""
        tool = self.tools.get(name) if call.function else None
        if tool is None:
            problem = f"there is no function {name!r}; there is {', '.join(self.tools) or 'none'}"
            return Wanted(id=call.id, name=name, given=given, problem=problem)
        try:
            arguments = tool.read(given)
        except ValueError as error:
            return Wanted(id=call.id, name=name, given=given, problem=_misfit(error))
        return Wanted(id=call.id, name=name, given=given, tool=tool, arguments=arguments)

    def used(self, outcomes: Iterable[Outcome]) -> ToolStep[T]:
        """Take the outcomes of the last answer's calls, in their order, and return the step, now whole.

        Raises:
            ToolError: a tool failed, and the caller wants to know; or it returned what cannot be told.
        """
        completion = self._steps[-1].completion
        results: list[ToolResult] = []
        for outcome in outcomes:
            result, failure = self._result(outcome)
            results.append(result)
            self._steps[-1] = ToolStep(completion=completion, results=tuple(results))
            if failure is not None:
                name = outcome.wanted.name
                raise ToolError(f"The tool {name} {failure}.", run=self.run, tool=name) from outcome.raised
        told = [{"role": "tool", "tool_call_id": result.id, "content": result.content} for result in results]
        self._messages = (*self._messages, _said(completion), *told) if told else self._messages
        return self._steps[-1]

    def _result(self, outcome: Outcome) -> tuple[ToolResult, str | None]:
        """Return what the model is told, and what the caller is told instead."""
        wanted, raised = outcome.wanted, outcome.raised
        failure = None
        content, problem = "", wanted.problem
        if raised is not None:
            problem = f"{type(raised).__name__}: {raised}".encode(errors="replace").decode()
            failure = f"raised {type(raised).__name__}" if self.raises else None
        elif problem is None:
            try:
                content = text_of(outcome.value)
            except ValueError:
                problem = failure = (
                    f"returned a value of type {type(outcome.value).__name__}, which cannot be written as JSON"
                )
        result = ToolResult(
            id=wanted.id,
            name=wanted.name,
            arguments=wanted.given,
            content=content if problem is None else f"Error: {problem}",
            error=problem,
            seconds=outcome.seconds,
        )
        return result, failure


def text_of(value: object) -> str:
    """Return a tool's result as the text a model is told: text as it is, all else as JSON.

    Raises:
        ValueError: it cannot be written as JSON; half of a surrogate pair is no text.
    """
    return (value.encode() if isinstance(value, str) else to_json(value)).decode()


def tools_by_name(tools: Iterable[object]) -> dict[str, FunctionTool[..., Any]]:
    """Return tools that can be called, by name; plain functions become tools.

    Raises:
        ConfigurationError: one has no function behind it, or two have one name.
    """
    found: dict[str, FunctionTool[..., Any]] = {}
    for given in tools:
        if isinstance(given, Mapping) and not isinstance(given, FunctionTool):
            raise ConfigurationError(f"{given!r} has no function that could be called; pass typed functions.")
        tool = given if isinstance(given, FunctionTool) else function_tool(cast("Callable[..., Any]", given))
        if tool.name in found:
            raise ConfigurationError(f"Two tools have the name {tool.name!r}; give one another with function_tool().")
        found[tool.name] = tool
    return found


def _misfit(error: ValueError, most: int = 5) -> str:
    """Tell a model what is wrong with its arguments, so that it can mend them."""
    if not isinstance(error, ValidationError):
        return f"the arguments do not fit: {error}"
    found = error.errors(include_input=False, include_url=False, include_context=False)[:most]
    told = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ") for each in found]
    return f"the arguments do not fit: {'; '.join(told)}"


def _said(completion: ParsedChatCompletion[Any]) -> dict[str, Any]:
    return completion.choices[0].message.to_dict(mode="json")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
