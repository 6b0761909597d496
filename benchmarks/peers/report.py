"""Turns a run into plain text tables: figures, ratios, goals, and what each target left undone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.peers import workers
from benchmarks.peers.gateways import ROWS
from benchmarks.peers.goals import Verdict
from benchmarks.peers.measuring import Measured, Refusal, Sample, Start
from benchmarks.peers.workloads import WORKLOADS, Workload
from benchmarks.report import Row, aligned
from benchmarks.stats import median, median_ratio

OURS: Final = "process"
"""The target of ours that ratios are of."""

LIMITS: Final = """\
Closed loop on loopback. The target is alone on one core; load generator (wrk, one thread, where it is installed) and
upstream share another, so "direct" is the limit of the harness. All targets are up, and one at a time is under load.
Figures are medians of rounds taken in turn, with least and greatest; "ours ÷ it" is the median of each round's ratio of
"process", which is flatfee on sqlite with its default durability, to the target. "cpu" is the target's own time for a
whole answer (answers that were under way at the end have their share in it). Answers are fixed and come at once: a
model's thinking time, networks and TLS are not in here. A paced stream cannot be answered faster than its upstream
sends; there the first event and the CPU tell."""

WORKERS_LIMITS: Final = """\
The first two are compared: gateway, load generator and upstream together on one core, and on two. The third, alone on a
core beside the others, is what every other table has, and had more of the machine than the first."""

_HEAD: Final = ("", "per s", "least", "greatest", "p50 ms", "p99 ms", "cpu µs", "ours ÷ it")
_EVENT_HEAD: Final = ("first event p50", "p99 ms")


def tables(measured: Measured) -> str:
    """Lay out every workload that was measured."""
    parts = [_workload(workload, measured) for workload in WORKLOADS]
    return "\n\n".join(part for part in parts if part)


def workers_table(samples: Sequence[Sample]) -> str:
    """Lay out two workers against one."""
    names = list(dict.fromkeys(sample.target for sample in samples))
    rows: list[Row] = [(workers.SHARED.title, *_HEAD[1:-1], f"÷ {names[0]}")]
    for name in names:
        own, base = _of(samples, name), _of(samples, names[0])
        rows.append((f"  {name}", *_cells(own), _ratio(own, base)))
    return f"{aligned(rows)}\n\n{WORKERS_LIMITS}"


def goals_table(verdicts: Sequence[Verdict]) -> str:
    """Lay out goals, what was measured, and whether it is enough."""
    rows: list[Row] = [("goal", "wanted", "measured", "least", "greatest", "")]
    words = {True: "reached", False: "NOT reached", None: "not measured"}
    for verdict in verdicts:
        figures = (_shown(value) for value in (verdict.measured, verdict.lowest, verdict.highest))
        rows.append((verdict.goal.name, verdict.wanted, *figures, words[verdict.reached]))
    return aligned(rows)


def targets_table(names: Sequence[str], measured: Measured, versions: Mapping[str, str]) -> str:
    """Lay out what each target is, took, and did for each request while it was measured."""
    head = ("target", "start s", "idle MB", "most MB", "idle cpu", "keys", "policy", "budget", "receipts", "durable")
    rows: list[Row] = [head]
    for name in names:
        starts = [start for start in measured.starts if start.target == name]
        did = ROWS[name].did
        did_cells = (did.keys, did.policy, did.budget, did.receipts, did.durable)
        rows.append((f"{name}: {ROWS[name].title} {versions[name]}", *_taken(starts, measured, name), *did_cells))
    return aligned(rows)


def refusals_lines(refusals: Sequence[Refusal]) -> str:
    """Tell what targets could not do, with what they answered."""
    by_answer: dict[tuple[str, str], list[str]] = {}
    for one in refusals:
        by_answer.setdefault((one.target, one.said), []).append(one.workload)
    return "\n".join(f"{target} cannot do {', '.join(jobs)}: {said}" for (target, said), jobs in by_answer.items())


def _workload(workload: Workload, measured: Measured) -> str:
    samples = [sample for sample in measured.samples if sample.workload == workload.name]
    refused = [one.target for one in measured.refusals if one.workload == workload.name]
    if not samples and not refused:
        return ""
    events = workload.phase == "paced"
    rows: list[Row] = [(workload.title, *_HEAD[1:], *(_EVENT_HEAD if events else ()))]
    ours = _of(samples, OURS)
    for name in dict.fromkeys(sample.target for sample in samples):
        own = _of(samples, name)
        more = _first_events(own) if events else ()
        rows.append((f"  {name}{_note(own)}", *_cells(own), _ratio(ours, own) if ours and name != OURS else "–", *more))
    none = ["–"] * (len(rows[0]) - 1)
    rows += [(f"  {name}: cannot (below)", *none) for name in refused]
    return aligned(rows)


def _of(samples: Sequence[Sample], name: str) -> list[Sample]:
    return sorted((sample for sample in samples if sample.target == name), key=lambda sample: sample.round)


def _note(own: Sequence[Sample]) -> str:
    """Return what is wrong with the figures of a row, if anything is."""
    failed = [sample for sample in own if sample.errors]
    if failed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in failed[0].errors.items())
        return f": {len(failed)} of {len(own)} rounds FAILED: {kinds}"
    return "" if any(sample.requests for sample in own) else f": none whole in {own[0].seconds:.0f} s"


def _good(own: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in own if sample.requests and not sample.errors]


def _cells(own: Sequence[Sample]) -> tuple[str, ...]:
    good = _good(own)
    if not good:
        return ("–",) * 6
    rates = [sample.per_second for sample in good]
    cpu = [sample.cpu_us for sample in good if sample.cpu_us is not None]
    return (
        *(_shown(value) for value in (median(rates), min(rates), max(rates))),
        f"{median([sample.p50_ms for sample in good]):.2f}",
        f"{median([sample.p99_ms for sample in good]):.2f}",
        f"{median(cpu):,.0f}" if cpu else "–",
    )


def _first_events(own: Sequence[Sample]) -> tuple[str, str]:
    halves = [sample.first_event_p50_ms for sample in _good(own) if sample.first_event_p50_ms is not None]
    most = [sample.first_event_p99_ms for sample in _good(own) if sample.first_event_p99_ms is not None]
    return (f"{median(halves):.2f}" if halves else "–", f"{median(most):.2f}" if most else "–")


def _ratio(own: Sequence[Sample], other: Sequence[Sample]) -> str:
    good = [(ours, theirs) for ours, theirs in zip(own, other, strict=True) if _good([ours]) and _good([theirs])]
    if not good:
        return "–"
    return _shown(median_ratio([ours.per_second for ours, _ in good], [theirs.per_second for _, theirs in good]))


def _taken(starts: Sequence[Start], measured: Measured, name: str) -> tuple[str, ...]:
    idle = [start.idle_mb for start in starts if start.idle_mb is not None]
    most = [sample.loaded_mb for sample in measured.samples if sample.target == name and sample.loaded_mb is not None]
    cpu = [start.idle_cpu for start in starts if start.idle_cpu is not None]
    return (
        f"{median([start.seconds for start in starts]):.1f}" if starts else "–",
        f"{median(idle):,.0f}" if idle else "–",
        f"{max(most):,.0f}" if most else "–",
        f"{max(cpu):.1%}" if cpu else "–",
    )


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def about_lines(about: Mapping[str, Any]) -> str:
    """Lay out what the figures belong to."""
    tools = ", ".join(f"{name} {version}" for name, version in about["tools"].items())
    told = {**about["machine"], "tools": tools, "commit": about["commit"], "date": about["date"]}
    return "\n".join(f"{label}: {value}" for label, value in told.items())


def whole(
    names: Sequence[str],
    measured: Measured,
    shared: Sequence[Sample],
    verdicts: Sequence[Verdict],
    versions: Mapping[str, str],
    skipped: Mapping[str, str],
) -> str:
    """Lay out a whole run."""
    parts = [
        tables(measured),
        LIMITS,
        workers_table(shared) if shared else "",
        targets_table(names, measured, versions),
        refusals_lines(measured.refusals),
        "\n".join(f"{name} is left out: {why}" for name, why in skipped.items()),
        goals_table(verdicts) if verdicts else "",
    ]
    return "\n" + "\n\n".join(part for part in parts if part) + "\n"
