"""``flatfee.receipts()``: the receipts of everything that runs inside a ``with``, whoever made the calls.

What sees a receipt (our clients, the integrations) hands it to ``note``; a context variable tells which
runs it belongs to. So tasks, ``asyncio.to_thread`` and frameworks in between need to know nothing of it.
How receipts are found is not told here (``finding``); nothing here performs I/O.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, replace
from threading import RLock
from typing import Any, Final

from flatfee.receipt import Receipt, TokenUsage
from flatfee.wire import Lane, ReceiptState

KEPT: Final = 10_000
"""Receipts that a run keeps. Its figures count all there ever were."""

_FINALITY: Final[Mapping[str | None, int]] = {
    None: 0,
    ReceiptState.IN_FLIGHT: 1,
    ReceiptState.SETTLED: 3,
    ReceiptState.REFUSED: 3,
}
_MOST_WAYS: Final = 1_000
_LONGEST_CELL: Final = 40


@dataclass
class _Tally:
    """The figures of the requests that were served the same way."""

    requests: int = 0
    refused: int = 0
    unsettled: int = 0
    charged: int = 0
    estimated: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def count(self, receipt: Receipt, sign: int) -> None:
        """Count a receipt in (``sign`` 1), or out again (-1)."""
        charged = (receipt.fair_use.charged if receipt.fair_use else None) or 0
        usage = receipt.usage or TokenUsage()
        self.requests += sign
        self.refused += sign * (receipt.state == ReceiptState.REFUSED)
        self.unsettled += sign * (receipt.lane is not None and receipt.state in {None, ReceiptState.IN_FLIGHT})
        self.charged += sign * charged
        self.estimated += sign * charged * (receipt.state == ReceiptState.ESTIMATED)
        self.prompt += sign * (usage.prompt_tokens or 0)
        self.completion += sign * (usage.completion_tokens or 0)
        self.cached += sign * (usage.cached_tokens or 0)


_Way = tuple[str, str, str, str]  # lane, reason, model, unit


class Run:
    """What the requests of one ``with flatfee.receipts()`` came to.

    Figures may be read at any time, also while requests run. A stream counts from its beginning, and gets
    its settled figures at its end, even when that is after the end of the ``with``; ``seconds`` stand still
    from there. The figures count every request; ``receipts`` holds the last 10,000.
    """

    def __init__(
        self, *, outer: Run | None = None, clock: Callable[[], float] = time.monotonic, keep: int = KEPT
    ) -> None:
        self._outer = outer
        self._clock, self._began = clock, clock()
        self._ended: float | None = None
        self._keep = keep
        self._lock = RLock()  # a stream may be dropped, and so end, in the garbage collector of whoever holds it
        self._recent: OrderedDict[str, Receipt] = OrderedDict()
        self._overtaken: OrderedDict[str, Receipt] = OrderedDict()
        self._nameless = 0
        self._ways: dict[_Way, _Tally] = {}
        self._workflows: OrderedDict[str, None] = OrderedDict()
        self._remaining: int | None = None

    def note(self, receipt: Receipt) -> None:
        """Add a receipt to this run and to those around it; a final one takes the place of an earlier one.

        May be called from any thread.
        """
        run: Run | None = self
        while run is not None:
            with run._lock:
                run._take(receipt)
            run = run._outer

    def _take(self, receipt: Receipt) -> None:
        name = receipt.request_id
        if name is None:  # two without an id are two requests, as far as anyone can tell
            self._nameless += 1
            name = f"#{self._nameless}"
        place = self._overtaken if name in self._overtaken else self._recent
        before = place.get(name)
        if before is not None:
            self._tally(before).count(before, -1)
            receipt = _joined(before, receipt)
        place[name] = receipt
        self._tally(receipt).count(receipt, 1)
        if receipt.workflow and receipt.workflow.id:
            self._workflows[receipt.workflow.id] = None
        if receipt.fair_use_remaining is not None:
            self._remaining = receipt.fair_use_remaining
        self._forget(name)

    def _tally(self, receipt: Receipt) -> _Tally:
        unit = receipt.fair_use.unit if receipt.fair_use else None
        way = (str(receipt.lane or ""), str(receipt.reason or ""), receipt.model_served or "", unit or "unit")
        if way not in self._ways and len(self._ways) >= _MOST_WAYS:
            way = ("", "", "", unit or "unit")
        return self._ways.setdefault(way, _Tally())

    def _forget(self, name: str) -> None:
        """Keep no more than what is bounded. What still runs is kept aside: its end changes the figures."""
        if len(self._recent) > self._keep:
            oldest, receipt = self._recent.popitem(last=False)
            if receipt.state == ReceiptState.IN_FLIGHT:
                self._overtaken[oldest] = receipt
        settled = self._overtaken.get(name)
        if settled is not None and settled.state != ReceiptState.IN_FLIGHT:
            del self._overtaken[name]
        for bounded in (self._overtaken, self._workflows):
            if len(bounded) > self._keep:
                bounded.popitem(last=False)

    def end(self) -> None:
        """Stop the clock of ``seconds``."""
        self._ended = self._clock()

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """The last 10,000 receipts, in the order in which their requests were answered."""
        with self._lock:
            return (*self._overtaken.values(), *self._recent.values())

    @property
    def seconds(self) -> float:
        """Seconds from the beginning of the ``with`` to its end; until now, while it lasts."""
        return (self._clock() if self._ended is None else self._ended) - self._began

    @property
    def requests(self) -> int:
        """How many requests told a receipt. One that never reached a gateway has none."""
        return sum(tally.requests for _, tally in self._served())

    @property
    def refused(self) -> int:
        """How many requests were refused, or failed on every route: nothing was charged for them."""
        return sum(tally.refused for _, tally in self._served())

    @property
    def unsettled(self) -> int:
        """How many requests have not told what they were charged: streams that run, or were left before their end.

        ``units`` lack them; ``client.receipts.retrieve(request_id)`` tells what became of one.
        """
        return sum(tally.unsettled for _, tally in self._served())

    @property
    def lanes(self) -> Counter[str]:
        """Requests by lane; those that were never routed have none."""
        return self._by(0)

    @property
    def reasons(self) -> Counter[str]:
        """Requests by the reason of their lane."""
        return self._by(1)

    @property
    def models(self) -> Counter[str]:
        """Requests by the model that served them."""
        return self._by(2)

    @property
    def fallbacks(self) -> int:
        """How many requests another route than the first choice answered."""
        return self.lanes[Lane.FALLBACK]

    @property
    def units(self) -> Counter[str]:
        """Fair-use units charged, by unit; estimated ones are counted too (see ``estimated_units``)."""
        return self._units("charged")

    @property
    def estimated_units(self) -> Counter[str]:
        """The part of ``units`` that the gateway had to estimate, by unit."""
        return self._units("estimated")

    @property
    def tokens(self) -> TokenUsage:
        """Tokens of all requests together."""
        served = [tally for _, tally in self._served()]
        return TokenUsage(
            prompt_tokens=sum(tally.prompt for tally in served),
            completion_tokens=sum(tally.completion for tally in served),
            cached_tokens=sum(tally.cached for tally in served),
        )

    @property
    def fair_use_remaining(self) -> int | None:
        """Units of premium fair-use left, as told last; ``None`` if nothing told."""
        return self._remaining

    @property
    def workflows(self) -> tuple[str, ...]:
        """The ids of the workflows that the requests belonged to, in order; the last 10,000."""
        with self._lock:
            return tuple(self._workflows)

    def _served(self) -> list[tuple[_Way, _Tally]]:
        with self._lock:
            return [(way, replace(tally)) for way, tally in self._ways.items() if tally.requests]

    def _by(self, part: int) -> Counter[str]:
        found: Counter[str] = Counter()
        for way, tally in self._served():
            if way[part]:
                found[way[part]] += tally.requests
        return found

    def _units(self, figure: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for way, tally in self._served():
            found[way[3]] += getattr(tally, figure)
        return +found

    def to_dict(self) -> dict[str, Any]:
        """Return every figure and the receipts that are kept, ready to be written as JSON."""
        return {
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
            "lanes": dict(self.lanes),
            "reasons": dict(self.reasons),
            "models": dict(self.models),
            "fallbacks": self.fallbacks,
            "refused": self.refused,
            "unsettled": self.unsettled,
            "units": dict(self.units),
            "estimated_units": dict(self.estimated_units),
            "tokens": self.tokens.model_dump(),
            "fair_use_remaining": self.fair_use_remaining,
            "workflows": list(self.workflows),
            "receipts": [receipt.model_dump(mode="json", exclude_unset=True) for receipt in self.receipts],
        }

    def summary(self) -> str:
        """Return a table in plain text: a row for each way in which requests were served, and a line of totals.

        ``~`` marks a figure that holds estimates, ``?`` stands for one that was not told yet.
        """
        rows = [("lane", "reason", "model", "requests", "units", "tokens")]
        for (lane, reason, model, unit), tally in sorted(self._served()):
            units = f"{'~' * bool(tally.estimated)}{tally.charged:,}{' requests' * (unit == 'request')}"
            tokens = f"{tally.prompt + tally.completion:,}"
            if tally.unsettled == tally.requests:
                units = tokens = "?"
            rows.append((_cell(lane), _cell(reason), _cell(model), f"{tally.requests:,}", units, tokens))
        return "\n".join([*(_aligned(rows) if len(rows) > 1 else ()), self._totals()])

    def _totals(self) -> str:
        told = [f"{_several(self.requests, 'request')} in {self.seconds:.1f} s"]
        about = "about " if self.estimated_units else ""
        told += [f"{about}{_several(count, 'unit')} charged" for count in (self.units.total(),) if count]
        told += [_several(count, "fallback") for count in (self.fallbacks,) if count]
        told += [f"{count:,} refused" for count in (self.refused,) if count]
        told += [f"{count:,} not settled" for count in (self.unsettled,) if count]
        told += [f"{left:,} left of fair-use" for left in (self.fair_use_remaining,) if left is not None]
        return ", ".join(told)

    def __getstate__(self) -> dict[str, Any]:
        """Leave lock, clock and outer run behind: a copy is what this has come to by now, and hears no more of it."""
        with self._lock:
            state = {
                name: copy(value) for name, value in vars(self).items() if name not in {"_lock", "_outer", "_clock"}
            }
            ways = {way: replace(tally) for way, tally in self._ways.items()}
        return state | {"_ways": ways, "_began": 0.0, "_ended": self.seconds}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=RLock(), _outer=None, _clock=time.monotonic)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._totals()}>"


_innermost: ContextVar[Run | None] = ContextVar("flatfee_run", default=None)


@contextmanager
def receipts(*, clock: Callable[[], float] = time.monotonic) -> Generator[Run]:
    """Collect the receipts of every request that is made inside the ``with``, in coroutines too.

    Tasks and ``asyncio.to_thread`` started inside belong to it; a thread of your own does if it runs in a
    copy of the context (``contextvars.copy_context().run``). Runs nest: the outer one hears of everything.
    """
    run = Run(outer=_innermost.get(), clock=clock)
    token = _innermost.set(run)
    try:
        yield run
    finally:
        run.end()
        with suppress(ValueError):  # a fixture or a generator may be ended in another context than it began in
            _innermost.reset(token)


def active() -> Run | None:
    """Return the run that this context belongs to. Whoever will know more later keeps it, and notes it there."""
    return _innermost.get()


def note(receipt: Receipt) -> None:
    """Add a receipt to the runs that are active in this context; outside of any it does nothing."""
    run = _innermost.get()
    if run is not None:
        run.note(receipt)


def _joined(before: Receipt, after: Receipt) -> Receipt:
    """Return what two receipts of one request tell together; the more final one counts, else the later one."""
    back = _FINALITY.get(after.state, 2) < _FINALITY.get(before.state, 2)
    return after.merge(before) if back else before.merge(after)


def _cell(text: str) -> str:
    """Return a gateway's word for a terminal: short, and without what moves the cursor."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST_CELL])
    return shown or "-"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        figures = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        yield "  ".join([*words, *figures])


def _several(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
