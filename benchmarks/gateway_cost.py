"""Takes the figures of the proxies: every scenario, every target, several rounds in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.children import BenchmarkFailed, cores, cpu_seconds, python, run
from benchmarks.load import KEY_ENV
from benchmarks.targets import TARGETS, Target, fake_upstream
from benchmarks.traffic import Pace, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of traffic on so many connections."""

    title: str
    shape: Shape
    pace: Pace
    connections: int


SCENARIOS: Final = (
    Scenario(title="plain, 1 connection", shape="plain", pace="at_once", connections=1),
    Scenario(title="plain, 16 connections", shape="plain", pace="at_once", connections=16),
    Scenario(title="streamed at once, 1 connection", shape="stream", pace="at_once", connections=1),
    Scenario(title="streamed at once, 16 connections", shape="stream", pace="at_once", connections=16),
    Scenario(title="streamed event by event, 16 connections", shape="stream", pace="per_event", connections=16),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long and how often to measure; the targets of a round take turns: A B C, A B C."""

    rounds: int
    seconds: float
    warmup: float
    max_requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One round of one target in one scenario. ``cpu_us`` is server CPU for each answer, if told."""

    scenario: str
    target: str
    round: int
    figures: dict[str, Any]
    cpu_us: float | None


def measure(names: Sequence[str], effort: Effort, folder: Path, say: Callable[[str], None]) -> list[Sample]:
    """Start the targets, measure them in turn, end them.

    Raises:
        BenchmarkFailed: a server did not start, or a single answer was wrong.
    """
    with ExitStack() as stack:
        upstream = stack.enter_context(fake_upstream(folder))
        targets = [stack.enter_context(TARGETS[name](upstream, folder)) for name in names]
        samples = []
        for scenario in SCENARIOS:
            say(f"{scenario.title} …")
            for number in range(effort.rounds):
                samples += [sample(scenario, target, number, effort) for target in targets]
        return samples


def sample(scenario: Scenario, target: Target, number: int, effort: Effort) -> Sample:
    """Put one target under load once.

    Raises:
        BenchmarkFailed: an answer was wrong or stayed away.
    """
    before = cpu_seconds(target.pid)
    printed = run(
        python(
            "benchmarks.load",
            *("--url", target.url, "--shape", scenario.shape, "--pace", scenario.pace),
            *("--connections", str(scenario.connections), "--max-requests", str(effort.max_requests)),
            *("--seconds", str(effort.seconds), "--warmup", str(effort.warmup)),
            *(["--receipt"] if target.receipt else []),
        ),
        core=cores()[1],
        timeout=effort.warmup + effort.seconds + 30,
        env={KEY_ENV: target.key},
    )
    after = cpu_seconds(target.pid)
    figures = json.loads(printed)
    if figures["failures"]:
        said = "; ".join(figures["complaints"])
        raise BenchmarkFailed(f"{target.name}, {scenario.title}: {figures['failures']} wrong answers ({said}).")
    cpu = (after - before) * 1e6 / figures["answered"] if before is not None and after is not None else None
    return Sample(scenario=scenario.title, target=target.name, round=number, figures=figures, cpu_us=cpu)
