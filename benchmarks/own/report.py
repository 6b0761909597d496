"""The report: tables of the gateway's own measures. Pure: takes samples, returns text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from benchmarks.own.first_token import FirstTokenSample, added
from benchmarks.own.large_ledger import LARGE, MANY, LargeLedger
from benchmarks.own.memory import MemorySample
from benchmarks.own.stages import StageSample
from benchmarks.own.startup import Imports, StartSample
from benchmarks.stats import median

_T = TypeVar("_T")


def table(rows: Sequence[Sequence[str]], words: Collection[int] = (0,)) -> str:
    """Return rows as a table of Markdown, the first one its head; ``words`` are the columns that are no figures."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = "|".join(["", *(f"-{'-' * width}{'-' if at in words else ':'}" for at, width in enumerate(widths)), ""])
    return "\n".join([line(rows[0]), rule, *(line(row) for row in rows[1:])])


def memory_table(samples: Sequence[MemorySample]) -> str:
    """Return memory by case: medians of the rounds."""
    rows: list[Sequence[str]] = [
        ("memory of the gateway's process", "before, MB", "after, MB", "PSS after, MB", "each, kB")
    ]
    for case in _cases(one.case for one in samples):
        found = [one for one in samples if one.case == case]
        count = found[0].count
        rows.append(
            (
                f"{count} × {case}" if count else f"{case}: at start, and after requests",
                f"{_middle(found, lambda one: one.before.rss / 1e6):.1f}",
                f"{_middle(found, lambda one: one.after.rss / 1e6):.1f}",
                f"{_middle(found, lambda one: one.after.pss / 1e6):.1f}",
                f"{_middle(found, lambda one: one.each / 1e3):.1f}" if count else "",
            )
        )
    return table(rows)


def start_table(samples: Sequence[StartSample], imports: Imports) -> str:
    """Return start-up by case, and the packages that take most of importing."""
    rows: list[Sequence[str]] = [("start-up", "until ready, ms", "CPU, ms")]
    for case in _cases(one.case for one in samples):
        found = [one for one in samples if one.case == case]
        rows.append(
            (
                case,
                f"{_middle(found, lambda one: one.ready_ms):.0f}",
                f"{_middle(found, lambda one: one.cpu_ms or 0.0):.0f}",
            )
        )
    rows.append(("importing the server", f"{imports.server_ms - imports.bare_ms:.0f}", ""))
    rows += [(f"… of which {name}", f"{took:.0f}", "") for name, took in imports.packages.items()]
    return table(rows)


def stage_table(samples: Sequence[StageSample]) -> str:
    """Return CPU by stage: medians of the rounds, the most first; their sum, and the truth beside it."""
    works = list(_cases(one.work for one in samples))
    by_work = {work: [one for one in samples if one.work == work] for work in works}

    def stage(work: str, name: str) -> float:
        return _middle(by_work[work], lambda one: one.stages.get(name, 0.0))

    names = sorted({name for one in samples for name in one.stages}, key=lambda name: (-stage(works[0], name), name))
    rows: list[Sequence[str]] = [("CPU by stage, µs", *works)]
    rows += [(name, *(f"{stage(work, name):.2f}" for work in works)) for name in names]
    rows.append(("sum", *(f"{_middle(by_work[work], lambda one: one.sum):.2f}" for work in works)))
    rows.append(
        ("measured without a watch", *(f"{_middle(by_work[work], lambda one: one.truth):.2f}" for work in works))
    )
    rows.append(("that the sum misses", *(f"{_middle(by_work[work], lambda one: one.missed):.0%}" for work in works)))
    absent = sorted({name for one in samples for name in one.absent})
    return table(rows) + (f"\n\nNot found, and part of what holds them: {', '.join(absent)}." if absent else "")


def first_token_table(samples: Sequence[FirstTokenSample]) -> str:
    """Return the time to the first token, direct and through the gateway, and what that adds."""
    rows: list[Sequence[str]] = [
        ("time to the first token", "direct p50, ms", "gateway p50, ms", "added p50, ms", "added p99, ms")
    ]
    for one in added(list(samples)):
        sides = {
            side: _middle(
                [found for found in samples if (found.side, found.connections) == (side, one.connections)],
                lambda found: found.first_p50_ms,
            )
            for side in ("direct", "gateway")
        }
        rows.append(
            (
                f"{one.connections} connections" if one.connections > 1 else "1 connection",
                *(f"{sides[side]:.2f}" for side in ("direct", "gateway")),
                *(f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}"),
            )
        )
    return table(rows)


def ledger_table(measured: LargeLedger) -> str:
    """Return requests/s on each ledger, and how long reads and housekeeping take on the large one."""
    file = measured.file
    rows: list[Sequence[str]] = [("ledger", "requests/s", "p50, ms", "p99, ms", "CPU, µs", "written, kB", "of empty")]
    for name in _cases(one.ledger for one in measured.loads):
        found = [one for one in measured.loads if one.ledger == name]
        rows.append(
            (
                name,
                f"{_middle(found, lambda one: one.per_second):.0f}",
                f"{_middle(found, lambda one: one.p50_ms):.1f}",
                f"{_middle(found, lambda one: one.p99_ms):.1f}",
                f"{_middle(found, lambda one: one.cpu_us or 0.0):.0f}",
                f"{_middle(found, lambda one: (one.written or 0.0) / 1e3):.1f}",
                f"{measured.ratio(name):.2f}" if name in {MANY, LARGE} else "1",
            )
        )
    filled = f", filled in {file.seconds:.0f} s" if file.seconds else ""
    size = f"{file.accounts:,} accounts, {file.receipts:,} receipts, {file.bytes / 1e9:.1f} GB{filled}"
    timed = [("on the large ledger", "p50, ms", "most, ms")]
    timed += [(one.what, f"{one.p50_ms:.2f}", f"{one.most_ms:.2f}") for one in measured.timed]
    return f"{table(rows)}\n\nThe large one: {size}.\n\n{table(timed)}"


def _cases(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _middle(found: Sequence[_T], figure: Callable[[_T], float]) -> float:
    return median([figure(one) for one in found])
