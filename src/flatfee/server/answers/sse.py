"""Server-sent events as bytes: where one ends, and what its data is. What the data means is told elsewhere.

Line ends may be LF, CRLF or CR, as the standard allows:
https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

DONE: Final = b"data: [DONE]\n\n"
BOM: Final = b"\xef\xbb\xbf"
"""What some put before the first event, and the standard passes over."""

LINE_END: Final = re.compile(rb"\r\n|\n|\r")

# Two line ends of any kind; a CR that an LF follows is one line end, not two. Whether an LF follows
# the last byte is not known yet, so a CR there waits for what comes next.
_EVENT_END: Final = re.compile(rb"(?:\r\n|\n|\r(?=[^\n])){2}")
_PAIRS: Final = (b"\n\n", b"\n\r", b"\r\r")
_NAMED_ERROR: Final = re.compile(rb"(?:^|[\r\n])event: ?error[\r\n]")


EDGE: Final = 4
"""So many bytes before those that come may belong to the end of an event."""


class EventCutter:
    """Cuts a stream that comes in pieces into its events, each with the blank line that ends it.

    ``waiting`` is how many bytes of an event without an end there are. Pieces in which none ends are only
    gathered, so that a large event is put together once.
    """

    def __init__(self) -> None:
        self._begun: list[bytes] = []
        self._edge = b""
        self.waiting = 0

    def cut(self, data: bytes) -> list[bytes]:
        """Return the events that end in the next bytes."""
        if not (data := self.whole(data)):
            return []
        events, rest = cut_events(data)
        self.keep(rest)
        return events

    def whole(self, data: bytes) -> bytes:
        """Return all bytes behind the last event once an event may end in the next ones; until then, none.

        Who takes them gives back, by ``keep``, what is left behind the events in them.
        """
        if not self._begun:
            return data
        window = self._edge + data
        self._begun.append(data)
        if not ends_event(window):
            self.waiting += len(data)
            self._edge = window[-EDGE:]
            return b""
        return b"".join(self._begun)

    def keep(self, rest: bytes) -> None:
        """Take the beginning of an event that has not ended."""
        self._begun = [rest] if rest else []
        self.waiting, self._edge = len(rest), rest[-EDGE:]

    def rest(self) -> bytes:
        """Return what is left at the end of the stream: a last event may lack its blank line."""
        rest, self._begun = b"".join(self._begun), []
        return rest


def ends_event(data: bytes) -> bool:
    """Tell whether an event ends in ``data``, or may."""
    return b"\n\n" in data or (b"\r" in data and _EVENT_END.search(data) is not None)


def cut_events(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole events in ``data``, each with the blank line that ends it, and what is left of it."""
    if b"\r" not in data:
        *whole, rest = data.split(b"\n\n")
        return [event + b"\n\n" for event in whole], rest
    events: list[bytes] = []
    start = 0
    for pair in _pairs(data):
        for begin in (pair - 1, pair):  # the first of the two line ends may be a CRLF
            match = _EVENT_END.match(data, begin) if begin >= start else None
            if match is not None:
                events.append(data[start : match.end()])
                start = match.end()
                break
    return events, data[start:]


def _pairs(data: bytes) -> Iterator[int]:
    """Yield where an event may end, in order: two line ends in a row hold one of three pairs of bytes.

    They are found far sooner than the expression gets through an event of megabytes.
    """
    places = {pair: data.find(pair) for pair in _PAIRS}
    while known := [place for place in places.values() if place >= 0]:
        first = min(known)
        yield first
        for pair, place in places.items():
            if place == first:
                places[pair] = data.find(pair, first + 1)


def payload_of(event: bytes) -> bytes | None:
    """Return the data of an event; ``None`` if it has none (a comment, a keep-alive)."""
    stripped = event.strip(b"\r\n")
    if stripped.startswith(b"data:") and b"\n" not in stripped and b"\r" not in stripped:
        return stripped[5:].strip()
    lines = [line[5:].removeprefix(b" ") for line in LINE_END.split(stripped) if line.startswith(b"data:")]
    return b"\n".join(lines).strip() if lines else None


def one_line(data: bytes) -> bytes:
    """Return JSON as an event. Between its tokens it may have line ends, which would end the event's data."""
    return b"data: %b\n\n" % data.replace(b"\r", b" ").replace(b"\n", b" ")


def is_named_error(event: bytes) -> bool:
    """Tell whether an event's name, not its data, says that it is an error."""
    return b"event:" in event and _NAMED_ERROR.search(event) is not None
