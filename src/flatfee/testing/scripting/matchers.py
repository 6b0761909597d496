"""What a rule says of a text, or of a part of a body, and whether it holds. Nothing of requests.

As JSON a matcher is an object with its name as the one key: ``{"contains": "weather"}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_PATTERN: Final = 1000
"""Characters of a regular expression."""

MAX_SEARCHED: Final = 100_000
"""Characters of a text in which a regular expression is looked for."""

SHOWN: Final = 200
"""Characters of a value that are shown."""


class Matcher:
    """Says whether a value holds. Its ``repr`` is how it is written."""

    __slots__ = ()

    def holds(self, value: object) -> bool:
        """Return whether the value is as wanted."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, repr=False)
class Contains(Matcher):
    """Holds for a text that contains every one of the parts."""

    parts: tuple[str, ...]

    def holds(self, value: object) -> bool:
        """Return whether the text has them."""
        return isinstance(value, str) and all(part in value for part in self.parts)

    def __repr__(self) -> str:
        return f"contains({', '.join(map(repr, self.parts))})"


@dataclass(frozen=True, slots=True, repr=False)
class Matches(Matcher):
    """Holds for a text in whose first ``MAX_SEARCHED`` characters a regular expression is found."""

    pattern: re.Pattern[str]

    def holds(self, value: object) -> bool:
        """Return whether it is found."""
        return isinstance(value, str) and self.pattern.search(value[:MAX_SEARCHED]) is not None

    def __repr__(self) -> str:
        return f"matches({self.pattern.pattern!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Anything(Matcher):
    """Holds for whatever is there; not for what is absent."""

    def holds(self, value: object) -> bool:
        """Return whether there is something."""
        return value is not None

    def __repr__(self) -> str:
        return "anything()"


@dataclass(frozen=True, slots=True, repr=False)
class Equals(Matcher):
    """Holds for one value only: ``None`` for what is absent."""

    wanted: object

    def holds(self, value: object) -> bool:
        """Return whether it is that value; ``True`` is not 1."""
        return value == self.wanted and isinstance(value, bool) is isinstance(self.wanted, bool)

    def __repr__(self) -> str:
        if isinstance(self.wanted, str):
            return repr(str(self.wanted))  # a member of an enum is its text
        return "nothing" if self.wanted is None else repr(self.wanted)


@dataclass(frozen=True, slots=True, repr=False)
class Passes(Matcher):
    """Holds where a function says so; never for what is absent."""

    check: Callable[[Any], object]

    def holds(self, value: object) -> bool:
        """Return what the function says."""
        return value is not None and bool(self.check(value))

    def __repr__(self) -> str:
        return getattr(self.check, "__qualname__", repr(self.check))


@dataclass(frozen=True, slots=True, repr=False)
class OneOf(Matcher):
    """Holds for some numbers."""

    numbers: range | tuple[int, ...]

    def holds(self, value: object) -> bool:
        """Return whether the number is one of them."""
        return value in self.numbers

    def __repr__(self) -> str:
        return repr(self.numbers) if isinstance(self.numbers, range) else " or ".join(map(str, self.numbers))


def contains(*parts: str) -> Contains:
    """Match a text that contains every one of ``parts``.

    Raises:
        ValueError: there is no part, or an empty one, which every text contains.
    """
    given: Sequence[object] = parts  # whoever writes tests may have no type checker
    if not given or not all(isinstance(part, str) and part for part in given):
        message = f"contains({', '.join(map(repr, parts))}): give texts that are not empty; any text is anything()."
        raise ValueError(message)
    return Contains(parts)


def matches(pattern: str | re.Pattern[str]) -> Matches:
    """Match a text in which a regular expression is found (``re.search``). ``(?i)`` ignores case.

    Raises:
        ValueError: it is no regular expression, or has more than ``MAX_PATTERN`` characters.
    """
    written: object = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    if not isinstance(written, str) or len(written) > MAX_PATTERN:
        message = f"matches({shown(written)}): give a regular expression for text of at most {MAX_PATTERN} characters."
        raise ValueError(message)
    try:
        return Matches(re.compile(pattern))
    except re.error as error:
        message = f"matches({written!r}) is no regular expression: {error}. For a plain text use contains()."
        raise ValueError(message) from error


def anything() -> Anything:
    """Match whatever is there, and nothing that is absent."""
    return Anything()


def matcher(wanted: object) -> Matcher:
    """Return ``wanted`` as a matcher: a matcher is one, a function is asked, anything else must be equal."""
    if isinstance(wanted, Matcher):
        return wanted
    return Passes(wanted) if callable(wanted) else Equals(wanted)


def from_json(value: object) -> Any:
    """Return what JSON says of a value: its matchers as matchers, at any depth, and all else as it is.

    ``{"equals": …}`` takes its value as it is, so that an object that looks like a matcher can be asked for.

    Raises:
        ValueError: a matcher that cannot be.
    """
    if isinstance(value, list):
        return [from_json(part) for part in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and (made := _FROM_JSON.get(next(iter(value)))) is not None:
        return made(next(iter(value.values())))
    return {name: from_json(part) for name, part in value.items()}


def _contains_json(given: Any) -> Contains:
    return contains(*given) if isinstance(given, list) else contains(given)


def _anything_json(given: Any) -> Matcher:
    if not isinstance(given, bool):
        message = f'{{"anything": {given!r}}} is not possible; write true, or false for what must be absent.'
        raise ValueError(message)  # noqa: TRY004  # of a form that came in, like the others
    return Anything() if given else Equals(None)


_FROM_JSON: Final[Mapping[str, Callable[[Any], Matcher]]] = {
    "equals": Equals,
    "contains": _contains_json,
    "matches": matches,
    "anything": _anything_json,
}


def shown(value: object, start: int = 0) -> str:
    """Show a value, or a text from about where it matters, in at most some two hundred characters."""
    if isinstance(value, str):
        start = start if len(value) > SHOWN else 0
        part = value[start : start + SHOWN]
        return f"{'…' if start else ''}{part!r}{'…' if start + SHOWN < len(value) else ''}"
    text = str(getattr(value, "__qualname__", None) or repr(value))
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
