"""Turns samples into plain text tables of ratios. Pure: samples in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.client_cost import ClientSample
from benchmarks.double_cost import DoubleSample
from benchmarks.gateway_cost import SCENARIOS, Sample, Scenario
from benchmarks.ledger_cost import CONNECTIONS, LedgerSample
from benchmarks.stats import median, median_ratio, spread
from benchmarks.traffic import COMPLETION_BYTES, STREAM_EVENTS

GATEWAY_LIMITS: Final = f"""\
Closed loop on loopback; every answer checked. The server under measurement is alone on one core; load generator
and fake upstream share another, so "direct" is the limit of the harness, not of a network. Answers are fixed:
{COMPLETION_BYTES} bytes, or {STREAM_EVENTS} events of about 230 bytes, without a model's thinking time. Figures are
medians of rounds taken in turn; ± is half the distance from least to greatest; ratios are medians of each round's
ratio. Compare ratios, not figures, across machines. "cpu" is the server's own time for one answer. "workers", if
asked for, is the gateway with two workers, and no core is its own: they share the machine's with load generator and
upstream, so on two cores it tells what remains to be had, not what two cores give."""

CLIENT_LIMITS: Final = """\
Medians, in brackets the ratios to the first row and to the last one. Sequential calls, one connection, fresh process
each round, alone on one core; the fake upstream on another answers like a gateway, receipt included. Each process sees
only the packages that its client requires. "start" is import and construction, wall time, files cached and compiled;
"imported" is the memory of the whole process after the import, "made" after construction. CPU is user + system time;
an event's includes its share of opening the stream. "crowd" is the wall time of 1,000 streams of 203 events at once on
one client for coroutines (its process on one core, the upstream on the other)."""

DOUBLE_LIMITS: Final = """\
Medians. The double and who asks it share one process and one core, as in a test; a fresh process each round, files
cached and compiled. "start" is from before the import until the first answer is there; "import" and "gateway" are of
that what `import flatfee.testing` takes, and a gateway until it listens. "MB" is the memory of the whole process after
the first answer; "per s" are sequential scripted answers on one connection."""

_DOUBLE_FIGURES: Final = (
    ("start_ms", "start ms", 0),
    ("import_ms", "import ms", 0),
    ("gateway_ms", "gateway ms", 1),
    ("resident_mb", "MB", 1),
    ("per_second", "per s", 0),
)
"""Figure of ``double_child``, its heading, and its decimals."""

_CLIENT_FIGURES: Final = (
    ("start_ms", "start ms", 0),
    ("imported_mb", "imported MB", 1),
    ("made_mb", "made MB", 1),
    ("call_cpu_us", "cpu µs/call", 0),
    ("event_cpu_us", "cpu µs/event", 1),
    ("crowd_s", "crowd s", 2),
)
"""Figure of ``client_child``, its heading, and its decimals."""

Row = Sequence[str]


def gateway_table(samples: Sequence[Sample]) -> str:
    """Lay out every scenario: figures of each target, and ratios to the others."""
    head = ("", "per s", "±", "p50 ms", "p99 ms", "events/s", "cpu µs", "vs bare", "vs direct")
    rows: list[Row] = [head]
    for scenario in SCENARIOS:
        found = by_target([sample for sample in samples if sample.scenario == scenario.title])
        if found:
            rows.append((scenario.title, *[""] * (len(head) - 1)))
            rows += [_gateway_row(scenario, name, found) for name in found]
    return aligned(rows)


def ledger_lines(samples: Sequence[LedgerSample]) -> str:
    """Tell what the ledger costs of a plain request, in words: there is one figure."""
    alone, whole = [one.ledger_us for one in samples], [one.gateway_us for one in samples]
    if not samples:
        return "Ledger: this system does not tell a process's CPU time."
    share = median_ratio(alone, whole)
    return (
        f"Ledger (reserve, dispatch, settle, receipt on SQLite), alone in a process, {CONNECTIONS} at once: "
        f"{median(alone):,.0f} µs of\nCPU for each request, ± {_half_spread(alone)}: {share:.2f} of the "
        f"{median(whole):,.0f} µs that the whole gateway takes for a plain one."
    )


def client_table(samples: Sequence[ClientSample]) -> str:
    """Lay out every client: each figure with its ratio to the first one, and to the last one."""
    names = list(dict.fromkeys(sample.client for sample in samples))
    rows: list[Row] = [("", *(heading for _, heading, _ in _CLIENT_FIGURES))]
    for name in names:
        cells = []
        for figure, _, digits in _CLIENT_FIGURES:
            values = _client_values(samples, name, figure)
            cells.append(f"{median(values):,.{digits}f}{_ratios(samples, names, values, figure)}" if values else "–")
        rows.append((name, *cells))
    return aligned(rows)


def double_table(samples: Sequence[DoubleSample]) -> str:
    """Lay out the test double, by who asks it."""
    rows: list[Row] = [("", *(heading for _, heading, _ in _DOUBLE_FIGURES))]
    for asker in dict.fromkeys(sample.asker for sample in samples):
        own = [sample.figures for sample in samples if sample.asker == asker]
        cells = [f"{median([it[figure] for it in own]):,.{digits}f}" for figure, _, digits in _DOUBLE_FIGURES]
        rows.append((asker, *cells))
    return aligned(rows)


def _ratios(samples: Sequence[ClientSample], names: Sequence[str], values: Sequence[float], figure: str) -> str:
    first, last = (_client_values(samples, name, figure) for name in (names[0], names[-1]))
    if not (first and last and all(first) and all(last)):
        return ""
    return f" ({median_ratio(values, first):.2f}, {median_ratio(values, last):.2f})"


def machine_lines(machine: Mapping[str, str]) -> str:
    """Lay out what the figures belong to."""
    return "\n".join(f"{label}: {value}" for label, value in machine.items())


def by_target(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Group one scenario's samples by target, in the order of rounds."""
    found: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda one: one.round):
        found.setdefault(sample.target, []).append(sample)
    return found


def _gateway_row(scenario: Scenario, name: str, found: Mapping[str, Sequence[Sample]]) -> Row:
    own = found[name]
    rates = _values(own, "per_second")
    cpu = [sample.cpu_us for sample in own if sample.cpu_us is not None]
    events = f"{median(_values(own, 'events_per_second')):,.0f}" if scenario.shape == "stream" else "–"
    return (
        f"  {name}",
        f"{median(rates):,.0f}",
        _half_spread(rates),
        f"{median(_values(own, 'p50_ms')):.2f}",
        f"{median(_values(own, 'p99_ms')):.2f}",
        events,
        f"{median(cpu):,.0f}" if cpu else "–",
        *(_ratio(name, other, rates, found) for other in ("bare proxy", "direct")),
    )


def _ratio(name: str, other: str, rates: Sequence[float], found: Mapping[str, Sequence[Sample]]) -> str:
    if name == other or other not in found:
        return "–"
    return f"{median_ratio(rates, _values(found[other], 'per_second')):.2f}"


def _values(samples: Sequence[Sample], figure: str) -> list[float]:
    return [float(sample.figures[figure]) for sample in samples]


def _client_values(samples: Sequence[ClientSample], name: str, figure: str) -> list[float]:
    return [sample.figures[figure] for sample in samples if sample.client == name and figure in sample.figures]


def _half_spread(values: Sequence[float]) -> str:
    return f"{spread(values) / 2:.0%}"


def aligned(rows: Sequence[Row]) -> str:
    """Pad columns: the first to the left, the figures to the right. A row of a title alone has no width."""
    titled = [row for row in rows if any(row[1:])]
    first = max(len(row[0]) for row in titled)
    widths = [max(len(row[at]) for row in titled) for at in range(1, len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths, strict=True)]
        lines.append("  ".join([row[0].ljust(first), *cells]).rstrip())
    return "\n".join(lines)
