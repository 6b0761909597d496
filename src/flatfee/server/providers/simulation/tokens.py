"""What a token is to the simulated model: as many whole characters as four bytes hold, at least one. Pure."""

from __future__ import annotations

from typing import Final

BYTES_PER_TOKEN: Final = 4
TOKENS_PER_MEDIUM: Final = 85
"""An image, a recording or a file in a message, whatever its size."""


def split(text: str) -> list[str]:
    """Return the tokens of a text."""
    if text.isascii():
        return [text[start : start + BYTES_PER_TOKEN] for start in range(0, len(text), BYTES_PER_TOKEN)]
    tokens: list[str] = []
    room = 0
    for char in text:
        size = len(char.encode())
        if size > room:
            tokens.append(char)
            room = BYTES_PER_TOKEN - size
        else:
            tokens[-1] += char
            room -= size
    return tokens


def count(text: str) -> int:
    """Return how many tokens a text is."""
    return -(-len(text) // BYTES_PER_TOKEN) if text.isascii() else len(split(text))


def cut(text: str, most: int) -> str:
    """Return the first tokens of a text."""
    if len(text) <= most:
        return text
    return text[: most * BYTES_PER_TOKEN] if text.isascii() else "".join(split(text)[:most])
