"""What a message gives that can be used as a value: JSON, ``name=value``, numbers and quotations. Pure.

Nothing is understood: a value is found by how it is written, and used by who asks, in the order of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec

MOST_READ: Final = 10_000
"""Characters of a message in which values are looked for."""
MOST_VALUES: Final = 8
"""Values of each kind that are looked at."""

_PAIR: Final = re.compile(r'([A-Za-z0-9_-]{1,64})=("[^"]{0,400}"|[^\s,;"]{1,400})')
# Parts of words, dates, times and grouped digits are no numbers; an apostrophe is no quotation mark. What follows
# a ``=`` is a pair.
_NUMBER: Final = re.compile(r"(?<![\w.,:=-])-?\d{1,15}(?:\.\d{1,15})?(?![\w-]|[.,:]\d)")
_QUOTATION: Final = re.compile(
    r"""(?<![\w=])(?:'([^'\n]{1,400})'|"([^"\n]{1,400})"|`([^`\n]{1,400})`|“([^”\n]{1,400})”|「([^」\n]{1,400})」)(?!\w)"""
)
_NAME: Final = re.compile(r"\w{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a message gives, read once for all the tools that are called."""

    objects: Sequence[dict[str, Any]]
    pairs: Sequence[tuple[str, str]]
    numbers: Sequence[int | float]
    quotations: Sequence[str]


def read(said: str) -> Given:
    """Return what a message gives."""
    return Given(objects=list(objects(said)), pairs=pairs(said), numbers=numbers(said), quotations=quotations(said))


def objects(said: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a text that are not empty."""
    decoder, start = json.JSONDecoder(), said.find("{")
    for _ in range(MOST_VALUES):
        if start < 0:
            return
        try:
            _, end = decoder.raw_decode(said, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            with suppress(
                msgspec.DecodeError, RecursionError
            ):  # the standard library takes NaN and halves of characters
                if value := msgspec.json.decode(said[start:end]):
                    yield value
        start = said.find("{", end)


def pairs(said: str) -> list[tuple[str, str]]:
    """Return what is written as ``name=value``."""
    return [(match[1], match[2].strip('"').rstrip(".")) for match in _PAIR.finditer(said)]


def meanings(text: str) -> Iterator[Any]:
    """Yield what the value of a pair may mean: as JSON, and as a text."""
    with suppress(msgspec.DecodeError, RecursionError):
        yield msgspec.json.decode(text)
    yield text


def numbers(said: str) -> list[int | float]:
    """Return the first numbers of a text."""
    return [json.loads(match[0]) for match in islice(_NUMBER.finditer(said), MOST_VALUES)]


def quotations(said: str) -> list[str]:
    """Return the first quotations of a text, without their marks."""
    return [match[match.lastindex or 0] for match in islice(_QUOTATION.finditer(said), MOST_VALUES)]


def names(said: str) -> list[str]:
    """Return the first quotations of a text that could be names of members, each once."""
    return list(dict.fromkeys(filter(_NAME.fullmatch, quotations(said))))
