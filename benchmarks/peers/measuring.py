"""Takes the figures: every phase starts every target anew, then they take turns, one under load at a time.

What a target cannot do is kept as what it answered, and what went wrong in a sample as errors. Lays out nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.children import BenchmarkFailed, Cores, cores, cpu_seconds, python, resident_mb, run
from benchmarks.load import KEY_ENV, NONE_YET
from benchmarks.peers import nginx, wrk
from benchmarks.peers.checks import ask, headers
from benchmarks.peers.gateways import ROWS
from benchmarks.peers.workloads import PACE_SECONDS, PHASES, Phase, Workload
from benchmarks.targets import Target, fake_upstream

_QUIET_LOOK: Final = 0.1
_QUIET_CPU: Final = 0.011  # a tick of the system's clock
_QUIET_LIMIT: Final = 180.0
_CHECKED_REQUESTS: Final = 200
_CHECKED_CONNECTIONS: Final = 16

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long, in seconds, and how often. ``longest`` is for a target that answers too few in ``seconds``."""

    rounds: int
    seconds: int
    longest: int
    warmup: int
    idle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of one target: how long until it answered, and what it took while nobody asked (CPU: of one core)."""

    target: str
    phase: Phase
    seconds: float
    idle_mb: float | None
    idle_cpu: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A workload that a target cannot do, and what it answered instead."""

    target: str
    workload: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One round of one target. With ``errors`` its figures say nothing; ``None`` is what was not measured.

    ``cpu_us`` is the target's own time for each whole answer, ``loaded_mb`` its memory at the end.
    """

    workload: str
    target: str
    round: int
    requests: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float | None
    loaded_mb: float | None
    first_event_p50_ms: float | None = None
    first_event_p99_ms: float | None = None
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All of one run. ``checked``: answers of ours that were read whole, receipt included, by target.

    ``failed`` says what ended the run before its end; what was measured until then is kept.
    """

    starts: Sequence[Start]
    refusals: Sequence[Refusal]
    samples: Sequence[Sample]
    checked: Mapping[str, int]
    failed: str | None = None


@dataclass(slots=True)
class _Notes:
    """What is gathered while it goes on."""

    say: Say
    starts: list[Start] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)

    def refuse(self, name: str, workload: Workload, said: str) -> None:
        """Note what a peer cannot do.

        Raises:
            BenchmarkFailed: it is one of ours, which must.
        """
        if ROWS[name].ours:
            raise BenchmarkFailed(f"{name}, {workload.title}: {said}")
        self.say(f"{workload.title}: {name} cannot: {said}")
        self.refusals.append(Refusal(target=name, workload=workload.name, said=said))


def measure(names: Sequence[str], workloads: Sequence[Workload], effort: Effort, folder: Path, say: Say) -> Measured:
    """Measure these targets, until one of ours does not start or gives a wrong answer."""
    notes = _Notes(say=say)
    failed = None
    try:
        for phase in PHASES:
            own = [workload for workload in workloads if workload.phase == phase]
            if own:
                _phase(names, own, effort, folder, notes)
    except BenchmarkFailed as fault:
        failed = str(fault)
    return Measured(
        starts=notes.starts, refusals=notes.refusals, samples=notes.samples, checked=notes.checked, failed=failed
    )


def _phase(names: Sequence[str], workloads: Sequence[Workload], effort: Effort, folder: Path, notes: _Notes) -> None:
    with _started(names, workloads, effort, folder, notes) as up:
        for workload in workloads:
            _workload(workload, up, effort, folder, notes)


@contextmanager
def _started(
    names: Sequence[str], workloads: Sequence[Workload], effort: Effort, folder: Path, notes: _Notes
) -> Iterator[dict[str, Target]]:
    """Start an upstream and every target for workloads of one phase; what each takes while all are idle is noted."""
    phase, shape = workloads[0].phase, workloads[0].shape
    with ExitStack() as stack:
        upstream = stack.enter_context(_upstream(phase, folder))
        up: dict[str, Target] = {}
        took: dict[str, float] = {}
        for name in names:
            notes.say(f"{phase}: starting {name} …")
            before = time.perf_counter()
            try:
                up[name] = stack.enter_context(ROWS[name].start(upstream, folder, shape))
            except BenchmarkFailed as fault:
                for workload in workloads:
                    notes.refuse(name, workload, str(fault))
            took[name] = time.perf_counter() - before
        notes.say(f"{phase}: all idle for {effort.idle:.1f} s …")
        used = {name: cpu_seconds(target.pid) for name, target in up.items()}
        time.sleep(effort.idle)
        for name, target in up.items():
            notes.starts.append(
                Start(
                    target=name,
                    phase=phase,
                    seconds=took[name],
                    idle_mb=resident_mb(target.pid),
                    idle_cpu=_between(used[name], cpu_seconds(target.pid), effort.idle),
                )
            )
        yield up


def _between(before: float | None, after: float | None, times: float) -> float | None:
    """Return the CPU seconds used between two looks, for each of so many, if the system tells."""
    return (after - before) / times if times and before is not None and after is not None else None


def _upstream(phase: Phase, folder: Path) -> AbstractContextManager[Target]:
    if phase in {"plain", "stream"} and nginx.found("nginx"):
        return nginx.upstream(folder, "plain" if phase == "plain" else "stream", core=cores()[1])
    gaps: Mapping[Phase, float] = {"each": 0.0, "paced": PACE_SECONDS}
    return fake_upstream(folder, gap=gaps.get(phase))


def _workload(workload: Workload, up: Mapping[str, Target], effort: Effort, folder: Path, notes: _Notes) -> None:
    """Check and warm up every target, then let them take turns."""
    able: dict[str, Run] = {}
    for name, target in up.items():
        checked = ask(target, workload.shape, workload.body(target.model))
        if checked.refused is None:
            able[name] = _warmed(Run(name, target, workload, checked.events, folder), effort, notes)
            continue
        notes.refuse(name, workload, checked.refused)
    for number in range(effort.rounds):
        notes.say(f"{workload.title}: round {number + 1} of {effort.rounds} …")
        for run_of_one in able.values():
            sample = run_of_one.sample(number)
            notes.samples.append(sample)
            if sample.errors:
                notes.say(f"{workload.title}: {sample.target} FAILED: {dict(sample.errors)}")


def _warmed(run_of_one: Run, effort: Effort, notes: _Notes) -> Run:
    """Warm a target up, and choose how long it is asked: who answers few is asked for longer."""
    row = ROWS[run_of_one.name]
    if row.ours:
        notes.checked[run_of_one.name] = notes.checked.get(run_of_one.name, 0) + run_of_one.check_each()
    run_of_one.seconds = effort.seconds
    if effort.warmup:
        warm = run_of_one.sample(-1, seconds=effort.warmup)
        if warm.requests < 3 * run_of_one.workload.connections:
            run_of_one.seconds = effort.longest
    return run_of_one


class Run:
    """One target under one workload: knows how to put it under load once."""

    def __init__(
        self, name: str, target: Target, workload: Workload, events: int, folder: Path, load: Cores = None
    ) -> None:
        self.name = name
        self.workload = workload
        self.seconds = 1
        self._target = target
        self._events = events
        self._load = cores()[1] if load is None else load
        self._script = folder / f"{workload.name}-{name.replace(' ', '-')}.lua"
        body = self._script.with_suffix(".json")
        body.write_bytes(workload.body(target.model))
        self._script.write_text(wrk.script(body, headers(target)))

    def sample(self, number: int, *, seconds: int | None = None) -> Sample:
        """Put the target under load; return once it is at rest again."""
        pid = self._target.pid
        before = cpu_seconds(pid)
        took = seconds or self.seconds
        told = self._paced(took) if self._own_generator else self._driven(took)
        after = cpu_seconds(pid)
        loaded = resident_mb(pid)
        rest(self.name, pid)
        each = _between(before, after, told.requests)
        return Sample(
            workload=self.workload.name,
            target=self.name,
            round=number,
            requests=told.requests,
            seconds=told.seconds,
            per_second=told.per_second,
            p50_ms=told.p50_ms,
            p99_ms=told.p99_ms,
            cpu_us=None if each is None else each * 1e6,
            loaded_mb=loaded,
            first_event_p50_ms=told.first_event_p50_ms,
            first_event_p99_ms=told.first_event_p99_ms,
            errors=told.errors,
        )

    @property
    def _own_generator(self) -> bool:
        """Whether our load generator asks: it tells when the first event came, which wrk cannot."""
        return self.workload.phase == "paced" or nginx.found("wrk") is None

    def check_each(self) -> int:
        """Read answers whole, each with its receipt; return how many.

        Raises:
            BenchmarkFailed: one was wrong.
        """
        connections = min(self.workload.connections, _CHECKED_CONNECTIONS)
        told = self._loaded(seconds=2.0, most=_CHECKED_REQUESTS, connections=connections)
        if told.errors:
            raise BenchmarkFailed(f"{self.name}, {self.workload.title}: {dict(told.errors)}")
        return told.requests

    def _driven(self, seconds: int) -> wrk.Told:
        connections = self.workload.connections
        return wrk.drive(self._target.url, self._script, connections=connections, seconds=seconds, core=self._load)

    def _paced(self, seconds: int) -> wrk.Told:
        return self._loaded(seconds=float(seconds), most=1_000_000, connections=self.workload.connections)

    def _loaded(self, *, seconds: float, most: int, connections: int) -> wrk.Told:
        target, workload = self._target, self.workload
        command = python(
            "benchmarks.load",
            *("--url", target.url, "--shape", workload.shape, "--connections", str(connections)),
            *("--seconds", str(seconds), "--warmup", "0", "--max-requests", str(most), "--model", target.model),
            *("--events", str(self._events), "--prompt-bytes", str(workload.prompt_bytes)),
            *(part for line in target.headers for part in ("--header", line)),
            *(["--receipt"] if target.receipt else []),
        )
        figures = json.loads(run(command, core=self._load, timeout=seconds + 60, env={KEY_ENV: target.key}))
        wrong = [said for said in figures["complaints"] if not said.startswith(NONE_YET)]
        return wrk.Told(
            requests=figures["requests"],
            seconds=figures["requests"] / figures["per_second"] if figures["per_second"] else seconds,
            p50_ms=figures["p50_ms"],
            p99_ms=figures["p99_ms"],
            errors=dict.fromkeys(wrong, figures["failures"]),
            first_event_p50_ms=figures["first_event_p50_ms"],
            first_event_p99_ms=figures["first_event_p99_ms"],
        )


def rest(name: str, pid: int) -> None:
    """Wait until a process does nothing any more: what it still does for one sample must not weigh on the next.

    Raises:
        BenchmarkFailed: it never rests.
    """
    deadline = time.monotonic() + _QUIET_LIMIT
    while (before := cpu_seconds(pid)) is not None:
        time.sleep(_QUIET_LOOK)
        after = cpu_seconds(pid)
        if after is None or after - before <= _QUIET_CPU:
            return
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{name} was still busy {_QUIET_LIMIT:.0f} s after it was last asked.")
