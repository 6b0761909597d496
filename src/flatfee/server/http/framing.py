"""The bytes of an answer: its head and its chunks (RFC 9112). Pure: it knows no connection and no request."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

_STATUS_LINES: Final = {int(status): f"HTTP/1.1 {status} {status.phrase}".encode() for status in HTTPStatus}
_PLAIN: Final = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))
"""What may stand within a line of a head (RFC 9110, 5.5)."""


def head(status: int, headers: Iterable[tuple[bytes, bytes]], *more: bytes) -> bytes:
    """Return the head of an answer; ``more`` are whole header lines.

    Raises:
        RuntimeError: a header has a control character in it, and would be another header to who reads it.
    """
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status
    lines = [line, *map(b": ".join, headers), *more, b"\r\n"]
    made = b"\r\n".join(lines)
    if made.translate(None, _PLAIN) != b"\r\n" * len(lines):
        raise RuntimeError("A response header has a control character in it; leave it out.")
    return made


def chunk(data: bytes) -> bytes:
    """Return a part of a body as a chunk. An empty one would end the body, and is none."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
