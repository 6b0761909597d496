"""Requests as typed dictionaries: messages, tools, formats, and every parameter of a completion.

They help editors and type checkers and do nothing at run time. Wherever a typed dictionary stands,
any mapping does as well, so ``{"role": role, "content": text}`` with a variable role type-checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Required, TypeAlias, TypeVar

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from flatfee.types.chat import ChatCompletionMessage
from flatfee.types.sentinel import NotGiven
from flatfee.types.timeout import TimeoutParam
from flatfee.wire import OnExhausted, Task

_T = TypeVar("_T")

Omittable: TypeAlias = _T | NotGiven
"""A value, or ``NOT_GIVEN`` for "as if this argument were not there"."""

ResponseType: TypeAlias = type[_T] | TypeAdapter[_T]
"""What an answer may be read into: a pydantic model, a dataclass, a ``TypedDict``, or a ``TypeAdapter`` of one."""

OnToolError: TypeAlias = Literal["tell", "raise"]
"""Who hears of a tool's exception: the model, or the caller."""

Json: TypeAlias = Mapping[str, object]
"""Any JSON object."""


class TextPart(TypedDict):
    """Text in a message of several parts."""

    type: Literal["text"]
    text: str


class ImageURL(TypedDict, total=False):
    """An image: an address, or a ``data:`` URL."""

    url: Required[str]
    detail: Literal["auto", "low", "high"]


class ImagePart(TypedDict):
    """An image in a message of several parts."""

    type: Literal["image_url"]
    image_url: ImageURL


ContentParam: TypeAlias = str | Iterable[TextPart | ImagePart | Json]


class SystemMessageParam(TypedDict, total=False):
    """Instructions; newer models call the role ``developer``."""

    role: Required[Literal["system", "developer"]]
    content: Required[ContentParam]
    name: str


class UserMessageParam(TypedDict, total=False):
    """What the user says."""

    role: Required[Literal["user"]]
    content: Required[ContentParam]
    name: str


class FunctionCallParam(TypedDict):
    """The function of a tool call; ``arguments`` is JSON text."""

    name: str
    arguments: str


class ToolCallParam(TypedDict):
    """A tool call the assistant made."""

    id: str
    type: Literal["function"]
    function: FunctionCallParam


class AssistantMessageParam(TypedDict, total=False):
    """What the model said before."""

    role: Required[Literal["assistant"]]
    content: ContentParam | None
    refusal: str | None
    tool_calls: Iterable[ToolCallParam | Json]
    name: str


class ToolMessageParam(TypedDict):
    """The result of a tool call."""

    role: Literal["tool"]
    tool_call_id: str
    content: ContentParam


MessageParam: TypeAlias = (
    SystemMessageParam | UserMessageParam | AssistantMessageParam | ToolMessageParam | ChatCompletionMessage | Json
)

Messages: TypeAlias = Iterable[MessageParam]


class FunctionParam(TypedDict, total=False):
    """A function the model may call; ``parameters`` is a JSON Schema."""

    name: Required[str]
    description: str
    parameters: Json
    strict: bool | None


class ToolParam(TypedDict):
    """A tool the model may call."""

    type: Literal["function"]
    function: FunctionParam


class JsonSchemaParam(TypedDict, total=False):
    """The schema that an answer must follow."""

    name: Required[str]
    description: str
    schema: Json
    strict: bool | None


class ResponseFormatParam(TypedDict, total=False):
    """The form of the answer; ``json_schema`` goes with the type of that name."""

    type: Required[Literal["text", "json_object", "json_schema"]]
    json_schema: JsonSchemaParam


class StreamOptionsParam(TypedDict, total=False):
    """What a stream carries beside the answer."""

    include_usage: bool
    include_obfuscation: bool


class CallOptions(TypedDict, total=False):
    """Options of every call.

    ``timeout`` is in seconds (``None`` for no limit). ``extra_headers`` go over all other headers;
    a value of ``NOT_GIVEN`` takes a default header away.
    """

    extra_headers: Mapping[str, str | NotGiven] | None
    extra_query: Mapping[str, object] | None
    timeout: Omittable[TimeoutParam]


class RunParams(CallOptions, total=False):
    """The optional parameters of a completion that ``run_tools`` takes: all but ``tools`` and ``response_format``.

    The first block is flatfee's own and travels in headers: ``workflow`` names the agent run,
    ``task`` hints at what the request is for, ``on_exhausted`` tells whether it may leave premium
    when fair-use is gone, ``deadline`` is in seconds, ``idempotency_key`` is made up where it is
    absent. The rest is OpenAI's and travels in the body. A parameter that is missing here may be
    given all the same, or, to please a type checker, in ``extra_body``, which goes over the body.
    """

    workflow: Omittable[str | None]
    task: Omittable[Task | Literal["plan", "edit", "review", "final", "chat", "summarize"] | None]
    on_exhausted: Omittable[OnExhausted | Literal["continue", "fail"] | None]
    deadline: Omittable[float | None]
    idempotency_key: Omittable[str | None]
    extra_body: Mapping[str, Any] | None

    audio: Omittable[Json | None]
    frequency_penalty: Omittable[float | None]
    function_call: Omittable[str | Json]
    functions: Omittable[Iterable[FunctionParam | Json]]
    logit_bias: Omittable[Mapping[str, int] | None]
    logprobs: Omittable[bool | None]
    max_completion_tokens: Omittable[int | None]
    max_tokens: Omittable[int | None]
    metadata: Omittable[Mapping[str, str] | None]
    modalities: Omittable[Sequence[str] | None]
    moderation: Omittable[Json | None]
    n: Omittable[int | None]
    parallel_tool_calls: Omittable[bool]
    prediction: Omittable[Json | None]
    presence_penalty: Omittable[float | None]
    prompt_cache_key: Omittable[str | None]
    prompt_cache_options: Omittable[Json]
    prompt_cache_retention: Omittable[str | None]
    reasoning_effort: Omittable[str | None]
    safety_identifier: Omittable[str | None]
    seed: Omittable[int | None]
    service_tier: Omittable[str | None]
    stop: Omittable[str | Sequence[str] | None]
    store: Omittable[bool | None]
    stream_options: Omittable[StreamOptionsParam | Json | None]
    temperature: Omittable[float | None]
    tool_choice: Omittable[str | Json]
    top_logprobs: Omittable[int | None]
    top_p: Omittable[float | None]
    user: Omittable[str]
    verbosity: Omittable[str | None]
    web_search_options: Omittable[Json]


class ParseParams(RunParams, total=False):
    """The optional parameters of a completion that ``parse`` takes: all but ``response_format``."""

    tools: Omittable[Iterable[ToolParam | Json]]


class CompletionParams(ParseParams, total=False):
    """Every optional parameter of a completion: those of ``RunParams``, ``tools`` and ``response_format``."""

    response_format: Omittable[ResponseFormatParam | Json]
