"""Premium fair-use as a client saw it last, and who wants to hear when it runs low. Knows no clock, sends nothing.

What an answer tells is kept unread until somebody asks: most callers never do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from flatfee.client.watching.callbacks import plain_function, tell
from flatfee.errors import ConfigurationError
from flatfee.receipt import FairUse, Receipt

if TYPE_CHECKING:
    from flatfee.client.watching.watch import Watch

MOST_UNREAD: Final = 8
"""Answers that are kept: an error that came before the account was known tells nothing, and covers nothing."""

Told = Receipt | tuple[Mapping[str, str], object]
"""A receipt, or what one can be read from: response headers, and the ``flatfee`` object of the body."""


@dataclass(frozen=True, slots=True, eq=False)
class Alert:
    """Wants to hear, once in each window, when less than the share ``below`` is left."""

    below: float
    call: Callable[[FairUse], object]
    windows: dict[datetime | None, object] = field(default_factory=dict)

    def due(self, seen: FairUse) -> bool:
        """Tell whether this is the moment; true once for each window, whichever threads ask."""
        if seen.remaining is None or not seen.limit or seen.remaining >= self.below * seen.limit:
            return False
        window, mine = seen.resets_at, object()
        known = [told for told in tuple(self.windows) if told is not None]
        if window is not None:
            if any(told > window for told in known):
                return False  # an answer that was on its way while the window changed
            for told in known:
                if told < window:
                    self.windows.pop(told, None)
        return self.windows.setdefault(window, mine) is mine


class FairUseSight:
    """What a client, its copies and its workflows saw of the plan's fair-use."""

    def __init__(self) -> None:
        self.alerts: tuple[Alert, ...] = ()
        self._unread: deque[Told] = deque(maxlen=MOST_UNREAD)
        self._last: FairUse | None = None

    def saw(self, told: Told) -> None:
        """Take note of an answer. It is read now only if somebody wants to hear of it."""
        self._unread.append(told)
        if self.alerts and (seen := _fair_use(told)) is not None:
            for alert in self.alerts:
                if alert.due(seen):
                    tell("on_fair_use", alert.call, seen)

    def last(self) -> FairUse | None:
        """Return what the latest answer that told it told."""
        told = (_fair_use(each) for each in reversed(tuple(self._unread)))
        self._last = next((seen for seen in told if seen is not None), self._last)
        return self._last

    def add(self, alert: Alert) -> Callable[[], None]:
        """Add an alert, and return the function that takes it away again."""
        self.alerts = (*self.alerts, alert)

        def remove() -> None:
            self.alerts = tuple(other for other in self.alerts if other is not alert)

        return remove


class _Core(Protocol):
    @property
    def watch(self) -> Watch: ...


class _Client(Protocol):
    @property
    def _core(self) -> _Core: ...


class SeesFairUse:
    """The part of a client's surface that tells of fair-use."""

    @property
    def fair_use(self: _Client) -> FairUse | None:
        """Premium fair-use as the last answer told it; ``None`` before the first one. Asks nobody.

        Answers may overtake each other: the latest to arrive counts. What a copy of this client or one of its
        workflows saw is seen here, too.
        """
        return self._core.watch.fair_use.last()

    def on_fair_use(self: _Client, *, below: float, call: Callable[[FairUse], object]) -> Callable[[], None]:
        """Call ``call`` when less than the share ``below`` of the plan's fair-use is left.

        It hears of it once in each window: with the first answer that tells so, from whatever thread or task
        that came in. It must not wait. What it raises is logged, and is not the call's failure.

        Args:
            below: the share of the limit that must be left, above 0 and up to 1.
            call: a plain function; it gets the ``FairUse``.

        Returns:
            The function that ends this.

        Raises:
            ConfigurationError: names the bad value and the cure.
        """
        return self._core.watch.fair_use.add(Alert(_share(below), plain_function("call", call)))


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ConfigurationError(f"below is {value!r}; use a share of the limit, above 0 and up to 1.")
    return float(value)


def _fair_use(told: Told) -> FairUse | None:
    """Read what an answer tells of the plan. What it charged is the request's own, and left out."""
    receipt = told if isinstance(told, Receipt) else Receipt.from_answer(told[0], {"flatfee": told[1]})
    use = receipt.fair_use if receipt else None
    if use is None or use.remaining is None:
        return None
    return use.model_copy(update={"charged": None})
