"""The receipt of a response that passes by as bytes. Sans-IO; holds the end of a body, never the whole.

The gateway puts its ``flatfee`` object last: in a plain answer, in an error, and in the last event of a
stream. So the last 64 KiB of a body tell it, however long the body was. Text cannot be mistaken for
it: inside JSON's strings the quotes around the name are escaped. Nothing is decoded here: of bytes that
have a content encoding the headers are all that is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from flatfee.receipt import Receipt
from flatfee.wire import Header, ReceiptState

KEPT_BYTES: Final = 64 * 1024
_NAME: Final = b'"flatfee":'
_JSON: Final = json.JSONDecoder()


class Capture:
    """Collects what one response tells of its receipt."""

    def __init__(self, first: Receipt, *, readable: bool) -> None:
        self._first = first
        self._readable = readable
        self._pieces: list[bytes] = []
        self._size = 0

    @classmethod
    def of(cls, headers: Mapping[str, str], *, decoded: bool = False) -> Capture | None:
        """Return a capture for a response that a gateway of ours routed or refused; ``None`` for any other.

        ``decoded`` says that its bytes come without their content encoding.
        """
        if Header.REQUEST_ID not in headers:
            return None
        first = Receipt.from_headers(headers)
        plain = headers.get("content-encoding", "identity").strip().lower() == "identity"
        return cls(first, readable=decoded or plain) if first else None

    @property
    def begun(self) -> Receipt:
        """What the headers tell; a request that was routed is in flight until its body tells more."""
        return self._first.merge(Receipt(state=ReceiptState.IN_FLIGHT)) if self._first.lane else self._first

    def feed(self, data: bytes) -> None:
        """Take bytes of the body as they came."""
        if not self._readable:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > 2 * KEPT_BYTES:
            self._pieces = [b"".join(self._pieces)[-KEPT_BYTES:]]
            self._size = KEPT_BYTES

    def ended(self) -> Receipt:
        """Return what headers and body tell together."""
        found = _last_receipt(b"".join(self._pieces))
        self._pieces = []
        return self._first.merge(found) if found else self.begun


def _last_receipt(tail: bytes) -> Receipt | None:
    place = tail.rfind(_NAME)
    if place < 0:
        return None
    text = tail[place + len(_NAME) :].decode("utf-8", "replace").lstrip()
    try:
        found, _ = _JSON.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return Receipt.from_object(found)
