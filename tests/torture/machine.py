"""Both stores against a plain model, step by step: the state machine of the suite, with more and longer histories."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.server.store.test_machine import Ledgers
from tests.torture.results import Progress, Result, Violation

STEPS = 50


def machine(runs: int) -> Result:
    """Let the machine go through ``runs`` histories; a violation is the shortest history that shows it."""
    progress, done = Progress("state machine", runs), 0

    class Counted(Ledgers):
        """The machine, counting its histories."""

        def teardown(self) -> None:
            nonlocal done
            super().teardown()
            done = min(done + 1, runs)
            progress.at(done, 0)

    limits: Any = settings(
        max_examples=runs,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Counted, settings=limits)
    except AssertionError as error:
        return Result(scenario="state machine", runs=done, violations=(Violation(text=f"{error}"),))
    return Result(scenario="state machine", runs=done)
