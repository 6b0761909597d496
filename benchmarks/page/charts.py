"""Which charts the page has, and what of the figures each shows. Pure; how they look is told in ``drawing``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from benchmarks.own.stages import EVENT, PLAIN, StageSample
from benchmarks.page.drawing import Chart, Column, Kind, Mark, Row, draw
from benchmarks.page.figures import Figures, Measured, Peers, middle
from benchmarks.peers.measuring import Sample
from benchmarks.peers.report import OURS

Value = Callable[[Sample], float | None]

LIMITS: Final = frozenset({"direct", "nginx", "bare"})
"""Targets that are no gateways."""

_NOTE: Final = (
    "Scales of powers of ten. Dots are medians, whiskers least to greatest; dashed: flatfee as it is by default."
)


def per_second(sample: Sample) -> float | None:
    """Return whole answers a second."""
    return sample.per_second


def cpu(sample: Sample) -> float | None:
    """Return microseconds of CPU for each whole answer."""
    return sample.cpu_us


def p99(sample: Sample) -> float | None:
    """Return what 99 of 100 answers were faster than, in ms."""
    return sample.p99_ms


def first_event(sample: Sample) -> float | None:
    """Return how long half of the streams waited for their first event, in ms."""
    return sample.first_event_p50_ms


Asked = tuple[str, str, str, Value]
"""Heading, unit, workload and value of a column."""

ANSWER: Final[Sequence[Asked]] = (
    ("Plain requests", "a second, better →", "plain-16", per_second),
    ("Streams", "a second, better →", "stream-16", per_second),
    ("CPU", "← better, µs each", "plain-16", cpu),
    ("p99", "← better, ms", "plain-16", p99),
)
_PLAIN: Final[Sequence[Asked]] = (
    ("1 connection", "short prompt", "plain-1", per_second),
    ("16 connections", "short prompt", "plain-16", per_second),
    ("256 connections", "short prompt", "plain-256", per_second),
    ("16 connections", "100 kB prompt", "long-16", per_second),
)
_STREAMS: Final[Sequence[Asked]] = (
    ("16 connections", "streams/s, at once", "stream-16", per_second),
    ("256 connections", "streams/s, at once", "stream-256", per_second),
    ("Event by event", "streams/s, 16 conn.", "each-16", per_second),
    ("First event", "← better, ms, paced", "paced-16", first_event),
)


def charts(figures: Figures) -> Mapping[str, Chart]:
    """Return the charts that can be drawn, by the name of their files without its beginning and its end."""
    peers, own = figures.peers, figures.own
    found = {
        "answer": _beside(peers, "Sixteen connections, one core for the gateway", ANSWER),
        "plain": _beside(peers, "Plain requests a second (better →)", _PLAIN),
        "streams": _beside(peers, "Streams of 203 events (more of them: better →)", _STREAMS),
        "rest": _rest(peers),
        "stages": _stages(own.stages) if own is not None and own.stages else None,
    }
    return {name: chart for name, chart in found.items() if chart is not None}


def pictures(figures: Figures) -> Mapping[str, str]:
    """Return the charts as SVG, by the same names."""
    return {name: draw(chart) for name, chart in charts(figures).items()}


def shown_targets(peers: Peers) -> list[Measured]:
    """Return the targets that stand in charts: all but the upstream itself, which is the limit of the harness."""
    return [target for target in peers.targets if target.name != "direct"]


def _beside(peers: Peers, title: str, asked: Sequence[Asked]) -> Chart | None:
    targets = shown_targets(peers)
    there = {workload.name for workload in peers.workloads}
    columns = [
        Column(heading=heading, unit=unit, marks=[_mark(peers, workload, target.name, value) for target in targets])
        for heading, unit, workload, value in asked
        if workload in there
    ]
    return _of_targets(targets, title, columns) if columns else None


def _rest(peers: Peers) -> Chart:
    targets = shown_targets(peers)
    starts = {target.name: [one for one in peers.starts if one.target == target.name] for target in targets}
    columns = [
        Column(
            heading="Start",
            unit="← better, seconds",
            marks=[_of([one.seconds for one in starts[target.name]]) for target in targets],
        ),
        Column(
            heading="Memory, idle",
            unit="← better, MB",
            marks=[_of([one.idle_mb for one in starts[target.name]]) for target in targets],
        ),
        Column(
            heading="Memory, loaded",
            unit="← better, MB",
            marks=[_of([one.loaded_mb for one in peers.samples if one.target == target.name]) for target in targets],
        ),
    ]
    return _of_targets(targets, "Start and rest", columns)


def _of_targets(targets: Sequence[Measured], title: str, columns: Sequence[Column]) -> Chart:
    rows = [Row(label=target.label, kind=_kind(target)) for target in targets]
    return Chart(title=title, note=_NOTE, rows=rows, columns=columns, style="dots")


def _kind(target: Measured) -> Kind:
    if target.name == OURS:
        return "chosen"
    if target.ours:
        return "ours"
    return "limit" if target.name in LIMITS else "other"


def _mark(peers: Peers, workload: str, target: str, value: Value) -> Mark:
    if peers.refused(workload, target):
        return Mark(instead="cannot")
    return _of([value(sample) for sample in peers.of(workload, target)])


def _of(values: Sequence[float | None]) -> Mark:
    known = [value for value in values if value is not None]
    return Mark(middle=middle(known), low=min(known), high=max(known)) if known else Mark()


def _stages(samples: Sequence[StageSample]) -> Chart:
    works = {PLAIN: "A plain request", EVENT: "One more event of a stream"}
    by_work = {work: [one for one in samples if one.work == work] for work in works}

    def most(name: str) -> float:
        return -(middle([one.stages.get(name, 0.0) for one in by_work[PLAIN]]) or 0.0)

    names = sorted({name for one in samples for name in one.stages}, key=lambda name: (most(name), name))
    columns = [
        Column(
            heading=heading,
            unit="µs of CPU",
            marks=[_of([one.stages.get(name, 0.0) for one in by_work[work]]) for name in names],
        )
        for work, heading in works.items()
        if by_work[work]
    ]
    note = "Bars are medians, whiskers least to greatest. What the stop-watch itself costs is taken off."
    rows = [Row(label=name, kind="chosen") for name in names]
    return Chart(title="CPU by stage", note=note, rows=rows, columns=columns, style="bars", names=232.0)
