"""What ``parse`` and ``run_tools`` send: completions that are read into types, one or many. Loaded when first used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast
from uuid import uuid4

from flatfee.client.exchange import Call, extra_headers
from flatfee.client.parsing import Expectation
from flatfee.client.resources.chat import completion
from flatfee.client.resources.core import AsyncCore, Core
from flatfee.client.resources.options import deadline, workflow_id
from flatfee.client.retry import Budget
from flatfee.client.toolrun import ToolLoop, tools_by_name
from flatfee.errors import ConfigurationError
from flatfee.types.chat import ParsedChatCompletion
from flatfee.types.params import MessageParam, Messages, OnToolError
from flatfee.types.sentinel import NOT_GIVEN, absent
from flatfee.wire import Header

T = TypeVar("T")


def parsed_completion(
    messages: Messages, model: str, response_format: object, options: Mapping[str, Any]
) -> Call[ParsedChatCompletion[Any]]:
    """Return the call of a completion that is read into ``response_format`` and the tools' models."""
    return _expecting(Expectation.of(response_format, options.get("tools", NOT_GIVEN)), messages, model, options)


def _expecting(
    expected: Expectation[T], messages: Messages, model: str, options: Mapping[str, Any]
) -> Call[ParsedChatCompletion[T]]:
    if options.get("stream"):
        raise ConfigurationError("This call answers as a whole, and stream is true; use create() or stream().")
    given = cast("Any", {**options, **expected.wire})
    return completion(messages, model, NOT_GIVEN, given).reading(expected.read)


def tool_loop(
    core: Core | AsyncCore,
    *,
    messages: Messages,
    model: str,
    tools: Iterable[Callable[..., object]],
    response_format: object,
    max_steps: int,
    on_tool_error: OnToolError,
    options: Mapping[str, Any],
) -> ToolLoop[Any]:
    """Return a loop that has not begun. All its calls are of one workflow and share one deadline.

    Raises:
        ConfigurationError: names the argument that it cannot run with.
    """
    _check(max_steps, on_tool_error, options)
    by_name = tools_by_name(tools)
    expected = Expectation.of(response_format)
    workflow, own = _workflow(core.config.headers, options)
    fixed = {**options, "workflow": workflow, "tools": list(by_name.values()) or NOT_GIVEN}

    def ask_with(so_far: tuple[MessageParam, ...], step: int, left: float | None) -> Call[ParsedChatCompletion[Any]]:
        return _expecting(expected, so_far, model, {**fixed, **_of_step(options, step), "deadline": left})

    return ToolLoop(
        messages=messages,
        tools=by_name,
        ask_with=ask_with,
        max_steps=max_steps,
        on_tool_error=on_tool_error,
        workflow=workflow,
        own_workflow=own,
        budget=Budget.of(deadline(options), core.clock),
    )


def _check(max_steps: object, on_tool_error: object, options: Mapping[str, Any]) -> None:
    if not isinstance(max_steps, int) or isinstance(max_steps, bool) or max_steps < 1:
        raise ConfigurationError(f"max_steps is {max_steps!r}; use a whole number of answers, 1 or more.")
    if on_tool_error not in {"tell", "raise"}:
        raise ConfigurationError(f"on_tool_error is {on_tool_error!r}; use 'tell' or 'raise'.")
    choices = options.get("n")
    if choices not in {None, 1} and not absent(choices):
        raise ConfigurationError(f"n is {choices!r}, and a tool loop follows one answer; leave n out.")


def _of_step(options: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return what differs between the steps of a run.

    A caller's idempotency key is for the run, and each step is a request of its own. A tool that the model
    must call is for the first step: demanded again and again, the loop would never end.
    """
    found: dict[str, Any] = {}
    if options.get("idempotency_key"):
        found["idempotency_key"] = f"{options['idempotency_key']}-{step}"
    choice = options.get("tool_choice")
    if step > 1 and (choice == "required" or isinstance(choice, Mapping)):
        found["tool_choice"] = "auto"
    return found


def _workflow(headers: Mapping[str, str], options: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the run's workflow id, and whether it is the loop's own: then its slot is freed at the end."""
    given = options.get("workflow")
    if given is not None and not absent(given):
        return workflow_id(given), False
    named = {**headers, **extra_headers(options.get("extra_headers"))}.get(Header.WORKFLOW)
    return (named, False) if isinstance(named, str) else (f"wf-{uuid4().hex}", True)
