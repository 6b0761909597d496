"""What is asked of every target: shapes, sizes, connections. Data, and the bodies that follow from it.

A *phase* is one upstream: every target is started anew for it, since one address answers one shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.traffic import Shape, request_body

Phase = Literal["plain", "stream", "each", "paced"]

PHASES: Final[tuple[Phase, ...]] = ("plain", "stream", "each", "paced")
PACE_SECONDS: Final = 0.002
"""Between the events of a paced stream: 500 a second in each, as a fast model does. A timer may come later."""

_LONG_PROMPT: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of traffic on so many connections. ``prompt_bytes`` is 0 for the ordinary short prompt."""

    name: str
    title: str
    phase: Phase
    connections: int
    prompt_bytes: int = 0

    @property
    def shape(self) -> Shape:
        """Whether the answer is asked for as a stream."""
        return "plain" if self.phase == "plain" else "stream"

    def body(self, model: str) -> bytes:
        """Return the request; but for the model's name the same bytes for every target."""
        return request_body(self.shape, "at_once", model=model, prompt_bytes=self.prompt_bytes)


def _on(
    connections: Sequence[int], name: str, title: str, phase: Phase, *, prompt_bytes: int = 0
) -> Iterator[Workload]:
    """Yield one kind of traffic on each of so many connections."""
    for count in connections:
        counted = "1 connection" if count == 1 else f"{count} connections"
        yield Workload(
            name=f"{name}-{count}",
            title=f"{title}, {counted}",
            phase=phase,
            connections=count,
            prompt_bytes=prompt_bytes,
        )


WORKLOADS: Final[tuple[Workload, ...]] = (
    *_on((1, 16, 256), "plain", "plain", "plain"),
    *_on((1, 16), "long", "plain, 100 kB prompt", "plain", prompt_bytes=_LONG_PROMPT),
    *_on((1, 16, 256), "stream", "streams of 203 events at once", "stream"),
    *_on((16,), "each", "streams of 203 events, event by event", "each"),
    *_on((1, 16), "paced", f"streams of 203 events, one each {PACE_SECONDS * 1000:.0f} ms", "paced"),
)
"""In the order of the report."""


def named(names: Sequence[str]) -> tuple[Workload, ...]:
    """Return the workloads of these names, in the order of the report.

    Raises:
        ValueError: there is none of one of the names; the message lists all.
    """
    known = {workload.name for workload in WORKLOADS}
    for name in names:
        if name not in known:
            raise ValueError(f"unknown workload {name!r}; use some of {', '.join(sorted(known))}")
    return tuple(workload for workload in WORKLOADS if workload.name in names)
