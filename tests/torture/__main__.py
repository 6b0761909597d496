"""``make torture``: every scenario at length, and one table. ``--seed N`` repeats one simulated run and tells it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from tests.torture.clocks import calendars, edges
from tests.torture.disks import disks
from tests.torture.kills import at_any_moment, at_every_point, kills
from tests.torture.machine import machine
from tests.torture.racers import race
from tests.torture.results import Result, quiet, table
from tests.torture.simulation import simulate, simulate_many

SCENARIOS: Mapping[str, Callable[[], Result]] = {
    "calendars": lambda: calendars(years=11),
    "machine": lambda: machine(1_500),
    "edges": lambda: edges(rounds=100),
    "racers": lambda: race(rounds=50),
    "kills": lambda: kills(at_every_point(rounds=10), "kill -9 at each point"),
    "moments": lambda: kills(at_any_moment(rounds=150), "kill -9 of 16 requests at any moment"),
    "disks": lambda: disks(rounds=10),
    "simulation": lambda: simulate_many(range(10_000)),
}
SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument(
        "scenario",
        nargs="*",
        choices=[[], *SCENARIOS],
        metavar="scenario",
        help=f"which to run: {', '.join(SCENARIOS)}; without any, all",
    )
    parser.add_argument("--seed", type=int, help="repeat the simulation of this seed, with a trace")
    asked = parser.parse_args(arguments)
    if asked.seed is not None:
        return _repeat(asked.seed)
    with quiet():
        results = [SCENARIOS[name]() for name in asked.scenario or SCENARIOS]
    for result in results:
        for violation in result.violations[:SHOWN]:
            print(f"{result.scenario}: {violation}", file=sys.stderr)
            if violation.seed is not None and result.scenario == "simulation":
                print(f"    python -m tests.torture --seed {violation.seed}", file=sys.stderr)
    print(table(results))
    return 1 if any(result.violations for result in results) else 0


def _repeat(seed: int) -> int:
    run = simulate(seed, trace=True)
    print("\n".join(run.trace))
    print(f"seed {seed}: {len(run.violations)} violations")
    return 1 if run.violations else 0


if __name__ == "__main__":
    sys.exit(main())
