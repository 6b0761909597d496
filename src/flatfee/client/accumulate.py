"""Chunks of a stream, added up to a completion. Sans-IO, and linear: nothing is joined before it is asked for.

A provider may put fields into its chunks that nobody here knows. Texts are put together, lists go on, parts
of a list that have an ``index`` are added to the part of that index, and anything else is replaced. What
tells kind and identity is never put together: some providers repeat it in every chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from flatfee.client.exchange import invalid
from flatfee.types.base import Origin
from flatfee.types.chat import (
    ChatCompletionChunk,
    ChoiceDelta,
    ChoiceDeltaToolCall,
    ChoiceLogprobs,
    ChunkChoice,
    ParsedChatCompletion,
    ParsedChatCompletionMessage,
    TokenLogprob,
)
from flatfee.types.events import GrowingText

_WHOLE: Final = frozenset({"id", "index", "type", "role", "format"})
"""Fields that come whole, if they come more than once: the last one counts."""

_FIRST: Final = ("id", "model", "created")
_LAST: Final = ("service_tier", "system_fingerprint", "usage")
_PADDING: Final = "obfuscation"
"""Characters without a meaning, which hide the length of a token from who watches the wire."""


class ToolCallSum:
    """One tool call, as far as it came. ``index`` is its place among the calls of the answer."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.type = "function"
        self.name = ""
        self.arguments = GrowingText()
        self._has_function = False
        self._rest: dict[str, Any] = {}

    def add(self, delta: ChoiceDeltaToolCall) -> None:
        """Add what a chunk tells of this call."""
        self.id = delta.id or self.id
        self.type = delta.type or self.type
        function = delta.function
        if function is not None:
            self._has_function = True
            if function.name and function.name != self.name:  # some providers repeat the whole name
                self.name += function.name
            if function.arguments:
                self.arguments.add(function.arguments)
            if function.model_extra:
                _merge(self._rest.setdefault("function", {}), function.model_extra.items())
        if delta.model_extra:
            _merge(self._rest, delta.model_extra.items())

    def whole(self) -> dict[str, Any]:
        """Return the call as a message has it."""
        call: dict[str, Any] = {"id": self.id, "type": self.type, **_settled(self._rest)}
        if self._has_function:
            call["function"] = {"name": self.name, "arguments": self.arguments.read(), **call.get("function", {})}
        if isinstance(custom := call.get("custom"), dict):
            call["custom"] = {"name": "", "input": "", **custom}
        return call


class ChoiceSum:
    """One of the ``n`` answers, as far as it came. Texts are ``None`` until a chunk has them, if only empty."""

    def __init__(self, index: int, *, is_json: bool) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self.content: GrowingText | None = None
        self.refusal: GrowingText | None = None
        self.tool_calls: dict[int, ToolCallSum] = {}
        self.logprobs: dict[str, list[TokenLogprob]] = {}
        self._is_json = is_json
        self._current: dict[int, ToolCallSum] = {}
        self._message: dict[str, Any] = {"role": "assistant", "content": None}
        self._rest: dict[str, Any] = {}

    def add(self, choice: ChunkChoice) -> None:
        """Add what a chunk tells of this answer, but for its tool calls: those one by one."""
        self._add_delta(choice.delta)
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
        if choice.logprobs is not None:
            self._add_logprobs(choice.logprobs)
        if choice.model_extra:
            self._add_extra(choice.model_extra)

    def _add_delta(self, delta: ChoiceDelta) -> None:
        if delta.content is not None:
            if self.content is None:
                self.content = GrowingText(is_json=self._is_json)
            self.content.add(delta.content)
        if delta.refusal is not None:
            if self.refusal is None:
                self.refusal = GrowingText()
            self.refusal.add(delta.refusal)
        if delta.role:
            self._message["role"] = delta.role
        if delta.function_call is not None:
            _merge(self._message, [("function_call", delta.function_call)])
        if delta.model_extra:
            _merge(self._message, delta.model_extra.items())

    def _add_logprobs(self, found: ChoiceLogprobs) -> None:
        if found.content is not None:
            self.logprobs.setdefault("content", []).extend(found.content)
        if found.refusal is not None:
            self.logprobs.setdefault("refusal", []).extend(found.refusal)

    def _add_extra(self, extra: Mapping[str, Any]) -> None:
        """Add what stands beside the delta. It tells a state, so that a text replaces a text."""
        for name, value in extra.items():
            if isinstance(value, list):
                if not isinstance(self._rest.get(name), list):
                    self._rest[name] = []
                self._rest[name].extend(value)
            elif value is not None or name not in self._rest:
                self._rest[name] = value

    def add_call(self, delta: ChoiceDeltaToolCall) -> ToolCallSum:
        """Add a piece of a tool call, and return the call.

        A new id with a new name begins another call, whatever its index: some providers number all calls 0.
        """
        call = self._current.get(delta.index)
        named = delta.function is not None and delta.function.name
        if call is None or (named and delta.id and call.id and delta.id != call.id):
            index = max(self.tool_calls) + 1 if delta.index in self.tool_calls else delta.index
            call = self._current[delta.index] = self.tool_calls[index] = ToolCallSum(index)
        call.add(delta)
        return call

    def whole(self) -> dict[str, Any]:
        """Return the choice as a completion has it."""
        message = _settled(self._message)
        if self.content is not None:
            message["content"] = self.content.read()
        if self.refusal is not None:
            message["refusal"] = self.refusal.read()
        if self.tool_calls:
            message["tool_calls"] = [call.whole() for _, call in sorted(self.tool_calls.items())]
        if isinstance(call := message.get("function_call"), dict):
            message["function_call"] = {
                **call,
                "name": call.get("name") or "",
                "arguments": call.get("arguments") or "",
            }
        choice = {**self._rest, "index": self.index, "message": message, "finish_reason": self.finish_reason}
        return {**choice, "logprobs": {**self.logprobs}} if self.logprobs else choice

    def parse_into(self, message: ParsedChatCompletionMessage[Any]) -> None:
        """Put what the unfinished JSON holds so far beside it, past pydantic's setter: it did not come so."""
        if self.content is not None:
            vars(message)["parsed"] = self.content.parsed()
        for (_, call), told in zip(sorted(self.tool_calls.items()), message.tool_calls or (), strict=True):
            if told.function is not None:
                vars(told.function)["parsed_arguments"] = call.arguments.parsed()


class CompletionSum:
    """A completion, as far as it came. ``is_json`` tells that its content is to be parsed."""

    def __init__(self, headers: Mapping[str, str], *, is_json: bool = False) -> None:
        self._origin = Origin(headers)
        self._is_json = is_json
        self._choices: dict[int, ChoiceSum] = {}
        self._top: dict[str, Any] = {}

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Add what a chunk tells beside its choices."""
        top = self._top
        for name in _FIRST:
            if name not in top and (value := getattr(chunk, name)):
                top[name] = value
        for name in _LAST:
            if (value := getattr(chunk, name)) is not None:
                top[name] = value
        if chunk.model_extra:
            top.update(chunk.model_extra)
            top.pop(_PADDING, None)

    def choice(self, index: int) -> ChoiceSum:
        """Return the sum of one answer; a new one if this is the first that is heard of it."""
        found = self._choices.get(index)
        if found is None:
            found = self._choices[index] = ChoiceSum(index, is_json=self._is_json)
        return found

    def completion(self) -> ParsedChatCompletion[Any]:
        """Return what the chunks add up to; nothing of it is parsed.

        Raises:
            APIResponseValidationError: they do not add up to a completion.
        """
        body = {"object": "chat.completion", **self._top, "choices": [choice.whole() for choice in self._in_order()]}
        try:
            found: ParsedChatCompletion[Any] = ParsedChatCompletion.model_validate(body)
        except ValidationError as error:
            raise invalid("completion", error) from error
        found._origin = Origin(self._origin.headers)
        return found

    def snapshot(self) -> ParsedChatCompletion[object]:
        """Return the answer as far as it came, parsed as far as that goes. Raises as ``completion`` does.

        A choice that goes on has no ``finish_reason``.
        """
        found = self.completion()
        for sum_, choice in zip(self._in_order(), found.choices, strict=True):
            sum_.parse_into(choice.message)
        return found

    def _in_order(self) -> list[ChoiceSum]:
        return [choice for _, choice in sorted(self._choices.items())]


def _merge(into: dict[str, Any], fields: Iterable[tuple[str, Any]]) -> None:
    for name, value in fields:
        old = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif isinstance(value, str) and name not in _WHOLE:
            if not isinstance(old, GrowingText):
                old = into[name] = GrowingText()
            old.add(value)
        elif isinstance(value, Mapping | BaseModel):
            if not isinstance(old, dict):
                old = into[name] = {}
            _merge(old, value.items() if isinstance(value, Mapping) else value)
        elif isinstance(value, list):
            if not isinstance(old, list):
                old = into[name] = []
            _extend(old, value)
        else:
            into[name] = value


def _extend(into: list[Any], items: Iterable[Any]) -> None:
    for item in items:
        if not isinstance(item, Mapping):
            into.append(item)
            continue
        old = _part(into, item.get("index"))
        if old is None:
            into.append(old := {})
        _merge(old, item.items())


def _part(parts: list[Any], index: object) -> dict[str, Any] | None:
    """Return the part with this ``index``; it nearly always is the last, or a new one."""
    if not isinstance(index, int):
        return None
    return next((part for part in reversed(parts) if isinstance(part, dict) and part.get("index") == index), None)


def _settled(value: Any) -> Any:
    if isinstance(value, GrowingText):
        return value.read()
    if isinstance(value, dict):
        return {name: _settled(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_settled(item) for item in value]
    return value
