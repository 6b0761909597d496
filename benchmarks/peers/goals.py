"""What we want to reach, as data, and whether a run reached it. Pure: samples in, verdicts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.peers import workers
from benchmarks.peers.measuring import Sample
from benchmarks.stats import median

Figure = Literal["per_second", "p50_ms", "p99_ms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One ratio of two targets under one workload: at least ``least``, or at most ``most``.

    ``beyond`` names a target whose figure is taken off both first: what is left is what each of the two added.
    """

    name: str
    workload: str
    figure: Figure
    target: str
    against: str
    least: float | None = None
    most: float | None = None
    beyond: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A goal and what a run came to: the median of the rounds' ratios, the least and the greatest of them.

    ``None`` where a figure is missing; then ``reached`` is ``None`` as well.
    """

    goal: Goal
    measured: float | None
    lowest: float | None
    highest: float | None
    reached: bool | None

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"≥ {self.goal.least:g}" if self.goal.least is not None else f"≤ {self.goal.most:g}"


GOALS: Final[tuple[Goal, ...]] = (
    Goal(
        name="plain requests/s, 16 connections, against TensorZero (no keys, no ledger)",
        workload="plain-16",
        figure="per_second",
        target="process",
        against="tensorzero",
        least=1.2,
    ),
    Goal(
        name="… against Portkey (no keys)",
        workload="plain-16",
        figure="per_second",
        target="process",
        against="portkey",
        least=10,
    ),
    Goal(
        name="… against LiteLLM (no budgets)",
        workload="plain-16",
        figure="per_second",
        target="process",
        against="litellm",
        least=50,
    ),
    Goal(
        name="… against nginx as a bare reverse proxy",
        workload="plain-16",
        figure="per_second",
        target="process",
        against="nginx",
        least=0.09,
    ),
    Goal(
        name="streams/s of 203 events, 16 connections, against TensorZero",
        workload="stream-16",
        figure="per_second",
        target="process",
        against="tensorzero",
        least=4,
    ),
    Goal(
        name="… against LiteLLM",
        workload="stream-16",
        figure="per_second",
        target="process",
        against="litellm",
        least=250,
    ),
    Goal(
        name="p99 of plain requests, 16 connections, against TensorZero",
        workload="plain-16",
        figure="p99_ms",
        target="process",
        against="tensorzero",
        most=1,
    ),
    Goal(
        name="latency added to the upstream's, 1 connection, p50, against nginx's",
        workload="plain-1",
        figure="p50_ms",
        target="process",
        against="nginx",
        most=3,
        beyond="direct",
    ),
    Goal(
        name="two workers against one, everything on as many cores",
        workload=workers.SHARED.name,
        figure="per_second",
        target=workers.TWO_CORES,
        against=workers.ONE_CORE,
        least=1.8,
    ),
    Goal(
        name="durability power against process, 256 connections",
        workload="plain-256",
        figure="per_second",
        target="power",
        against="process",
        least=0.5,
    ),
)


def judge(samples: Sequence[Sample], goals: Sequence[Goal] = GOALS) -> list[Verdict]:
    """Hold a run against the goals; those of which nothing was measured are left out."""
    asked = [goal for goal in goals if _rounds(samples, goal, goal.target) or _rounds(samples, goal, goal.against)]
    return [_verdict(samples, goal) for goal in asked]


def _verdict(samples: Sequence[Sample], goal: Goal) -> Verdict:
    own, other = _rounds(samples, goal, goal.target), _rounds(samples, goal, goal.against)
    taken_off = _rounds(samples, goal, goal.beyond) if goal.beyond else dict.fromkeys(own, 0.0)
    both = sorted(own.keys() & other.keys() & taken_off.keys())
    parts = [(own[at] - taken_off[at], other[at] - taken_off[at]) for at in both]
    ratios = [ours / theirs for ours, theirs in parts if theirs > 0]
    if not ratios:
        return Verdict(goal=goal, measured=None, lowest=None, highest=None, reached=None)
    middle = median(ratios)
    reached = middle >= goal.least if goal.least is not None else goal.most is not None and middle <= goal.most
    return Verdict(goal=goal, measured=middle, lowest=min(ratios), highest=max(ratios), reached=reached)


def _rounds(samples: Sequence[Sample], goal: Goal, target: str) -> dict[int, float]:
    """Return round → figure of one target, without samples that failed or saw no answer."""
    return {
        sample.round: getattr(sample, goal.figure)
        for sample in samples
        if (sample.workload, sample.target) == (goal.workload, target) and sample.requests and not sample.errors
    }
