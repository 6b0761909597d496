"""Thinking blocks as callers of chat completions hold them, and back. Pure.

The text is ``reasoning_content``, as with most services. What a later turn must give back, text and signature of
each block, or a block that may not be read, is ``reasoning_details``, as OpenRouter has it
(https://openrouter.ai/docs/use-cases/reasoning-tokens): each has an ``index`` by which clients put the pieces of
a stream together, and a ``format`` that tells whose it is. LiteLLM's ``thinking_blocks``
(https://docs.litellm.ai/docs/reasoning_content) are taken back as well.

Blocks go back exactly as they came, all of them: an API that reads a signature reads what it signed
(https://platform.claude.com/docs/en/build-with-claude/thinking, "Preserving thinking blocks").
"""

from __future__ import annotations

from typing import Any, Final

FORMAT: Final = "anthropic-claude-v1"
TEXT: Final = "reasoning.text"
ENCRYPTED: Final = "reasoning.encrypted"

KINDS: Final = ("thinking", "redacted_thinking")
"""Types of thinking blocks. A caller may say anything for a type, so they are compared, and not hashed."""

_JOINED: Final = ("text", "signature", "data")


def detail_of(index: int, kind: str, *, text: str, signature: str, data: str) -> dict[str, object]:
    """Return a thinking block as an entry of ``reasoning_details``."""
    if kind == "redacted_thinking":
        return {"type": ENCRYPTED, "index": index, "format": FORMAT, "data": data}
    return {"type": TEXT, "index": index, "format": FORMAT, "text": text, "signature": signature}


def piece_of(index: int, *, first: bool, **members: object) -> dict[str, object]:
    """Return a piece of a thinking block, as an entry of a delta's ``reasoning_details``.

    Only the ``first`` of a block has its format: some clients put all texts together that come in pieces.
    """
    return {"type": TEXT, "index": index, **({"format": FORMAT} if first else {}), **members}


def blocks_of(details: Any, native: Any) -> list[dict[str, Any]]:
    """Return the thinking blocks that an assistant's message holds; others' thoughts and unsigned ones are left out."""
    found = [_block_of(detail) for detail in _put_together(details)] if isinstance(details, list) else []
    if not any(found) and isinstance(native, list):
        found = [_checked(block) for block in native if isinstance(block, dict)]
    return [block for block in found if block is not None]


def _put_together(details: list[Any]) -> list[dict[str, Any]]:
    """Join the pieces that a client only gathered from a stream: those of one block have one index."""
    whole: dict[object, dict[str, Any]] = {}
    pieces: dict[tuple[object, str], list[str]] = {}
    for position, detail in enumerate(details):
        if not isinstance(detail, dict):
            continue
        index = detail.get("index")
        key = ("index", index) if isinstance(index, int) else ("position", position)
        known = whole.setdefault(key, {})
        for name, value in detail.items():
            if name in _JOINED and isinstance(value, str):
                pieces.setdefault((key, name), []).append(value)
            elif value is not None:
                known.setdefault(name, value)
    for (place, name), texts in pieces.items():
        whole[place][name] = "".join(texts)
    return list(whole.values())


def _block_of(detail: dict[str, Any]) -> dict[str, Any] | None:
    if detail.get("format", FORMAT) != FORMAT:
        return None
    if detail.get("type") == ENCRYPTED:
        return _checked({"type": "redacted_thinking", "data": detail.get("data")})
    text = detail.get("text", "")
    return _checked({"type": "thinking", "thinking": text, "signature": detail.get("signature")})


def _checked(block: dict[str, Any]) -> dict[str, Any] | None:
    """Return the members that a block has; ``None`` if one of them is missing."""
    names = ("data",) if block.get("type") == "redacted_thinking" else ("thinking", "signature")
    kept = {name: block.get(name) for name in names}
    if not all(isinstance(value, str) for value in kept.values()) or not kept[names[-1]]:
        return None
    return {"type": block.get("type"), **kept} if block.get("type") in KINDS else None
