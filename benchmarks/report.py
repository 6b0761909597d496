"""Turns samples into plain text tables of ratios. Pure: samples in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.client_cost import ClientSample
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
Sequential calls, one connection, fresh process each round, alone on one core; the fake upstream on another
answers like a gateway, receipt included. CPU is user + system time of the client's process. An event's cost
includes its share of opening the stream. "start" is import and construction, wall time, files cached."""

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
    return _aligned(rows)


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
    """Lay out every client, with ratios to the first one."""
    rows: list[Row] = [("", "start ms", "ratio", "cpu µs/call", "±", "ratio", "cpu µs/event", "±", "ratio")]
    names = list(dict.fromkeys(sample.client for sample in samples))
    for name in names:
        row = [name]
        for field, digits in (("start_ms", 0), ("call_cpu_us", 0), ("event_cpu_us", 1)):
            values, base = _client_values(samples, name, field), _client_values(samples, names[0], field)
            row += [f"{median(values):,.{digits}f}", _half_spread(values), f"{median_ratio(values, base):.2f}"]
        del row[2]  # a start-up time's spread tells about the disk
        rows.append(row)
    return _aligned(rows)


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
    return [getattr(sample.figures, figure) for sample in samples if sample.client == name]


def _half_spread(values: Sequence[float]) -> str:
    return f"{spread(values) / 2:.0%}"


def _aligned(rows: Sequence[Row]) -> str:
    """Pad columns: the first to the left, the figures to the right. A row of a title alone has no width."""
    titled = [row for row in rows if any(row[1:])]
    first = max(len(row[0]) for row in titled)
    widths = [max(len(row[at]) for row in titled) for at in range(1, len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths, strict=True)]
        lines.append("  ".join([row[0].ljust(first), *cells]).rstrip())
    return "\n".join(lines)
