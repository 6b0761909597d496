"""Streamed events that differ from one that was read only in their text: told from others without reading them.

Nearly all events of an answer are alike: the same bytes around a new piece of text. One of them was read in full.
Where the bytes before the text and those behind it come again, and what is between them is the inside of a JSON
string, the event says the same in all else, so that nothing of it need be read. Sans I/O.
"""

from __future__ import annotations

import re
from typing import Final

# The inside of a string. Half of a character outside the basic plane is left to the full reader: it is JSON, but
# not to its decoder.
_INSIDE: Final = re.compile(
    rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
)


class Alike:
    """The bytes around the text of an event: those before it, and those behind it.

    Where an event is padded, so that nobody can tell the length of its text from the outside (OpenAI's
    ``obfuscation``), those behind it are in two parts, with the padding between.
    """

    __slots__ = ("_behind", "_end", "_head")

    def __init__(self, head: bytes, behind: bytes, end: bytes | None) -> None:
        self._head = head
        self._behind = behind
        self._end = end

    @classmethod
    def to(cls, event: bytes, text: bytes, padding: bytes = b"") -> Alike | None:
        """Return what is around a text (JSON, with its quotes) in an event; ``None`` where that is not certain."""
        at = event.find(text)
        if at < 0 or event.rfind(text) != at:
            return None  # the same bytes stand elsewhere, as a name or as another value: which are the text?
        head, behind, end = event[: at + 1], event[at + len(text) - 1 :], None
        if padding:
            at = behind.find(padding)
            if at < 0 or behind.rfind(padding) != at:
                return None
            behind, end = behind[: at + 1], behind[at + len(padding) - 1 :]
        around = head + behind + (end or b"")
        # One line of data. An escape could spell the name of a member otherwise than the full reader looks for it.
        certain = around.count(b"\n") == 2 and b"\\" not in around and b"\r" not in around
        return cls(head, behind, end) if certain else None

    def run(self, data: bytes, start: int) -> tuple[int, list[bytes]]:
        """Return where the events in a row that are alike end, and their texts as they stand between their quotes.

        ``start`` is where an event begins in ``data``, and is returned where that one is not alike.
        """
        head, behind, end = self._head, self._behind, self._end
        begins, inside, before = data.startswith, _INSIDE.match, len(head)
        texts: list[bytes] = []
        while begins(head, start):
            first = start + before
            stop = last = inside(data, first).end()  # type: ignore[union-attr]  # it matches nothing, too
            if not begins(behind, stop):
                break
            last += len(behind)
            if end is not None:
                last = inside(data, last).end()  # type: ignore[union-attr]
                if not begins(end, last):
                    break
                last += len(end)
            texts.append(data[first:stop])
            start = last
        return start, texts
