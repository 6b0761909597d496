"""Requests of the journal as a table for people, and as JSON. Nothing is decided here.

Prompts and answers appear only where they are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from flatfee.testing.judging.entry import Ending, Entry, RouteTry

_HEAD: Final = ("#", "at", "took", "request", "workflow", "lane", "tries", "answer", "ended", "edge")
_WIDEST: Final = 60
_WIDEST_TRIES: Final = 160
_MOST_LINES: Final = 200
_LONGEST_BODY: Final = 2_000


def text_of(entries: Sequence[Entry], *, forgotten: int = 0, bodies: bool = False) -> str:
    """Return a table with a line for each of the last 200 requests, and what is not shown."""
    shown = entries[-_MOST_LINES:]
    left_out = len(entries) - len(shown)
    notes = [f"{forgotten:,} earlier requests are not kept."] * bool(forgotten)
    notes += [f"{left_out:,} earlier requests are not shown."] * bool(left_out)
    if not shown:
        return "\n".join([*notes, "No requests."])
    lines = _aligned([_HEAD, *(_row(entry) for entry in shown)])
    below: Iterable[list[str]] = ([], *(_bodies(entry) if bodies else [] for entry in shown))
    return "\n".join([*notes, *(line for row, more in zip(lines, below, strict=True) for line in (row, *more))])


def _row(entry: Entry) -> tuple[str, ...]:
    took = None if entry.let_go is None else entry.let_go - entry.arrived
    return (
        str(entry.number or "-"),
        f"{entry.arrived:.3f} s",
        "" if took is None else f"{took:.3f} s",
        _cell(_request(entry)),
        _cell(entry.workflow or ""),
        _cell(str((entry.receipt and entry.receipt.lane) or "")),
        _printable(", ".join(map(_try, entry.tries)), _WIDEST_TRIES),
        _cell(_answer(entry)),
        ended(entry),
        _cell(entry.edge),
    )


def _request(entry: Entry) -> str:
    if not entry.is_completion:
        return f"{entry.method} {entry.path}"
    words = [entry.model or "no model", *(["streamed"] * entry.stream), f"turn {entry.turn}"]
    return ", ".join([*words, *([f"retry {entry.retry_count}"] * bool(entry.retry_count))])


def _try(tried: RouteTry) -> str:
    outcome = tried.outcome or "?"
    status = f" {tried.status}" if tried.status not in {None, 200} else ""
    rule = f" by {tried.rule}" if tried.rule else ""
    return f"{tried.route} {outcome}{status}{rule}"


def _answer(entry: Entry) -> str:
    words = [str(entry.status or "-"), *([entry.code] if entry.code else [])]
    told = entry.retry_after
    return " ".join([*words, *([f"retry after {told:g} s"] if told is not None else [])])


def ended(entry: Entry) -> str:
    """Say how a response ended, in a few words."""
    after = f"after {entry.answer_size:,} bytes"
    if entry.answered.events:
        after += f", {entry.answered.events:,} events"
    midway = "failed midway" if entry.failed_midway else "whole"
    unread = ", caller does not read" if entry.unread_since is not None else ""
    return {
        Ending.WHOLE: midway,
        Ending.LEFT: f"caller left {after}",
        Ending.CUT: f"cut {after}",
        Ending.OPEN: f"open {after}{unread}",
    }[entry.ending]


def _bodies(entry: Entry) -> list[str]:
    asked = (
        json.dumps(list(entry.messages), ensure_ascii=False) if entry.messages else entry.raw.decode("utf-8", "replace")
    )
    calls = [f"{call.name}({call.arguments})" for call in entry.answered.tool_calls]
    said = "; ".join([*([entry.text] if entry.text else []), *calls])
    pairs = ((">", asked), ("<", said))
    return [f"    {mark} {_printable(words, _LONGEST_BODY)}" for mark, words in pairs if words]


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield the rows as lines, without the columns that are empty in all of them."""
    used = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in used]
    for row in zip(*used, strict=True):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cell(text: str) -> str:
    return _printable(text, _WIDEST)


def _printable(text: str, most: int) -> str:
    """Return a text without what moves a terminal's cursor, and not longer than ``most`` characters."""
    shown = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(letter if letter.isprintable() else "?" for letter in shown)


def json_of(entry: Entry, *, bodies: bool = False) -> dict[str, Any]:
    """Return what is known of a request, ready to be written as JSON. Times are as in ``Entry``, and RFC 3339."""
    ended_at = entry.ended_at
    facts: dict[str, Any] = {
        **{name: getattr(entry, name) for name in _PLAIN},
        "headers": dict(entry.headers),
        "answer_headers": dict(entry.answer_headers),
        "arrived_at": entry.arrived_at.isoformat(),
        "ended_at": ended_at and ended_at.isoformat(),
        "ending": str(entry.ending),
        "events": entry.answered.events,
        "tries": [{name: getattr(tried, name) for name in RouteTry.__slots__} for tried in entry.tries],
        "receipt": entry.receipt and entry.receipt.model_dump(mode="json", exclude_unset=True),
        "usage": entry.usage and dict(entry.usage),
    }
    if bodies:
        facts |= {"body": entry.body, "text": entry.text, "answer": entry.raw_answer.decode("utf-8", "replace")}
    return facts


_PLAIN: Final = (
    *("number", "method", "path", "query", "key", "model", "stream", "turn", "workflow", "idempotency_key"),
    *("deadline_ms", "retry_count", "arrived", "first_byte", "ended", "status", "code", "should_retry", "retry_after"),
    *("answer_size", "whole", "failed", "edge"),
)
