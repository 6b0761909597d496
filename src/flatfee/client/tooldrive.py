"""The two drivers of a tool loop: they send, call the tools, and free the workflow. What to do is decided elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import inf
from typing import TypeVar

import anyio
import anyio.to_thread

from flatfee.client.resources.core import AsyncCore, Core
from flatfee.client.resources.workflows import aleave, leave
from flatfee.client.toolrun import MOST_TOOLS_AT_ONCE, Outcome, ToolLoop, Wanted
from flatfee.errors import APIError, ConfigurationError
from flatfee.types.runs import ToolRun, ToolStep

T = TypeVar("T")


def run_blocking(core: Core, loop: ToolLoop[T], on_step: Callable[[ToolStep[T]], object] | None) -> ToolRun[T]:
    """Drive a loop to its end; the calls of one answer are run one after the other.

    Raises:
        ConfigurationError: a tool must be awaited, which nobody does here.
    """
    for tool in loop.tools.values():
        if tool.is_async:
            raise ConfigurationError(f"The tool {tool.name} is a coroutine function; use AsyncClient, or a plain one.")
    try:
        while not loop.done:
            wanted = loop.heard(core.send(loop.ask()))
            step = loop.used(_one_by_one(loop, wanted, core.clock))
            if on_step is not None:
                on_step(step)
    except APIError as error:
        error.run = loop.run
        raise
    finally:
        if loop.holds_slot:
            leave(core, loop.workflow)
    return loop.run


def _one_by_one(loop: ToolLoop[T], wanted: Sequence[Wanted], clock: Callable[[], float]) -> Iterator[Outcome]:
    for each in wanted:
        loop.left()
        began = clock()
        try:
            value = each.tool(**each.arguments) if each.tool is not None else None
        except Exception as error:  # noqa: BLE001 - whatever a tool raises is told to the model, or the caller
            yield Outcome(wanted=each, raised=error, seconds=clock() - began)
        else:
            yield Outcome(wanted=each, value=value, seconds=clock() - began)


async def run_awaited(
    core: AsyncCore, loop: ToolLoop[T], on_step: Callable[[ToolStep[T]], object] | None
) -> ToolRun[T]:
    """Drive a loop to its end; the calls of one answer run side by side. Cancelled, it cancels them."""
    try:
        while not loop.done:
            wanted = loop.heard(await core.send(loop.ask()))
            step = loop.used(await _side_by_side(loop, wanted, core.clock))
            if on_step is not None:
                told = on_step(step)
                if inspect.isawaitable(told):
                    await told
    except APIError as error:
        error.run = loop.run
        raise
    finally:
        if loop.holds_slot:
            await aleave(core, loop.workflow)
    return loop.run


async def _side_by_side(loop: ToolLoop[T], wanted: Sequence[Wanted], clock: Callable[[], float]) -> Iterator[Outcome]:
    done: dict[int, Outcome] = {}
    gate = anyio.Semaphore(MOST_TOOLS_AT_ONCE)
    with anyio.move_on_after(loop.left()) as limit:
        async with anyio.create_task_group() as group:

            async def run(index: int, each: Wanted) -> None:
                async with gate:
                    done[index] = await _outcome(each, clock)
                raised = done[index].raised
                if raised is not None and (loop.raises or not isinstance(raised, Exception)):
                    group.cancel_scope.cancel()

            for index, each in enumerate(wanted):
                group.start_soon(run, index, each)

    for outcome in done.values():
        if outcome.raised is not None and not isinstance(outcome.raised, Exception):
            raise outcome.raised  # here, where no group is made of it

    def told() -> Iterator[Outcome]:
        yield from (done[index] for index in sorted(done))
        if limit.cancelled_caught:
            raise loop.late()

    return told()


async def _outcome(wanted: Wanted, clock: Callable[[], float]) -> Outcome:
    tool, arguments = wanted.tool, wanted.arguments
    if tool is None:
        return Outcome(wanted=wanted)
    began = clock()
    try:
        if tool.is_async:
            value = await tool(**arguments)
        else:
            # In a thread, for it may block; one that a cancelled run leaves behind ends by itself.
            value = await anyio.to_thread.run_sync(partial(tool, **arguments), abandon_on_cancel=True)
            value = await value if inspect.isawaitable(value) else value
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 - for the model, or the caller
        return Outcome(wanted=wanted, raised=error, seconds=clock() - began)
    except anyio.get_cancelled_exc_class():
        if anyio.current_effective_deadline() == -inf:
            raise  # the loop is over
        ended = RuntimeError("it was cancelled")  # what it waited for was, and not the tool
        return Outcome(wanted=wanted, raised=ended, seconds=clock() - began)
    return Outcome(wanted=wanted, value=value, seconds=clock() - began)
