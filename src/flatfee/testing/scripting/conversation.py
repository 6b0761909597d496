"""A request body as the conversation that it is: turns, what was said, what tools returned.

A view: nothing is checked and nothing fails. What has an odd shape is passed over, for the gateway refuses it or
passes it on by rules of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

_INSTRUCTIONS: Final = frozenset({"system", "developer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool returned. ``name`` is the tool's; empty where no call of the conversation has its id."""

    name: str
    call_id: str
    text: str


@dataclass(frozen=True)
class Conversation:
    """The conversation of a request body."""

    body: Mapping[str, Any]

    @cached_property
    def messages(self) -> tuple[Mapping[str, Any], ...]:
        """The messages, in their order."""
        return tuple(_objects(self.body.get("messages")))

    @cached_property
    def turn(self) -> int:
        """Which answer of the model is asked for: 1 + how many it has given."""
        return 1 + len([message for message in self.messages if message.get("role") == "assistant"])

    @cached_property
    def user(self) -> str | None:
        """What the user said last; ``None``: nothing."""
        said = [message for message in self.messages if message.get("role") == "user"]
        return text_of(said[-1].get("content")) if said else None

    @cached_property
    def system(self) -> str | None:
        """The instructions, of every ``system`` and ``developer`` message, a line break between them."""
        told = [text_of(message.get("content")) for message in self.messages if message.get("role") in _INSTRUCTIONS]
        return "\n".join(told) if told else None

    @cached_property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """What tools returned since the model's last answer: older results were answered already."""
        names: dict[str, str] = {}
        fresh: list[ToolResult] = []
        for message in self.messages:
            if message.get("role") == "assistant":
                fresh = []
                names.update(_called(message))
            elif message.get("role") == "tool":
                call_id = str(message.get("tool_call_id", ""))
                name = names.get(call_id) or str(message.get("name") or "")
                fresh.append(ToolResult(name=name, call_id=call_id, text=text_of(message.get("content"))))
        return tuple(fresh)

    @cached_property
    def answered_calls(self) -> tuple[tuple[str, object], ...]:
        """Name and ``meaning`` of the calls in the model's last answer, if results of tools came since."""
        said = [message for message in self.messages if message.get("role") == "assistant"]
        if not said or not self.tool_results:
            return ()
        called = map(_named, _objects(said[-1].get("tool_calls")))
        return tuple((str(each.get("name", "")), meaning(each.get("arguments", each.get("input")))) for each in called)

    @cached_property
    def tools(self) -> tuple[str, ...]:
        """The names of the tools that are offered."""
        return self.tools_of("function", "custom")

    def tools_of(self, *kinds: str) -> tuple[str, ...]:
        """Return the names of the tools that are offered of these kinds: ``function``, ``custom``."""
        tools = [tool for tool in _objects(self.body.get("tools")) if tool.get("type") in kinds]
        offered = (_object(tool.get(str(tool["type"]))) for tool in tools)
        return tuple(str(tool["name"]) for tool in offered if "name" in tool)

    @cached_property
    def schema(self) -> str | None:
        """The name of the JSON schema that the answer must fit; ``None``: there is none."""
        name = self._format.get("name")
        return str(name) if name is not None else None

    @property
    def wanted_schema(self) -> Mapping[str, Any] | None:
        """The JSON schema itself."""
        wanted = self._format.get("schema")
        return wanted if isinstance(wanted, Mapping) else None

    @property
    def _format(self) -> Mapping[str, Any]:
        wanted = _object(self.body.get("response_format"))
        return _object(wanted.get("json_schema")) if wanted.get("type") == "json_schema" else {}


def text_of(content: object) -> str:
    """Return the text of a message's ``content``: the text parts of a list are joined."""
    if isinstance(content, str):
        return content
    return "".join(str(part["text"]) for part in _objects(content) if isinstance(part.get("text"), str))


def _called(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for call in _objects(message.get("tool_calls")):
        yield str(call.get("id", "")), str(_named(call).get("name", ""))


def _named(call: Mapping[str, Any]) -> Mapping[str, Any]:
    return _object(call.get("function")) or _object(call.get("custom"))


def meaning(arguments: object) -> object:
    """Return arguments as a client reads them, for many send them back written in another way."""
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return arguments


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    return (part for part in value if isinstance(part, Mapping)) if isinstance(value, list | tuple) else iter(())


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
