"""Whole answers in odd manners: what real providers do that a client must not mind. Pure.

Each manner changes the events of a streamed answer, and if it says so the body of a plain one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from flatfee.testing.faults.refusing import event as error_event
from flatfee.testing.faults.refusing import trouble
from flatfee.testing.faults.struck import (
    COMMENT,
    DONE,
    finish_of,
    first_finish,
    payload_of,
    without_finish,
)
from flatfee.testing.scripting.played import Failure, Pause, Piece
from flatfee.testing.scripting.speaking import event
from flatfee.wire import AttemptOutcome

BROKE_OFF: Final = Failure(AttemptOutcome.ERROR, "broke off: the connection ended")

_ABSURD: Final = 10**15


@dataclass(frozen=True, slots=True)
class Manner:
    """``says``: what the provider does, in a few words. ``body`` is for plain answers; ``None``: they are as ever."""

    says: str
    events: Callable[[list[bytes]], Sequence[Piece]]
    body: Callable[[dict[str, Any]], dict[str, Any]] | None = None


def _said(events: Sequence[bytes]) -> list[bytes]:
    """Return an answer's events up to its last finish reason, without usage and ``[DONE]``."""
    last = max(at for at, part in enumerate(events) if finish_of(part))
    return list(events[: last + 1])


def _reshaped(change: Callable[[dict[str, Any]], None]) -> Callable[[list[bytes]], list[bytes]]:
    """Change what each event tells."""

    def changed(events: list[bytes]) -> list[bytes]:
        out = []
        for part in events:
            told = payload_of(part)
            change(told)
            out.append(event(told) if told else part)
        return out

    return changed


def _nulls(told: dict[str, Any]) -> None:
    for choice in told.get("choices") or ():
        if not choice["delta"].get("content"):
            choice["delta"]["content"] = None


def _empty_finishes(told: dict[str, Any]) -> None:
    for choice in told.get("choices") or ():
        choice["finish_reason"] = choice["finish_reason"] or ""


def _running_usage(told: dict[str, Any]) -> None:
    if told:
        told["usage"] = {"prompt_tokens": 20, "completion_tokens": 12, "total_tokens": 32}


def _usage(figures: Any) -> dict[str, Any]:
    """Return a manner's two halves that tell other figures; ``None``: none at all."""

    def events(whole: list[bytes]) -> list[bytes]:
        told = [] if figures is None else [event({"id": "chatcmpl-1", "choices": [], "usage": figures})]
        return [*_said(whole), *told, DONE]

    def body(whole: dict[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in whole.items() if name != "usage"}
        return rest if figures is None else {**rest, "usage": figures}

    return {"events": events, "body": body}


def _usage_with_the_finish(events: list[bytes]) -> list[bytes]:
    *before, finish = _said(events)
    figures = {"prompt_tokens": 20, "completion_tokens": 12, "total_tokens": 32}
    return [*before, event({**payload_of(finish), "usage": figures}), DONE]


def _odd_lines(events: list[bytes]) -> list[bytes]:
    first, *rest = events
    several = b'id: 7\nevent: message\n: a comment\ndata: {"id": "chatcmpl-1",\ndata: "choices": []}\nretry: 10\n\n'
    return [COMMENT, first, several, *(part.replace(b"data: ", b"data:", 1) for part in rest)]


def _in_one(events: list[bytes]) -> list[bytes]:
    """Say the whole text in one event."""
    end = first_finish(events)
    told = [payload_of(part) for part in events[:end]]
    text = "".join(choice["delta"].get("content") or "" for each in told for choice in each["choices"])
    said = {**told[-1], "choices": [{**told[-1]["choices"][0], "delta": {"content": text}}]}
    return [events[0], event(said), *events[end:]]


def _halves(events: list[bytes]) -> list[bytes]:
    """Cut a rocket into the two halves that it has in UTF-16, as some servers do."""
    end = first_finish(events)
    last = payload_of(events[end - 1])
    halves = []
    for half in ("\ud83d", "\ude80"):
        last["choices"][0]["delta"] = {"content": half}
        halves.append(b"data: " + json.dumps(last).encode() + b"\n\n")
    return [*events[:end], *halves, *events[end:]]


def _bytewise(events: list[bytes]) -> list[bytes]:
    return [bytes([byte]) for byte in b"".join(events)]


def _lines_end_in(end: bytes) -> Callable[[list[bytes]], list[bytes]]:
    return lambda events: [part.replace(b"\n", end) for part in events]


def _goes_on(events: list[bytes]) -> list[bytes]:
    return [*events, *without_finish(events)[:2], DONE]


MANNERS: Final[dict[str, Manner]] = {
    "no [DONE]": Manner("sends no `[DONE]`", lambda events: events[:-1]),
    "silent after its finish": Manner("falls silent in place of `[DONE]`", lambda events: [*events[:-1], Pause()]),
    "reset after its finish": Manner(
        "resets after its finish reason, before usage and `[DONE]`", lambda events: [*_said(events), BROKE_OFF]
    ),
    "reset after [DONE]": Manner("resets right after `[DONE]`", lambda events: [*events, BROKE_OFF]),
    "[DONE] twice": Manner("sends `[DONE]` twice", lambda events: [*events, DONE]),
    "goes on after [DONE]": Manner("sends events after `[DONE]`", _goes_on),
    "error after its finish": Manner(
        "sends an error event after its finish reason",
        lambda events: [*_said(events), error_event("openai", trouble(500))],
    ),
    "last event unended": Manner(
        "sends no blank line after the last event", lambda events: [*_said(events)[:-1], _said(events)[-1].rstrip()]
    ),
    "CR": Manner("ends lines with CR", _lines_end_in(b"\r")),
    "CR LF": Manner("ends lines with CR LF", _lines_end_in(b"\r\n")),
    "odd lines": Manner("sends comments, ids, names, data of several lines", _odd_lines),
    "byte order mark": Manner(
        "sends a byte order mark first", lambda events: [b"\xef\xbb\xbf" + events[0], *events[1:]]
    ),
    "byte by byte": Manner("sends every byte by itself", _bytewise),
    "one piece": Manner("sends the whole stream at once", lambda events: [b"".join(events)]),
    "one event": Manner("says the whole text in one event", _in_one),
    "half characters": Manner("sends half a character in an event, and the other in the next", _halves),
    "nulls": Manner("sends null where text may be", _reshaped(_nulls)),
    "empty finish reasons": Manner("sends empty finish reasons before the last", _reshaped(_empty_finishes)),
    "no choices first": Manner(
        "sends an event without choices first, as Azure does",
        lambda events: [event({"id": "", "choices": [], "prompt_filter_results": []}), *events],
    ),
    "usage in every event": Manner("tells usage in every event", _reshaped(_running_usage)),
    "usage with the finish": Manner("tells usage with the finish reason", _usage_with_the_finish),
    "no usage": Manner("tells no usage", **_usage(None)),
    "usage empty": Manner("tells usage without figures", **_usage({})),
    "usage negative": Manner(
        "tells usage below nothing", **_usage({"prompt_tokens": -5, "completion_tokens": -7, "total_tokens": -12})
    ),
    "usage absurd": Manner(
        "tells usage beyond belief",
        **_usage({"prompt_tokens": _ABSURD, "completion_tokens": _ABSURD, "total_tokens": 2 * _ABSURD}),
    ),
    "usage in words": Manner(
        "tells usage in words", **_usage({"prompt_tokens": "many", "completion_tokens": None, "total_tokens": "some"})
    ),
}
"""Name → manner. All of them leave the answer whole."""


def body_in(manner: Manner, body: bytes) -> bytes:
    """Return a plain answer in a manner."""
    return body if manner.body is None else msgspec.json.encode(manner.body(json.loads(body)))
