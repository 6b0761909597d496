"""Tools, the choice among them, and their calls, as the Messages API has them. Pure.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools,
https://platform.claude.com/docs/en/agents-and-tools/tool-use/parallel-tool-use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Raw

from flatfee.server.providers.anthropic.chat import Chat, ChatTool, Json, ToolCall
from flatfee.server.providers.anthropic.errors import Untranslatable

_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}
_NOT_IN_AN_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")
_object: Final = msgspec.json.Decoder(dict[str, Raw])


class ToolIds:
    """Ids of tool calls as the API takes them: of certain characters, and none twice.

    Other providers write other characters, and some begin anew with each answer, so that a conversation which
    was begun elsewhere has ids twice. The newest call of an id is the one that a result is of.
    """

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def call(self, told: str) -> str:
        """Return the id of a call."""
        base = _NOT_IN_AN_ID.sub("_", told) or "call"
        known, number = base, self._last.get(base, 1)
        while known in self._taken:
            number += 1
            known = f"{base}_{number}"
        self._last[base] = number
        self._taken.add(known)
        self._now[told] = known
        return known

    def result(self, told: str) -> str:
        """Return the id of the call that a result is of."""
        return self._now.get(told) or _NOT_IN_AN_ID.sub("_", told) or "call"


def call_block(call: ToolCall, ids: ToolIds, where: str) -> Json:
    """Return a call as a block.

    Arguments are passed on as the bytes that came. Those that are no JSON object cannot be said there; they
    become the one member ``arguments`` of an object, so that the model sees what it wrote.

    Raises:
        Untranslatable: it calls something else than a function.
    """
    if call.function is None:
        raise Untranslatable(f"{where} calls a {call.type!r}; Anthropic's API takes calls of functions.", where)
    arguments = call.function.arguments or "{}"
    return {"type": "tool_use", "id": ids.call(call.id), "name": call.function.name, "input": _input(arguments)}


def _input(arguments: str) -> object:
    data = arguments.encode(errors="replace")
    try:
        _object.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return {"arguments": arguments} if arguments.strip() else {}
    return Raw(data)


def tool_blocks(tools: Iterable[ChatTool], *, strict: bool) -> list[Json]:
    """Return the tools; ``strict`` if the model takes strict ones.

    Raises:
        Untranslatable: one is not a function.
    """
    return [_tool(tool, f"tools[{number}]", strict=strict) for number, tool in enumerate(tools)]


def _tool(tool: ChatTool, where: str, *, strict: bool) -> Json:
    function = tool.function
    if tool.type != "function" or function is None:
        raise Untranslatable(f"{where} is a {tool.type!r}; Anthropic's API takes functions from here.", where)
    block: Json = {"name": function.name}
    if function.description:
        block["description"] = function.description
    block["input_schema"] = {"type": "object", **(function.parameters or {})}
    if strict and function.strict:
        block["strict"] = True
    if cached := tool.cache_control or function.cache_control:
        block["cache_control"] = cached
    return block


def named_tools(names: Iterable[str]) -> list[Json]:
    """Return tools for calls in a conversation that goes on without any: the API wants each that was called."""
    return [{"name": name, "input_schema": {"type": "object"}} for name in dict.fromkeys(names)]


def tool_choice(chat: Chat) -> Json | None:
    """Return the choice among the tools; ``None``: as the API has it, which is the model's.

    Raises:
        Untranslatable: it is none that can be said.
    """
    told = chat.tool_choice
    choice: Json = {}
    if isinstance(told, str):
        if told not in _CHOICES:
            raise Untranslatable(
                f"tool_choice is {told[:40]!r}; send auto, none, required or a function.", "tool_choice"
            )
        choice = {"type": _CHOICES[told]}
    elif told is not None:
        if told.function is None:
            raise Untranslatable("tool_choice must name a function for Anthropic's API.", "tool_choice")
        choice = {"type": "tool", "name": told.function.name}
    if chat.parallel_tool_calls is False and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    return choice or None
