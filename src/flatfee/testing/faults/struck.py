"""Answers, and what strikes them: whole ones in, broken ones out. Pure: no kinds, no scripts, no time.

A streamed answer is a sequence of events, each the bytes up to its blank line; a plain one is a body.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.played import Piece, Played
from flatfee.testing.scripting.replies import OBEY, Reply
from flatfee.testing.scripting.speaking import event

EVENT_END: Final = b"\n\n"
DONE: Final = b"data: [DONE]\n\n"
COMMENT: Final = b": keep-alive\n\n"
GARBAGE: Final = b'data: {"id": "chatcmpl-1", "choices": [{"ind\n\n'
"""An event that is not JSON."""

_HALF_A_CHARACTER: Final = b'data: {"choices":[{"index":0,"delta":{"content":"\xf0\x9f'


def events_of(asked: Asked, of: str | Reply | None) -> list[bytes]:
    """Return the events of the answer that is struck: what was given, or what the default model would say."""
    return _events(played(replace(asked, stream=True), of).pieces)


def body_of(asked: Asked, of: str | Reply | None) -> bytes:
    """Return the body of the answer that is struck."""
    return b"".join(_bytes(played(replace(asked, stream=False), of).pieces))


def played(asked: Asked, of: str | Reply | None) -> Played:
    """Return the answer that is struck, whole."""
    return (OBEY if of is None else Reply(text=of) if isinstance(of, str) else of).play(asked)


def _bytes(pieces: Sequence[Piece]) -> list[bytes]:
    return [piece for piece in pieces if isinstance(piece, bytes)]


def _events(pieces: Sequence[Piece]) -> list[bytes]:
    """Cut an answer into its events. Its own pauses are left out: the fault has the time."""
    *events, rest = b"".join(_bytes(pieces)).split(EVENT_END)
    return [part + EVENT_END for part in events] + ([rest] if rest else [])


def payload_of(part: bytes) -> dict[str, Any]:
    """Return what an event tells; nothing of ``[DONE]`` and of what is no JSON."""
    if not part.startswith(b"data: {"):
        return {}
    return dict(json.loads(part[len(b"data: ") :]))


def finish_of(part: bytes) -> tuple[int, str] | None:
    """Return which choice an event finishes, and why."""
    for choice in payload_of(part).get("choices") or ():
        if choice.get("finish_reason"):
            return choice["index"], choice["finish_reason"]
    return None


def first_finish(events: Sequence[bytes]) -> int:
    """Return where the first event is that finishes a choice: a fault in mid-answer strikes before it."""
    return next((at for at, part in enumerate(events) if finish_of(part)), len(events))


def begun(events: Sequence[bytes], after: int) -> list[bytes]:
    """Return the first events of an answer: so many, and never its finish."""
    return list(events[: min(after, first_finish(events))])


def begun_within(events: Sequence[bytes], after: int, where: str) -> list[bytes]:
    """Return the first events of an answer and a part of the next: half of it, or up to half a character."""
    start = begun(events, after)
    following = events[len(start)]
    if where == "event":
        return [*start, following[: len(following) // 2]]
    at = next((index for index, byte in enumerate(following) if byte >= 0xC0), None)
    return [*start, following[: at + 1] if at is not None else _HALF_A_CHARACTER]


def one_choice(events: Sequence[bytes]) -> list[bytes]:
    """Return an answer of several choices in which the first is complete, and the second has begun."""
    second = [part for part in events if _index_of(part) == 1]
    return [part for part in events if _index_of(part) == 0] + second[:2]


def without_finish(events: Sequence[bytes]) -> list[bytes]:
    """Return all that is said, and nothing of how it ended."""
    return [part for part in events if finish_of(part) is None and payload_of(part).get("choices")]


def with_finish(events: Sequence[bytes], reason: str) -> list[bytes]:
    """Return an answer that ended otherwise."""
    changed = []
    for part in events:
        told = payload_of(part)
        if finish_of(part) is not None:
            told["choices"][0]["finish_reason"] = reason
        changed.append(event(told) if told else part)
    return changed


def spread(parts: Sequence[bytes], between: Piece) -> tuple[Piece, ...]:
    """Return parts with something before each of them."""
    return tuple(piece for part in parts for piece in (between, part))


def _index_of(part: bytes) -> int | None:
    return next((choice["index"] for choice in payload_of(part).get("choices") or ()), None)
