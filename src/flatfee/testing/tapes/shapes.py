"""How two answers differ in form: names, types, words of closed lists, the order of events. Pure.

What is said is not compared: a model says something else each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

from flatfee.testing.tapes.tape import Answer, Event
from flatfee.types import ChatCompletion, ChatCompletionChunk


class Severity(StrEnum):
    """What a difference means for who replays the tape: ``breaking`` what clients read, ``new`` nothing to fear."""

    BREAKING = "breaking"
    CHANGED = "changed"
    NEW = "new"


class Change(StrEnum):
    """What is different."""

    ADDED = "added"
    MISSING = "missing"
    RETYPED = "retyped"
    WORD = "another word"
    ORDER = "another order"
    STATUS = "another status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference. ``path`` is where, such as ``choices[].finish_reason``, ``headers.retry-after``, ``events``."""

    severity: Severity
    change: Change
    path: str
    recorded: str
    live: str


CHOSEN: Final = frozenset(
    {"content", "refusal", "tool_calls", "function_call", "annotations", "audio", "logprobs", "reasoning_content"}
)
"""Members that are there or not as the model likes it."""

_OPTIONAL: Final = frozenset(
    {"service_tier", "system_fingerprint", "prompt_tokens_details", "completion_tokens_details"}
)
_ERROR: Final = ("error", "error.message", "error.type", "error.param", "error.code")
_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "object": frozenset(),
    "finish_reason": frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"}),
    "role": frozenset(),
    "type": frozenset(),
}
"""Names of members with words of a closed list → those of the list that any answer may have."""

_NULL: Final = "null"
_SAID: Final = ("content", "tool_calls", "refusal", "reasoning_content")


def compare(recorded: Answer, live: Answer) -> list[Finding]:
    """Return how the form of a live answer differs from that of the recorded one, the worst first."""
    found = [*_status(recorded, live), *_headers(recorded.headers, live.headers)]
    if recorded.status == live.status:
        found += _values(list(_said(recorded)), list(_said(live)), streamed=recorded.events is not None)
        if recorded.events is not None:
            found += _order(recorded.events, live.events or ())
    return sorted(found, key=lambda finding: (list(Severity).index(finding.severity), finding.path))


def shape(values: Iterable[Any]) -> dict[str, frozenset[str]]:
    """Return every path in the values, and which types of JSON it has."""
    found: dict[str, set[str]] = {}
    for value in values:
        for path, part in _walk(value):
            found.setdefault(path, set()).add(_type(part))
    return {path: frozenset(types) for path, types in found.items()}


@cache
def read_by_clients(form: type[BaseModel], path: str = "") -> frozenset[str]:
    """Return every path that our client's types read."""
    found: set[str] = set()
    for name, field in form.model_fields.items():
        inner = f"{path}.{name}" if path else name
        found.add(inner)
        for model, listed in _models(field.annotation, listed=False):
            found |= read_by_clients(model, f"{inner}[]" if listed else inner)
    return frozenset(found)


def _models(annotation: Any, *, listed: bool) -> Iterator[tuple[type[BaseModel], bool]]:
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, listed
    elif origin in (list, Annotated, Union, UnionType):
        for part in get_args(annotation):
            yield from _models(part, listed=listed or origin is list)


def _values(recorded: list[Any], live: list[Any], *, streamed: bool) -> Iterator[Finding]:
    read = read_by_clients(ChatCompletionChunk if streamed else ChatCompletion).union(_ERROR)
    was, now = shape(recorded), shape(live)
    for path, types in was.items():
        if path not in now:
            if _could_hold(now, path):
                yield _finding(_of_missing(path, read), Change.MISSING, path, _types(types), "nothing")
        elif (severity := _of_types(path, types, now[path], read)) is not None:
            yield _finding(severity, Change.RETYPED, path, _types(types), _types(now[path]))
    for path in now.keys() - was.keys():
        if _could_hold(was, path):
            yield _finding(Severity.NEW, Change.ADDED, path, "nothing", _types(now[path]))
    yield from _words(recorded, live, read)


def _of_missing(path: str, read: frozenset[str]) -> Severity:
    name = _name(path)
    if name in CHOSEN:
        return Severity.NEW
    return Severity.BREAKING if path in read and not _OPTIONAL.intersection(path.split(".")) else Severity.CHANGED


def _of_types(path: str, was: frozenset[str], now: frozenset[str], read: frozenset[str]) -> Severity | None:
    others, before = now - was - {_NULL}, was - {_NULL}
    if others:
        return (Severity.BREAKING if path in read else Severity.CHANGED) if before else Severity.NEW
    if before and now <= {_NULL}:
        return _of_missing(path, read)
    if _NULL in now - was:
        return Severity.NEW if _name(path) in CHOSEN else Severity.CHANGED
    return None


def _words(recorded: list[Any], live: list[Any], read: frozenset[str]) -> Iterator[Finding]:
    was, now = _words_of(recorded), _words_of(live)
    for path, words in now.items():
        known = _WORDS[_name(path)]
        before = was.get(path, frozenset())
        if path not in read or not before or not (fresh := words - before):
            continue
        severity = Severity.NEW if fresh <= known else Severity.BREAKING
        yield _finding(severity, Change.WORD, path, _list(before), _list(words))


def _words_of(values: list[Any]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for value in values:
        for path, part in _walk(value):
            if isinstance(part, str) and part and _name(path) in _WORDS:
                found.setdefault(path, set()).add(part)
    return {path: frozenset(words) for path, words in found.items()}


def _order(recorded: Iterable[Event], live: Iterable[Event]) -> Iterator[Finding]:
    was, now = list(_kinds(recorded)), list(_kinds(live))
    if was != now:
        severity = Severity.BREAKING if "finish" in set(was) - set(now) else Severity.CHANGED
        yield _finding(severity, Change.ORDER, "events", ", ".join(was), ", ".join(now) or "none")


def _kinds(events: Iterable[Event]) -> Iterator[str]:
    """Yield what the events of a stream are for, in order; one that goes on with the last is not told again."""
    last = ""
    for event in events:
        kind = _kind(event.data if "data" in event.model_fields_set else None)
        if kind and kind != last:
            yield kind
        last = kind or last


def _kind(data: Any) -> str:
    if data == "[DONE]":
        return "[DONE]"
    if not isinstance(data, dict):
        return ""
    if "error" in data:
        return "error"
    choices = [choice for choice in data.get("choices") or () if isinstance(choice, dict)]
    deltas = [choice.get("delta") or {} for choice in choices]
    if any(choice.get("finish_reason") for choice in choices):
        return "finish"
    if any(delta.get(name) for delta in deltas for name in _SAID):
        return "said"
    return "usage" if data.get("usage") and not choices else ""


def _status(recorded: Answer, live: Answer) -> Iterator[Finding]:
    if recorded.status != live.status:
        yield _finding(
            Severity.BREAKING, Change.STATUS, "status", str(recorded.status), str(live.status or "no answer")
        )


def _headers(recorded: Mapping[str, str], live: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(recorded.keys() - live.keys()):
        yield _finding(Severity.CHANGED, Change.MISSING, f"headers.{name}", "there", "nothing")
    for name in sorted(live.keys() - recorded.keys()):
        yield _finding(Severity.NEW, Change.ADDED, f"headers.{name}", "nothing", "there")
    was, now = (headers.get("content-type", "").partition(";")[0].strip() for headers in (recorded, live))
    if was and now and was != now:
        yield _finding(Severity.CHANGED, Change.WORD, "headers.content-type", was, now)


def _said(answer: Answer) -> Iterator[Any]:
    if answer.events is not None:
        yield from (event.data for event in answer.events if isinstance(event.data, dict))
    elif "body" in answer.model_fields_set:
        yield answer.body


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _walk(part, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for part in value:
            yield from _walk(part, f"{path}[]")


def _type(value: Any) -> str:
    match value:
        case None:
            return _NULL
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float():
            return "number"
        case list():
            return "list"
        case _:
            return "object"


def _could_hold(found: Mapping[str, frozenset[str]], path: str) -> bool:
    """Tell whether there is what could hold a path: where that is missing, or another type, it is told already."""
    if path.endswith("[]"):
        return "list" in found.get(path[:-2], ())
    return "object" in found.get(path.rpartition(".")[0], ())


def _name(path: str) -> str:
    return path.rpartition(".")[2].removesuffix("[]")


def _types(types: Iterable[str]) -> str:
    return " or ".join(sorted(types))


def _list(words: Iterable[str]) -> str:
    return ", ".join(repr(word) for word in sorted(words))


def _finding(severity: Severity, change: Change, path: str, recorded: str, live: str) -> Finding:
    return Finding(severity=severity, change=change, path=path, recorded=recorded, live=live)
