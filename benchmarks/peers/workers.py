"""Two workers against one, on a machine whose cores are two.

Load generator and upstream need a core as well, so two workers never have two cores to themselves here. What can be
compared is one core that does everything with two cores that do everything: both lack what asking and answering cost,
in the same share. One worker on a core of its own is measured beside them, for it is what all other figures are of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.children import BenchmarkFailed, Cores, cores
from benchmarks.peers import nginx
from benchmarks.peers.checks import ask
from benchmarks.peers.measuring import Effort, Run, Sample, Say
from benchmarks.peers.workloads import Workload
from benchmarks.targets import Target, serving

CONNECTIONS: Final = 32
SHARED: Final = Workload(
    name="workers",
    title=f"plain, {CONNECTIONS} connections, one worker and two",
    phase="plain",
    connections=CONNECTIONS,
)
ONE_CORE: Final = "one worker, all on one core"
TWO_CORES: Final = "two workers, all on two cores"
OWN_CORE: Final = "one worker, a core of its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Where a gateway runs, and where load generator and upstream do."""

    name: str
    workers: int
    gateway: Cores
    others: Cores


def arrangements() -> tuple[Arrangement, ...]:
    """Return what is compared; nothing where processes cannot be pinned to two cores."""
    first, second = cores()
    if first is None or second is None:
        return ()
    both = frozenset({first, second})
    return (
        Arrangement(name=ONE_CORE, workers=1, gateway=first, others=first),
        Arrangement(name=TWO_CORES, workers=2, gateway=both, others=both),
        Arrangement(name=OWN_CORE, workers=1, gateway=first, others=second),
    )


def measure(effort: Effort, folder: Path, say: Say) -> list[Sample]:
    """Start each arrangement, then let them take turns.

    Raises:
        BenchmarkFailed: a gateway did not start, or gave a wrong answer.
    """
    say("workers: starting …")
    with ExitStack() as stack:
        runs = [stack.enter_context(_running(one, folder)) for one in arrangements()]
        if effort.warmup:
            for one in runs:
                one.sample(-1, seconds=effort.warmup)
        samples = []
        for number in range(effort.rounds):
            say(f"{SHARED.title}: round {number + 1} of {effort.rounds} …")
            samples += [one.sample(number, seconds=effort.seconds) for one in runs]
        return samples


@contextmanager
def _running(one: Arrangement, folder: Path) -> Iterator[Run]:
    with (
        nginx.upstream(folder, "plain", core=one.others) as upstream,
        serving(f"workers-{one.workers}", upstream, folder, "--workers", str(one.workers), core=one.gateway) as target,
    ):
        yield Run(one.name, target, SHARED, _checked(one, target), folder, load=one.others)


def _checked(one: Arrangement, target: Target) -> int:
    checked = ask(target, SHARED.shape, SHARED.body(target.model))
    if checked.refused is not None:
        raise BenchmarkFailed(f"{one.name}: {checked.refused}")
    return checked.events
