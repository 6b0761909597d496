"""A body in other pieces than it came in: of one size, or by lines. Sans-IO: bytes in, pieces out."""

from __future__ import annotations

import codecs

from flatfee.errors import ConfigurationError


class Chunks:
    """Pieces of ``size`` bytes, the last one shorter; with ``None``, as they came."""

    def __init__(self, size: int | None = None) -> None:
        if size is not None and size < 1:
            raise ConfigurationError(f"chunk_size is {size!r}; use bytes above 0, or None for pieces as they come.")
        self._size = size
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the pieces that ``data`` completes."""
        size = self._size
        if size is None:
            return [data]
        data = self._rest + data
        whole = len(data) - len(data) % size
        self._rest = data[whole:]
        return [data[start : start + size] for start in range(0, whole, size)]

    def flush(self) -> list[bytes]:
        """Return what is left at the end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def decoder() -> codecs.IncrementalDecoder:
    """Return what decodes UTF-8 in pieces; a character that is split comes with its last byte."""
    return codecs.getincrementaldecoder("utf-8")("replace")


class Lines:
    """Lines of UTF-8 text without their ends, which are LF or CRLF."""

    def __init__(self) -> None:
        self._decoder = decoder()
        self._parts: list[str] = []

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that ``data`` completes."""
        text = self._decoder.decode(data)
        if "\n" not in text:
            self._parts.append(text)
            return []
        *lines, rest = "".join((*self._parts, text)).split("\n")
        self._parts = [rest]
        return [line.removesuffix("\r") for line in lines]

    def flush(self) -> list[str]:
        """Return the last line, if it has no end."""
        rest = "".join((*self._parts, self._decoder.decode(b"", final=True)))
        self._parts = []
        return [rest] if rest else []
