"""The circuit under all that tries can come to, in any order: whom it lets through, and how long nobody."""

from copy import deepcopy
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flatfee.server.health import (
    COOL_DOWN,
    FAILURES_TO_OPEN,
    LONGEST_COOL_DOWN,
    PROBE_LEASE,
    CircuitState,
    Health,
    RouteHealth,
)

TRIES = st.integers(min_value=0, max_value=1 << 30)


@dataclass(eq=False)
class Try:
    """A try that runs: when it began, in which opening of the circuit, and whether it is its probe."""

    began: float
    opening: int
    probe: bool


class CircuitMachine(RuleBasedStateMachine):
    """One route, and tries that begin, answer and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.health = Health()
        self.now = 0.0
        self.tries: list[Try] = []
        self.openings = 0
        self.last_failure = -1000.0

    def report(self) -> RouteHealth:
        return self.health.report("a", self.now)

    def state(self) -> CircuitState:
        return self.report().circuit

    def passes(self) -> bool:
        return deepcopy(self.health).admits("a", self.now) is not None

    def counts(self, one: Try) -> bool:
        """Tell whether what becomes of a try counts: a closed circuit minds all, another only those of its opening."""
        return self.state() is CircuitState.CLOSED or one.opening == self.openings

    def end(self, number: int) -> Try:
        return self.tries.pop(number % len(self.tries))

    @initialize(others=st.integers(min_value=0, max_value=2))
    def some_fail_while_others_run(self, others: int) -> None:
        for _ in range(FAILURES_TO_OPEN + others):
            self.begin()
        for _ in range(FAILURES_TO_OPEN):
            self.fail(0, None)

    @rule()
    def begin_as_soon_as_it_may(self) -> None:
        self.now += self.health.opens_in("a", self.now)
        self.begin()

    @rule(seconds=st.sampled_from([0.25, 1.0, COOL_DOWN, 2 * COOL_DOWN, LONGEST_COOL_DOWN]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begin(self) -> None:
        before, opening = self.state(), self.health.admits("a", self.now)
        if opening is not None:
            assert before is not CircuitState.OPEN
            assert opening == (self.openings if before is CircuitState.HALF_OPEN else 0)
            self.tries.append(Try(self.now, opening, self.report().probing))

    @precondition(lambda self: self.tries)
    @rule(number=TRIES)
    def answer(self, number: int) -> None:
        one = self.tries[number % len(self.tries)]
        one.probe = False
        before, passes = self.report(), self.passes()
        self.health.answering("a", one.opening)
        if self.counts(one):
            assert self.state() is before.circuit
            assert self.passes() is (self.state() is not CircuitState.OPEN)
        else:
            assert (self.report(), self.passes()) == (before, passes)

    @precondition(lambda self: self.tries)
    @rule(number=TRIES)
    def succeed(self, number: int) -> None:
        one = self.end(number)
        before, passes, counts = self.report(), self.passes(), self.counts(one)
        self.health.succeeded("a", one.opening)
        if counts:
            assert self.state() is CircuitState.CLOSED
        else:
            assert (self.report(), self.passes()) == (before, passes)

    @precondition(lambda self: self.tries)
    @rule(number=TRIES, leave_for=st.sampled_from([None, None, None, 0.0, 7.0, 45.0, 1e9]))
    def fail(self, number: int, leave_for: float | None) -> None:
        one = self.end(number)
        before, counts = self.report(), self.counts(one)
        self.health.failed("a", self.now, one.opening, leave_for=leave_for)
        self.last_failure = self.now
        asked = min(leave_for or 0.0, LONGEST_COOL_DOWN)
        after = self.report()
        if counts:
            doubled = 0.0 if before.circuit is CircuitState.CLOSED else 2 * COOL_DOWN
            assert after.opens_in >= max(before.opens_in, asked, doubled)
            assert after.failures_in_a_row == before.failures_in_a_row + 1
            self.openings += after.circuit is CircuitState.OPEN
        else:
            assert after.opens_in == max(before.opens_in, asked)
            assert replace(after, opens_in=0.0, circuit=before.circuit) == replace(before, opens_in=0.0)

    @precondition(lambda self: self.tries)
    @rule(number=TRIES)
    def leave(self, number: int) -> None:
        one = self.end(number)
        before, passes, counts = self.report(), self.passes(), self.counts(one)
        self.health.let_go("a", one.opening)
        assert self.state() is before.circuit
        if not counts:
            assert (self.report(), self.passes()) == (before, passes)
        elif self.state() is CircuitState.HALF_OPEN and all(other.opening != self.openings for other in self.tries):
            assert self.passes(), "no other try of this opening runs"

    @invariant()
    def never_do_two_probes_run_at_once(self) -> None:
        ours = [one for one in self.tries if one.opening == self.openings and one.probe]
        assert len([one for one in ours if self.now < one.began + PROBE_LEASE]) <= 1

    @invariant()
    def without_a_failure_it_is_not_open_for_longer_than_the_longest_cool_down(self) -> None:
        assert self.health.opens_in("a", self.now) <= max(0.0, self.last_failure + LONGEST_COOL_DOWN - self.now)

    @invariant()
    def it_lets_somebody_through_again_whatever_became_of_the_tries(self) -> None:
        assert deepcopy(self.health).admits("a", self.now + LONGEST_COOL_DOWN + PROBE_LEASE) is not None

    @invariant()
    def the_queries_agree(self) -> None:
        is_open = self.state() is CircuitState.OPEN
        assert (self.health.opens_in("a", self.now) > 0) is is_open
        assert ("a" in self.health.down(self.now)) is is_open


TestCircuit = CircuitMachine.TestCase
TestCircuit.settings = settings(max_examples=30, stateful_step_count=40)
