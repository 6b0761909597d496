"""Takes the figures of the test double: a fresh process for each row and round. Does not measure itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.children import cores, python, run
from benchmarks.double_child import ASKERS


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleSample:
    """What one fresh process saw in one round; ``figures`` are those of ``double_child``."""

    asker: str
    round: int
    figures: dict[str, float]


def measure(rounds: int, calls: int, say: Callable[[str], None]) -> list[DoubleSample]:
    """Let everybody ask the double ``calls`` times, in each of ``rounds`` rounds, in turn.

    Raises:
        BenchmarkFailed: the double did not answer.
    """
    say("test double …")
    return [
        DoubleSample(asker=asker, round=number, figures=json.loads(_printed(asker, calls)))
        for number in range(rounds)
        for asker in ASKERS
    ]


def _printed(asker: str, calls: int) -> str:
    return run(python("benchmarks.double_child", asker, str(calls)), core=cores()[0], timeout=120)
