"""Events of a streamed completion, made of its chunks. Sans-IO.

A chunk is told first, then what it adds, then what is whole by it, in openai-python's order. What chunks add
up to is in ``accumulate``; who hands the events out is ``event_stream``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Generic, TypeVar

from flatfee.client.accumulate import ChoiceSum, CompletionSum, ToolCallSum
from flatfee.client.parsing import Expectation, read_arguments, reads_arguments
from flatfee.types.chat import (
    ChatCompletionChunk,
    ChoiceDelta,
    ChoiceDeltaToolCall,
    ChoiceLogprobs,
    ParsedChatCompletion,
)
from flatfee.types.events import (
    ChatCompletionStreamEvent,
    ChunkEvent,
    ContentDeltaEvent,
    ContentDoneEvent,
    FunctionToolCallArgumentsDeltaEvent,
    FunctionToolCallArgumentsDoneEvent,
    LogprobsContentDeltaEvent,
    LogprobsContentDoneEvent,
    LogprobsRefusalDeltaEvent,
    LogprobsRefusalDoneEvent,
    RefusalDeltaEvent,
    RefusalDoneEvent,
)

T = TypeVar("T")

CUT: Final = frozenset({"length", "content_filter"})
"""Finish reasons of an answer that is not all there: nothing of it is parsed."""


class _Told:
    """What was said to be whole of one choice, and which of its tool calls is being written."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self.calls: set[int] = set()
        self.call: int | None = None


class EventMaker(Generic[T]):
    """Chunks in, events out, and the completion in the end. Knows neither sockets nor waiting.

    ``expected`` is what the answer is to be read into; ``None`` for nothing.
    """

    def __init__(self, headers: Mapping[str, str], expected: Expectation[T] | None = None) -> None:
        self._structure = expected.structure if expected is not None else None
        self._tools = {name: tool for name, tool in expected.tools.items() if reads_arguments(tool)} if expected else {}
        self._expected = expected
        self._sum = CompletionSum(headers, is_json=self._structure is not None)
        self._told: dict[int, _Told] = {}
        self._final: ParsedChatCompletion[T] | None = None

    def take(self, chunk: ChatCompletionChunk) -> list[ChatCompletionStreamEvent[T]]:
        """Return the events of a chunk."""
        self._sum.add(chunk)
        events: list[ChatCompletionStreamEvent[T]] = [ChunkEvent(chunk=chunk, _sum=self._sum)]
        for piece in chunk.choices:
            delta, choice = piece.delta, self._sum.choice(piece.index)
            told = self._told.get(choice.index) or self._told.setdefault(choice.index, _Told())
            choice.add(piece)
            _text_events(choice, told, delta, events)
            calls = self._calls(choice, told, delta.tool_calls, events) if delta.tool_calls else []
            if piece.logprobs is not None:
                events += _logprob_events(choice, piece.logprobs)
            for call in calls:
                if told.call != call.index:
                    events += self._texts_done(choice, told)
                    events += self._call_done(choice, told, told.call)
                    told.call = call.index
            if choice.finish_reason:
                events += self._texts_done(choice, told)
                events += self._call_done(choice, told, told.call)
        return events

    def conclude(self) -> None:
        """Take note that the stream came to its good end.

        Raises:
            APIError: the answer is not what was asked for; those of ``parse``.
        """
        if self._structure is not None or self._tools:
            self.final()

    def final(self) -> ParsedChatCompletion[T]:
        """Return the whole answer, which is made once. Raises as ``parse`` does."""
        if self._final is None:
            whole = self._sum.completion()
            self._final = self._expected.fill(whole) if self._expected is not None else whole
        return self._final

    def snapshot(self) -> ParsedChatCompletion[object]:
        """Return the answer as far as it came."""
        return self._sum.snapshot()

    def _calls(
        self, choice: ChoiceSum, told: _Told, deltas: list[ChoiceDeltaToolCall], events: list[Any]
    ) -> list[ToolCallSum]:
        """Add pieces of tool calls and their events; return the calls they are of."""
        calls: list[ToolCallSum] = []
        for delta in deltas:
            call = choice.add_call(delta)
            if delta.function is None:
                continue
            calls.append(call)
            if delta.function.arguments:
                told.calls.discard(call.index)  # it was not whole
            call.arguments.is_json = call.name in self._tools
            events.append(
                FunctionToolCallArgumentsDeltaEvent(
                    name=call.name,
                    index=call.index,
                    arguments_delta=delta.function.arguments or "",
                    choice_index=choice.index,
                    _text=call.arguments,
                    _end=call.arguments.length,
                )
            )
        return calls

    def _texts_done(self, choice: ChoiceSum, told: _Told) -> Iterator[ChatCompletionStreamEvent[T]]:
        """Yield what is whole and was not told; content that cannot be parsed is a failure in the end."""
        at, new = choice.index, {"content", "refusal", "logprobs.content", "logprobs.refusal"} - told.texts
        if "content" in new and choice.content is not None and (text := choice.content.read()):
            told.texts.add("content")
            is_whole, parsed = self._parsed_content(choice, text)
            if is_whole:
                yield ContentDoneEvent(content=text, parsed=parsed, choice_index=at)
        if "refusal" in new and choice.refusal is not None:
            told.texts.add("refusal")
            yield RefusalDoneEvent(refusal=choice.refusal.read(), choice_index=at)
        if "logprobs.content" in new and "content" in choice.logprobs:
            told.texts.add("logprobs.content")
            yield LogprobsContentDoneEvent(content=[*choice.logprobs["content"]], choice_index=at)
        if "logprobs.refusal" in new and "refusal" in choice.logprobs:
            told.texts.add("logprobs.refusal")
            yield LogprobsRefusalDoneEvent(refusal=[*choice.logprobs["refusal"]], choice_index=at)

    def _parsed_content(self, choice: ChoiceSum, text: str) -> tuple[bool, T | None]:
        refused = choice.refusal is not None and choice.refusal.length
        if self._structure is None or refused or choice.tool_calls:  # text beside calls is not yet the answer
            return True, None
        return _attempt(choice, self._structure.read, text)

    def _call_done(self, choice: ChoiceSum, told: _Told, index: int | None) -> Iterator[ChatCompletionStreamEvent[T]]:
        if index is None or index in told.calls:
            return
        call = choice.tool_calls[index]
        told.calls.add(index)
        text, is_whole, parsed = call.arguments.read(), True, None
        if (tool := self._tools.get(call.name)) is not None:
            is_whole, parsed = _attempt(choice, partial(read_arguments, tool), text)
        if is_whole:
            yield FunctionToolCallArgumentsDoneEvent(
                name=call.name, index=index, arguments=text, parsed_arguments=parsed, choice_index=choice.index
            )


def _attempt(choice: ChoiceSum, read: Callable[[str], Any], text: str) -> tuple[bool, Any]:
    """Read a text of an answer that was not cut; tell whether it is whole, and its value."""
    if choice.finish_reason in CUT:
        return False, None
    try:
        return True, read(text)
    except ValueError:
        return False, None


def _text_events(choice: ChoiceSum, told: _Told, delta: ChoiceDelta, events: list[Any]) -> None:
    if delta.content is not None and (text := choice.content):
        if delta.content:
            told.texts.discard("content")  # it was not whole
        events.append(ContentDeltaEvent(delta=delta.content, choice_index=choice.index, _text=text, _end=text.length))
    if delta.refusal is not None and (text := choice.refusal):
        told.texts.discard("refusal")
        events.append(RefusalDeltaEvent(delta=delta.refusal, choice_index=choice.index, _text=text, _end=text.length))


def _logprob_events(
    choice: ChoiceSum, found: ChoiceLogprobs
) -> Iterator[LogprobsContentDeltaEvent | LogprobsRefusalDeltaEvent]:
    if found.content:
        sofar = choice.logprobs["content"]
        yield LogprobsContentDeltaEvent(content=found.content, choice_index=choice.index, _all=sofar, _end=len(sofar))
    if found.refusal:
        sofar = choice.logprobs["refusal"]
        yield LogprobsRefusalDeltaEvent(refusal=found.refusal, choice_index=choice.index, _all=sofar, _end=len(sofar))
