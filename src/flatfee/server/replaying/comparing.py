"""The past, or its configuration, against a changed one: request by request, in one pass. Pure."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from flatfee.server.replaying.engine import Played, Replay
from flatfee.server.replaying.past import BadLine, Past
from flatfee.server.replaying.results import Result
from flatfee.server.replaying.tally import HOUR, Tally

_OUT_OF_ORDER: Final = 10_000
"""So many lines are held back: ids are made when a request comes, and it is admitted once its body was read."""

_SHORT: Final = 6 * HOUR
"""Traffic of so many seconds is drawn by the minute."""


@dataclass(slots=True, kw_only=True)
class Comparison:
    """Both sides. ``before`` replays the old configuration; without it, the receipts tell what was.

    ``approximate`` counts requests whose facts were not kept, ``unjudged`` those that were turned away before any
    policy saw them, ``guessed`` those that nobody answered in the past and somebody would now. ``moved`` counts
    requests by lane before and after, and ``rerouted`` those that changed their route on the same lane.
    """

    after: Replay
    before: Replay | None = None
    was: Tally = field(default_factory=Tally)
    would: Tally = field(default_factory=Tally)
    approximate: int = 0
    unjudged: int = 0
    guessed: int = 0
    rerouted: int = 0
    moved: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: float | None = None
    last: float | None = None
    _one_side: dict[str, Result] = field(default_factory=dict)

    def run(self, pasts: Iterable[Past]) -> Iterator[Played]:
        """Yield what each request would have come to, as it ends. They must come in the order of their arrival.

        Raises:
            NoPlan: an account has none.
        """
        for past in pasts:
            self.first = past.arrived if self.first is None else self.first
            self.last = past.arrived
            if self.last - self.first > _SHORT:
                self.was.by_hours()
                self.would.by_hours()
            self.approximate += past.judged and past.approximate
            self.unjudged += not past.judged
            if self.before is None:
                self._note(self.was, past.id, Result.of_past(past))
            else:
                self._note_before(self.before.arrive(past))
            yield from self._note_after(self.after.arrive(past))
        if self.before is not None:
            self._note_before(self.before.finish())
        yield from self._note_after(self.after.finish())

    def _note_before(self, played: Iterable[Played]) -> None:
        for each in played:
            self._note(self.was, each.past.id, each.result)

    def _note_after(self, played: Iterable[Played]) -> Iterator[Played]:
        for each in played:
            self.guessed += each.guessed
            self._note(self.would, each.past.id, each.result)
            yield each

    def _note(self, tally: Tally, request_id: str, result: Result) -> None:
        """Count a result on its side, and compare it once the other side's is there."""
        tally.add(result)
        other = self._one_side.pop(request_id, None)
        if other is None:
            self._one_side[request_id] = result
            return
        was, would = (other, result) if tally is self.would else (result, other)
        if was.lane != would.lane:
            self.moved[was.lane, would.lane] += 1
        elif was.route != would.route:
            self.rerouted += 1


def in_order(pasts: Iterable[Past]) -> Iterator[Past]:
    """Yield requests by their arrival, each once; they may be out of order by some thousand lines.

    Raises:
        BadLine: one comes later than that.
    """
    last = (0.0, "")
    for past in _by_arrival(pasts):
        this = (past.arrived, past.id)
        if this < last:
            raise BadLine(f"request {past.id[:40]} is older than those before it; sort the lines, oldest first")
        if this > last:
            yield past
        last = this


def _by_arrival(pasts: Iterable[Past]) -> Iterator[Past]:
    held: list[tuple[float, str, int, Past]] = []
    for number, past in enumerate(pasts):
        heapq.heappush(held, (past.arrived, past.id, number, past))
        if len(held) > _OUT_OF_ORDER:
            yield heapq.heappop(held)[-1]
    while held:
        yield heapq.heappop(held)[-1]
