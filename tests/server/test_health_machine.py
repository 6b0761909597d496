"""The circuit under all that tries can come to, in any order: whom it lets through, and how long nobody."""

from copy import deepcopy
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flatfee.server.health import COOL_DOWN, LONGEST_COOL_DOWN, PROBE_LEASE, CircuitState, Health

TRIES = st.integers(min_value=0, max_value=1 << 30)


@dataclass(eq=False)
class Try:
    """A try that runs: when it began, in which opening of the circuit, and whether its answer has begun."""

    began: float
    opening: int
    probe: bool
    answering: bool = False


class CircuitMachine(RuleBasedStateMachine):
    """One route, and tries that begin, answer and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.health = Health()
        self.now = 0.0
        self.tries: list[Try] = []
        self.opening = 0
        self.probe: Try | None = None
        self.freed = 0
        self.last_failure = -1000.0

    def state(self) -> CircuitState:
        return self.health.report("a", self.now).circuit

    def end(self, number: int) -> Try:
        return self.tries.pop(number % len(self.tries))

    @rule(seconds=st.sampled_from([0.25, 1.0, COOL_DOWN, 2 * COOL_DOWN, LONGEST_COOL_DOWN]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begin(self) -> None:
        before = self.state()
        if self.health.admits("a", self.now):
            assert before is not CircuitState.OPEN
            probe = self.health.report("a", self.now).probing
            self.tries.append(Try(self.now, self.opening, probe))
            self.probe = self.tries[-1] if probe else self.probe

    @precondition(lambda self: self.tries)
    @rule(number=TRIES)
    def answer(self, number: int) -> None:
        one = self.tries[number % len(self.tries)]
        one.answering = True
        before = self.state()
        self.health.answering("a")
        assert self.state() is before
        if one.opening == self.opening and before is CircuitState.HALF_OPEN:
            assert deepcopy(self.health).admits("a", self.now)

    @precondition(lambda self: self.tries)
    @rule(number=TRIES)
    def succeed(self, number: int) -> None:
        before, one = self.state(), self.end(number)
        self.health.succeeded("a")
        if before is CircuitState.OPEN:
            assert self.state() is CircuitState.OPEN
        elif one.opening == self.opening and not self.freed:
            assert self.state() is CircuitState.CLOSED

    @precondition(lambda self: self.tries)
    @rule(number=TRIES, leave_for=st.sampled_from([None, None, None, 0.0, 7.0, 45.0, 1e9]))
    def fail(self, number: int, leave_for: float | None) -> None:
        before, left, one = self.state(), self.health.opens_in("a", self.now), self.end(number)
        self.health.failed("a", self.now, leave_for=leave_for)
        self.last_failure = self.now
        asked = min(leave_for or 0.0, LONGEST_COOL_DOWN)
        assert self.health.opens_in("a", self.now) >= max(left, asked)
        if before is CircuitState.HALF_OPEN and one.opening == self.opening and not self.freed:
            assert self.health.opens_in("a", self.now) >= 2 * COOL_DOWN
        if before is not CircuitState.OPEN and self.state() is CircuitState.OPEN:
            self.opening, self.freed = self.opening + 1, 0

    @precondition(lambda self: self.tries)
    @rule(number=TRIES)
    def leave(self, number: int) -> None:
        before, one = self.state(), self.end(number)
        self.health.let_go("a")
        assert self.state() is before
        self.freed += one is not self.probe

    @invariant()
    def no_two_probes_run_at_once(self) -> None:
        """A try from before the opening that is let go may free a probe that is not its own: nobody tells whose."""
        young = [one for one in self.tries if one.opening == self.opening and one.probe and not one.answering]
        probes = [one for one in young if self.now < one.began + PROBE_LEASE]
        if self.state() is CircuitState.HALF_OPEN:
            assert len(probes) <= 1 + self.freed

    @invariant()
    def without_a_failure_it_is_not_open_for_longer_than_the_longest_cool_down(self) -> None:
        assert self.health.opens_in("a", self.now) <= max(0.0, self.last_failure + LONGEST_COOL_DOWN - self.now)

    @invariant()
    def it_lets_somebody_through_again_whatever_became_of_the_tries(self) -> None:
        assert deepcopy(self.health).admits("a", self.now + LONGEST_COOL_DOWN + PROBE_LEASE)

    @invariant()
    def the_queries_agree(self) -> None:
        is_open = self.state() is CircuitState.OPEN
        assert (self.health.opens_in("a", self.now) > 0) is is_open
        assert ("a" in self.health.down(self.now)) is is_open


TestCircuit = CircuitMachine.TestCase
TestCircuit.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
