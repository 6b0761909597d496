"""Which requests are tries of one call. Pure; only clients know for sure, so this is what can be seen from outside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from typing import Final

from flatfee.testing.judging.entry import Ending, Entry
from flatfee.wire import Header

_EARLY: Final = 0.05
"""Seconds by which a timer may ring early, or a gateway hear of the next try before the end of the last."""


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


def waited(first: Entry, then: Entry) -> float:
    """Return the seconds between the answer to a try and the next try: of the gateway's clock, or real ones.

    The longer time counts: a gateway's clock may be told to stand still.
    """
    real = 0.0 if first.real_let_go is None else max(0.0, then.real - first.real_let_go)
    return max(real, then.arrived - _answered(first))


def _answered(entry: Entry) -> float:
    """When a client may know the answer: the head of a refusal, the end of anything else."""
    told = entry.let_go if entry.first_byte is None or entry.status == 200 else entry.first_byte
    return entry.arrived if told is None else told


def calls_of(entries: Iterable[Entry]) -> tuple[LogicalCall, ...]:
    """Group requests into calls.

    One belongs to an earlier one if it has the same ``Idempotency-Key``; or else if it is the same request (method,
    path, body, streamed or plain, workflow, key, consent), the earlier one has failed, was cut or left by then, has no
    other tries to come that tell themselves by key or count, and the test did not change the gateway's state in
    between. Of several such it follows the one whose turn it is, by what each was told to wait.
    """
    listed = list(entries)
    later = _Later(listed)
    groups: list[list[Entry]] = []
    keyed: dict[tuple[str, ...], list[Entry]] = {}
    alike: dict[tuple[object, ...], _Alike] = {}
    for entry in listed:
        mark, rivals = _mark(entry), alike.setdefault(_likeness(entry), _Alike())
        group = (keyed.get(mark) if mark else None) or rivals.gone_on_with(entry, later)
        if group is None:
            group = []
            groups.append(group)
        group.append(entry)
        rivals.add(group)
        if mark:
            keyed[mark] = group
    return tuple(LogicalCall(entries=tuple(group)) for group in groups)


def _mark(entry: Entry) -> tuple[str, ...] | None:
    return (entry.key, entry.path, entry.idempotency_key) if entry.idempotency_key else None


def _likeness(entry: Entry) -> tuple[object, ...]:
    consent = entry.headers.get(Header.ON_EXHAUSTED)
    return (entry.era, entry.method, entry.path, entry.query, entry.key, entry.workflow, consent, entry.question)


class _Later:
    """When the last try of each key, and the last retry of each count, arrives: in real seconds."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._last: dict[tuple[object, ...], float] = {}
        for entry in entries:
            for name in (_mark(entry), (*_likeness(entry), entry.retry_count)):
                if name is not None:
                    self._last[name] = entry.real

    def expects(self, last: Entry, entry: Entry) -> bool:
        """Tell whether another try than ``entry`` will follow ``last``."""
        mark, count = _mark(last), last.retry_count
        if mark is not None:
            return self._last[mark] > entry.real
        if count is None or entry.retry_count == count + 1:
            return False
        return self._last.get((*_likeness(last), count + 1), entry.real) > entry.real


class _Alike:
    """Calls of the same request. ``_ended`` are those that failed and whose end has come, the others follow."""

    def __init__(self) -> None:
        self._coming: list[tuple[float, int, Entry, list[Entry]]] = []
        self._ended: list[tuple[Entry, list[Entry]]] = []
        self._added = 0

    def add(self, group: list[Entry]) -> None:
        """Take in a call with another try."""
        last = group[-1]
        left = last.ending == Ending.LEFT
        if last.real_let_go is not None and (last.failed or left):
            self._added += 1
            heappush(self._coming, (last.real_let_go - _EARLY * left, self._added, last, group))

    def gone_on_with(self, entry: Entry, later: _Later) -> list[Entry] | None:
        """Return the call that an entry goes on with: of several the first whose wait is over, else the first to be."""
        while self._coming and self._coming[0][0] <= entry.real:
            self._ended.append(heappop(self._coming)[2:])
        self._ended = [(last, group) for last, group in self._ended if last is group[-1]]
        ready = [
            (last, group) for last, group in self._ended if _counts_on(last, entry) and not later.expects(last, entry)
        ]
        return min(ready, key=lambda pair: _turn(entry, pair[0]), default=(None, None))[1]


def _counts_on(last: Entry, entry: Entry) -> bool:
    return not entry.retry_count or entry.retry_count - 1 == last.retry_count


def _turn(entry: Entry, last: Entry) -> tuple[bool, float]:
    told = last.told_wait or 0.0
    return waited(last, entry) < told - _EARLY, _answered(last) + told
