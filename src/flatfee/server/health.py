"""Health of the routes: a circuit for each. Pure state; the moment comes in as an argument.

closed: every request may use the route. After ``FAILURES_TO_OPEN`` failures in a row it opens:
the route is skipped until its cool-down has passed. Then one probe may pass; its success closes
the circuit, its failure opens it for twice as long, up to ``LONGEST_COOL_DOWN``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FAILURES_TO_OPEN: Final = 3
COOL_DOWN: Final = 10.0
LONGEST_COOL_DOWN: Final = 60.0
PROBE_LEASE: Final = 60.0


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    cool_down: float = COOL_DOWN
    open_until: float | None = None
    probe_until: float | None = None


class Circuits:
    """The circuits of all routes of this process. Times are in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._circuits: dict[str, _Circuit] = {}

    def admits(self, route: str, now: float) -> bool:
        """Tell whether a request may try the route now; a half-open circuit lets one probe through."""
        circuit = self._circuits.get(route)
        if circuit is None or circuit.open_until is None:
            return True
        if now < circuit.open_until or (circuit.probe_until is not None and now < circuit.probe_until):
            return False
        circuit.probe_until = now + PROBE_LEASE
        return True

    def succeeded(self, route: str) -> None:
        """Note an answer: the circuit closes."""
        self._circuits.pop(route, None)

    def failed(self, route: str, now: float) -> None:
        """Note a failure of the provider's side."""
        circuit = self._circuits.setdefault(route, _Circuit())
        if circuit.open_until is not None and now < circuit.open_until:
            return  # it began before the circuit opened, and tells nothing new
        circuit.failures += 1
        if circuit.open_until is not None:
            circuit.cool_down = min(circuit.cool_down * 2, LONGEST_COOL_DOWN)
        if circuit.open_until is not None or circuit.failures >= FAILURES_TO_OPEN:
            circuit.open_until = now + circuit.cool_down
            circuit.probe_until = None

    def let_go(self, route: str) -> None:
        """Note that a try ended without telling anything of the route: its probe is free again."""
        circuit = self._circuits.get(route)
        if circuit is not None:
            circuit.probe_until = None

    def down(self, now: float) -> frozenset[str]:
        """Return the routes that are skipped now."""
        return frozenset(
            name
            for name, circuit in self._circuits.items()
            if circuit.open_until is not None and now < circuit.open_until
        )

    def opens_in(self, route: str, now: float) -> float:
        """Return the seconds until a route's circuit lets a request through; 0 if it does now."""
        circuit = self._circuits.get(route)
        return 0.0 if circuit is None or circuit.open_until is None else max(0.0, circuit.open_until - now)
