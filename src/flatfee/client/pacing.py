"""Who may send now, when the gateway has said "too many": one line for all calls of a client. Sans-IO.

``Line`` decides and the shells in ``turns`` wait: time and chance are passed in, nothing sleeps or locks here.
A call holds a *slot* of the gateway's while it runs, and a workflow one from its first call until it is
released. Two limits are learned, each from its refusals: how many slots may be held at once, and how many
calls may be sent in an interval. Until the first refusal everybody goes at once.

The order is that of arrival. A refused call keeps its number and so its turn; who comes new stands behind.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Final

SETTLING: Final = 1.0
"""Seconds after a call's end in which a refusal may only mean that the gateway has not seen that end yet."""
FIRST_PROBE: Final = 1.0
LONGEST_PROBE: Final = 8.0
"""Seconds between two calls that only try whether others have given slots back: doubling, from first to longest."""
KEPT_WORKFLOWS: Final = 1024
"""How many idle workflows are remembered. One that is forgotten stands in line like a new one."""


class Limit(Enum):
    """What a refusal was for."""

    SLOTS = "slots"
    RATE = "rate"


@dataclass(slots=True, eq=False)
class Ticket:
    """One call's place. ``wake`` has its shell look again, and tells whether that is still there.

    It may come from any thread, and must not block.
    """

    number: int
    workflow: str | None
    wake: Callable[[], bool]
    inside: bool = False
    begun_at: float = 0.0
    ends_before: int = 0
    probe: bool = False

    @property
    def key(self) -> object:
        """What the gateway counts a slot for: the workflow; for a call without one, the call."""
        return self if self.workflow is None else self.workflow


def _number(ticket: Ticket) -> int:
    return ticket.number


@dataclass(slots=True)
class _Slot:
    """One slot, as far as we know. ``sure`` once the gateway has granted it; ``most`` calls at once, if it told."""

    calls: int = 0
    sure: bool = False
    most: int | None = None


class _Slots:
    """The limit of concurrent workflows, and who holds what."""

    def __init__(self) -> None:
        self.held: dict[object, _Slot] = {}
        self.room: int | None = None
        self.told: int | None = None
        self.next_at = 0.0
        self._interval = FIRST_PROBE
        self._step = 1
        self._in_a_row = 0
        self._refused_at = float("-inf")
        self._ends = 0
        self._ended_at = float("-inf")

    def open(self, ticket: Ticket, now: float) -> bool:
        """Tell whether a call may be sent; at times one more than is known to be allowed, to learn whether it is."""
        slot = self.held.get(ticket.key)
        if slot is not None:
            free = slot.most is None or slot.calls < slot.most
        else:
            free = self.room is None or len(self.held) < self.room
        ticket.probe = not free and self._probes(now)
        return free or ticket.probe

    def _probes(self, now: float) -> bool:
        if now < self.next_at:
            return False
        self.room = max(self.room or 0, len(self.held) + self._step)
        self._step += 1
        self.next_at = now + self._interval
        return True

    def take(self, ticket: Ticket, now: float) -> None:
        """Take note that a call is sent."""
        self.held.setdefault(ticket.key, _Slot()).calls += 1
        ticket.begun_at, ticket.ends_before = now, self._ends
        if len(self.held) > KEPT_WORKFLOWS:
            idle = next((key for key, slot in self.held.items() if not slot.calls), None)
            self.held.pop(idle, None)

    def refused(self, ticket: Ticket, wait: float, told: int | None, now: float) -> None:
        """Learn from a refusal that others hold all slots there are, by what was known when the call was sent.

        ``wait`` is the gateway's: by then a slot is free even if nobody gives one back. So while others
        hold some it is asked sooner, and while all are ours it is not.
        """
        slot = self._withdraw(ticket)
        self.told = told or self.told
        if ticket.begun_at > self._refused_at:
            self._in_a_row, self._step = self._in_a_row + 1, 1
        self._refused_at = now
        if slot is not None and slot.calls and slot.sure:
            slot.most = slot.calls  # the workflow has its slot: these are too many calls within it
        else:
            if slot is not None and not slot.calls:
                del self.held[ticket.key]  # it was idle for so long that the gateway has freed it
            seen = len(self.held) + self._ends - ticket.ends_before
            self.room = min(seen if self.room is None else self.room, seen, self.told or seen)
        self._interval = self._pause(ticket, wait, now)

    def _pause(self, ticket: Ticket, wait: float, now: float) -> float:
        probe = min(LONGEST_PROBE, FIRST_PROBE * 2.0 ** min(self._in_a_row - 1, 10))
        if self.told is not None and len(self.held) >= self.told:
            return max(wait, probe)
        unseen = not ticket.probe and now - self._ended_at < SETTLING
        return min(wait, SETTLING / 2 if unseen else probe)

    def put_off(self, chance: float, now: float) -> None:
        """Set the time of the next probe; up to a quarter later, so that clients do not return together."""
        self._interval *= 1.0 + chance / 4.0
        self.next_at = now + self._interval

    def admitted(self, ticket: Ticket, active: int | None, told: int | None, now: float) -> None:
        """Learn from an answer: the slot is sure, and there is room for as many more as the gateway told."""
        slot = self.held.get(ticket.key)
        if slot is not None:
            slot.sure = True
        if ticket.probe:
            self._in_a_row, self._interval = 0, FIRST_PROBE
            self.next_at = min(self.next_at, now + FIRST_PROBE)
        if self.room is not None and told is not None:
            self.told = told
            if active is not None:
                self.room = max(self.room, min(told, len(self.held) + max(0, told - active)))

    def ended(self, ticket: Ticket, now: float) -> None:
        """Take note that a call is over. A workflow keeps its slot, if it has one."""
        slot = self._withdraw(ticket)
        if slot is None or slot.calls:
            return
        slot.most = None
        if ticket.workflow is not None and slot.sure:
            self.held[ticket.key] = self.held.pop(ticket.key)  # the one idle for longest stays in front
        else:
            self._free(ticket.key, now)

    def released(self, workflow: str, now: float) -> None:
        """Take note that a workflow's slot was given back."""
        if workflow in self.held:
            self._free(workflow, now)

    def withdrawn(self, ticket: Ticket) -> None:
        """Take note that a call was refused before it could take a slot."""
        slot = self._withdraw(ticket)
        if slot is not None and not slot.calls and not slot.sure:
            del self.held[ticket.key]

    def _withdraw(self, ticket: Ticket) -> _Slot | None:
        slot = self.held.get(ticket.key)
        if slot is not None:  # else released meanwhile
            slot.calls -= 1
        return slot

    def _free(self, key: object, now: float) -> None:
        del self.held[key]
        self._ends += 1
        self._ended_at = now


class _Rate:
    """The limit of calls in a time: how many may go in each interval, the one that the gateway asked to wait.

    At first their number doubles, after a refusal it is half, and from then on it grows by one.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.next_at = 0.0
        self._interval = 1.0
        self._batch = self._step = 1
        self._doubles = True
        self._cut_at = float("-inf")

    def open(self, now: float) -> bool:
        """Tell whether a call may be sent."""
        if self.left is not None and now >= self.next_at:
            self.left = self._batch = self._step
            self._step += self._batch if self._doubles else 1
            self.next_at = now + self._interval
        return self.left is None or self.left > 0

    def take(self) -> None:
        """Take note that a call is sent."""
        if self.left is not None:
            self.left -= 1

    def refused(self, ticket: Ticket, wait: float, chance: float, now: float) -> None:
        """Stop until the gateway's time has passed; of those sent together one refusal counts."""
        if ticket.begun_at > self._cut_at:
            self._doubles = self._batch == 1
            self._step, self._cut_at = max(1, self._batch // 2), now
        self._interval = wait * (1.0 + chance / 4.0)
        self.left, self.next_at = 0, max(self.next_at, now + self._interval)

    def forget(self, now: float) -> None:
        """Go back to no limit once nobody has had to wait for an interval."""
        if self.left is not None and now >= self.next_at:
            self.left, self._doubles = None, True
            self._batch = self._step = 1


class Line:
    """Decides who goes. Every method is one event; a caller makes sure that one comes after the other."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self.waiting: list[Ticket] = []
        self._chance = chance
        self._slots = _Slots()
        self._rate = _Rate()
        self._arrived = count(1)
        self._workflows: Counter[str] = Counter()  # of those who wait
        self._looks_at = float("inf")  # when the first in line looks again

    @property
    def slots_held(self) -> int:
        """Slots that this line's calls and workflows hold, as far as it knows."""
        return len(self._slots.held)

    @property
    def limits(self) -> bool:
        """Whether a limit of slots was met, so that answers tell something of interest."""
        return self._slots.room is not None

    def holds(self, ticket: Ticket) -> bool:
        """Tell whether a call waits."""
        place = self._place(ticket)
        return place < len(self.waiting) and self.waiting[place] is ticket

    def ticket(self, workflow: str | None, wake: Callable[[], bool]) -> Ticket:
        """Return the ticket of a call that arrives now. The one method that any thread may call at any time."""
        return Ticket(next(self._arrived), workflow, wake)

    def enter(self, ticket: Ticket, now: float) -> None:
        """Let a call go, or have it wait. A workflow that has its slot passes those who wait for one."""
        if not self.waiting:
            self._rate.forget(now)
        passes = not self.waiting or self._has_slot(ticket)
        if passes and self._rate.open(now) and self._slots.open(ticket, now):
            self._go(ticket, now)
        else:
            self._wait(ticket, now)

    def look(self, ticket: Ticket, now: float) -> float | None:
        """Return ``None`` if a call may go now, else after how many seconds to look again if nobody wakes it."""
        if not ticket.inside and self._is_first(ticket):
            self._turn(now)
        if ticket.inside:
            return None
        if not self._is_first(ticket):
            return float("inf")
        self._looks_at = self._due(now)
        return max(0.0, self._looks_at - now)

    def refused(self, ticket: Ticket, limit: Limit, wait: float, told: int | None, now: float) -> None:
        """Put a call back where it stood; ``wait`` is in seconds, ``told`` how many slots there are."""
        ticket.inside = False
        if limit is Limit.SLOTS:
            self._slots.refused(ticket, wait, told, now)
            self._slots.put_off(self._chance(), now)
        else:
            self._slots.withdrawn(ticket)
            self._rate.refused(ticket, wait, self._chance(), now)
        self._wait(ticket, now)
        self._hasten(now)

    def admitted(self, ticket: Ticket, active: int | None, told: int | None, now: float) -> None:
        """Take note that the gateway let a call in; it told that ``active`` of ``told`` slots are held."""
        self._slots.admitted(ticket, active, told, now)
        self._turn(now)
        self._hasten(now)

    def left(self, ticket: Ticket, now: float) -> None:
        """Take note that a call is over, or that its caller waits no more."""
        if ticket.inside:
            ticket.inside = False
            self._slots.ended(ticket, now)
        elif self.holds(ticket):
            first = self._is_first(ticket)
            del self.waiting[self._place(ticket)]
            self._waits_no_more(ticket)
            if first:
                self._wake_first()
        self._turn(now)

    def released(self, workflow: str, now: float) -> None:
        """Take note that a workflow gave its slot back."""
        self._slots.released(workflow, now)
        self._turn(now)

    def _wait(self, ticket: Ticket, now: float) -> None:
        insort(self.waiting, ticket, key=_number)
        if ticket.workflow is not None:
            self._workflows[ticket.workflow] += 1
        self._turn(now)

    def _waits_no_more(self, ticket: Ticket) -> None:
        if ticket.workflow is not None:
            self._workflows[ticket.workflow] -= 1
            if not self._workflows[ticket.workflow]:
                del self._workflows[ticket.workflow]

    def _turn(self, now: float) -> None:
        """Let all go that may, first come, first served.

        It looks no further than at the first who may not, unless a workflow that has its slot stands behind.
        """
        if not self.waiting:
            return
        first, full, seen, stay = self.waiting[0], False, 0, []
        for ticket in self.waiting:
            if not self._rate.open(now) or (full and self._workflows.keys().isdisjoint(self._slots.held.keys())):
                break
            seen += 1
            known = self._has_slot(ticket)
            if (known or not full) and self._slots.open(ticket, now):
                self._go(ticket, now)
                self._waits_no_more(ticket)
                ticket.wake()
            else:
                full = full or not known
                stay.append(ticket)
        self.waiting[:seen] = stay
        if self.waiting and self.waiting[0] is not first:
            self._wake_first()

    def _place(self, ticket: Ticket) -> int:
        return bisect_left(self.waiting, ticket.number, key=_number)

    def _go(self, ticket: Ticket, now: float) -> None:
        ticket.inside = True
        self._rate.take()
        self._slots.take(ticket, now)

    def _has_slot(self, ticket: Ticket) -> bool:
        return ticket.workflow is not None and ticket.workflow in self._slots.held

    def _is_first(self, ticket: Ticket) -> bool:
        return bool(self.waiting) and self.waiting[0] is ticket

    def _due(self, now: float) -> float:
        return self._slots.next_at if self._rate.open(now) else self._rate.next_at

    def _hasten(self, now: float) -> None:
        if self._due(now) < self._looks_at:
            self._wake_first()

    def _wake_first(self) -> None:
        if self.waiting:
            self.waiting[0].wake()
