"""Writing SVG: elements, with every text and every attribute escaped. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def element(name: str, *children: str, **attributes: object) -> str:
    """Return an element around its children, which are elements already; ``_`` in a name stands for ``-``.

    ``class_`` is ``class``. Attributes that are ``None`` are left out, and numbers are written with two decimals.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{told}>{''.join(children)}</{name}>" if children else f"<{name}{told}/>"


def text(words: str, x: float, y: float, **attributes: object) -> str:
    """Return words at a place."""
    return element("text", words_of(words), x=x, y=y, **attributes)


def words_of(words: str) -> str:
    """Return words as they stand in XML."""
    return escape(printable(words))


def polyline(points: Sequence[tuple[float, float]], **attributes: object) -> str:
    """Return a line through points."""
    return element("polyline", points=" ".join(f"{_value(x)},{_value(y)}" for x, y in points), **attributes)


def printable(words: str) -> str:
    """Return words without what XML cannot hold."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in words)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return printable(str(value))
