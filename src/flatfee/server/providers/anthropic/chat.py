"""The body of a chat completion, as far as it is translated. Shapes only; what they become is told elsewhere.

https://platform.openai.com/docs/api-reference/chat/create. Fields that are not here have no equivalent, and are
not sent: penalties, ``seed``, ``logprobs``, ``logit_bias``, ``prediction``, ``store``, ``verbosity``. The last three
fields of ``Chat``, and ``cache_control`` everywhere, are Anthropic's own, for callers who know where they end.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from flatfee.server.answers.lenient import UNREADABLE, decoded
from flatfee.server.providers.anthropic.errors import Untranslatable

Json = dict[str, Any]


class ImageUrl(msgspec.Struct):
    """``image_url`` of a part; ``detail`` has no equivalent."""

    url: str


class File(msgspec.Struct):
    """``file`` of a part."""

    file_data: str | None = None
    filename: str | None = None


class Part(msgspec.Struct):
    """One part of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    file: File | None = None
    cache_control: Json | None = None


class Called(msgspec.Struct):
    """``function`` of a tool call; the arguments are JSON in a text, or should be."""

    name: str
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    """A call of a tool in an assistant's message."""

    id: str
    type: str = "function"
    function: Called | None = None


class ChatMessage(msgspec.Struct):
    """One message. Thoughts are whatever a client made of those it was given."""

    role: str
    content: str | list[Part] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_details: Any = None
    thinking_blocks: Any = None
    cache_control: Json | None = None


class Function(msgspec.Struct):
    """``function`` of a tool."""

    name: str
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None
    cache_control: Json | None = None


class ChatTool(msgspec.Struct):
    """A tool that may be called."""

    type: str = "function"
    function: Function | None = None
    cache_control: Json | None = None


class NamedFunction(msgspec.Struct):
    """``function`` of a tool choice."""

    name: str


class ToolChoice(msgspec.Struct):
    """A tool choice that names a tool."""

    type: str = "function"
    function: NamedFunction | None = None


class JsonSchema(msgspec.Struct):
    """``json_schema`` of a response format; its name and description have no equivalent."""

    schema: Json | None = None


class ResponseFormat(msgspec.Struct):
    """``response_format``."""

    type: str = "text"
    json_schema: JsonSchema | None = None


class Chat(msgspec.Struct, kw_only=True):
    """The body."""

    model: str
    messages: list[ChatMessage]
    stream: bool | None = None
    n: int | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    tools: list[ChatTool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    metadata: Json | None = None
    thinking: Json | None = None
    top_k: int | None = None
    cache_control: Json | None = None


_chat: Final = msgspec.json.Decoder(Chat)


def read_chat(body: bytes) -> Chat:
    """Read the body of a chat completion.

    Raises:
        Untranslatable: it has a field of a wrong type.
    """
    try:
        return decoded(_chat, body)
    except UNREADABLE as error:
        raise Untranslatable(f"The body is not one of a chat completion: {error}.") from error
