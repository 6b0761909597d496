"""Models that answer well, each in a manner of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tests.faults.speech import (
    COMMENT,
    LAST_CHUNK,
    OTHERWISE,
    STREAM_HEAD,
    TEXT,
    chunk,
    completion,
    delta,
    event,
    events,
    sized,
    streamed,
    tool_completion,
    tool_events,
)
from tests.faults.steps import Pause, Script, Seen, Step

BETWEEN: Final = 0.25
"""Seconds between the events of a slow model."""


def said(seen: Seen, text: str = TEXT) -> list[bytes]:
    """Answer whole, under an id that no failing answer has."""
    return [
        part.replace(b"chatcmpl-1", b"chatcmpl-2").replace(b'"created": 1', b'"created": 2')
        for part in _said(seen, text)
    ]


def _said(seen: Seen, text: str) -> list[bytes]:
    """Answer whole: with the tool if one was offered, else with a text; a text that was begun is continued."""
    if seen.body.get("tools"):
        finish = event(delta({}, "tool_calls"))
        return streamed([*tool_events(), finish, *events()[-2:]]) if seen.stream else [sized(tool_completion())]
    last = seen.body["messages"][-1]
    if last["role"] == "assistant":
        text = text.removeprefix(last["content"])
    choices = seen.body.get("n") or 1
    return streamed(events(text, choices=choices)) if seen.stream else [sized(completion(text, choices=choices))]


def healthy(seen: Seen) -> Iterable[Step]:
    return said(seen)


def otherwise(seen: Seen) -> Iterable[Step]:
    return said(seen, OTHERWISE)


def slowly(seen: Seen) -> Iterable[Step]:
    yield STREAM_HEAD
    for part in events():
        yield Pause(BETWEEN)
        yield chunk(part)
        yield chunk(COMMENT)
    yield LAST_CHUNK


HEALTHY: Final[Mapping[str, Script]] = {
    "healthy": healthy,
    "healthy-otherwise": otherwise,
    "slow-trickle": slowly,
}
