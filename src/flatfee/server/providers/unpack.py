"""Undoes what proxies do to answers that nobody asked them to compress. Pure, and bounded in what it makes at once."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

PIECE: Final = 16 * 1024
"""Bytes of the largest piece: a few packed bytes may stand for gigabytes."""

PLAIN: Final = frozenset({"", "identity"})
PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})
"""Encodings that can be undone; the second is the first (RFC 9110, 8.4.1.3)."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB_METHOD: Final = 8


class Unpacker:
    """Unpacks one body in the encoding ``gzip`` or ``deflate``, whatever the places at which it is cut."""

    def __init__(self, encoding: str) -> None:
        self._is_gzip = encoding != "deflate"
        self._member = zlib.decompressobj()
        self._begun = False

    @property
    def whole(self) -> bool:
        """Whether nothing is missing at the end of what came."""
        return not self._begun

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """Yield what comes out of the next bytes, at most ``PIECE`` bytes at a time.

        Raises:
            zlib.error: they are not in this encoding.
        """
        full = False
        while data or full:
            if not self._begun:
                self._begin(data[0])
            piece = self._member.decompress(data, PIECE)
            full, data = len(piece) == PIECE, self._member.unconsumed_tail
            if piece:
                yield piece
            if self._member.eof:  # another may follow, or padding
                full, data, self._begun = False, self._member.unused_data.lstrip(b"\0"), False

    def _begin(self, first: int) -> None:
        """Begin with a first byte: many servers send ``deflate`` without the zlib head that it should have."""
        if self._is_gzip:
            self._member = zlib.decompressobj(_GZIP)
        else:
            self._member = zlib.decompressobj(zlib.MAX_WBITS if first & 0xF == _ZLIB_METHOD else -zlib.MAX_WBITS)
        self._begun = True
