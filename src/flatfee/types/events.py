"""Events of ``chat.completions.stream(...)``: what a chunk adds to the answer, and what is whole now.

Names and fields are openai-python's; ``choice_index`` is ours, and tells the answers of ``n`` apart. Events
are small values: they are compared by content, and can be pickled. What grows with the answer
(``snapshot``, ``arguments``, ``parsed``) is made when it is read, so that an event costs the same at the
end of a long answer as at its start. Making the events is ``client.events``' part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel
from pydantic_core import from_json

from flatfee.types.chat import ChatCompletionChunk, ParsedChatCompletion, TokenLogprob

T = TypeVar("T")


class GrowingText:
    """A string that is added to at its end. It is joined when it is read, and not before.

    ``is_json`` tells that a reader may want it parsed.
    """

    __slots__ = ("_pieces", "is_json", "length")

    def __init__(self, *, is_json: bool = False) -> None:
        self._pieces: list[str] = []
        self.length = 0
        self.is_json = is_json

    def add(self, piece: str) -> None:
        """Add ``piece`` at the end."""
        self._pieces.append(piece)
        self.length += len(piece)

    def read(self, end: int | None = None) -> str:
        """Return the first ``end`` characters, or all."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        whole = self._pieces[0] if self._pieces else ""
        return whole if end is None or end == self.length else whole[:end]

    def parsed(self, end: int | None = None) -> object:
        """Return what the first ``end`` characters hold as JSON that is not whole yet; ``None`` if nothing."""
        try:
            return from_json(self.read(end), allow_partial=True) if self.is_json else None
        except ValueError:
            return None


class Growing(Protocol):
    """What chunks add up to."""

    def snapshot(self) -> ParsedChatCompletion[object]:
        """Return the answer as far as it came."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Event:
    """Base of every event. ``_SHOWN`` are the properties that are part of its content."""

    _SHOWN: ClassVar[tuple[str, ...]] = ()
    type: ClassVar[str]

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Return the event as plain values, as a pydantic model would; ``options`` are for the models in it.

        The snapshot of a chunk is left out: to make it for every chunk would take the square of the time.
        """
        names = [each.name for each in fields(self) if each.name[0] != "_"]
        return {
            "type": self.type,
            **{name: _plain(getattr(self, name), options) for name in (*names, *self._SHOWN)},
        }

    def to_dict(self, **options: Any) -> dict[str, Any]:
        """Do what ``model_dump`` does."""
        return self.model_dump(**options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Event) and self.type == other.type and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]  # like the models, which are not hashable


def _plain(value: object, options: Mapping[str, Any]) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(**options)
    if isinstance(value, list):
        return [_plain(item, options) for item in value]
    return value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkEvent(_Event):
    """A chunk as it came. It is followed by the events of what it adds."""

    type: ClassVar[Literal["chunk"]] = "chunk"
    chunk: ChatCompletionChunk
    _sum: Growing = field(repr=False)

    @property
    def snapshot(self) -> ParsedChatCompletion[object]:
        """The answer as far as it has come when this is read. Made each time: keep it if you need it twice."""
        return self._sum.snapshot()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _TextDelta(_Event):
    _SHOWN: ClassVar[tuple[str, ...]] = ("snapshot",)
    delta: str
    choice_index: int
    _text: GrowingText = field(repr=False)
    _end: int = field(repr=False)

    @property
    def snapshot(self) -> str:
        """The text up to and with ``delta``."""
        return self._text.read(self._end)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContentDeltaEvent(_TextDelta):
    """Text was added to the content."""

    type: ClassVar[Literal["content.delta"]] = "content.delta"
    _SHOWN = ("snapshot", "parsed")

    @property
    def parsed(self) -> object:
        """What the unfinished JSON holds so far, if ``response_format`` is a type; else ``None``."""
        return self._text.parsed(self._end)


# No slots: Python 3.11 cannot make a frozen class with slots from ``Name[type](...)``.
@dataclass(frozen=True, kw_only=True, eq=False)
class ContentDoneEvent(_Event, Generic[T]):
    """The content is whole. ``parsed`` is of the ``response_format``, if that is a type."""

    type: ClassVar[Literal["content.done"]] = "content.done"
    content: str
    parsed: T | None
    choice_index: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RefusalDeltaEvent(_TextDelta):
    """Text was added to the refusal."""

    type: ClassVar[Literal["refusal.delta"]] = "refusal.delta"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RefusalDoneEvent(_Event):
    """The refusal is whole."""

    type: ClassVar[Literal["refusal.done"]] = "refusal.done"
    refusal: str
    choice_index: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FunctionToolCallArgumentsDeltaEvent(_Event):
    """Text was added to the arguments of a function call. ``index`` tells the calls of one answer apart."""

    type: ClassVar[Literal["tool_calls.function.arguments.delta"]] = "tool_calls.function.arguments.delta"
    _SHOWN = ("arguments", "parsed_arguments")
    name: str
    index: int
    arguments_delta: str
    choice_index: int
    _text: GrowingText = field(repr=False)
    _end: int = field(repr=False)

    @property
    def arguments(self) -> str:
        """The arguments up to and with ``arguments_delta``: JSON text that is not whole yet."""
        return self._text.read(self._end)

    @property
    def parsed_arguments(self) -> object:
        """What the unfinished arguments hold so far, if the tool's arguments are parsed; else ``None``."""
        return self._text.parsed(self._end)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FunctionToolCallArgumentsDoneEvent(_Event):
    """A function call is whole. ``parsed_arguments`` is ``None`` unless the tool's arguments are parsed."""

    type: ClassVar[Literal["tool_calls.function.arguments.done"]] = "tool_calls.function.arguments.done"
    name: str
    index: int
    arguments: str
    parsed_arguments: object
    choice_index: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _LogprobsDelta(_Event):
    choice_index: int
    _all: list[TokenLogprob] = field(repr=False)
    _end: int = field(repr=False)

    @property
    def snapshot(self) -> list[TokenLogprob]:
        """The log probabilities up to and with this event's."""
        return self._all[: self._end]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogprobsContentDeltaEvent(_LogprobsDelta):
    """Log probabilities were added to those of the content."""

    type: ClassVar[Literal["logprobs.content.delta"]] = "logprobs.content.delta"
    _SHOWN = ("snapshot",)
    content: list[TokenLogprob]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogprobsContentDoneEvent(_Event):
    """The log probabilities of the content are whole."""

    type: ClassVar[Literal["logprobs.content.done"]] = "logprobs.content.done"
    content: list[TokenLogprob]
    choice_index: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogprobsRefusalDeltaEvent(_LogprobsDelta):
    """Log probabilities were added to those of the refusal."""

    type: ClassVar[Literal["logprobs.refusal.delta"]] = "logprobs.refusal.delta"
    _SHOWN = ("snapshot",)
    refusal: list[TokenLogprob]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogprobsRefusalDoneEvent(_Event):
    """The log probabilities of the refusal are whole."""

    type: ClassVar[Literal["logprobs.refusal.done"]] = "logprobs.refusal.done"
    refusal: list[TokenLogprob]
    choice_index: int


ChatCompletionStreamEvent: TypeAlias = (
    ChunkEvent
    | ContentDeltaEvent
    | ContentDoneEvent[T]
    | RefusalDeltaEvent
    | RefusalDoneEvent
    | FunctionToolCallArgumentsDeltaEvent
    | FunctionToolCallArgumentsDoneEvent
    | LogprobsContentDeltaEvent
    | LogprobsContentDoneEvent
    | LogprobsRefusalDeltaEvent
    | LogprobsRefusalDoneEvent
)
"""Every event; ``event.type`` tells which, to a type checker, too."""
