"""Which requests are tries of one call. Pure; only clients know for sure, so this is what can be seen from outside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from flatfee.testing.entry import Ending, Entry
from flatfee.wire import Header


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalCall:
    """What a client wanted once: its tries, in the order of their arrival."""

    entries: tuple[Entry, ...]

    @property
    def pairs(self) -> list[tuple[Entry, Entry]]:
        """Each try with the one after it."""
        return list(pairwise(self.entries))

    @property
    def retried(self) -> list[tuple[Entry, Entry]]:
        """Each try that failed, was cut or left, with the one after it."""
        return [pair for pair in self.pairs if pair[0].failed or pair[0].ending == Ending.LEFT]


def calls_of(entries: Iterable[Entry]) -> tuple[LogicalCall, ...]:
    """Group requests into calls.

    One belongs to an earlier one if it has the same ``Idempotency-Key``; or else if it is the same request (method,
    path, body, workflow, key, consent), the earlier one has failed, was cut or left by then, and the test did not
    change the gateway's state in between. Of several such it follows the one that openai-python's count of retries
    tells, else the one that ended first.
    """
    groups: list[list[Entry]] = []
    keyed: dict[tuple[str, ...], list[Entry]] = {}
    alike: dict[tuple[object, ...], list[list[Entry]]] = {}
    for entry in entries:
        mark = _mark(entry)
        group = keyed.get(mark) if mark else None
        rivals = alike.setdefault(_likeness(entry), [])
        if group is None:
            rivals[:] = [rival for rival in rivals if not rival[-1].whole]
            group = _continued(entry, rivals)
        if group is None:
            group = []
            groups.append(group)
        group.append(entry)
        if all(group is not rival for rival in rivals):
            rivals.append(group)
        if mark:
            keyed[mark] = group
    return tuple(LogicalCall(entries=tuple(group)) for group in groups)


def _mark(entry: Entry) -> tuple[str, ...] | None:
    return (entry.key, entry.path, entry.idempotency_key) if entry.idempotency_key else None


def _likeness(entry: Entry) -> tuple[object, ...]:
    consent = entry.headers.get(Header.ON_EXHAUSTED)
    return (entry.era, entry.method, entry.path, entry.query, entry.key, entry.workflow, consent, entry.digest)


def _continued(entry: Entry, rivals: list[list[Entry]]) -> list[Entry] | None:
    ready = [(group[-1].real_ended or 0.0, group) for group in rivals if _may_be_followed(group[-1], entry)]
    if not ready:
        return None
    counted = [pair for pair in ready if entry.retry_count and pair[1][-1].retry_count == entry.retry_count - 1]
    return min(counted or ready, key=lambda pair: pair[0])[1]


def _may_be_followed(last: Entry, entry: Entry) -> bool:
    ended = last.real_ended is not None and last.real_ended <= entry.real
    return ended and (last.failed or last.ending == Ending.LEFT)
