"""Where one route goes on with a streamed answer that another left half-way. Sans I/O.

The caller has a text. A route that was given it as the beginning of its own answer goes on from there;
any other starts over, and what it says is of use only from where it has repeated that text exactly.
Either way the caller sees one answer: events with the id of the first, one role, no text twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Raw

from flatfee.server.answers.lenient import UNREADABLE, decoded
from flatfee.server.answers.members import size_of
from flatfee.server.answers.sse import one_line

ECHO_FROM: Final = 40
"""A route that was given so many characters or more, and says exactly them first, has only repeated them."""

MOST_REMEMBERED: Final = 1 << 18
"""A text longer than this (bytes of JSON) is not kept for another route to go on from."""

NO_OUTPUT: Final = frozenset({"role", "name"})
"""Members of a delta that say who speaks. An answer has them once."""

_HEAD: Final[tuple[str, ...]] = ("id", "created")
"""What all events of one answer share (OpenAI's reference of the chunk object)."""

_FIRST: Final = b"0"
_THOUGHTS: Final = "reasoning"
_EMPTY: Final = frozenset({b"null", b'""', b"[]", b"{}", b"false"})

_members: Final = msgspec.json.Decoder(dict[str, Raw])
_choices: Final = msgspec.json.Decoder(list[dict[str, Raw]])
_text: Final = msgspec.json.Decoder(str)


class Diverged(Exception):
    """The answer does not repeat what the caller has: it is another answer."""


@dataclass(frozen=True, slots=True)
class Half:
    """What the caller has of an answer: text of one choice, and nothing else. ``head`` is what its events shared."""

    text: str
    head: dict[str, Raw]

    @classmethod
    def of(cls, escaped: bytearray, first: bytes) -> Half | None:
        """Read a text as it stood between its quotes in JSON, and the data of the first event that said something."""
        try:
            members = decoded(_members, first or b"{}")
            return cls(_read_text(escaped), {name: members[name] for name in _HEAD if name in members})
        except UNREADABLE:
            return None


class Joint:
    """Fits the events of another route to the half that the caller has.

    ``prefilled``: the route was given the text to go on from, so that it need not repeat it. ``remember``:
    yet another may have to go on from what this one says. ``repeating`` as long as nothing of it is new.
    """

    def __init__(self, half: Half, *, prefilled: bool, remember: bool = True) -> None:
        self._half = half
        self._must_repeat = not prefilled
        self._at = 0
        self._new: bytearray | None = bytearray() if remember else None
        self.repeating = not prefilled or len(half.text) >= ECHO_FROM

    def half(self) -> Half | None:
        """Return what the caller has by now, if that is still text and nothing else."""
        if self._new is None:
            return None
        try:
            return Half(self._half.text + _read_text(self._new), self._half.head)
        except UNREADABLE:
            return None

    def fit(self, event: bytes, payload: bytes) -> bytes:
        """Return an event as the caller gets it; empty if nothing of it is new.

        Raises:
            Diverged: it is of another answer.
        """
        try:
            members = _members.decode(payload)
            choices = [] if _is_empty(members.get("choices")) else _choices.decode(members["choices"])
            kept = [choice for choice in choices if self._fit_choice(choice)]
        except UNREADABLE as error:
            if self.repeating:
                raise Diverged from error
            self._new = None  # nobody can tell what it says: it is passed on as it came
            return event
        if not kept and (choices or self.repeating):
            return b""
        members.pop("flatfee", None)
        if choices:
            members["choices"] = Raw(msgspec.json.encode(kept))
        return one_line(msgspec.json.encode(members | self._half.head))

    def _fit_choice(self, choice: dict[str, Raw]) -> bool:
        """Take out of a choice what the caller has; tell whether anything is left."""
        if bytes(choice.get("index", _FIRST)) != _FIRST:
            raise Diverged  # there is one choice only
        said = choice.get("delta")
        delta = _members.decode(said) if said is not None and not _is_empty(said) else {}
        for name in [*delta]:
            # Thoughts that led to a text which the caller has are not the thoughts behind it.
            if name in NO_OUTPUT or (self.repeating and name.startswith(_THOUGHTS)):
                del delta[name]
        content = delta.pop("content", None)
        others = any(size_of(value) > 0 for value in delta.values())
        finishes = not _is_empty(choice.get("finish_reason"))
        rest = self._rest(content, others=others, finishes=finishes)
        if rest is not None:
            delta["content"] = rest
        choice["delta"] = Raw(msgspec.json.encode(delta))
        self._remember(rest, others=others)
        return rest is not None or others or finishes

    def _rest(self, content: Raw | None, *, others: bool, finishes: bool) -> Raw | None:
        """Return what is new in a piece of text."""
        if content is not None and _is_empty(content):
            content = None
        if not self.repeating:
            return content
        if others and self._must_repeat:
            raise Diverged
        new = self._behind(_text.decode(content) if content is not None else "", ended=others or finishes)
        return Raw(msgspec.json.encode(new)) if new else None

    def _behind(self, text: str, *, ended: bool) -> str:
        had, at = self._half.text, self._at
        repeats = had.startswith(text[: len(had) - at], at)
        if repeats and at + len(text) >= len(had):
            self.repeating = False
            return text[len(had) - at :]
        if repeats and not ended:
            self._at += len(text)
            return ""
        if self._must_repeat:
            raise Diverged
        self.repeating = False  # it only began as the text does
        return had[:at] + text

    def _remember(self, rest: Raw | None, *, others: bool) -> None:
        if self._new is None:
            return
        piece = bytes(rest) if rest is not None else b'""'
        if others or piece[:1] != b'"' or len(self._new) + len(piece) > MOST_REMEMBERED:
            self._new = None
        else:
            self._new += piece[1:-1]


def _read_text(escaped: bytearray) -> str:
    return _text.decode(b'"%b"' % bytes(escaped))


def _is_empty(value: Raw | None) -> bool:
    return value is None or bytes(value) in _EMPTY
