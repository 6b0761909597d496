"""Whether a client keeps what it said: its deadlines and its idempotency keys."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from flatfee.testing.judging.checks.base import Found, Limits, Seen, Wrong, failure, seconds
from flatfee.testing.judging.entry import Ending, Entry
from flatfee.wire import Header

_NO_TIME: Final = 0.001
"""Real seconds in which what is left of a deadline may stay the same, in whole milliseconds."""


def deadline(seen: Seen, limits: Limits) -> Found:
    """No try begins past the deadline that the first one told, and each tells what is left of it."""
    for call in seen.calls:
        for first, earlier, then in _of_one_deadline(call.entries):
            passed, end = _elapsed(first, then), (first.deadline_ms or 0) / 1000
            if passed > end + limits.tolerance:
                yield Wrong(
                    f"{then.name} came {seconds(passed)} after {first.name}, whose deadline of {seconds(end)} "
                    f"({Header.DEADLINE_MS}) was over by then. Stop trying when the deadline has passed.",
                    (first, then),
                )
            elif _tells_too_much(earlier, then, limits):
                told = "no deadline" if then.deadline_ms is None else f"{then.deadline_ms} ms"
                yield Wrong(
                    f"{then.name} told {told} ({Header.DEADLINE_MS}), {seconds(_elapsed(earlier, then))} after "
                    f"{earlier.name} had told {earlier.deadline_ms} ms. Tell with each try what is left of it.",
                    (earlier, then),
                )


def _of_one_deadline(entries: tuple[Entry, ...]) -> Iterator[tuple[Entry, Entry, Entry]]:
    """Yield each later try with the first and the one before it. Another key is another call of the client."""
    first = entries[0]
    for earlier, then in pairwise(entries):
        if then.idempotency_key != first.idempotency_key:
            first = then
        elif first.deadline_ms is not None:
            yield first, earlier, then


def _elapsed(first: Entry, then: Entry) -> float:
    """Return the time between two tries as a client could know it: what the gateway's clock skipped it did not see.

    A client that waits in the gateway's time is judged by the machine's clock, and so leniently.
    """
    return min(then.arrived - first.arrived, then.real - first.real)


def _tells_too_much(earlier: Entry, then: Entry, limits: Limits) -> bool:
    if earlier.deadline_ms is None:
        return False
    if then.deadline_ms is None:
        return True
    if then.deadline_ms == earlier.deadline_ms:  # it waited, if only in the gateway's time
        return then.real - earlier.real > _NO_TIME and then.arrived - earlier.arrived > limits.tolerance
    return then.deadline_ms > earlier.deadline_ms - 1000 * max(0.0, _elapsed(earlier, then) - limits.tolerance)


def idempotency(seen: Seen, limits: Limits) -> Found:
    """An idempotency key belongs to one body, and stays when nobody knows whether the try before was served."""
    bodies: dict[tuple[str, str | None], Entry] = {}
    for entry in seen.completions:
        if entry.idempotency_key is None:
            continue
        first = bodies.setdefault((entry.key, entry.idempotency_key), entry)
        if first.digest != entry.digest:
            yield Wrong(
                f"{entry.name} has the Idempotency-Key of {first.name} and another body. "
                "Make a new key for each call, and send the same bytes with each try of it.",
                (first, entry),
            )
    for first, then in (pair for call in seen.calls for pair in call.retried):
        same = first.is_completion and first.digest == then.digest  # another body must have another key
        judged = same and (limits.must_key or first.idempotency_key is not None)
        if judged and _is_unclear(first) and not _same_key(first, then):
            yield Wrong(
                f"{then.name} sent {first.name} again after {failure(first)}, without its Idempotency-Key: if that was "
                "served, the account pays for both. Make a key for each call, and send it with each try.",
                (first, then),
            )


def _same_key(first: Entry, then: Entry) -> bool:
    return first.idempotency_key is not None and then.idempotency_key == first.idempotency_key


def _is_unclear(entry: Entry) -> bool:
    """Tell whether a client cannot know if it was served. Of a stream that began it knows: the key would not help."""
    if entry.ending in {Ending.CUT, Ending.LEFT}:
        return entry.answer_size == 0 or not entry.stream
    return (entry.status or 0) >= 500 and Header.REQUEST_ID not in entry.answer_headers  # not the gateway's own answer
