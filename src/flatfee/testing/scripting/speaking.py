"""A reply as the bytes of a provider, plain and streamed from one description. Pure: no rules, no waiting."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from flatfee.server.providers import simulation
from flatfee.server.providers.simulation import tokens
from flatfee.server.providers.simulation.conversation import cached_tokens, prompt_tokens
from flatfee.server.providers.simulation.schema import Budget, JsonSchema, UnanswerableError
from flatfee.server.providers.simulation.wire import (
    DONE,
    by_words,
    called,
    head_of,
    identity_of,
    more_given,
    usage_of,
)
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.conversation import Conversation
from flatfee.testing.scripting.matchers import shown
from flatfee.testing.scripting.played import Pause, Piece, Played

if TYPE_CHECKING:
    from flatfee.testing.scripting.replies import Reply, ToolCall

MAX_CHOICES: Final = 128
"""More are not said, however many are asked for; OpenAI refuses more."""

_STEPS: Final = 500_000
"""Work that a look at whether an answer fits its schema may take: half a second."""


def spoken(reply: Reply, asked: Asked) -> Played:
    """Return a reply as the provider that was asked sends it."""
    ask = _Ask.of(asked)
    said = _choices(reply, ask)
    pieces = [list(choice.pieces()) for choice in said]
    told = _usage(reply, ask, said) if reply.tells_usage else None
    if asked.stream:
        before = reply.delay
        body = tuple(_stream(ask, said, pieces, told, reply.pace))
    else:
        before = reply.delay + reply.pace * (sum(map(len, pieces)) - 1)
        body = (_plain(ask, said, told),)
    return Played(before=(Pause(before),) if before > 0 else (), pieces=body)


def obeyed(asked: Asked) -> Played:
    """Return what the default model says, its refusals included."""
    try:
        pieces = simulation.streamed(asked.upstream) if asked.stream else [simulation.plain(asked.upstream)]
    except simulation.RefusedError as refusal:
        return Played(status=refusal.status, pieces=(refusal.body(),))
    return Played(pieces=tuple(pieces))


def refused(message: str, code: str) -> Played:
    """Return a refusal that no other route is asked after, and that no client should repeat."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Played(status=400, pieces=(msgspec.json.encode({"error": error}),))


def spaced(parts: Sequence[bytes], pace: float) -> tuple[Piece, ...]:
    """Return parts with a pause of so many seconds between each two."""
    if not pace:
        return tuple(parts)
    return tuple(piece for part in parts for piece in (Pause(pace), part))[1:]


def written(value: object) -> str:
    """Return a value as a model writes JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def event(payload: Mapping[str, Any]) -> bytes:
    """Return a server-sent event."""
    return b"data: " + msgspec.json.encode(payload) + b"\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """What the answer needs of the request that the provider got."""

    origin: bytes
    """What all identities of the answer follow from."""

    model: str
    choices: int
    include_usage: bool
    prompt_tokens: int
    cached_tokens: int
    custom: frozenset[str]
    """The tools that take a text of their own, and no arguments."""

    @classmethod
    def of(cls, asked: Asked) -> _Ask:
        body = json.loads(asked.upstream)
        options = body.get("stream_options")
        heard, cached = _heard(body)
        return cls(
            # Streamed or not, the same conversation gets the same answer.
            origin=msgspec.json.encode([asked.model, body.get("messages")]),
            model=asked.model,
            choices=min(n, MAX_CHOICES) if isinstance(n := body.get("n"), int) and n > 0 else 1,
            include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
            prompt_tokens=heard,
            cached_tokens=cached,
            custom=frozenset(Conversation(body).tools_of("custom")),
        )

    def head(self, kind: str) -> dict[str, Any]:
        return head_of(self.origin, self.model, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """One choice of an answer."""

    index: int
    reply: Reply
    ask: _Ask

    @property
    def finish_reason(self) -> str:
        return self.reply.finish_reason or ("tool_calls" if self.reply.tool_calls else "stop")

    def message(self) -> dict[str, Any]:
        reply = self.reply
        message: dict[str, Any] = {"role": "assistant", "content": reply.said, "refusal": reply.refusal}
        if reply.reasoning is not None:
            message["reasoning_content"] = reply.reasoning
        if reply.tool_calls:
            message["tool_calls"] = [self._call(at, call, call.written) for at, call in enumerate(reply.tool_calls)]
        return message

    def pieces(self) -> Iterator[dict[str, Any]]:
        """Yield the deltas that carry tokens."""
        reply = self.reply
        for piece in _cut(reply.reasoning or "", reply.chunks):
            yield {"reasoning_content": piece}
        for piece in _cut(reply.said or "", reply.chunks, given=True):
            yield {"content": piece}
        for piece in _cut(reply.refusal or "", reply.chunks):
            yield {"refusal": piece}
        for at, call in enumerate(reply.tool_calls):
            yield {"tool_calls": [{"index": at, **self._call(at, call, "")}]}
            halves = reply.chunks if isinstance(reply.chunks, int) else 2
            for piece in _evenly(call.written, halves):
                yield more_given(at, piece, custom=call.name in self.ask.custom)

    def first(self) -> dict[str, Any]:
        """Return the delta that begins the choice."""
        return {"role": "assistant", "content": None if self.reply.said is None else "", "refusal": None}

    def tokens(self) -> int:
        reply = self.reply
        said = (reply.said or "", reply.refusal or "")
        called = sum(max(1, tokens.count(call.written)) for call in reply.tool_calls)
        return max(1, sum(map(tokens.count, said)) + called + self.thought())

    def thought(self) -> int:
        return tokens.count(self.reply.reasoning or "")

    def _call(self, at: int, call: ToolCall, arguments: str) -> dict[str, Any]:
        identity = call.id or f"call_{identity_of(b'%d.%d %b' % (self.index, at, self.ask.origin))}"
        return called(identity, call.name, arguments, custom=call.name in self.ask.custom)


def _choices(reply: Reply, ask: _Ask) -> list[_Choice]:
    given = reply.choices or (reply,)
    return [_Choice(index=index, reply=given[min(index, len(given) - 1)], ask=ask) for index in range(ask.choices)]


def _plain(ask: _Ask, said: Sequence[_Choice], usage: dict[str, Any] | None) -> bytes:
    choices = [
        {"index": choice.index, "message": choice.message(), "logprobs": None, "finish_reason": choice.finish_reason}
        for choice in said
    ]
    told = {"usage": usage} if usage is not None else {}
    return msgspec.json.encode({**ask.head("chat.completion"), "choices": choices, **told})


def _stream(
    ask: _Ask,
    said: Sequence[_Choice],
    pieces: Sequence[Sequence[dict[str, Any]]],
    usage: dict[str, Any] | None,
    pace: float,
) -> Iterator[Piece]:
    head = ask.head("chat.completion.chunk")

    def chunk(choice: _Choice, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        told = {"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event({**head, "choices": [told]})

    between: tuple[Piece, ...] = ()
    for choice, deltas in zip(said, pieces, strict=True):
        yield chunk(choice, choice.first())
        for delta in deltas:
            yield from between
            yield chunk(choice, delta)
            between = (Pause(pace),) if pace else ()
        yield chunk(choice, {}, choice.finish_reason)
    if usage is not None and ask.include_usage:
        yield event({**head, "choices": [], "usage": usage})
    yield DONE


def _usage(reply: Reply, ask: _Ask, said: Sequence[_Choice]) -> dict[str, Any]:
    given = reply.usage
    heard, cached = ask.prompt_tokens, ask.cached_tokens
    if given is not None and given.input is not None:
        heard, cached = given.input, 0  # of another prompt than the one that was counted
    if given is not None and given.cached is not None:
        cached = given.cached
    made = given.output if given is not None and given.output is not None else sum(c.tokens() for c in said)
    return usage_of(heard, cached, made, sum(choice.thought() for choice in said))


def _heard(body: Mapping[str, Any]) -> tuple[int, int]:
    """Return the tokens of a conversation, and how many of them are cached."""
    messages = [dict(message) for message in Conversation(body).messages]
    try:
        return prompt_tokens(messages), cached_tokens(messages)
    except (AttributeError, LookupError, TypeError):  # an odd shape, which this reply answers all the same
        return 1, 0


def check_fits(value: object, asked: Asked) -> None:
    """Look whether a value fits the JSON schema that is asked for; what would take too long to tell does.

    Raises:
        ValueError: it does not.
    """
    wanted, budget = asked.conversation.wanted_schema, Budget(_STEPS)
    if wanted is None:
        return
    with suppress(UnanswerableError):  # a schema that no value fits, or none at all
        if not JsonSchema(wanted, budget).fits(value) and budget.left >= 0:
            message = (
                f"json={shown(value)} does not fit the schema {asked.conversation.schema!r} that the request asks for;"
                " to say it all the same, give it as text."
            )
            raise ValueError(message)


def _cut(text: str, chunks: int | Sequence[str] | None, *, given: bool = False) -> Sequence[str]:
    """Cut a text into so many pieces, or by its words; ``given``: the pieces may be given, too."""
    if isinstance(chunks, int):
        return _evenly(text, chunks)
    if chunks is not None and given:
        return chunks
    return list(by_words(text))


def _evenly(text: str, count: int) -> list[str]:
    """Cut a text into so many pieces of nearly the same length, none of them empty."""
    count = max(1, min(count, len(text)))
    bounds = [len(text) * at // count for at in range(count + 1)]
    return [text[start:end] for start, end in pairwise(bounds) if start < end]
