"""The tables of the page. Pure: figures in, Markdown out. Tables of our own measures are those of their report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final

from benchmarks.own.large_ledger import EMPTY, LARGE
from benchmarks.own.report import table
from benchmarks.page.charts import ANSWER
from benchmarks.page.figures import Figures, Measured, Own, Peers, middle, shown, spread
from benchmarks.peers import workers
from benchmarks.peers.goals import Verdict, judge
from benchmarks.peers.measuring import Sample
from benchmarks.peers.report import OURS
from benchmarks.peers.workloads import Workload
from benchmarks.stats import median

_DID: Final = {
    "keys": "keys",
    "policy": "policy",
    "budget": "budget",
    "receipts": "receipts",
    "durable": "writes that last",
}
_LASTS: Final = {"survives the process": "writes survive the process, and may be lost with the power"}
_WHOLE: Final = frozenset({"yes", "no", "survives power loss"})
"""Answers that leave nothing to be explained."""

_SAID: Final = 100


def answer_table(peers: Peers) -> str:
    """Return the first table: four figures of each target, and what it left undone for each request."""
    rows: list[Sequence[str]] = [
        ("", "requests/s", "streams/s", "CPU, µs a request", "p99, ms", "left undone for each request")
    ]
    for target in peers.targets:
        cells = (
            shown(middle([value(one) for one in peers.of(workload, target.name)])) for _, _, workload, value in ANSWER
        )
        rows.append((_bold(target), *cells, undone(target)))
    return table(rows, words=(0, 5))


def undone(target: Measured) -> str:
    """Return what a target did not do for each request, and what it did only in part."""
    did = asdict(target.did)
    no = [word for name, word in _DID.items() if did[name] == "no"]
    partly = [_LASTS.get(said) or f"{_DID[name]}: {said}" for name, said in did.items() if said not in _WHOLE]
    left = "everything" if len(no) == len(_DID) else ", ".join(no)
    return "; ".join(part for part in (left, *partly) if part) or "nothing"


def goals_table(figures: Figures) -> str:
    """Return what was to be reached, and what was."""
    words = {True: "reached", False: "**not reached**", None: "not measured"}
    rows: list[Sequence[str]] = [("goal", "wanted", "measured", "least–greatest", "")]
    rows += [
        (verdict.goal.name, verdict.wanted, *_verdict(verdict), words[verdict.reached])
        for verdict in judge([*figures.peers.samples, *figures.peers.workers])
    ]
    for name, values, bound, least in _own_goals(figures.own) if figures.own is not None else ():
        reached = median(values) >= bound if least else median(values) <= bound
        rows.append((name, f"{'≥' if least else '≤'} {bound:g}", shown(median(values)), spread(values), words[reached]))
    return table(rows, words=(0, 4))


def _own_goals(own: Own) -> Iterator[tuple[str, Sequence[float], float, bool]]:
    """Yield name, values of the rounds, bound, and whether that is the least; else it is the most."""
    if own.ledger is not None:
        rate = {(one.ledger, one.round): one.per_second for one in own.ledger.loads}
        ratios = [value / rate[EMPTY, at] for (ledger, at), value in rate.items() if ledger == LARGE]
        accounts, receipts = own.ledger.file.accounts, own.ledger.file.receipts
        name = f"requests/s with {accounts:,} accounts and {receipts:,} receipts, against an empty store"
        yield name, ratios, 0.95, True
    cases = {one.case: [other for other in own.memory or () if other.case == one.case] for one in own.memory or ()}
    if idle := cases.get("idle"):
        yield "resident memory of an idle worker at start, MB", [one.before.rss / 1e6 for one in idle], 60, False
        yield "… after requests, MB", [one.after.rss / 1e6 for one in idle], 60, False
    if streams := cases.get("open stream"):
        yield "memory of each open stream, kB", [one.each / 1e3 for one in streams], 40, False


def workload_table(peers: Peers, workload: Workload) -> str:
    """Return one workload: every target, with ratios of ours to it."""
    paced = workload.phase == "paced"
    head = (
        "",
        "per s",
        "least–greatest",
        "p50, ms",
        "p99, ms",
        "CPU, µs",
        "MB at the end",
        "ours ÷ it",
        "least–greatest",
    )
    rows: list[Sequence[str]] = [(*head, *(("first event p50, ms", "p99, ms") if paced else ()))]
    for target in peers.targets:
        samples = peers.of(workload.name, target.name)
        if not samples:
            if why := _none(peers, workload, target.name):
                rows.append((f"{_bold(target)}: {why}", *["–"] * (len(rows[0]) - 1)))
            continue
        ratio = peers.ratio(workload.name, OURS, target.name)
        beside = ("–", "–") if target.name == OURS else _verdict(ratio)
        events = _firsts(samples) if paced else ()
        rows.append((_bold(target), *_cells(samples), *beside, *events))
    return table(rows)


def _none(peers: Peers, workload: Workload, target: str) -> str | None:
    """Return why there are no figures."""
    if peers.refused(workload.name, target):
        return "cannot"
    tried = [one for one in peers.samples if (one.workload, one.target) == (workload.name, target)]
    if not tried:
        return None
    kinds = sorted({kind for one in tried for kind in one.errors})
    return f"failed ({', '.join(kinds)})" if kinds else f"none whole in {tried[0].seconds:.0f} s"


def _cells(samples: Sequence[Sample]) -> tuple[str, ...]:
    rates = [one.per_second for one in samples]
    return (
        shown(median(rates)),
        spread(rates),
        shown(median([one.p50_ms for one in samples])),
        shown(median([one.p99_ms for one in samples])),
        shown(middle([one.cpu_us for one in samples])),
        shown(middle([one.loaded_mb for one in samples])),
    )


def _firsts(samples: Sequence[Sample]) -> tuple[str, str]:
    return (
        shown(middle([one.first_event_p50_ms for one in samples])),
        shown(middle([one.first_event_p99_ms for one in samples])),
    )


def workers_table(peers: Peers) -> str:
    """Return two workers against one."""
    rows: list[Sequence[str]] = [("", "per s", "least–greatest", "p50, ms", "p99, ms", "÷ the first", "least–greatest")]
    for name in dict.fromkeys(one.target for one in peers.workers):
        own = [one for one in peers.workers if one.target == name and one.requests and not one.errors]
        beside = _verdict(peers.ratio(workers.SHARED.name, name, workers.ONE_CORE))
        rows.append((name, *(_cells(own)[:4] if own else ["–"] * 4), *beside))
    return table(rows)


def durability_table(peers: Peers) -> str:
    """Return what each way of keeping the ledger costs, beside the one that is there by default."""
    ours = [target for target in peers.targets if target.ours]
    loads = [workload for workload in peers.workloads if workload.name.startswith("plain-")]
    rows: list[Sequence[str]] = [("requests/s", *(target.label for target in ours))]
    for workload in loads:
        cells = []
        for target in ours:
            ratio = peers.ratio(workload.name, target.name, OURS).measured
            rate = shown(middle([one.per_second for one in peers.of(workload.name, target.name)]))
            cells.append(rate if target.name == OURS or ratio is None else f"{rate} ({shown(ratio)} ×)")
        rows.append((workload.title, *cells))
    return table(rows)


def starts_table(peers: Peers) -> str:
    """Return what each target took to start, and of memory and CPU while nobody asked."""
    head = ("", "version", "start, s", "idle, MB", "most, MB", "idle CPU, of a core")
    rows: list[Sequence[str]] = [head]
    for target in peers.targets:
        if target.name == "direct":
            continue
        starts = [one for one in peers.starts if one.target == target.name]
        most = [one.loaded_mb for one in peers.samples if one.target == target.name and one.loaded_mb is not None]
        idle = [one.idle_cpu for one in starts if one.idle_cpu is not None]
        rows.append(
            (
                _bold(target),
                target.version,
                shown(middle([one.seconds for one in starts])),
                shown(middle([one.idle_mb for one in starts])),
                shown(max(most)) if most else "–",
                f"{max(idle):.1%}" if idle else "–",
            )
        )
    return table(rows)


def did_table(peers: Peers) -> str:
    """Return what each target did for each request while it was measured."""
    rows: list[Sequence[str]] = [("", *_DID.values())]
    rows += [(target.title, *asdict(target.did).values()) for target in peers.targets]
    return table(rows, words=range(len(rows[0])))


def refusals_lines(peers: Peers) -> str:
    """Tell what targets could not do with what they answered, and who was left out."""
    titles = {workload.name: workload.title for workload in peers.workloads}
    labels = {target.name: target.label for target in peers.targets}
    by_answer: dict[tuple[str, str], list[str]] = {}
    for one in peers.refusals:
        by_answer.setdefault((one.target, " ".join(one.said.split())[:_SAID]), []).append(one.workload)
    told = [
        f"- {labels.get(target, target)} cannot do: {'; '.join(titles.get(job, job) for job in jobs)}. It answered"
        f" `{said.replace('`', chr(39))}`."
        for (target, said), jobs in by_answer.items()
    ]
    told += [f"- {name} is left out: {why}" for name, why in peers.skipped.items()]
    return "\n".join(told)


def _verdict(verdict: Verdict) -> tuple[str, str]:
    bounds = "–" if verdict.lowest is None else f"{shown(verdict.lowest)}–{shown(verdict.highest)}"
    return shown(verdict.measured), bounds


def _bold(target: Measured) -> str:
    return f"**{target.label}**" if target.name == OURS else target.label
