"""The raw figures, read into the values that they were written from. Reads; works out only medians and ratios."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.client_cost import ClientSample
from benchmarks.own.first_token import FirstTokenSample
from benchmarks.own.large_ledger import LargeLedger
from benchmarks.own.memory import MemorySample
from benchmarks.own.stages import StageSample
from benchmarks.own.startup import Imports, StartSample
from benchmarks.peers.gateways import Did
from benchmarks.peers.goals import Figure, Goal, Verdict, judge
from benchmarks.peers.measuring import Refusal, Sample, Start
from benchmarks.peers.workloads import Workload
from benchmarks.stats import median


class NoFigures(Exception):
    """The raw figures cannot be made into a page; the message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a run beside peers belongs to; ``effort`` is numbers by name."""

    date: str
    commit: str
    machine: Mapping[str, str]
    tools: Mapping[str, str]
    effort: Mapping[str, float]
    quick: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A target as the run had it."""

    name: str
    title: str
    version: str
    did: Did
    ours: bool

    @property
    def label(self) -> str:
        """Its title without what stands in brackets."""
        return self.title.partition(" (")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """A run of ``benchmarks.peers``, as its JSON has it."""

    about: About
    targets: Sequence[Measured]
    workloads: Sequence[Workload]
    skipped: Mapping[str, str]
    starts: Sequence[Start]
    refusals: Sequence[Refusal]
    samples: Sequence[Sample]
    workers: Sequence[Sample]
    checked: Mapping[str, int]
    failed: str | None

    def of(self, workload: str, target: str) -> list[Sample]:
        """Return the samples that count, in the order of rounds."""
        found = [one for one in self.samples if (one.workload, one.target) == (workload, target)]
        return sorted((one for one in found if one.requests and not one.errors), key=lambda one: one.round)

    def refused(self, workload: str, target: str) -> bool:
        """Tell whether a target cannot do a workload."""
        return any((one.workload, one.target) == (workload, target) for one in self.refusals)

    def ratio(self, workload: str, target: str, against: str, figure: Figure = "per_second") -> Verdict:
        """Return one target beside another, as ratios of rounds; the goal of the verdict is none of ours."""
        asked = Goal(name="", workload=workload, figure=figure, target=target, against=against, least=0)
        found = judge([*self.samples, *self.workers], [asked])
        return found[0] if found else Verdict(goal=asked, measured=None, lowest=None, highest=None, reached=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """Starts, and what importing takes of them."""

    starts: list[StartSample]
    imports: Imports


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A run of ``benchmarks.own``, as its JSON has it; ``None`` is what it did not take."""

    machine: Mapping[str, str]
    quick: bool
    date: str | None = None
    commit: str | None = None
    memory: list[MemorySample] | None = None
    startup: Startup | None = None
    stages: list[StageSample] | None = None
    first_token: list[FirstTokenSample] | None = None
    ledger: LargeLedger | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """What of a run of ``benchmarks`` is told: its clients. Gateways are measured at more length beside peers."""

    machine: Mapping[str, str]
    quick: bool
    clients: Sequence[ClientSample]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that the page is made from."""

    peers: Peers
    own: Own | None
    clients: Clients | None


def read(folder: Path) -> Figures | None:
    """Return the figures of a folder; ``None`` if it has none.

    Raises:
        NoFigures: a file is of a quick run, or not what its command writes.
    """
    peers, own, bench = (_raw(folder / f"{name}.json") for name in ("peers", "own", "bench"))
    if peers is None:
        return None
    if own is not None:
        own = {key.replace("-", "_"): value for key, value in own.items()}
    clients = {**bench, "clients": bench["clients"]["samples"]} if bench is not None and "clients" in bench else None
    try:
        figures = TypeAdapter(Figures).validate_python({"peers": peers, "own": own, "clients": clients})
    except ValueError as error:
        raise NoFigures(f"The figures in {folder} are not what the benchmarks write; run them again. {error}") from None
    quick = {"peers": figures.peers.about.quick, "own": own is not None and own["quick"]}
    quick["bench"] = clients is not None and clients["quick"]
    for name, is_quick in quick.items():
        if is_quick:
            raise NoFigures(f"{folder / name}.json is of a run with --quick, which tells no speed; run it without.")
    return figures


def middle(values: Sequence[float | None]) -> float | None:
    """Return the median of what was measured."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def shown(value: float | None) -> str:
    """Return a figure with three digits, or all that it has before the point; a dash for none."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.0995 else "0" if size < 0.0005 else f"{value:.2g}"


def spread(values: Sequence[float | None]) -> str:
    """Return least and greatest."""
    known = [value for value in values if value is not None]
    return f"{shown(min(known))}–{shown(max(known))}" if known else "–"


def _raw(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise NoFigures(f"{path} is not JSON: {error}. Run its command again.") from None
    if not isinstance(raw, dict):
        raise NoFigures(f"{path} is not an object. Run its command again.")
    return raw
