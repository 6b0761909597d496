"""What compaction reads of a conversation: roles, tool results, and the call that each result answers.

What is not as it should be is no result and belongs to no call, so that it stays as it came: judging
messages is the provider's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

_T = TypeVar("_T")
NOTHING: Final = Raw(b"null")
"""What a member that is absent is read as."""

MOST_MESSAGES: Final = 10_000
"""No run that a model can still be asked about has so many; going through a body full of empty ones takes seconds."""

_RESULTS: Final = frozenset({"tool", "function"})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the model made it; ``arguments`` is the text it wrote, JSON as a rule."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: the bytes that came, its content, and of a tool's result the call it answers."""

    raw: Raw
    role: str
    content: Raw
    call: ToolCall | None = None

    @property
    def is_result(self) -> bool:
        """Whether it is the result of a tool."""
        return self.role in _RESULTS


class _Message(msgspec.Struct):
    role: str
    content: Raw = NOTHING
    tool_calls: Raw = NOTHING
    function_call: Raw = NOTHING
    tool_call_id: Raw = NOTHING
    name: Raw = NOTHING


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""


class _Custom(msgspec.Struct):
    name: str
    input: str = ""


class _Call(msgspec.Struct):
    id: str
    function: _Function | None = None
    custom: _Custom | None = None


def decoded(raw: Raw | str, type_: type[_T]) -> _T | None:
    """Return a JSON value as ``type_``; ``None`` if it is another, or unreadable."""
    try:
        return msgspec.json.decode(raw, type=type_)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def read_messages(raw: Raw) -> list[Message]:
    """Take a conversation apart. Empty if it is none, or has more than ``MOST_MESSAGES``.

    A result belongs to the nearest call of its id before it: some services count their ids anew in every answer.
    Where one answer has an id twice, it belongs to none of them: which of them is not known.
    """
    calls: dict[str, ToolCall | None] = {}
    raws = decoded(raw, list[Raw]) or ()
    return [_read(each, calls) for each in raws] if len(raws) <= MOST_MESSAGES else []


def _read(raw: Raw, calls: dict[str, ToolCall | None]) -> Message:
    found = decoded(raw, _Message)
    if found is None:
        return Message(raw=raw, role="", content=NOTHING)
    if found.role == "assistant":
        made = list(_calls(found))
        calls.update(made)
        if len(made) > 1:
            calls.update(
                (call_id, None) for call_id, count in Counter(call_id for call_id, _ in made).items() if count > 1
            )
    if found.role not in _RESULTS:
        return Message(raw=raw, role=found.role, content=found.content)
    name = decoded(found.tool_call_id if found.role == "tool" else found.name, str)
    return Message(raw=raw, role=found.role, content=found.content, call=calls.get(f"{found.role} {name}"))


def _calls(message: _Message) -> Iterator[tuple[str, ToolCall]]:
    for raw in decoded(message.tool_calls, list[Raw]) or ():
        call = decoded(raw, _Call)
        if call is not None and call.function is not None:
            yield f"tool {call.id}", ToolCall(call.function.name, call.function.arguments)
        elif call is not None and call.custom is not None:
            yield f"tool {call.id}", ToolCall(call.custom.name, call.custom.input)
    legacy = decoded(message.function_call, _Function)
    if legacy is not None:
        yield f"function {legacy.name}", ToolCall(legacy.name, legacy.arguments)


def with_content(message: Message, content: Raw) -> Message | None:
    """Return a message with other content and its other members as they are; ``None`` if one cannot be read."""
    members = decoded(message.raw, dict[str, Raw])
    if members is None:
        return None
    raw = Raw(msgspec.json.encode({**members, "content": content}))
    return Message(raw=raw, role=message.role, content=content, call=message.call)
