"""Chat completions, whole and streamed, in OpenAI's shape. Requests are in ``params``.

Only ``choices`` of a whole completion is required: providers differ in the rest. Finish reasons,
roles and kinds of tool calls are plain strings, because providers invent new ones.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from flatfee.receipt import Receipt
from flatfee.types.base import Answer, Count, OrAbsent, OrDefault, WireModel

T = TypeVar("T")

_KINDS: Final = ("function", "custom")


class FunctionCall(WireModel):
    """A function the model wants called; ``arguments`` is JSON text, and may be broken JSON or empty."""

    name: OrDefault[str] = ""
    arguments: OrDefault[str] = ""


class CustomCall(WireModel):
    """A custom tool the model wants called, with free text as input."""

    name: str
    input: str


class ChatCompletionMessageToolCall(WireModel):
    """One tool call. ``type`` tells which of ``function`` and ``custom`` is there."""

    id: OrDefault[str] = ""
    type: OrDefault[str] = "function"
    function: FunctionCall | None = None
    custom: CustomCall | None = None

    @model_serializer(mode="wrap")
    def _of_one_kind(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the kind that it is not: sent back with a message, a provider may refuse the null."""
        found: dict[str, Any] = dump(self)
        return {name: value for name, value in found.items() if value is not None or name not in _KINDS}


class URLCitation(WireModel):
    """A page that the answer leans on, and the characters of the answer that do."""

    url: OrDefault[str] = ""
    title: OrDefault[str] = ""
    start_index: OrDefault[Count] = 0
    end_index: OrDefault[Count] = 0


class Annotation(WireModel):
    """A note on a part of the answer."""

    type: OrDefault[str] = "url_citation"
    url_citation: OrAbsent[URLCitation] = None


class ChatCompletionAudio(WireModel):
    """What the model said aloud: ``data`` in base64, ``expires_at`` in seconds since 1970."""

    id: OrDefault[str] = ""
    data: OrDefault[str] = ""
    transcript: OrDefault[str] = ""
    expires_at: OrDefault[Count] = 0


class ChatCompletionMessage(WireModel):
    """What the model said. It may be sent back as a message just as it is."""

    role: OrDefault[str] = "assistant"
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ChatCompletionMessageToolCall] | None = None
    function_call: FunctionCall | None = None
    annotations: OrAbsent[list[Annotation]] = None
    audio: OrAbsent[ChatCompletionAudio] = None


class TopLogprob(WireModel):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(TopLogprob):
    """The token that was chosen, and the likeliest ones at its position."""

    top_logprobs: OrDefault[list[TopLogprob]] = Field(default_factory=list)


class ChoiceLogprobs(WireModel):
    """Log probabilities of a choice's tokens."""

    content: list[TokenLogprob] | None = None
    refusal: list[TokenLogprob] | None = None


class Choice(WireModel):
    """One of the ``n`` answers."""

    index: OrDefault[Count] = 0
    message: ChatCompletionMessage
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None


class PromptTokensDetails(WireModel):
    """What the prompt's tokens were."""

    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None
    text_tokens: Count | None = None


class CompletionTokensDetails(WireModel):
    """What the completion's tokens were."""

    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    text_tokens: Count | None = None
    accepted_prediction_tokens: Count | None = None
    rejected_prediction_tokens: Count | None = None


class CompletionUsage(WireModel):
    """Tokens as the provider counted them."""

    prompt_tokens: OrDefault[Count] = 0
    completion_tokens: OrDefault[Count] = 0
    total_tokens: OrDefault[Count] = 0
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


class ChatCompletion(Answer):
    """A whole completion, with its receipt."""

    id: OrDefault[str] = ""
    choices: list[Choice]
    created: OrDefault[Count] = 0
    model: OrDefault[str] = ""
    object: OrDefault[str] = "chat.completion"
    metadata: OrAbsent[dict[str, Any]] = None
    moderation: OrAbsent[dict[str, Any]] = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: OrAbsent[CompletionUsage] = None

    @property
    def receipt(self) -> Receipt | None:
        """Who served this, why, and what it cost; ``None`` if no flatfee gateway answered."""
        return self._origin.receipt_with(self.model_extra)


class ParsedFunctionCall(FunctionCall):
    """A function call with its arguments as they were read; ``None`` where nobody said what to read them into."""

    parsed_arguments: Any = None


class ParsedToolCall(ChatCompletionMessageToolCall):
    """One tool call, its arguments read."""

    function: ParsedFunctionCall | None = None  # pyright: ignore[reportIncompatibleVariableOverride]  # only read


class ParsedChatCompletionMessage(ChatCompletionMessage, Generic[T]):
    """What the model said, and ``parsed``: its content as the type that was asked for.

    ``parsed`` is ``None`` in a refusal, and where the model calls tools first. It did not come over the
    wire, so ``to_dict()`` leaves it out, and the message may be sent back as it is; ``model_dump()`` has it.
    """

    tool_calls: list[ParsedToolCall] | None = None  # type: ignore[assignment]  # narrower, and only read
    parsed: T | None = None


class ParsedChoice(Choice, Generic[T]):
    """One of the ``n`` answers."""

    message: ParsedChatCompletionMessage[T]  # pyright: ignore[reportIncompatibleVariableOverride]  # only read


class ParsedChatCompletion(ChatCompletion, Generic[T]):
    """A whole completion whose content was read into a type. Answers are of this one class, whatever the type."""

    choices: list[ParsedChoice[T]]  # type: ignore[assignment]  # narrower, and only read


class ChoiceDeltaToolCallFunction(WireModel):
    """A piece of a function call."""

    name: str | None = None
    arguments: str | None = None


class ChoiceDeltaToolCall(WireModel):
    """A piece of a tool call; ``index`` tells which."""

    index: OrDefault[Count] = 0
    id: str | None = None
    type: str | None = None
    function: ChoiceDeltaToolCallFunction | None = None


class ChoiceDelta(WireModel):
    """A piece of a message."""

    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ChoiceDeltaToolCall] | None = None
    function_call: ChoiceDeltaToolCallFunction | None = None

    @property
    def audio(self) -> dict[str, Any] | None:
        """A piece of what the model says aloud, as it came."""
        return (self.model_extra or {}).get("audio")


class ChunkChoice(WireModel):
    """A piece of one of the ``n`` answers; the last piece has the ``finish_reason``."""

    index: OrDefault[Count] = 0
    delta: OrDefault[ChoiceDelta] = Field(default_factory=ChoiceDelta)
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None


class ChatCompletionChunk(WireModel):
    """One event of a streamed completion. ``choices`` may be empty, as in the event with the usage."""

    id: OrDefault[str] = ""
    choices: OrDefault[list[ChunkChoice]] = Field(default_factory=list)
    created: OrDefault[Count] = 0
    model: OrDefault[str] = ""
    object: OrDefault[str] = "chat.completion.chunk"
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: OrAbsent[CompletionUsage] = None

    @property
    def obfuscation(self) -> str | None:
        """Characters without a meaning, which hide the length of a token from who watches the wire."""
        return (self.model_extra or {}).get("obfuscation")

    @property
    def moderation(self) -> dict[str, Any] | None:
        """What a provider's moderation found, as it came."""
        return (self.model_extra or {}).get("moderation")

    @property
    def receipt(self) -> Receipt | None:
        """The receipt in this very event: only the last one carries it. The stream has it always."""
        return Receipt.from_body(self.model_extra)
