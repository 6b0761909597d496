"""JSON as it is spelled: by providers, whose spacing is kept apart from what they say, and in a tape's file. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

WIDTH: Final = 100
"""Characters of a line in a tape's file that holds more than one value."""

_INDENT: Final = "  "


class Style(StrEnum):
    """How a provider spaces its JSON, and whether it escapes what is not ASCII."""

    COMPACT = "compact"
    SPACED = "spaced"
    INDENTED = "indented"
    COMPACT_ASCII = "compact-ascii"
    SPACED_ASCII = "spaced-ascii"
    INDENTED_ASCII = "indented-ascii"


_SPACING: Final[Mapping[str, Mapping[str, Any]]] = {
    "compact": {"separators": (",", ":")},
    "spaced": {},
    "indented": {"indent": 2},
}


def spell(value: Any, style: Style) -> str:
    """Return JSON in a provider's style.

    Raises:
        ValueError: it holds what JSON has no word for.
    """
    spacing, _, ascii_only = style.partition("-")
    return json.dumps(value, ensure_ascii=bool(ascii_only), allow_nan=False, **_SPACING[spacing])


def event_text(value: Any, style: Style, line_end: str) -> str:
    """Return an event as a provider sends it."""
    said = value if isinstance(value, str) else spell(value, style)
    return f"data: {said}{line_end}{line_end}"


def style_of(text: str, value: Any) -> Style:
    """Return the style in which ``text`` says ``value``; ``compact`` where it is none of them."""
    said = text.strip()
    return next((style for style in Style if spell(value, style) == said), Style.COMPACT)


def read(text: str) -> Any:
    """Read JSON that can be written again: without names that come twice, numbers that are none, halves of characters.

    Raises:
        ValueError: it is not such JSON.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("a name comes twice")
    return found


def _no_number(name: str) -> Any:
    message = f"{name} is no number of JSON"
    raise ValueError(message)


def pretty(value: Any, *, lines: frozenset[str] = frozenset(), depth: int = 0, used: int = 0) -> str:
    """Return JSON for people: what fits on a line stands on one, and so does each item of the lists in ``lines``.

    ``depth`` is how far in it stands, and ``used`` how many characters of its line are taken.
    """
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or (depth and len(flat) + used <= WIDTH):
        return flat
    inner = _INDENT * (depth + 1)
    if isinstance(value, list):
        return _block("[]", (pretty(part, lines=lines, depth=depth + 1, used=len(inner)) for part in value), depth)
    parts: list[str] = []
    for name, part in value.items():
        head = f"{json.dumps(name, ensure_ascii=False)}: "
        if name in lines and isinstance(part, list) and part:
            said = _block("[]", (json.dumps(item, ensure_ascii=False) for item in part), depth + 1)
        else:
            said = pretty(part, lines=lines, depth=depth + 1, used=len(inner) + len(head))
        parts.append(head + said)
    return _block("{}", parts, depth)


def _block(brackets: str, parts: Iterable[str], depth: int) -> str:
    inner = f"\n{_INDENT * (depth + 1)}"
    return f"{brackets[0]}{inner}{f',{inner}'.join(parts)}\n{_INDENT * depth}{brackets[1]}"
