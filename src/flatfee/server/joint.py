"""Where one route goes on with a streamed answer that another left half-way. Sans I/O.

The caller has a text. A route that was given it as the beginning of its own answer goes on from there;
any other starts over, and what it says is of use only from where it has repeated that text exactly.
Either way the caller sees one answer: events with the id of the first, one role, no text twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from flatfee.server.lenient import UNREADABLE, decoded

ECHO_FROM: Final = 40
"""A route that was given so many characters or more, and says exactly them first, has only repeated them."""

_HEAD: Final[tuple[str, ...]] = ("id", "created")
"""What all events of one answer share (OpenAI's reference of the chunk object)."""

_NEVER_TWICE: Final = ("role", "reasoning", "reasoning_content", "reasoning_details")
"""An answer has one role; and thoughts that led to a text which the caller has are not the thoughts behind it."""

_object: Final = msgspec.json.Decoder(dict[str, Any])


class Diverged(Exception):
    """The answer does not repeat what the caller has: it is another answer."""


@dataclass(frozen=True, slots=True)
class Half:
    """What the caller has of an answer: text of one choice, and nothing else. ``head`` is what its events shared."""

    text: str
    head: dict[str, Any]

    @classmethod
    def of(cls, escaped: bytearray, first: bytes) -> Half | None:
        """Read a text as it stood between its quotes in JSON, and the data of the first event that was passed on."""
        try:
            text = msgspec.json.decode(b'"%b"' % bytes(escaped), type=str)
            members = decoded(_object, first or b"{}")
        except UNREADABLE:
            return None
        head = {name: members[name] for name in _HEAD if name in members}
        return cls(text, head)


class Joint:
    """Fits the events of another route to the half that the caller has.

    ``prefilled``: the route was given the text to go on from, so that it need not repeat it.
    """

    def __init__(self, half: Half, *, prefilled: bool) -> None:
        self._half = half
        self._must_repeat = not prefilled
        self._repeating = not prefilled or len(half.text) >= ECHO_FROM
        self._at = 0
        self._new: list[str] | None = []

    def half(self) -> Half | None:
        """Return what the caller has by now, if that is still text and nothing else."""
        return Half(self._half.text + "".join(self._new), self._half.head) if self._new is not None else None

    def fit(self, payload: bytes) -> bytes:
        """Return an event as the caller gets it; empty if nothing of it is new.

        Raises:
            Diverged: it is of another answer.
        """
        event = decoded(_object, payload)
        event.pop("flatfee", None)
        choices = event.get("choices")
        if choices:
            try:
                choices[:] = [choice for choice in choices if self._fit_choice(choice)]
            except (AttributeError, TypeError) as error:
                raise Diverged from error  # of no shape that we know
            if not choices and not event.get("usage"):
                return b""
        return b"data: %b\n\n" % msgspec.json.encode(event | self._half.head)

    def _fit_choice(self, choice: Any) -> bool:
        """Take out of a choice what the caller has; tell whether anything is left."""
        delta = choice.get("delta") or {}
        if choice.get("index"):
            return False  # there is one choice only
        text = delta.pop("content", None) or ""
        for name in _NEVER_TWICE if self._repeating else ("role",):
            delta.pop(name, None)
        others = any(delta.values())
        if not isinstance(text, str) or (others and self._must_repeat and self._repeating):
            raise Diverged
        rest = self._rest(text, ended=others or bool(choice.get("finish_reason")))
        if rest:
            delta["content"] = rest
        if others:
            self._new = None
        elif self._new is not None:
            self._new.append(rest)
        return bool(rest or others or choice.get("finish_reason"))

    def _rest(self, text: str, *, ended: bool) -> str:
        """Return what is new in a piece of text."""
        if not self._repeating:
            return text
        had, at = self._half.text, self._at
        repeats = had.startswith(text[: len(had) - at], at)
        if repeats and at + len(text) >= len(had):
            self._repeating = False
            return text[len(had) - at :]
        if repeats and not ended:
            self._at += len(text)
            return ""
        if self._must_repeat:
            raise Diverged
        self._repeating = False  # it only began as the text does
        return had[:at] + text
