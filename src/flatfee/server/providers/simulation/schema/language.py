"""Regular languages: does a text belong to one, and which are its shortest texts? Pure.

A language is a tree of nodes, and what may follow a character is again such a tree, its derivative
(Brzozowski, 1964). So "and" and "not" are nodes like the others, no text makes a search go back,
and every step is counted: there are no catastrophic patterns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from enum import IntEnum, auto
from functools import partial
from typing import Final

from flatfee.server.providers.simulation.schema import characters
from flatfee.server.providers.simulation.schema.budget import Budget
from flatfee.server.providers.simulation.schema.characters import Ranges


class Kind(IntEnum):
    """What a node is. The last four match no character, only a place between two."""

    NOTHING = auto()
    EMPTY = auto()
    CHARS = auto()
    THEN = auto()
    EITHER = auto()
    BOTH = auto()
    NOT = auto()
    REPEAT = auto()
    START = auto()
    END = auto()
    BOUNDARY = auto()
    INSIDE = auto()


class Side(IntEnum):
    """What stands before or behind a place."""

    EDGE = auto()
    WORD = auto()
    OTHER = auto()


class Node:
    """A language. Made by ``Languages``, which makes equal ones once, so they compare by identity."""

    __slots__ = ("chars", "has_empty", "kind", "least", "most", "parts", "serial", "wordly")

    def __init__(
        self, kind: Kind, parts: tuple[Node, ...], chars: Ranges, least: int, most: int | None, serial: int
    ) -> None:
        self.kind = kind
        self.serial = serial
        self.parts = parts
        self.chars = chars
        self.least = least
        self.most = most
        self.wordly: bool = kind in _WORDLY or any(part.wordly for part in parts)
        """Whether it matters for it which characters are of words."""
        self.has_empty: bool | None = _has_empty(kind, parts, least)
        """Whether the empty text belongs to it; ``None``: that depends on the place."""


def _has_empty(kind: Kind, parts: tuple[Node, ...], least: int) -> bool | None:
    inner = [part.has_empty for part in parts]
    match kind:
        case Kind.THEN | Kind.BOTH:
            return False if False in inner else None if None in inner else True
        case Kind.EITHER:
            return True if True in inner else None if None in inner else False
        case Kind.NOT:
            return None if inner[0] is None else not inner[0]
        case Kind.REPEAT:
            return True if least == 0 else inner[0]
        case Kind.START | Kind.END | Kind.BOUNDARY | Kind.INSIDE:
            return None
        case _:
            return kind is Kind.EMPTY


_STEPS_OF_SAMPLES: Final = 16
_WORDLY: Final = frozenset({Kind.BOUNDARY, Kind.INSIDE})


def _side(char: str) -> Side:
    return Side.WORD if characters.contains(characters.WORD, ord(char)) else Side.OTHER


class Languages:
    """Makes languages and asks them, within a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._made: dict[Hashable, Node] = {}
        self._after: dict[tuple[Node, str, Side], Node] = {}
        self._samples: dict[tuple[Hashable, ...], list[str]] = {}
        self.spend: Final = budget.spend
        self.nothing = self._node(Kind.NOTHING)
        self.empty = self._node(Kind.EMPTY)
        self.any = self.chars(characters.ANY)
        self.all = self.repeat(self.any, 0, None)
        """Every text."""

    def _node(self, kind: Kind, *parts: Node, chars: Ranges = (), least: int = 0, most: int | None = None) -> Node:
        self._budget.spend()
        key = (kind, parts, chars, least, most)
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = Node(kind, parts, chars, least, most, len(self._made))
        return found

    def place(self, kind: Kind) -> Node:
        """Return the empty text at a place: ``START``, ``END``, ``BOUNDARY`` or ``INSIDE``."""
        return self._node(kind)

    def chars(self, chars: Ranges) -> Node:
        """Return the texts of one character out of a set."""
        return self._node(Kind.CHARS, chars=chars) if chars else self.nothing

    def then(self, first: Node, second: Node) -> Node:
        """Return a text of the first followed by one of the second."""
        if self.nothing in (first, second):
            return self.nothing
        if first is self.empty:
            return second
        if second is self.empty or (first is self.all and second is self.all):
            return first
        steps = [first]
        while steps[-1].kind is Kind.THEN:
            steps[-1:] = steps[-1].parts
        for step in reversed(steps):
            second = self._node(Kind.THEN, step, second)
        return second

    def either(self, options: Iterable[Node]) -> Node:
        """Return the texts of any of them."""
        return self._set(Kind.EITHER, options, neutral=self.nothing, ruling=self.all)

    def both(self, options: Iterable[Node]) -> Node:
        """Return the texts that belong to all of them."""
        return self._set(Kind.BOTH, options, neutral=self.all, ruling=self.nothing)

    def _set(self, kind: Kind, options: Iterable[Node], *, neutral: Node, ruling: Node) -> Node:
        flat = [part for option in options for part in (option.parts if option.kind is kind else (option,))]
        self._budget.spend(len(flat))
        if ruling in flat:
            return ruling
        distinct = sorted({part for part in flat if part is not neutral}, key=lambda part: part.serial)
        if len(distinct) < 2:
            return distinct[0] if distinct else neutral
        return self._node(kind, *distinct)

    def negated(self, node: Node) -> Node:
        """Return every other text."""
        if node in (self.nothing, self.all):
            return self.all if node is self.nothing else self.nothing
        return node.parts[0] if node.kind is Kind.NOT else self._node(Kind.NOT, node)

    def repeat(self, node: Node, least: int, most: int | None) -> Node:
        """Return between ``least`` and ``most`` texts in a row; ``None`` is any number."""
        if most == 0 or node is self.empty or (node is self.nothing and least == 0):
            return self.empty
        if node is self.nothing or (most is not None and most < least):
            return self.nothing
        return node if least == most == 1 else self._node(Kind.REPEAT, node, least=least, most=most)

    def holds_empty(self, node: Node, before: Side, behind: Side) -> bool:
        """Tell whether the empty text belongs to a language at a place."""
        while node.has_empty is None and node.kind is Kind.THEN:
            self._budget.spend()
            if not self.holds_empty(node.parts[0], before, behind):
                return False
            node = node.parts[1]
        if node.has_empty is not None:
            return node.has_empty
        self._budget.spend()
        holds = partial(self.holds_empty, before=before, behind=behind)
        match node.kind:
            case Kind.EITHER | Kind.REPEAT:
                return any(map(holds, node.parts))
            case Kind.BOTH:
                return all(map(holds, node.parts))
            case Kind.NOT:
                return not holds(node.parts[0])
            case _:
                return _stands_at(node.kind, before, behind)

    def after(self, node: Node, char: str, before: Side) -> Node:
        """Return what may follow a character that begins a text of the language."""
        follow, behind = partial(self.after, char=char, before=before), _side(char)
        rests: list[Node] = []
        while node.kind is Kind.THEN:
            first, rest = node.parts
            rests.append(self.then(follow(first), rest))
            if not self.holds_empty(first, before, behind):
                return self.either(rests)
            node = rest
        match node.kind:
            case Kind.CHARS if characters.contains(node.chars, ord(char)):
                rests.append(self.empty)
            case Kind.EITHER:
                rests += map(follow, node.parts)
            case Kind.BOTH:
                rests.append(self.both(map(follow, node.parts)))
            case Kind.NOT:
                rests.append(self.negated(follow(node.parts[0])))
            case Kind.REPEAT:
                rests.append(self._after_repeat(node, follow(node.parts[0]), before, behind))
            case _:
                pass
        return self.either(rests)

    def _after_repeat(self, node: Node, rest: Node, before: Side, behind: Side) -> Node:
        (inner,) = node.parts
        skips = node.least == 0 or self.holds_empty(inner, before, behind)
        most = None if node.most is None else node.most - 1
        return self.then(rest, self.repeat(inner, 0 if skips else node.least - 1, most))

    def matches(self, node: Node, text: str) -> bool:
        """Tell whether a text belongs to a language."""
        before = Side.EDGE
        for char in text:
            if node in (self.all, self.nothing):
                return node is self.all
            self._budget.spend()
            node, before = self._next(node, char, before), _side(char)
        return self.holds_empty(node, before, Side.EDGE)

    def _next(self, node: Node, char: str, before: Side) -> Node:
        """Return what may follow a character, and remember it."""
        key = (node, char, before)
        found = self._after.get(key)
        if found is None:
            found = self._after[key] = self.after(node, char, before)
        return found

    def words(self, node: Node, variety: int = 1) -> Iterator[str]:
        """Yield texts of a language, the shortest first: about ``variety`` for each way it can go."""
        visits: dict[tuple[Node, Side], int] = {}
        waiting = deque([(node, Side.EDGE, "")])
        while waiting:
            node, before, text = waiting.popleft()
            self._budget.spend()
            if self.holds_empty(node, before, Side.EDGE):
                yield text
            for chars in self._kinds(node, variety):
                rest = self._next(node, chars[0], before)  # the same for all of a kind
                waiting += self._onwards(rest, chars, text, visits, variety)

    def _onwards(
        self, rest: Node, chars: str, text: str, visits: dict[tuple[Node, Side], int], variety: int
    ) -> Iterator[tuple[Node, Side, str]]:
        """Yield where to go on from, each state at most ``variety`` times."""
        if rest is self.nothing:
            return
        state = (rest, _side(chars[0]) if rest.wordly else Side.OTHER)
        for char in chars:
            visits[state] = visits.get(state, 0) + 1
            if visits[state] > variety:
                return
            self._budget.spend()
            yield rest, state[1], text + char

    def _kinds(self, node: Node, variety: int) -> list[str]:
        """Return the kinds of first characters that a language tells apart, each by some of it."""
        firsts = tuple(dict.fromkeys(self._firsts(node)))
        self._budget.spend(1 + len(firsts))
        found = self._samples.get((firsts, variety))
        if found is None:
            self._budget.spend(_STEPS_OF_SAMPLES + variety + sum(len(first.chars) for first in firsts))
            found = self._samples[firsts, variety] = characters.samples((first.chars for first in firsts), variety)
            self._budget.spend(sum(map(len, found)) // 4)
        return found

    def _firsts(self, node: Node) -> Iterator[Node]:
        """Yield the characters that decide about a first one."""
        if node.wordly:
            yield self.chars(characters.WORD)
        waiting = [node]
        while waiting:
            node = waiting.pop()
            self._budget.spend()
            if node.kind is Kind.CHARS:
                yield node
            elif node.kind is Kind.THEN:
                may_be_empty = node.wordly or self.holds_empty(node.parts[0], Side.EDGE, Side.EDGE)
                waiting += node.parts if may_be_empty else node.parts[:1]
            else:
                waiting += node.parts


def _stands_at(kind: Kind, before: Side, behind: Side) -> bool:
    match kind:
        case Kind.START:
            return before is Side.EDGE
        case Kind.END:
            return behind is Side.EDGE
        case Kind.BOUNDARY | Kind.INSIDE:
            return ((before is Side.WORD) != (behind is Side.WORD)) == (kind is Kind.BOUNDARY)
        case _:
            return False
