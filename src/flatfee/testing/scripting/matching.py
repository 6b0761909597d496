"""What a rule asks of a try: the match keywords, what each may be, and why one does not hold. No answers here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, TypedDict

from flatfee.testing.running.exchange import is_secret
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.closed import meant
from flatfee.testing.scripting.conversation import ToolResult, text_of
from flatfee.testing.scripting.differences import Difference, Told, differences
from flatfee.testing.scripting.matchers import Equals, Matcher, OneOf, matcher, shown
from flatfee.wire import Header, Tier

TextMatch = str | Matcher | Callable[[str], object] | None
"""Equality, a matcher, a function of the text; ``None``: it must be absent."""

NumberMatch = int | Collection[int]
"""A number, or several: ``range(1, 3)``, ``[1, 4]``."""


class MatchKeywords(TypedDict, total=False):
    """What a rule can be told to match. All that are given must hold."""

    route: TextMatch
    tier: TextMatch
    attempt: NumberMatch
    nth: NumberMatch
    number: NumberMatch
    stream: bool
    model: TextMatch
    workflow: TextMatch
    task: TextMatch
    turn: NumberMatch
    user: TextMatch
    system: TextMatch
    tool: TextMatch
    tool_result: TextMatch | Mapping[str, TextMatch]
    schema: TextMatch
    headers: Mapping[str, TextMatch]
    messages: Sequence[Mapping[str, Any]]
    body: Mapping[str, Any]
    when: Callable[[Asked], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How one keyword of a rule came out. ``difference``: why it does not hold."""

    keyword: str
    difference: Difference | None

    @property
    def where(self) -> str:
        """The place that differs: the keyword, and the way from there."""
        return str(self.difference.under(self.keyword).path) if self.difference is not None else self.keyword


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions of which all must hold. Make one with ``Match.of``."""

    conditions: Mapping[str, Any]

    @classmethod
    def of(cls, keywords: Mapping[str, Any], routes: Sequence[str] = ()) -> Match:
        """Return the match that keywords describe. ``routes``: the names that there are.

        Raises:
            TypeError: there is no such keyword.
            ValueError: its value is not possible.
        """
        unknown = [name for name in keywords if name not in _KEYWORDS]
        if unknown:
            raise TypeError(_no_such_keyword(unknown[0]))
        made = {name: _KEYWORDS[name].take(name, keywords[name]) for name in _KEYWORDS if name in keywords}
        for name, there_are in (("route", routes), ("tier", tuple(Tier))):
            _check_known(name, made.get(name), there_are)
        return cls(made)

    def holds(self, asked: Asked) -> bool:
        """Return whether every condition holds."""
        return all(_KEYWORDS[name].holds(wanted, asked) for name, wanted in self.conditions.items())

    def check(self, asked: Asked) -> tuple[Checked, ...]:
        """Return how each condition comes out."""
        return tuple(
            Checked(keyword=name, difference=_difference(name, wanted, asked))
            for name, wanted in self.conditions.items()
        )

    def covers(self, other: Match) -> bool:
        """Return whether it surely holds wherever ``other`` does: it asks for nothing that ``other`` does not."""
        theirs = other.conditions
        return all(name in theirs and theirs[name] == wanted for name, wanted in self.conditions.items())

    @property
    def marks(self) -> tuple[str, ...]:
        """Each condition as it is written: the same text for the same one."""
        return tuple(f"{name}={wanted!r}" for name, wanted in self.conditions.items())

    def __str__(self) -> str:
        told = ", ".join(f"{name}={shown(wanted)}" for name, wanted in self.conditions.items())
        return told or "any request"


def _difference(name: str, wanted: Any, asked: Asked) -> Difference | None:
    try:
        return next(_KEYWORDS[name].look(wanted, asked), None)
    except Exception as error:  # noqa: BLE001  # a function that relies on what the other keywords ask for
        return Difference(wanted=wanted, value=Told(f"{type(error).__name__}: {error}"))


def _no_such_keyword(name: str) -> str:
    return f"There is no match keyword {name!r}; {meant(name, sorted(_KEYWORDS))}"


def _check_known(name: str, wanted: Matcher | None, there_are: Sequence[str]) -> None:
    if not isinstance(wanted, Equals) or not there_are or wanted.wanted in there_are:
        return
    message = f"{name}={wanted!r}: there is no such {name}; {meant(str(wanted.wanted), there_are)}"
    raise ValueError(message)


# What a keyword may be


def _impossible(name: str, given: object, cure: str) -> ValueError:
    return ValueError(f"{name}={shown(given)} is not possible: {cure}")


def _text(name: str, given: object) -> Matcher:
    if given is None or isinstance(given, str | Matcher) or callable(given):
        return matcher(given)
    raise _impossible(name, given, "give a text, contains(…), matches(…), a function, or None for what is absent.")


def _numbers(name: str, given: object) -> Matcher:
    wanted = (given,) if isinstance(given, int) else given
    if isinstance(wanted, range) and wanted and min(wanted) >= 1:
        return OneOf(wanted)
    if isinstance(wanted, list | tuple | set | frozenset) and wanted and all(map(counts, wanted)):
        return OneOf(tuple(sorted(set(wanted))))
    raise _impossible(name, given, "it counts from 1; give an int, or several: range(1, 3), [1, 4].")


def counts(number: object) -> bool:
    """Return whether something can be counted to: 1, 2, and so on."""
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def _flag(name: str, given: object) -> Matcher:
    if isinstance(given, bool):
        return Equals(given)
    raise _impossible(name, given, "give True or False.")


def _result(name: str, given: object) -> Matcher | Mapping[str, Matcher]:
    if isinstance(given, Mapping):
        return {str(tool): _text(f"{name}[{tool!r}]", part) for tool, part in given.items()}
    return _text(name, given)


def _headers(name: str, given: object) -> Mapping[str, Matcher]:
    if isinstance(given, Mapping) and all(isinstance(header, str) for header in given):
        secret = next((header for header in given if is_secret(header.lower())), None)
        if secret is not None:
            raise _impossible(name, secret, "it holds a secret and is not kept; make a key of its own instead.")
        return {header.lower(): _text(f"{name}[{header!r}]", part) for header, part in given.items()}
    raise _impossible(name, given, "give a mapping of header names to texts or matchers.")


def _messages(name: str, given: object) -> Sequence[Mapping[str, Any]]:
    if isinstance(given, list | tuple) and all(isinstance(message, Mapping) for message in given):
        return tuple(given)
    raise _impossible(name, given, "give a list of messages, each with the members that matter.")


def _mapping(name: str, given: object) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    raise _impossible(name, given, "give a mapping with the members that matter.")


def _function(name: str, given: object) -> Callable[[Asked], object]:
    if callable(given):
        return given
    raise _impossible(name, given, "give a function of an Asked.")


# Where a keyword does not hold


def _look_at_tools(wanted: Matcher, asked: Asked) -> Iterator[Difference]:
    offered = asked.conversation.tools
    if not any(map(wanted.holds, offered or (None,))):
        yield Difference(wanted=wanted, value=Told(", ".join(map(repr, offered[:10])) or "no tools"))


def _look_at_results(wanted: Matcher | Mapping[str, Matcher], asked: Asked) -> Iterator[Difference]:
    results = asked.conversation.tool_results
    if isinstance(wanted, Matcher):
        yield from _look_for_result(wanted, results, results)
        return
    for name, part in wanted.items():
        named = tuple(result for result in results if result.name == name)
        yield from (found.under(name) for found in _look_for_result(part, named, results))


def _look_for_result(
    wanted: Matcher, among: Sequence[ToolResult], results: Sequence[ToolResult]
) -> Iterator[Difference]:
    if not any(map(wanted.holds, [result.text for result in among] or (None,))):
        got = ", ".join(f"{result.name or '?'}: {shown(result.text)}" for result in results[:10])
        yield Difference(wanted=wanted, value=Told(got or "no tool result since the last answer"))


def _look_at_messages(wanted: Sequence[Mapping[str, Any]], asked: Asked) -> Iterator[Difference]:
    had = asked.conversation.messages
    if len(wanted) != len(had):
        roles = ", ".join(str(message.get("role")) for message in had[:20])
        same = takewhile(lambda pair: not any(differences(pair[0], _told(*pair))), zip(wanted, had, strict=False))
        told = f"{len(had)}, of which the first {sum(1 for _ in same)} are as expected: {roles}"
        yield Difference(wanted=Told(f"{len(wanted)} messages"), value=Told(told + (", …" if len(had) > 20 else "")))
        return
    yield from differences(wanted, [_told(*pair) for pair in zip(wanted, had, strict=True)])


def _are_the_messages(wanted: Sequence[Mapping[str, Any]], asked: Asked) -> bool:
    """Tell whether they hold; where their number differs, how far they do is not worth a look."""
    return len(wanted) == len(asked.conversation.messages) and next(_look_at_messages(wanted, asked), None) is None


def _told(wanted: Mapping[str, Any], message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message whose content is text where a text is wanted of it."""
    parts = message.get("content")
    as_text = isinstance(parts, list) and not isinstance(wanted.get("content"), list | tuple | Mapping)
    return {**message, "content": text_of(parts)} if as_text else message


def _look_at_when(wanted: Callable[[Asked], object], asked: Asked) -> Iterator[Difference]:
    if not wanted(asked):
        name = getattr(wanted, "__qualname__", repr(wanted))
        yield Difference(wanted=Told(f"{name}(asked) to hold"), value=Told("no"))


Look = Callable[[Any, Asked], Iterator[Difference]]


@dataclass(frozen=True, slots=True)
class _Keyword:
    """How a keyword's value is taken when the rule is written, and looked for when a try comes."""

    take: Callable[[str, object], Any]
    look: Look
    holds: Callable[[Any, Asked], bool]


def _one(take: Callable[[str, object], Matcher], read: Callable[[Asked], object]) -> _Keyword:
    """Return a keyword for one value of a try. Most are: it is worth being quick."""
    return _Keyword(
        take, lambda wanted, asked: differences(wanted, read(asked)), lambda wanted, asked: wanted.holds(read(asked))
    )


def _many(take: Callable[[str, object], Any], look: Look) -> _Keyword:
    return _Keyword(take, look, lambda wanted, asked: next(look(wanted, asked), None) is None)


# Cheap ones first: the first that does not hold decides.
_KEYWORDS: Final[Mapping[str, _Keyword]] = {
    "route": _one(_text, lambda asked: asked.route),
    "tier": _one(_text, lambda asked: asked.tier),
    "attempt": _one(_numbers, lambda asked: asked.attempt),
    "nth": _one(_numbers, lambda asked: asked.nth),
    "number": _one(_numbers, lambda asked: asked.number),
    "stream": _one(_flag, lambda asked: asked.stream),
    "model": _one(_text, lambda asked: asked.body.get("model")),
    "workflow": _one(_text, lambda asked: asked.workflow),
    "task": _one(_text, lambda asked: asked.headers.get(Header.TASK)),
    "turn": _one(_numbers, lambda asked: asked.conversation.turn),
    "user": _one(_text, lambda asked: asked.conversation.user),
    "system": _one(_text, lambda asked: asked.conversation.system),
    "schema": _one(_text, lambda asked: asked.conversation.schema),
    "tool": _many(_text, _look_at_tools),
    "tool_result": _many(_result, _look_at_results),
    "headers": _many(_headers, lambda wanted, asked: differences(wanted, asked.headers)),
    "messages": _Keyword(_messages, _look_at_messages, _are_the_messages),
    "body": _many(_mapping, lambda wanted, asked: differences(wanted, asked.body)),
    "when": _many(_function, _look_at_when),
}

KEYWORDS: Final = tuple(_KEYWORDS)
"""The names of all keywords."""
