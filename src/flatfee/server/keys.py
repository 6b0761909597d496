"""API keys: their form, making and digests. No store, no I/O.

A key is its kind's prefix, 43 base62 characters (256 random bits) and the CRC32 of all before
it, so that a mistyped key is refused before any look-up. Keys that an operator brings may be any
secret of 32 characters or more without our prefix.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from enum import StrEnum
from typing import Final

_PREFIX: Final = "ff_"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_CHARS: Final = 43
_CHECK_CHARS: Final = 6
_ID_CHARS: Final = 16
_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
MIN_OWN_SECRET: Final = 32
MAX_SECRET: Final = 512


class KeyKind(StrEnum):
    """What a key is for; also the middle of its prefix."""

    PROJECT = "proj"
    TEAM = "team"
    ADMIN = "admin"

    @property
    def prefix(self) -> str:
        """What every key of this kind starts with."""
        return f"{_PREFIX}{self}_"


_LENGTHS: Final = {kind.prefix: len(kind.prefix) + _RANDOM_CHARS + _CHECK_CHARS for kind in KeyKind}
"""Prefix → how long a key is that begins with it."""


def new_key(kind: KeyKind) -> str:
    """Make a key from 256 bits of the system's randomness. Shown once, never stored."""
    body = kind.prefix + _base62(secrets.randbits(256), _RANDOM_CHARS)
    return body + checksum(body)


def new_key_id() -> str:
    """Make the public name of a key: it tells nothing about the secret."""
    return "key_" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS))


def checksum(body: str) -> str:
    """Return the six characters that end a key whose beginning is ``body``."""
    rest, last = divmod(zlib.crc32(body.encode()), 3844)
    first, middle = divmod(rest, 3844)
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[last]


def well_formed(secret: str) -> bool:
    """Tell whether ``secret`` can be a key at all: our form with its checksum, or an own secret.

    Decided without a look-up; whether the key exists is the store's to say.
    """
    if not secret.isascii() or not MIN_OWN_SECRET <= len(secret) <= MAX_SECRET:
        return False
    if not secret.startswith(_PREFIX):
        return True
    right_length = len(secret) == _LENGTHS.get(secret[: secret.find("_", len(_PREFIX)) + 1])
    return right_length and checksum(secret[:-_CHECK_CHARS]) == secret[-_CHECK_CHARS:]


def is_ours(secret: str) -> bool:
    """Tell whether ``secret`` has the prefix of the keys that are made here, which an operator's own never has."""
    return secret.startswith(_PREFIX)


def digest(secret: str) -> bytes:
    """Return what is stored of a key and what it is found by: SHA-256.

    Looking up a digest leaks nothing about the secret by its timing: an attacker cannot steer
    the digest of a guess.
    """
    return hashlib.sha256(secret.encode()).digest()


def _base62(number: int, width: int) -> str:
    digits: list[str] = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits))


def shown(name: str, most: int = 64) -> str:
    """Return a name as an error may repeat it: never what may be a key that was written in the wrong place."""
    return "by what looks like a key" if name.startswith("ff_") else repr(name[:most])
