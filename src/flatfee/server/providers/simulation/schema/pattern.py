r"""Regular expressions, as JSON schemas have them, read into languages. Pure.

The syntax is ECMA 262's, with Python's spellings of it (``(?P<name>…)``, ``\A``, ``\Z``). What is no
regular language cannot be read: backreferences, lookbehind, lookahead that is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from flatfee.server.providers.simulation.schema import characters
from flatfee.server.providers.simulation.schema.characters import Ranges
from flatfee.server.providers.simulation.schema.language import Kind, Languages, Node

_MOST_GROUPS: Final = 40
"""Groups within each other."""

_SETS: Final[dict[str, Ranges]] = {
    "d": characters.DIGITS,
    "D": characters.negated(characters.DIGITS),
    "w": characters.WORD,
    "W": characters.negated(characters.WORD),
    "s": characters.SPACE,
    "S": characters.negated(characters.SPACE),
}
_PLACES: Final = {"b": Kind.BOUNDARY, "B": Kind.INSIDE, "A": Kind.START, "Z": Kind.END, "z": Kind.END}
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0", "a": "\a"}
_HEX: Final = {"x": 2, "u": 4, "U": 8}
_LONG_CATEGORIES: Final = {
    "Letter": "L",
    "Alphabetic": "L",
    "Lowercase_Letter": "Ll",
    "Lowercase": "Ll",
    "Uppercase_Letter": "Lu",
    "Uppercase": "Lu",
    "Number": "N",
    "digit": "Nd",
    "Decimal_Number": "Nd",
    "Punctuation": "P",
    "Symbol": "S",
    "Separator": "Z",
    "White_Space": "Z",
    "Mark": "M",
}


class UnreadableError(ValueError):
    """A pattern is no regular expression, or not a regular language. The message says which part."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A lookahead: what follows has to begin so, or must not."""

    options: _Options
    wanted: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """A group with a lookahead in it, which concerns what follows the group as well."""

    options: _Options


_Item: TypeAlias = "Node | _Look | _Group"
_Options: TypeAlias = "list[list[_Item]]"


def read_pattern(pattern: str, languages: Languages) -> Node:
    """Return the texts in which a pattern is found.

    Raises:
        UnreadableError: see there.
    """
    reader = _Reader(pattern, languages)
    options = reader.options(0)
    if not reader.done:
        raise UnreadableError("a ')' without its '('")
    start, end = languages.place(Kind.START), languages.place(Kind.END)
    return languages.either([_found(option, start, end, languages) for option in options])


def _found(items: list[_Item], start: Node, end: Node, languages: Languages) -> Node:
    """Return the texts in which a sequence is found: with anything around it, where it is not held to an edge."""
    rest = languages.empty if items and items[-1] is end else languages.all
    found = _build_sequence(items, rest, languages)
    return found if items and items[0] is start else languages.then(languages.all, found)


def _build(options: _Options, rest: Node, languages: Languages) -> Node:
    return languages.either([_build_sequence(option, rest, languages) for option in options])


def _build_sequence(items: list[_Item], rest: Node, languages: Languages) -> Node:
    """Put items together from the last to the first, for a lookahead needs to know what follows it."""
    for item in reversed(items):
        if isinstance(item, Node):
            rest = languages.then(item, rest)
        elif isinstance(item, _Group):
            rest = _build(item.options, rest, languages)
        else:
            seen = _build(item.options, languages.all, languages)
            rest = languages.both([seen if item.wanted else languages.negated(seen), rest])
    return rest


class _Reader:
    def __init__(self, pattern: str, languages: Languages) -> None:
        self._text = pattern
        self._at = 0
        self._make = languages

    @property
    def done(self) -> bool:
        return self._at >= len(self._text)

    def _sees(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _takes(self, text: str) -> bool:
        found = self._sees(text)
        self._at += len(text) if found else 0
        return found

    def _next(self) -> str:
        if self.done:
            raise UnreadableError("it ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _until(self, end: str) -> str:
        close = self._text.find(end, self._at)
        if close < 0:
            raise UnreadableError(f"a {end!r} is missing")
        found, self._at = self._text[self._at : close], close + len(end)
        return found

    def options(self, depth: int) -> _Options:
        """Read alternatives, up to the ``)`` that closes them."""
        if depth > _MOST_GROUPS:
            raise UnreadableError(f"more than {_MOST_GROUPS} groups within each other")
        found: _Options = [[]]
        while not self.done and not self._sees(")"):
            if self._takes("|"):
                found.append([])
            else:
                found[-1].append(self._repeated(self._item(depth)))
        return found

    def _item(self, depth: int) -> _Item:
        char = self._next()
        match char:
            case "(":
                return self._group(depth + 1)
            case "[":
                return self._make.chars(self._class())
            case ".":
                return self._make.chars(characters.DOT)
            case "^" | "$":
                return self._make.place(Kind.START if char == "^" else Kind.END)
            case "\\":
                return self._escape()
            case "*" | "+" | "?":
                raise UnreadableError(f"a {char!r} with nothing before it to repeat")
            case _:
                return self._make.chars(((ord(char), ord(char)),))

    def _group(self, depth: int) -> _Item:
        look: bool | None = None
        if self._takes("?="):
            look = True
        elif self._takes("?!"):
            look = False
        elif self._sees("?<=") or self._sees("?<!"):
            raise UnreadableError("a lookbehind, '(?<', which is not followed here")
        elif self._takes("?<") or self._takes("?P<"):
            self._until(">")
        elif not self._takes("?:") and self._sees("?"):
            raise UnreadableError(f"'({self._text[self._at : self._at + 2]}', which is not followed here")
        options = self.options(depth)
        if not self._takes(")"):
            raise UnreadableError("a ')' is missing")
        if look is not None:
            return _Look(options, look)
        if any(not isinstance(item, Node) for option in options for item in option):
            return _Group(options)
        return _build(options, self._make.empty, self._make)

    def _repeated(self, item: _Item) -> _Item:
        bounds = self._bounds()
        if bounds is None:
            return item
        if not isinstance(item, Node):
            raise UnreadableError("a lookahead that is repeated, which is not followed here")
        if not self._takes("?"):
            self._takes("+")
        if self._bounds() is not None:
            raise UnreadableError("two repetitions in a row")
        return self._make.repeat(item, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._takes(sign):
                return bounds
        if not self._sees("{"):
            return None
        close = self._text.find("}", self._at)
        least, comma, most = self._text[self._at + 1 : max(close, 0)].partition(",")
        if not least.isdecimal() or not (most.isdecimal() or not most):
            return None  # a brace that means itself
        self._at = close + 1
        if len(least) > 9 or len(most) > 9:
            raise UnreadableError("a repetition beyond counting")
        if most and int(most) < int(least):
            raise UnreadableError(f"the repetition {{{least},{most}}} has its limits the wrong way round")
        return int(least), int(most) if most else None if comma else int(least)

    def _escape(self) -> Node:
        char = self._text[self._at : self._at + 1]
        if char in _PLACES and char:
            self._at += 1
            return self._make.place(_PLACES[char])
        if char == "k" or (char.isdecimal() and char != "0"):
            raise UnreadableError(f"a backreference, '\\{char}', which is not followed here")
        return self._make.chars(self._escaped_set())

    def _escaped_set(self) -> Ranges:
        """Read what follows a backslash, in a class or outside."""
        char = self._next()
        if char in _SETS:
            return _SETS[char]
        if char in "pP":
            return self._category(positive=char == "p")
        code = ord(_CONTROLS.get(char, char))
        if char in _HEX:
            code = self._hexadecimal(_HEX[char])
        elif char == "c":
            code = ord(self._next()) % 32
        return ((code, code),)

    def _category(self, *, positive: bool) -> Ranges:
        name = self._until("}").removeprefix("{").rpartition("=")[2] if self._sees("{") else self._next()
        found = characters.category(_LONG_CATEGORIES.get(name, name))
        if not found:
            raise UnreadableError(f"the category {name!r}, which is not known here; use one such as L, Lu, Nd, P")
        self._make.spend(len(found))
        return found if positive else characters.negated(found)

    def _hexadecimal(self, length: int) -> int:
        if length == 4 and self._takes("{"):
            digits = self._until("}")
        else:
            digits = self._text[self._at : self._at + length]
            self._at += length
        try:
            code = int(digits, 16)
        except ValueError:
            raise UnreadableError(f"{digits!r}, which is no hexadecimal number") from None
        if code > 0x10FFFF:
            raise UnreadableError(f"a character beyond Unicode, {digits!r}")
        if 0xD800 <= code <= 0xDBFF and self._takes("\\u"):
            low = self._hexadecimal(4)
            return 0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF)
        return code

    def _class(self) -> Ranges:
        negative = self._takes("^")
        found: list[tuple[int, int]] = []
        while not self._takes("]"):
            first = self._class_atom()
            if self._sees("-") and not self._sees("-]") and len(first) == 1 and first[0][0] == first[0][1]:
                self._at += 1
                last = self._class_atom()
                if len(last) != 1 or last[0][0] != last[0][1]:
                    found += (*first, (45, 45), *last)
                    continue
                if last[0][0] < first[0][0]:
                    raise UnreadableError("a range of characters with its limits the wrong way round")
                first = ((first[0][0], last[0][0]),)
            found += first
        joined = characters.union(found)
        return characters.negated(joined) if negative else joined

    def _class_atom(self) -> Ranges:
        char = self._next()
        if char != "\\":
            return ((ord(char), ord(char)),)
        if self._takes("b"):
            return ((8, 8),)
        return self._escaped_set()
