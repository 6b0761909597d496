"""Structured answers: Python types out onto the wire, and completions read into them. Sans-IO.

Text that is not what was asked for is an error, never mended: who wants to guess has the completion.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import from_json

from flatfee.client.exchange import Reply, reader
from flatfee.errors import (
    ConfigurationError,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    StructuredOutputError,
)
from flatfee.tools.definition import ToolDefinition, is_model
from flatfee.tools.schema import Structure, members, structure_of
from flatfee.types.chat import ParsedChatCompletion, ParsedChatCompletionMessage, ParsedFunctionCall
from flatfee.types.sentinel import NOT_GIVEN, absent

T = TypeVar("T")

_read_completion = reader(ParsedChatCompletion)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expectation(Generic[T]):
    """What a completion is to be read into: its content into ``structure``, calls of ``tools`` by name.

    ``wire`` is what the request says of it.
    """

    structure: Structure[T] | None
    tools: Mapping[str, Mapping[str, Any]]
    wire: Mapping[str, object]

    @classmethod
    def of(cls, response_format: object, tools: object = NOT_GIVEN) -> Expectation[Any]:
        """Read the arguments of ``parse``: each may be absent, a type, or what goes onto the wire as it is.

        Raises:
            ConfigurationError: no answer can be read into ``response_format``, or two tools have one name.
        """
        wire: dict[str, object] = {}
        structure = None
        if not absent(response_format) and response_format is not None:
            structure = None if isinstance(response_format, Mapping) else _object_structure(response_format)
            wire["response_format"] = _wire_format(structure) if structure else response_format
        listed = [] if absent(tools) or tools is None else list(cast("Iterable[Mapping[str, Any]]", tools))
        if not absent(tools):
            wire["tools"] = None if tools is None else listed
        return cls(structure=structure, tools=_by_name(listed), wire=wire)

    def read(self, reply: Reply) -> ParsedChatCompletion[T]:
        """Read a reply.

        Raises:
            APIResponseValidationError: it is no completion.
            LengthFinishReasonError: it was cut off.
            ContentFilterFinishReasonError: it was withheld.
            StructuredOutputError: it does not fit what was asked for.
        """
        return self.fill(_read_completion(reply))

    def fill(self, completion: ParsedChatCompletion[Any]) -> ParsedChatCompletion[T]:
        """Read the content and the tool calls of a completion in place. Raises as ``read`` does."""
        for choice in completion.choices:
            if self.structure or self.tools:
                if choice.finish_reason == "length":
                    raise LengthFinishReasonError(completion=completion)
                if choice.finish_reason == "content_filter":
                    raise ContentFilterFinishReasonError(completion=completion)
            message = choice.message
            # Past pydantic's setter, which would count it among the fields that came over the wire.
            vars(message)["parsed"] = self._content(message, completion)
            for call in message.tool_calls or ():
                if call.function:
                    vars(call.function)["parsed_arguments"] = self._arguments(call.function, completion)
        return completion

    def _content(self, message: ParsedChatCompletionMessage[Any], completion: ParsedChatCompletion[Any]) -> T | None:
        # Text beside tool calls is what the model says of them, and not yet its answer.
        if self.structure is None or not message.content or message.refusal or message.tool_calls:
            return None
        try:
            return self.structure.read(message.content)
        except ValueError as error:
            where = places(error, members(self.structure.schema))
            told = f"The answer does not fit {self.structure.name}: {where}."
            raise StructuredOutputError(told, completion=completion) from error

    def _arguments(self, call: ParsedFunctionCall, completion: ParsedChatCompletion[Any]) -> object:
        tool = self.tools.get(call.name)
        if tool is None:
            return None
        try:
            return read_arguments(tool, call.arguments)
        except ValueError as error:
            schema = tool["function"].get("parameters") or {}
            where = places(error, members(schema))
            told = f"The arguments for the tool {call.name} do not fit: {where}."
            raise StructuredOutputError(told, completion=completion) from error


def _object_structure(kind: object) -> Structure[Any]:
    structure = structure_of(kind)
    if structure.schema.get("type") != "object" and "$ref" not in structure.schema:
        raise ConfigurationError(
            f"response_format is {kind!r}, which is no object in JSON; make it a field of a pydantic model."
        )
    return structure


def _wire_format(structure: Structure[Any]) -> Mapping[str, object]:
    told = {"name": structure.name, "schema": structure.schema, "strict": structure.strict}
    return {"type": "json_schema", "json_schema": told}


def _by_name(tools: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        if not isinstance(tool, Mapping):
            raise ConfigurationError(
                f"tools holds {tool!r}; use function_tool() for functions, pydantic_function_tool() for models."
            )
        function = tool.get("function")
        if tool.get("type") == "function" and isinstance(function, Mapping):
            name = function.get("name", "")
            if name in found:
                raise ConfigurationError(f"Two tools have the name {name!r}; give one another name.")
            found[name] = tool
    return found


def reads_arguments(tool: Mapping[str, Any]) -> bool:
    """Tell whether ``read_arguments`` makes a value of this tool's arguments."""
    if isinstance(tool, ToolDefinition):
        return True
    function = tool["function"]
    return is_model(getattr(function, "model", None)) or bool(function.get("strict"))


def read_arguments(tool: Mapping[str, Any], arguments: str) -> object:
    """Return the value of a tool's arguments; ``None`` if nobody said what to make of them.

    Raises:
        ValueError: they are not JSON, or do not fit.
    """
    if isinstance(tool, ToolDefinition):
        return tool.read(arguments)
    function = tool["function"]
    model = getattr(function, "model", None)  # openai-python's tools of models keep it there
    if is_model(model):
        return structure_of(model).read(arguments)
    try:
        return from_json(arguments) if function.get("strict") else None
    except ValueError:
        raise ValueError("not JSON") from None


def places(error: ValueError, known: Collection[str], most: int = 3) -> str:
    """Tell where a value does not fit, and which rule it breaks; never the value.

    Names outside of ``known`` are not shown: keys of a mapping are a part of the answer.
    """
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_input=False, include_url=False, include_context=False)
    told = [each["type"] + _at(each["loc"], known) for each in found[:most]]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(told) + more


def _at(place: tuple[int | str, ...], known: Collection[str]) -> str:
    shown = [str(part) if isinstance(part, int) or part in known else "*" for part in place]
    return f" at {'.'.join(shown)}" if shown else ""
