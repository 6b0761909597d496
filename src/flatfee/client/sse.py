"""Server-sent events out of bytes. Sans-IO: bytes in, events out; knows nothing of completions.

Follows the event stream format of the HTML Living Standard (section 9.2): lines end in LF, CR or
CRLF, comments start with a colon, data of several lines is joined, a byte order mark may come
first. Bytes are cut at line ends only, so a character that is split over two chunks stays whole.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from flatfee.errors import APIResponseValidationError

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event. ``name`` is empty where the stream gave none."""

    data: bytes
    name: bytes = b""


class Decoder:
    """Turns chunks of any size into whole events; takes time linear in the bytes it is fed."""

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._begun = False
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that ``chunk`` completes.

        Raises:
            APIResponseValidationError: an event is larger than the limit.
        """
        if self._is_one_event(chunk):
            return [Event(chunk[6:-2])]
        if self._after_cr or b"\r" in chunk:
            chunk = self._unix(chunk)
        if not self._ends_block(chunk):
            self._keep(chunk)
            return []
        if self._parts:
            chunk = b"".join((*self._parts, chunk))
            self._parts, self._size = [], 0
        *blocks, rest = chunk.split(b"\n\n")
        self._keep(rest)
        return [event for block in blocks if (event := self._event(block)) is not None]

    def flush(self) -> list[Event]:
        """Return the event at the end of a stream that forgot its last empty line, if there is one."""
        block = b"".join(self._parts)
        self._parts, self._size = [], 0
        event = self._event(block)
        return [] if event is None else [event]

    def _is_one_event(self, chunk: bytes) -> bool:
        """Tell whether a chunk is just ``data: …``, as nearly every one is while a model writes; it costs least so."""
        return (
            chunk[:6] == b"data: "
            and chunk.find(b"\n") == len(chunk) - 2
            and chunk[-1:] == b"\n"
            and self._begun
            and not (self._parts or self._after_cr or b"\r" in chunk)
            and len(chunk) <= self._max
        )

    def _ends_block(self, chunk: bytes) -> bool:
        return b"\n\n" in chunk or (bool(self._parts) and chunk.startswith(b"\n") and self._parts[-1].endswith(b"\n"))

    def _keep(self, rest: bytes) -> None:
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            self._check(self._size)

    def _check(self, size: int) -> None:
        if size > self._max:
            raise APIResponseValidationError(f"An event of the stream is larger than {self._max:,} bytes.")

    def _unix(self, chunk: bytes) -> bytes:
        """Make every line end an LF. A CR ends its line at once; an LF that follows it is dropped."""
        if not chunk:
            return chunk
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _event(self, block: bytes) -> Event | None:
        self._check(len(block))
        if not self._begun:
            self._begun = True
            block = block.removeprefix(_BOM)
        if block.startswith(b"data: ") and b"\n" not in block:  # nearly every event there is
            return Event(block[6:])
        data: list[bytes] = []
        name = b""
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        return Event(b"\n".join(data), name) if data else None
