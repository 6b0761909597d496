"""What stands in the place of a tool result that was trimmed. Text in, text out.

A marker says what stood there and how much of it is left out. It tells the model nothing to do, and is
always shorter than the shortest text that is trimmed, so that a marker is never trimmed itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw

from flatfee.server.compaction.reading import NOTHING, Message, decoded, with_content
from flatfee.server.compaction.subjects import Deed, Subject

SHORTEST: Final = 300
"""Characters of a text that is not worth trimming."""

HEAD: Final = 400
TAIL: Final = 200
SHORTEST_WITH_ENDS: Final = 1000
"""Characters of a text of which no head and tail are kept: it stays, or gives way to a marker."""

_MOST_PARTS: Final = 1000
"""A result of more parts stays as it came."""
_MOST_BRACES: Final = 100_000
"""And one of more of these is not even taken apart: there is room for millions of parts, each an object in memory."""

_LONGEST_NAME: Final = 48
_LONGEST_PATH: Final = 96

Wording = Callable[[str], str]
"""From a text to what takes its place."""


def superseded_by(subject: Subject) -> Wording:
    """Word that a later call makes this result out of date."""
    what = "a later" if subject.deed is Deed.WRITES else "a newer result of"
    return _marker(f"superseded: {what} {_shown(subject)} follows")


def repeated(text: str) -> str:
    """Word that the same result comes again."""
    return _marker("repeated: the same tool result comes again later")(text)


def removed(subject: Subject | None) -> Wording:
    """Word that an old result is left out."""
    return _marker(f"old result of {_shown(subject)}" if subject is not None else "old tool result")


def shortened(text: str) -> str:
    """Return head and tail of a text, cut between lines if they are not long, and how much is left out between."""
    if len(text) <= SHORTEST_WITH_ENDS:
        return text
    ends, begins = text.rfind("\n", HEAD // 2, HEAD) + 1, text.find("\n", -TAIL, -TAIL // 2) + 1
    head, tail = text[: ends or HEAD], text[begins or -TAIL :]
    left_out = len(text) - len(head) - len(tail)
    gap = "" if head.endswith("\n") else "\n"
    return f"{head}{gap}[{left_out:,} characters left out]\n{tail}"


def with_words(message: Message, word: Wording) -> Message | None:
    """Return a result with other words: for its text, or for each of its text parts. ``None`` if none are fewer."""
    content = _reworded(message.content, word) if len(memoryview(message.content)) > SHORTEST else None
    return None if content is None else with_content(message, content)


def _reworded(content: Raw, word: Wording) -> Raw | None:
    text = decoded(content, str)
    if text is not None:
        told = _fewer(text, word)
        return None if told is None else Raw(msgspec.json.encode(told))
    if bytes(content).count(b"{") > _MOST_BRACES:
        return None
    parts = decoded(content, list[Raw]) or []
    if len(parts) > _MOST_PARTS:
        return None
    told_parts = [_part(part, word) for part in parts]
    if not any(told_parts):
        return None
    return Raw(msgspec.json.encode([told or part for told, part in zip(told_parts, parts, strict=True)]))


def _part(part: Raw, word: Wording) -> Raw | None:
    members = decoded(part, dict[str, Raw]) or {}
    text = decoded(members.get("text", NOTHING), str)
    if text is None or decoded(members.get("type", NOTHING), str) != "text":
        return None
    told = _fewer(text, word)
    return None if told is None else Raw(msgspec.json.encode({**members, "text": told}))


def _fewer(text: str, word: Wording) -> str | None:
    if len(text) <= SHORTEST:
        return None
    told = word(text)
    return told if len(told) < len(text) else None


def _marker(what: str) -> Wording:
    return lambda text: f"[{what}; {len(text):,} characters left out]"


def _shown(subject: Subject) -> str:
    argument = f"{subject.path_key}={_cut(subject.path, _LONGEST_PATH)}" if subject.path is not None else "…"
    return f"{_cut(subject.name, _LONGEST_NAME)}({argument})"


def _cut(text: str, most: int) -> str:
    """Return the end of a text, which tells most of a path, without what would break a line."""
    shown = text if len(text) <= most else f"…{text[-most + 1 :]}"
    return "".join(sign if sign.isprintable() else "?" for sign in shown)
