"""What a scenario came to, and the table of all of them. No scenario of its own."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that did not hold. ``seed`` finds the run again, where the scenario has one."""

    text: str
    seed: int | None = None

    def __str__(self) -> str:
        return self.text if self.seed is None else f"seed {self.seed}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One scenario: how often it ran, and what did not hold."""

    scenario: str
    runs: int
    violations: tuple[Violation, ...] = ()


def table(results: Sequence[Result]) -> str:
    """Return the results as one table in Markdown."""
    rows = [
        ("scenario", "runs", "violations"),
        *((result.scenario, f"{result.runs:,}", f"{len(result.violations):,}") for result in results),
    ]
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"| {row[0]:<{wide[0]}} | {row[1]:>{wide[1]}} | {row[2]:>{wide[2]}} |" for row in rows]
    rule = f"| {'-' * wide[0]} | {'-' * (wide[1] - 1)}: | {'-' * (wide[2] - 1)}: |"
    return "\n".join([lines[0], rule, *lines[1:]])


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Log nothing, as warnings are what these runs make the gateway give."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


class Progress:
    """Says on standard error how far a scenario is, every few seconds."""

    def __init__(self, scenario: str, total: int, *, every: float = 10.0) -> None:
        self._scenario = scenario
        self._total = total
        self._every = every
        self._started = self._said = time.monotonic()

    def at(self, done: int, violations: int) -> None:
        """Note that ``done`` runs are over."""
        now = time.monotonic()
        if now - self._said >= self._every or done == self._total:
            self._said = now
            took = now - self._started
            print(
                f"{self._scenario}: {done:,} of {self._total:,} runs, {violations} violations, {took:.0f} s",
                file=sys.stderr,
                flush=True,
            )
