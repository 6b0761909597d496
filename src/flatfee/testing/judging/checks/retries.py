"""Whether a client tries again what it may, when it may, and not too often."""

from __future__ import annotations

from itertools import pairwise

from flatfee.testing.judging.calls import waited
from flatfee.testing.judging.checks.base import Found, Limits, Seen, Wrong, failure, names, seconds
from flatfee.testing.judging.entry import Ending, Entry
from flatfee.wire import ErrorCode, Header

_NEW_KEY_CURES = frozenset({ErrorCode.IDEMPOTENCY_EXPIRED, ErrorCode.IDEMPOTENCY_MISMATCH})
_STEADY = 1.2
"""How much longer the longest of steady waits is than the shortest."""
_MOST_TOLD = 8
_HUNG_UP_LATE = 0.25
"""Seconds in which a gateway may not have noticed yet that a caller hung up."""


def final_error(seen: Seen, limits: Limits) -> Found:
    """An error that no retry can cure is not tried again."""
    del limits
    for call in seen.calls:
        wrong = [
            (first, then)
            for first, then in call.retried
            if first.failed and not first.retryable and not _cured(first, then)
        ]
        if wrong:
            (first, then), *others = wrong
            more = f", and so did {names([each for _, each in others])}" if others else ""
            yield Wrong(
                f"{then.name} sent {first.name} again {seconds(waited(first, then))} after {failure(first)}, "
                f"which is final{_told(first)}{more}. Raise it to the caller instead of trying again.",
                (first, then, *(each for _, each in others)),
            )
    yield from _after_402(seen)


def _after_402(seen: Seen) -> Found:
    """Find runs that go on asking for what their account cannot pay."""
    runs: dict[tuple[object, ...], list[Entry]] = {}
    for entry in seen.completions:
        if entry.status == 402 and entry.workflow is not None:
            consent = entry.headers.get(Header.ON_EXHAUSTED)
            runs.setdefault((entry.era, entry.key, entry.workflow, entry.model, consent), []).append(entry)
    for refused in runs.values():
        first = refused[0]
        more = [each for each in refused[1:] if each.question != first.question and not _cured(first, each)]
        if more:
            yield Wrong(
                f"{names(more)} asked for model {first.model!r} again in workflow {first.workflow!r}, "
                f"after {first.name} had got {failure(first)}. End the run, or let it continue on economy "
                f"({Header.ON_EXHAUSTED}: continue, or the model economy).",
                (first, *more),
            )


def _cured(first: Entry, then: Entry) -> bool:
    """Tell whether what was final is so no more: a new window, another key, or something that may come to exist."""
    if first.code in _NEW_KEY_CURES:
        return then.idempotency_key != first.idempotency_key
    if first.code == ErrorCode.FAIR_USE_EXHAUSTED:
        resets_at = first.receipt and first.receipt.fair_use and first.receipt.fair_use.resets_at
        return bool(resets_at and then.arrived_at >= resets_at)
    return first.method == "GET" and first.status == 404


def _told(entry: Entry) -> str:
    return f" ({Header.SHOULD_RETRY}: false)" if entry.should_retry is False else ""


def retry_after(seen: Seen, limits: Limits) -> Found:
    """A try waits for as long as the answer before it told."""
    for first, then in (pair for call in seen.calls for pair in call.retried):
        told, wait = first.told_wait, waited(first, then)
        if told is not None and wait < told - limits.tolerance:
            yield Wrong(
                f"{then.name} came {seconds(wait)} after {first.name} got {failure(first)}, "
                f"which told to wait {told:g} s (Retry-After). Wait at least that long before the next try.",
                (first, then),
            )


def backoff(seen: Seen, limits: Limits) -> Found:
    """Waits that nobody told are long enough, and grow: one short one is allowed, several or steady ones are not."""
    for call in seen.calls:
        waits = [waited(*pair) for pair in call.retried if pair[0].told_wait is None and pair[0].retryable]
        quick = [wait for wait in waits if wait < limits.shortest_wait]
        told = ", ".join(f"{wait:.3f}" for wait in waits[:_MOST_TOLD])
        cure = "Double the wait each time, from half a second or so, and spread it by chance."
        if len(quick) > 1:
            yield Wrong(
                f"{names(call.entries)} are tries of one call with waits of {told} s between them, "
                f"{len(quick)} of them under {limits.shortest_wait:g} s. {cure}",
                call.entries,
            )
        elif len(waits) > 2 and _is_steady(waits, limits.steady_wait):
            yield Wrong(
                f"{names(call.entries)} are tries of one call at a steady pace, {told} s apart: it never slows down. "
                f"{cure}",
                call.entries,
            )


def _is_steady(waits: list[float], longest: float) -> bool:
    return max(waits) < longest and max(waits) <= _STEADY * min(waits)


def tries(seen: Seen, limits: Limits) -> Found:
    """One call is not tried too often."""
    for call in seen.calls:
        sent = 1 + len(call.retried)
        if sent > limits.most_tries:
            yield Wrong(
                f"{names(call.entries)} are {sent} tries of one call; {limits.most_tries} are allowed. "
                "Bound the tries; where two layers repeat calls, let only one of them do so.",
                call.entries,
            )


def burst(seen: Seen, limits: Limits) -> Found:
    """Retries of all calls together do not come in a burst; those that waited as told do not count."""
    retried = (pair for call in seen.calls for pair in call.retried)
    hasty = [then for first, then in retried if not _as_told(first, then, limits)]
    hasty.sort(key=lambda entry: entry.arrived)
    most = limits.most_per_second
    for start, entry in enumerate(hasty[:-most] if most < len(hasty) else []):
        last = hasty[start + most]
        if _within_a_second(entry, last):
            crowd = [each for each in hasty[start:] if _within_a_second(entry, each)]
            yield Wrong(
                f"{len(crowd)} retries came within a second from {seconds(entry.arrived)} on ({names(crowd)}); "
                f"{most} are allowed. Spread retries by chance, and let calls that fail together share a limit.",
                crowd,
            )
            return


def _within_a_second(first: Entry, then: Entry) -> bool:
    return then.arrived - first.arrived < 1.0 and then.real - first.real < 1.0


def _as_told(first: Entry, then: Entry, limits: Limits) -> bool:
    told = first.told_wait
    return told is not None and waited(first, then) >= told - limits.tolerance


def parallel(seen: Seen, limits: Limits) -> Found:
    """A call is not sent again while an earlier try of it still runs."""
    for call in seen.calls:
        for first, then in pairwise(call.entries):
            ended = first.let_go if first.let_go is not None else float("inf")
            late = _HUNG_UP_LATE if first.ending == Ending.LEFT else limits.tolerance
            if then.arrived < ended - late:
                still = "still runs" if first.let_go is None else f"ran until {seconds(ended)}"
                yield Wrong(
                    f"{then.name} was sent with the Idempotency-Key of {first.name} at {seconds(then.arrived)}, "
                    f"while that {still}. Wait for its end, or hang up, before the next try.",
                    (first, then),
                )


def gave_up(seen: Seen, limits: Limits) -> Found:
    """With ``must_retry``: a failure that may be tried again is."""
    for call in seen.calls if limits.must_retry else ():
        last = call.entries[-1]
        if last.failed and last.retryable and not last.failed_midway:
            yield Wrong(
                f"{last.name} got {failure(last)}, which may be tried again, and the client gave up after "
                f"{len(call.entries)} {'try' if len(call.entries) == 1 else 'tries'}. Try again, after a wait.",
                call.entries,
            )
