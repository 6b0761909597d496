"""The calls of ``client.chat.completions`` that read answers into types: ``parse`` and ``run_tools``.

What they send is made in ``structured``, which is loaded when first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, Unpack, overload

from flatfee.client.resources.core import AsyncCore, Core
from flatfee.types.chat import ParsedChatCompletion
from flatfee.types.params import (
    Json,
    Messages,
    Omittable,
    OnToolError,
    ParseParams,
    ResponseFormatParam,
    ResponseType,
    RunParams,
)
from flatfee.types.runs import ToolRun, ToolStep
from flatfee.types.sentinel import NOT_GIVEN

T = TypeVar("T")

Untyped = Omittable[ResponseFormatParam | Json | None]


class TypedCompletions:
    """Completions whose answers are read into types."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @overload
    def parse(
        self, *, messages: Messages, model: str, response_format: ResponseType[T], **options: Unpack[ParseParams]
    ) -> ParsedChatCompletion[T]: ...
    @overload
    def parse(
        self, *, messages: Messages, model: str, response_format: Untyped = NOT_GIVEN, **options: Unpack[ParseParams]
    ) -> ParsedChatCompletion[None]: ...
    def parse(
        self, *, messages: Messages, model: str, response_format: Any = NOT_GIVEN, **options: Unpack[ParseParams]
    ) -> ParsedChatCompletion[Any]:
        """Ask for a completion and read it: its content into ``response_format``, tool calls into their models.

        Raises:
            ConfigurationError: a type that no answer can be read into; nothing was sent.
            LengthFinishReasonError: the answer was cut off by a limit of tokens.
            ContentFilterFinishReasonError: a filter withheld it.
            StructuredOutputError: it does not fit. All three keep completion and receipt.
            APIError: as ``create``.
        """
        from flatfee.client.resources import structured

        return self._core.send(structured.parsed_completion(messages, model, response_format, options))

    @overload
    def run_tools(
        self,
        *,
        messages: Messages,
        model: str,
        tools: Iterable[Callable[..., object]],
        response_format: ResponseType[T],
        max_steps: int = 10,
        on_step: Callable[[ToolStep[T]], object] | None = None,
        on_tool_error: OnToolError = "tell",
        **options: Unpack[RunParams],
    ) -> ToolRun[T]: ...
    @overload
    def run_tools(
        self,
        *,
        messages: Messages,
        model: str,
        tools: Iterable[Callable[..., object]],
        response_format: Untyped = NOT_GIVEN,
        max_steps: int = 10,
        on_step: Callable[[ToolStep[None]], object] | None = None,
        on_tool_error: OnToolError = "tell",
        **options: Unpack[RunParams],
    ) -> ToolRun[None]: ...
    def run_tools(
        self,
        *,
        messages: Messages,
        model: str,
        tools: Iterable[Callable[..., object]],
        response_format: Any = NOT_GIVEN,
        max_steps: int = 10,
        on_step: Callable[[ToolStep[Any]], object] | None = None,
        on_tool_error: OnToolError = "tell",
        **options: Unpack[RunParams],
    ) -> ToolRun[Any]:
        """Ask, run the functions that the model calls, tell it the results, and ask again until it calls none.

        All steps are of one workflow; ``deadline`` is for all of them together.

        Args:
            messages: the conversation so far.
            model: what to ask.
            tools: typed functions, plain, or tools made of them.
            response_format: the type to read the last answer into.
            max_steps: how many answers it may take.
            on_step: called after each step.
            on_tool_error: ``tell`` the model what a tool raised, or ``raise`` a ``ToolError``.
            options: the other parameters of ``create``, for every step.

        Raises:
            ConfigurationError: a function that no model can be told of; nothing was sent.
            ToolLoopExceeded: the model still called tools in the last step.
            ToolError: a tool failed and ``on_tool_error`` is ``raise``, or its result cannot be written as JSON.
            APIError: as ``parse``. These three have what was done so far in ``run``.
        """
        from flatfee.client import tooldrive
        from flatfee.client.resources import structured

        loop = structured.tool_loop(
            self._core,
            messages=messages,
            model=model,
            tools=tools,
            response_format=response_format,
            max_steps=max_steps,
            on_tool_error=on_tool_error,
            options=options,
        )
        return tooldrive.run_blocking(self._core, loop, on_step)


class AsyncTypedCompletions:
    """Completions whose answers are read into types."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    @overload
    async def parse(
        self, *, messages: Messages, model: str, response_format: ResponseType[T], **options: Unpack[ParseParams]
    ) -> ParsedChatCompletion[T]: ...
    @overload
    async def parse(
        self, *, messages: Messages, model: str, response_format: Untyped = NOT_GIVEN, **options: Unpack[ParseParams]
    ) -> ParsedChatCompletion[None]: ...
    async def parse(
        self, *, messages: Messages, model: str, response_format: Any = NOT_GIVEN, **options: Unpack[ParseParams]
    ) -> ParsedChatCompletion[Any]:
        """Ask for a completion and read it: its content into ``response_format``, tool calls into their models.

        Raises:
            ConfigurationError: a type that no answer can be read into; nothing was sent.
            LengthFinishReasonError: the answer was cut off by a limit of tokens.
            ContentFilterFinishReasonError: a filter withheld it.
            StructuredOutputError: it does not fit. All three keep completion and receipt.
            APIError: as ``create``.
        """
        from flatfee.client.resources import structured

        return await self._core.send(structured.parsed_completion(messages, model, response_format, options))

    @overload
    async def run_tools(
        self,
        *,
        messages: Messages,
        model: str,
        tools: Iterable[Callable[..., object]],
        response_format: ResponseType[T],
        max_steps: int = 10,
        on_step: Callable[[ToolStep[T]], object] | None = None,
        on_tool_error: OnToolError = "tell",
        **options: Unpack[RunParams],
    ) -> ToolRun[T]: ...
    @overload
    async def run_tools(
        self,
        *,
        messages: Messages,
        model: str,
        tools: Iterable[Callable[..., object]],
        response_format: Untyped = NOT_GIVEN,
        max_steps: int = 10,
        on_step: Callable[[ToolStep[None]], object] | None = None,
        on_tool_error: OnToolError = "tell",
        **options: Unpack[RunParams],
    ) -> ToolRun[None]: ...
    async def run_tools(
        self,
        *,
        messages: Messages,
        model: str,
        tools: Iterable[Callable[..., object]],
        response_format: Any = NOT_GIVEN,
        max_steps: int = 10,
        on_step: Callable[[ToolStep[Any]], object] | None = None,
        on_tool_error: OnToolError = "tell",
        **options: Unpack[RunParams],
    ) -> ToolRun[Any]:
        """Ask, run the functions that the model calls, tell it the results, and ask again until it calls none.

        All steps are of one workflow; ``deadline`` is for all of them together.

        Args:
            messages: the conversation so far.
            model: what to ask.
            tools: typed functions, plain or coroutine functions, or tools made of them.
            response_format: the type to read the last answer into.
            max_steps: how many answers it may take.
            on_step: called after each step; what it returns is awaited if it can be.
            on_tool_error: ``tell`` the model what a tool raised, or ``raise`` a ``ToolError``.
            options: the other parameters of ``create``, for every step.

        Raises:
            ConfigurationError: a function that no model can be told of; nothing was sent.
            ToolLoopExceeded: the model still called tools in the last step.
            ToolError: a tool failed and ``on_tool_error`` is ``raise``, or its result cannot be written as JSON.
            APIError: as ``parse``. These three have what was done so far in ``run``.
        """
        from flatfee.client import tooldrive
        from flatfee.client.resources import structured

        loop = structured.tool_loop(
            self._core,
            messages=messages,
            model=model,
            tools=tools,
            response_format=response_format,
            max_steps=max_steps,
            on_tool_error=on_tool_error,
            options=options,
        )
        return await tooldrive.run_awaited(self._core, loop, on_step)
