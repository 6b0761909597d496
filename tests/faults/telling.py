"""Answers that describe themselves: whoever reads one sees whether it is whole, and of one piece.

A text is numbered words of one request and one voice, and ends with their count and checksum. A cut
text lacks its end; one that was put together from two voices, or of two requests, has words that do
not belong. A tool call's arguments carry such a text. No I/O.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any, Final

VOICES: Final = "ab"
"""Two models may word the same answer differently; a caller must never get some of each."""


def text_of(number: int, words: int, voice: str = "a") -> str:
    """Return the answer to one request, in one voice."""
    said = " ".join(f"{voice}{number}.{place}" for place in range(words))
    return f"{said} ={words}.{zlib.crc32(said.encode())}"


def pieces_of(text: str, at_once: int = 3) -> list[str]:
    """Cut a text as models do, some words at a time, spaces kept."""
    words = text.split(" ")
    cut = [" ".join(words[start : start + at_once]) for start in range(0, len(words), at_once)]
    return [*(piece + " " for piece in cut[:-1]), cut[-1]]


def wrong_with(text: str, number: int) -> str | None:
    """Say why a text is not the whole answer to a request, in one voice; ``None`` if it is."""
    said, _, end = text.rpartition(" ")
    words = said.split(" ")
    voice = text[:1]
    if not end.startswith("="):
        return f"has no end after {len(text)} characters"
    if end != f"={len(words)}.{zlib.crc32(said.encode())}":
        return f"ends with {end!r} after {len(words)} words"
    if voice not in VOICES or words != [f"{voice}{number}.{place}" for place in range(len(words))]:
        return "is not of one piece"
    return None


def arguments_of(number: int, words: int, voice: str = "a") -> str:
    """Return the arguments of a tool call that carry an answer."""
    return json.dumps({"answer": text_of(number, words, voice)})


def said_in(choices: Sequence[dict[str, Any]]) -> str:
    """Return the answer that the deltas or the message of one choice carry, as text or as a tool's arguments."""
    text = arguments = ""
    for choice in choices:
        said = choice.get("delta") or choice.get("message") or {}
        text += said.get("content") or ""
        for call in said.get("tool_calls") or ():
            arguments += call.get("function", {}).get("arguments") or ""
    if not arguments:
        return text
    try:
        answer = json.loads(arguments)["answer"]
    except ValueError:
        return arguments
    return f"{text}{answer}"
