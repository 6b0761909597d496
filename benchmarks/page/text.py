"""The page: its sections in order, and the sentences around the tables and charts. Pure: figures in, Markdown out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks.own import report as own_report
from benchmarks.page import tables
from benchmarks.page.charts import charts
from benchmarks.page.figures import Figures, Own, Peers, middle, shown
from benchmarks.peers.report import OURS
from benchmarks.report import client_table

NOTICE: Final = "<!-- Written by make bench-page out of docs/benchmarks; run the benchmarks, then that. -->"
NAME: Final = "benchmarks"
"""The page's file without its ending, and how the files of its charts begin."""

_LIMITS: Final = """\
- Everything runs on one machine, over loopback. Networks, TLS and the time that a model thinks are not in here: the
  figures tell what a gateway costs, not what its users wait for.
- Answers are fixed and the load is a closed loop: the next request is sent when the last one is answered. p99 is that
  of a gateway at its limit, and not that under a load that it bears with ease.
- The target has one core to itself; wrk and the upstream share the other. "No gateway" is therefore the limit of the
  harness. Targets near to it look slower than they are; none of the gateways is near.
- All targets are up, and one at a time is asked. Rounds go in turn; ratios are formed within a round, and the median of
  the rounds is told with the least and the greatest. The cores are a shared machine's: compare ratios, not figures.
- A peer may have settings that make it faster. Each is started as its documentation says, with logging turned down.
  LiteLLM's keys and budgets, and the databases of TensorZero and Portkey, are off, which is in their favour.
- A target that answers too few in a sample is asked for longer. A sample with a single error gives no figure.
- CPU for each answer holds what was begun and not finished at the end of a sample: a few per cent at 16 connections,
  and too much to quote for a target that answers a handful.
- Two workers have no core of their own here: load generator and upstream share both. They are compared with one worker
  that shares its one core with them."""

_REPEAT: Final = """\
```console
$ make bench
$ make bench-own
$ make bench-peers
```

The first measures ours beside nginx in under three minutes, the second what no peer is needed for, the third everything
beside the peers, which it installs at the versions named here. nginx and wrk must be there. Two cores are enough;
nothing else should run on them. `make bench-page` writes this page out of the raw figures."""


def page(figures: Figures, notes: str) -> str:
    """Return the page; ``notes`` is what a person has to say about goals that were not reached."""
    parts = [f"# How fast it is\n\n{NOTICE}", *_beside(figures, notes), *_workloads(figures)]
    if figures.own is not None:
        parts += _own(figures, figures.own)
    return "\n\n".join(part for part in [*parts, *_method(figures)] if part) + "\n"


def _picture(figures: Figures, name: str) -> str:
    """Return a chart as an image; who cannot see it is told where its figures are."""
    chart = charts(figures).get(name)
    if chart is None:
        return ""
    words = (
        f"Chart: {chart.title}; {', '.join(column.heading for column in chart.columns)}. The tables have its figures."
    )
    return f"![{words}]({NAME}-{name}.svg)"


def _beside(figures: Figures, notes: str) -> Iterator[str]:
    peers = figures.peers
    yield (
        "What a gateway costs beside others, each in the same run on the same machine: one core for the gateway, fixed "
        "answers from an upstream on loopback. flatfee checks keys, applies policy, reserves and charges budgets, and "
        "writes a receipt for each request. The others do less, and the table says what."
    )
    yield _picture(figures, "answer")
    yield tables.answer_table(peers)
    yield _reading(peers)
    yield f"The run ended before its end: {peers.failed}." if peers.failed else ""
    yield "## Goals"
    yield ("Figures beside peers are ratios within one run, ours to theirs; of times, smaller is better.")
    yield tables.goals_table(figures)
    yield notes.strip()
    yield "## What each target did"
    yield (
        'For each request, while it was measured. "Survives the process" is a ledger that a crash of the gateway does '
        'not touch; "survives power loss" waits for the disk.'
    )
    yield tables.did_table(peers)
    yield tables.refusals_lines(peers)


def _reading(peers: Peers) -> str:
    """Return how to read the first table, with the two limits in figures."""
    limits = {
        target.name: shown(middle([one.per_second for one in peers.of("plain-16", target.name)]))
        for target in peers.targets
        if target.name in {"direct", "nginx"}
    }
    told = (
        "Medians at 16 connections; a stream has 203 events, sent at once. CPU is the target's own time for one plain "
        'answer. In bold flatfee as it is by default: a ledger in SQLite, with durability "process".'
    )
    if len(limits) < 2:
        return told
    return (
        f"{told} The harness itself reaches {limits['direct']} plain answers a second without a gateway, and nginx, "
        f"which passes bytes on and decides nothing, {limits['nginx']}."
    )


def _workloads(figures: Figures) -> Iterator[str]:
    peers = figures.peers
    yield "## Every workload"
    yield (
        'Medians of the rounds with the least and the greatest; "ours ÷ it" is the median of each round\'s ratio of '
        f"**{next((target.label for target in peers.targets if target.name == OURS), OURS)}** to the target, in whole "
        "answers a second."
    )
    yield _picture(figures, "plain")
    yield _picture(figures, "streams")
    for workload in peers.workloads:
        if any(one.workload == workload.name for one in peers.samples):
            yield f"### {workload.title[0].upper()}{workload.title[1:]}"
            yield _paced(workload.phase)
            yield tables.workload_table(peers, workload)
    if peers.workers:
        yield "## Two workers"
        yield (
            "The first two are compared: gateway, load generator and upstream together on one core, and on two. The "
            "third, alone on a core beside the others, is what every other table has."
        )
        yield tables.workers_table(peers)
    if sum(target.ours for target in peers.targets) > 1:
        yield "## What durability costs"
        yield "In brackets the median of each round's ratio to the default."
        yield tables.durability_table(peers)
    yield "## Start and rest"
    yield (
        "From the start of a target's process until it answered, what it held and used while nobody asked, and the "
        "most that it held at the end of any sample. All processes of a target together."
    )
    yield _picture(figures, "rest")
    yield tables.starts_table(peers)


def _paced(phase: str) -> str:
    if phase != "paced":
        return ""
    return (
        "No target can be faster than the upstream sends: the first event and the CPU tell, not the answers a second."
    )


def _own(figures: Figures, own: Own) -> Iterator[str]:
    """Yield the sections of what no peer was needed for; medians of the rounds."""
    if own.memory:
        yield "## Memory"
        yield (
            "What one worker holds, and what each idle connection, open stream and stream whose caller does not read "
            "adds to that. What the kernel keeps for sockets is not in it."
        )
        yield own_report.memory_table(own.memory)
    if own.startup is not None:
        yield "## Start-up"
        yield own_report.start_table(own.startup.starts, own.startup.imports)
    if own.stages:
        yield "## CPU by stage"
        yield _picture(figures, "stages")
        yield (
            "Two gateways run in turn on one core, one with a stop-watch around its stages and one without. The sum of "
            "the stages is held against what the one without the watch used."
        )
        yield own_report.stage_table(own.stages)
    if own.first_token:
        yield "## Added time to the first token"
        yield "Streams of 12 events with 5 ms between them, from one provider, through the gateway and directly."
        yield own_report.first_token_table(own.first_token)
    if own.ledger is not None:
        file = own.ledger.file
        yield f"## {file.accounts:,} accounts and {file.receipts:,} receipts"
        yield "16 connections; all gateways share one core, and are asked in turn."
        yield own_report.ledger_table(own.ledger)


def _method(figures: Figures) -> Iterator[str]:
    if figures.clients is not None:
        yield "## Clients"
        yield (
            "Python clients, one connection, sequential calls, alone on a core. Medians, in brackets the ratios to the "
            "first row and to the last one."
        )
        yield f"```text\n{client_table(figures.clients.clients)}\n```"
    about, own = figures.peers.about, figures.own
    yield "## The machine, and versions"
    told = {"date": about.date, "commit": f"`{about.commit}`", **about.machine, **about.tools}
    rounds, seconds = about.effort.get("rounds"), about.effort.get("seconds")
    if rounds and seconds:
        told["rounds"] = f"{rounds:g}, with {seconds:g} s for each target and workload"
    yield own_report.table([("", ""), *told.items()], words=(0, 1))
    if own is not None:
        others = {"date": own.date, "commit": own.commit and f"`{own.commit}`", **own.machine}
        differs = [(label, value) for label, value in others.items() if value and value != told.get(label)]
        if differs:
            yield "Where the measures without peers (memory to large ledger) differ:"
            yield own_report.table([("", ""), *differs], words=(0, 1))
    files = {"peers.json": figures.peers, "own.json": own, "bench.json": figures.clients}
    there = [f"[{name}](../benchmarks/{name})" for name, found in files.items() if found is not None]
    yield f"Raw figures: {', '.join(there)}."
    yield f"## How to repeat it\n\n{_REPEAT}"
    yield f"## Limits of the method\n\n{_LIMITS}"
    yield "Why it is measured so: [decision 0034](../decisions/0034-measured-beside-peers.md)."
