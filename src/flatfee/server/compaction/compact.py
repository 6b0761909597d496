"""Compaction of a conversation to a token target. Pure: the same conversation gives the same bytes.

The conversation is gone through as it grew: in front of each of the assistant's answers stood a request.
Wherever such a request was too large, it is trimmed down to the target with what was known *then*. So what
is decided for the beginning of a conversation stays decided while it grows, and a provider that caches
prompts finds the beginning it knows, until the next time that the conversation has become too large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heappop, heappush
from typing import Final

from msgspec import Raw

from flatfee.server.compaction.known import Known
from flatfee.server.compaction.reading import Message, ToolCall, read_messages
from flatfee.server.compaction.subjects import Subject, subject_of
from flatfee.server.compaction.wording import (
    Wording,
    removed,
    repeated,
    shortened,
    superseded_by,
    with_words,
)
from flatfee.server.estimating import count_images, estimate_prompt

_NO_MESSAGES: Final = Raw(b"[]")
_NOTHING: Final = estimate_prompt({"messages": _NO_MESSAGES}, [], 0)
"""What a request takes beside its messages, as estimated for one that has none."""


class Rule(IntEnum):
    """The rules, in the order they are applied; each to the oldest result first."""

    SUPERSEDED = 0
    REPEATED = 1
    SHORTENED = 2
    REMOVED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """A conversation with trimmed tool results.

    ``changed`` is the number of messages that are not as they came, ``tokens`` what a request with these has.
    """

    messages: Raw
    changed: int
    tokens: int


def compact(fields: Mapping[str, Raw], *, over: int, to: int, keep_turns: int) -> Trimmed | None:
    """Return the compacted messages of a request; ``None`` if they stay as they are.

    Args:
        fields: the members of its body; those beside the messages only count.
        over: tokens (estimated) of a request above which it is trimmed.
        to: tokens down to which it is trimmed, if its old tool results have so many.
        keep_turns: the newest answers of the assistant that stay untouched with all that follows them, at least 1.
    """
    messages = read_messages(fields["messages"])
    growth = _Growth(messages, over, to, keep_turns)
    growth.size = estimate_prompt({**fields, "messages": _NO_MESSAGES}, [], 0)
    growth.go_through()
    if not growth.trimmed:
        return None
    raws = (bytes(growth.trimmed.get(index, message).raw) for index, message in enumerate(messages))
    return Trimmed(messages=Raw(b"[%b]" % b",".join(raws)), changed=len(growth.trimmed), tokens=max(1, growth.size))


@dataclass(slots=True)
class _Growth:
    """A conversation while it is gone through. ``size`` is what it takes so far, in tokens, as trimmed.

    ``old`` counts the messages that may be trimmed, ``due`` holds what may be done with their results, and ``trimmed``
    those that are not as they came any more.
    """

    messages: Sequence[Message]
    over: int
    to: int
    keep_turns: int
    size: int = 0
    old: int = 0
    due: list[tuple[Rule, int]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    subjects: dict[int, Subject] = field(default_factory=dict)
    obsolete: dict[int, tuple[Rule, Wording]] = field(default_factory=dict)
    trimmed: dict[int, Message] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    known: Known = field(default_factory=Known)

    def go_through(self) -> None:
        """Go through all of it, and trim wherever a request was too large."""
        for index, message in enumerate(self.messages):
            if message.role == "assistant":
                self._request()
                self.answers.append(index)
            self.size += _cost(message)
            if message.is_result:
                self._notice(index, message.content, message.call)
        self._request()

    def _notice(self, index: int, content: Raw, call: ToolCall | None) -> None:
        """Note what a new result makes obsolete of the earlier ones."""
        subject = subject_of(call) if call is not None else None
        if subject is not None:
            self.subjects[index] = subject
            for earlier in self.known.superseded(index, subject):
                self._mark(earlier, Rule.SUPERSEDED, superseded_by(subject))
        same = self.known.repeated(index, content)
        if same is not None:
            self._mark(same, Rule.REPEATED, repeated)

    def _mark(self, index: int, rule: Rule, wording: Wording) -> None:
        if index in self.obsolete:
            return
        self.obsolete[index] = rule, wording
        if index < self.old:
            heappush(self.due, (rule, index))

    def _request(self) -> None:
        """Trim what stands so far to the target, oldest first, if a request with it is too large."""
        if self.size <= self.over:
            return
        self._age()
        while self.size > self.to and self.due:
            rule, index = heappop(self.due)
            if index not in self.gone:
                self._trim(rule, index)

    def _age(self) -> None:
        """Let what is due for all results that have become old wait for its turn."""
        old = self.answers[-self.keep_turns] if len(self.answers) >= self.keep_turns else 0
        for index in range(self.old, old):
            if not self.messages[index].is_result:
                continue
            if index in self.obsolete:
                heappush(self.due, (self.obsolete[index][0], index))
            heappush(self.due, (Rule.SHORTENED, index))
            heappush(self.due, (Rule.REMOVED, index))
        self.old = max(self.old, old)

    def _wording(self, rule: Rule, index: int) -> Wording:
        match rule:
            case Rule.SHORTENED:
                return shortened
            case Rule.REMOVED:
                return removed(self.subjects.get(index))
            case _:
                return self.obsolete[index][1]

    def _trim(self, rule: Rule, index: int) -> None:
        """Put other words in the place of a result, if they are fewer."""
        if rule is not Rule.SHORTENED:
            self.gone.add(index)
        message = self.messages[index]
        then = with_words(message, self._wording(rule, index))
        if then is None:
            return
        less = _cost(self.trimmed.get(index, message)) - _cost(then)
        if less > 0:
            self.size -= less
            self.trimmed[index] = then


def _cost(message: Message) -> int:
    """Return about how many tokens a message takes."""
    alone = {"messages": Raw(b"[%b]" % bytes(message.raw))}
    return estimate_prompt(alone, [message.content], count_images(message.content)) - _NOTHING
