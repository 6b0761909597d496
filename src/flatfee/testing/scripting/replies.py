"""What a model says, as a test writes it: forms only. How a form becomes bytes is in ``speaking``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, JsonValue, field_validator, model_validator

from flatfee.testing.scripting import speaking
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.closed import Closed
from flatfee.testing.scripting.conversation import meaning
from flatfee.testing.scripting.played import Answer, Answering, Beside, Pause, Played

_T = TypeVar("_T")


def _dumped(given: object) -> object:
    return given.model_dump(mode="json", by_alias=True) if isinstance(given, BaseModel) else given


def _listed(given: object) -> object:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        message = f"{given!r:.200} is not possible here; give a list, of one if need be."
        raise ValueError(message)  # noqa: TRY004  # what pydantic makes a complaint of
    return given


if TYPE_CHECKING:
    Json = object  # a dict[str, int] is no dict[str, JsonValue] to a type checker
else:
    Json = Annotated[JsonValue, BeforeValidator(_dumped)]

Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Said = Annotated[str, Field(min_length=1)]
Several = Annotated[Sequence[_T], BeforeValidator(_listed), AfterValidator(tuple)]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class ToolCall(Closed):
    """A call of a tool. ``arguments`` as text are said as they are, broken or not. Without ``id`` one is made."""

    name: Said
    arguments: dict[str, JsonValue] | str = Field(default_factory=dict)
    id: str | None = None

    @property
    def written(self) -> str:
        """The arguments as they stand in an answer."""
        return self.arguments if isinstance(self.arguments, str) else speaking.written(self.arguments)


def call(name: str, arguments: Mapping[str, Any] | str | None = None, /, **more: Any) -> ToolCall:
    """Return a call of the tool ``name``: ``call("get_weather", city="Lisbon")``.

    Raises:
        ValueError: the arguments are no JSON; or text, and some by name as well.
    """
    if isinstance(arguments, str):
        if more:
            message = f"call({name!r}): give the arguments as text, or by name, not both."
            raise ValueError(message)
        return ToolCall(name=name, arguments=arguments)
    return ToolCall(name=name, arguments={**(arguments or {}), **more})


class Tokens(Closed):
    """What an answer used, in tokens. What is not given is counted as the default model counts.

    ``cached`` is a part of ``input``: beside an input of your own it is 0 where it is not given.
    """

    input: Count | None = None
    output: Count | None = None
    cached: Count | None = None


class Reply(Closed):
    """An answer of a model.

    ``json`` is said as text, a pydantic model too; it is read as ``data``. ``finish_reason`` follows from the rest.
    ``usage=None`` tells none. ``delay`` is the silence before the first token and ``pace`` that between pieces, in
    seconds of the gateway's clock; a plain answer takes as long as a streamed one. ``chunks`` is into how many pieces
    text, and arguments of tools, are cut, or the pieces of the text themselves. ``choices`` are for requests with
    ``n``: as many are said as were asked for, the last one again where there are fewer.
    """

    kind: Literal["reply"] = "reply"
    text: str | None = None
    tool_calls: Several[ToolCall] = ()
    data: Json = Field(default=None, alias="json")
    refusal: Said | None = None
    reasoning: Said | None = None
    finish_reason: FinishReason | None = None
    usage: Tokens | None = None
    delay: Seconds = 0.0
    pace: Seconds = 0.0
    chunks: Annotated[int, Field(ge=1)] | Several[str] | None = None
    choices: Several[Reply] = ()

    @field_validator("chunks", mode="before")
    @classmethod
    def _count_or_pieces(cls, given: object) -> object:
        if given is None or isinstance(given, int | list | tuple):
            return given
        message = f"{given!r:.200} is not possible; give how many pieces, or a list of them."
        raise ValueError(message)

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        given = self.model_fields_set
        pieces = None if isinstance(self.chunks, int) else self.chunks
        said = [self.text is not None, "data" in given, pieces is not None and self.text is None]
        if sum(said) > 1:
            raise ValueError("A Reply says text, json or chunks of text; give one of them.")
        if pieces is not None and self.text is not None and "".join(pieces) != self.text:
            message = f"chunks={pieces!r} do not make up text={self.text!r}; leave the text out, it follows from them."
            raise ValueError(message)
        parts = given & {"text", "tool_calls", "data", "refusal", "reasoning", "finish_reason"}
        if self.choices and parts:
            message = f"A Reply with choices says nothing itself; move {', '.join(sorted(parts))} into one of them."
            raise ValueError(message)
        if not self.choices and not parts and pieces is None:
            raise ValueError('A Reply without anything to say; give text (text="" says nothing), tool_calls, or json.')
        return self

    @property
    def said(self) -> str | None:
        """The text; ``None``: there is none."""
        if self.chunks is not None and not isinstance(self.chunks, int):
            return "".join(self.chunks)
        return speaking.written(self.data) if "data" in self.model_fields_set else self.text

    @property
    def tells_usage(self) -> bool:
        """Whether the answer tells what it used."""
        return self.usage is not None or "usage" not in self.model_fields_set

    @property
    def calls_tools(self) -> bool:
        """Whether any choice calls tools."""
        return any(choice.tool_calls for choice in self.choices or (self,))

    def loops(self, asked: Asked) -> bool:
        """Return whether it would call the very tools whose results the request brings."""
        answered = asked.conversation.answered_calls
        return bool(answered) and any(
            answered == tuple((call.name, meaning(call.written)) for call in choice.tool_calls)
            for choice in self.choices or (self,)
        )

    def play(self, asked: Asked) -> Played:
        """Return the answer to a try.

        Raises:
            ValueError: ``json`` does not fit the schema that the request asks for.
        """
        for choice in self.choices or (self,):
            if "data" in choice.model_fields_set:
                speaking.check_fits(choice.data, asked)
        return speaking.spoken(self, asked)


class Raw(Closed):
    """Bytes of one's own: a status, headers, and a body whole or in chunks. Nothing is added or checked.

    ``body`` may be text, bytes, or an object that is written as JSON. ``delay`` is before the head and ``pace``
    between chunks, in seconds.
    """

    kind: Literal["raw"] = "raw"
    status: Annotated[int, Field(ge=200, le=599)] = 200
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | bytes | dict[str, JsonValue] = ""
    chunks: Several[str | bytes] | None = None
    delay: Seconds = 0.0
    pace: Seconds = 0.0

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.chunks is not None and "body" in self.model_fields_set:
            raise ValueError("Raw has a body or chunks; give one of them.")
        return self

    def play(self, asked: Asked) -> Played:
        """Return it, whatever was asked."""
        del asked
        body = speaking.written(self.body) if isinstance(self.body, dict) else self.body
        parts = (body,) if self.chunks is None else self.chunks
        return Played(
            status=self.status,
            headers={name.lower(): value for name, value in self.headers.items()},
            before=(Pause(self.delay),) if self.delay else (),
            pieces=speaking.spaced([part.encode() if isinstance(part, str) else part for part in parts], self.pace),
        )


class Obey(Closed):
    """Whatever the default model would say."""

    kind: Literal["obey"] = "obey"

    def play(self, asked: Asked) -> Played:
        """Return the default model's answer."""
        return speaking.obeyed(asked)


OBEY = Obey()
"""Let the default model answer: in a sequence, or for what a strict script allows."""


def reusable(given: Answer) -> Answer:
    """Return an answer as a script keeps it: a function is asked each time, a text is a ``Reply``.

    Raises:
        TypeError: it is no answer.
    """
    if inspect.iscoroutinefunction(given):
        message = f"{given.__qualname__} is a coroutine function; what answers for a script must not wait: use def."
        raise TypeError(message)
    return given if callable(given) else answering(given)


def made_for(asked: Asked, given: Answer) -> Answering | Beside:
    """Return the answer to a try: what a function makes for it, or what was given.

    Raises:
        TypeError: it is no answer.
    """
    return answering(given(asked) if callable(given) else given)


def answering(given: object) -> Answering | Beside:
    """Return what a script's author gave as an answer: a text is a ``Reply`` of it.

    Raises:
        TypeError: it is none.
    """
    if isinstance(given, str):
        return Reply(text=given)
    if isinstance(given, Answering | Beside):
        return given
    message = f"{given!r:.200} is no answer; {_cure(given)}, or a function that returns one."
    raise TypeError(message)


def _cure(given: object) -> str:
    first = given[0] if isinstance(given, list | tuple) and given else given
    if isinstance(first, ToolCall):
        return "Reply(tool_calls=[…]) calls tools"
    if isinstance(given, dict | list | BaseModel):
        return "Reply(json=…) says it as JSON"
    return "give a text, Reply, Fault or Raw"
