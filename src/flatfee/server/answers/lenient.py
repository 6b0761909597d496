"""Reading JSON that providers send: as the standard has it, and with what they get away with elsewhere."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises. Names of members that are not UTF-8 are an error of their own kind."""

REPLACED: Final = rb"\ufffd"
"""What half a character is read as: the replacement character, as JSON escapes it."""

_T = TypeVar("_T")

# Half of a character outside the basic plane, without its other half.
_HALF_A_CHARACTER: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


def decoded(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T:
    """Decode JSON in which a character may be cut in half.

    Providers that cut their text into UTF-16 units send such halves, one in each of two events. It is JSON
    all the same, which the decoder does not take; here each half is read as ``REPLACED``.

    Raises:
        UNREADABLE: it is not JSON, or (``msgspec.ValidationError``) not of the decoder's type.
    """
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return decoder.decode(_HALF_A_CHARACTER.sub(rb"\\ufffd", data))
