"""The circuit of a route: when it opens, what it lets through, how it closes."""

import math

import pytest

from flatfee.server.health import (
    COOL_DOWN,
    FAILURES_TO_OPEN,
    LONGEST_COOL_DOWN,
    PROBE_LEASE,
    CircuitState,
    Health,
)


def opened(now: float = 0.0) -> Health:
    health = Health()
    for _ in range(FAILURES_TO_OPEN):
        health.failed("a", now, 0)
    return health


def probed(now: float = COOL_DOWN) -> tuple[Health, int]:
    """Return a circuit that is half open, and the opening of the probe that runs."""
    health = opened()
    opening = health.admits("a", now)
    assert opening
    return health, opening


def test_a_route_that_was_never_tried_is_admitted() -> None:
    health = Health()
    assert health.admits("a", 0.0) == 0
    assert health.down(0.0) == frozenset()
    assert health.opens_in("a", 0.0) == 0.0


def test_a_circuit_opens_after_failures_in_a_row() -> None:
    health = Health()
    for _ in range(FAILURES_TO_OPEN - 1):
        health.failed("a", 0.0, 0)
        assert health.admits("a", 0.0) == 0
    health.failed("a", 0.0, 0)
    assert health.admits("a", 0.0) is None
    assert health.down(0.0) == {"a"}


def test_a_route_is_shut_while_its_circuit_is_open_or_its_probe_runs() -> None:
    assert opened().shut(COOL_DOWN - 0.001) == {"a"}
    assert opened().shut(COOL_DOWN) == frozenset()
    half_open, opening = probed()
    assert half_open.shut(COOL_DOWN) == {"a"}
    half_open.answering("a", opening)
    assert half_open.shut(COOL_DOWN) == frozenset()


def test_a_route_has_a_last_chance_where_its_next_failure_opens_the_circuit() -> None:
    health = Health()
    for _ in range(FAILURES_TO_OPEN - 1):
        assert health.last_chance() == frozenset()
        health.failed("a", 0.0, 0)
    assert health.last_chance() == {"a"}
    half_open, _ = probed()
    assert half_open.last_chance() == {"a"}


def test_a_success_between_failures_starts_the_count_again() -> None:
    health = Health()
    for _ in range(5):
        health.failed("a", 0.0, 0)
        health.failed("a", 0.0, 0)
        health.succeeded("a", 0)
    assert health.admits("a", 0.0) == 0


def test_routes_have_circuits_of_their_own() -> None:
    health = opened()
    assert health.admits("b", 0.0) == 0
    assert health.down(0.0) == {"a"}


def test_after_its_cool_down_one_probe_passes() -> None:
    health = opened()
    assert health.admits("a", COOL_DOWN - 0.001) is None
    assert health.down(COOL_DOWN) == frozenset()
    assert health.admits("a", COOL_DOWN)
    assert health.admits("a", COOL_DOWN) is None


def test_each_opening_has_a_number_of_its_own() -> None:
    health = opened()
    health.failed("b", 0.0, 0, leave_for=COOL_DOWN)
    numbers, now = [health.admits("b", COOL_DOWN)], 0.0
    for _ in range(3):
        now += LONGEST_COOL_DOWN
        number = health.admits("a", now)
        assert number
        numbers.append(number)
        health.failed("a", now, number)
    assert None not in numbers
    assert len({0, *numbers}) == 5


def test_a_probe_that_succeeds_closes_the_circuit() -> None:
    health, probe = probed()
    health.succeeded("a", probe)
    assert health.admits("a", COOL_DOWN) == 0
    assert health.admits("a", COOL_DOWN) == 0
    assert health.opens_in("a", COOL_DOWN) == 0.0


def test_a_probe_that_fails_opens_the_circuit_for_twice_as_long_up_to_a_limit() -> None:
    health, now, cool_down = opened(), 0.0, COOL_DOWN
    for _ in range(6):
        now += cool_down
        probe = health.admits("a", now)
        assert probe
        health.failed("a", now, probe)
        cool_down = min(cool_down * 2, LONGEST_COOL_DOWN)
        assert health.admits("a", now + cool_down - 0.001) is None
    assert cool_down == LONGEST_COOL_DOWN


def test_a_circuit_that_closed_cools_down_from_the_beginning() -> None:
    health, probe = probed()
    health.failed("a", COOL_DOWN, probe)
    probe = health.admits("a", 50.0) or 0
    health.succeeded("a", probe)
    for _ in range(FAILURES_TO_OPEN):
        health.failed("a", 100.0, 0)
    assert health.admits("a", 100.0 + COOL_DOWN)


def test_failures_that_were_under_way_when_the_circuit_opened_do_not_prolong_it() -> None:
    health = opened()
    for _ in range(50):
        health.failed("a", 1.0, 0)
    assert health.opens_in("a", 1.0) == COOL_DOWN - 1.0
    assert health.admits("a", COOL_DOWN)


def test_a_probe_that_was_let_go_is_free_for_the_next_request() -> None:
    health, probe = probed()
    health.let_go("unknown", 0)
    health.let_go("a", probe)
    assert health.admits("a", COOL_DOWN) == probe


def test_a_try_from_before_that_is_let_go_does_not_free_the_probe() -> None:
    health, probe = probed()
    health.let_go("a", 0)
    assert health.admits("a", COOL_DOWN) is None
    health.failed("a", COOL_DOWN, probe)
    assert health.opens_in("a", COOL_DOWN) == 2 * COOL_DOWN


def test_a_probe_that_never_came_back_is_given_up() -> None:
    health, probe = probed()
    assert health.admits("a", COOL_DOWN + PROBE_LEASE - 0.001) is None
    assert health.admits("a", COOL_DOWN + PROBE_LEASE) == probe


def test_beside_a_probe_that_was_given_up_none_but_the_second_one_passes() -> None:
    health, first = probed()
    now = COOL_DOWN + PROBE_LEASE
    second = health.admits("a", now)
    assert second
    health.let_go("a", first)
    assert health.admits("a", now) is None
    health.let_go("a", second)
    assert health.admits("a", now)


def test_a_probe_that_was_given_up_and_answers_after_all_closes_the_circuit() -> None:
    health, slow = probed()
    assert health.admits("a", COOL_DOWN + PROBE_LEASE)
    health.succeeded("a", slow)
    assert health.report("a", COOL_DOWN + PROBE_LEASE).circuit is CircuitState.CLOSED


def test_the_wait_is_that_for_the_routes_own_circuit() -> None:
    health = opened()
    for _ in range(FAILURES_TO_OPEN):
        health.failed("b", 4.0, 0)
    health.failed("c", 0.0, 0)
    assert health.opens_in("a", 3.0) == COOL_DOWN - 3.0
    assert health.opens_in("b", 5.0) == COOL_DOWN - 1.0
    assert health.opens_in("c", 3.0) == 0.0
    assert health.opens_in("a", 1000.0) == 0.0


def test_a_provider_that_asks_to_be_left_alone_is_left_at_once_for_that_long() -> None:
    health = Health()
    health.failed("a", 0.0, 0, leave_for=17.0)
    assert health.opens_in("a", 0.0) == 17.0
    assert health.admits("a", 16.999) is None
    assert health.admits("a", 17.0)


@pytest.mark.parametrize("asked", [LONGEST_COOL_DOWN + 1, 86_400.0, math.inf])
def test_no_provider_is_left_alone_for_longer_than_the_longest_cool_down(asked: float) -> None:
    health = Health()
    health.failed("a", 0.0, 0, leave_for=asked)
    assert health.opens_in("a", 0.0) == LONGEST_COOL_DOWN


@pytest.mark.parametrize("asked", [0.0, 6.0, -3.0, math.nan])
def test_a_short_wish_does_not_shorten_the_cool_down(asked: float) -> None:
    health = Health()
    for _ in range(FAILURES_TO_OPEN - 1):
        health.failed("a", 0.0, 0)
    health.failed("a", 0.0, 0, leave_for=asked)
    assert health.opens_in("a", 0.0) == COOL_DOWN


def test_a_wish_that_comes_late_prolongs_an_open_circuit_and_counts_for_no_failure() -> None:
    health = opened()
    health.failed("a", 5.0, 0, leave_for=30.0)
    assert health.opens_in("a", 5.0) == 30.0
    health.failed("a", 6.0, 0, leave_for=7.0)
    assert health.opens_in("a", 6.0) == 29.0
    assert health.report("a", 6.0).failures_in_a_row == FAILURES_TO_OPEN


def test_a_wish_that_comes_late_is_kept_when_the_probe_fails() -> None:
    health, probe = probed()
    health.failed("a", COOL_DOWN, 0, leave_for=45.0)
    health.failed("a", COOL_DOWN, probe)
    assert health.opens_in("a", COOL_DOWN) == 45.0


def test_a_wish_that_comes_late_is_kept_on_probation() -> None:
    health, probe = probed()
    health.answering("a", probe)
    health.failed("a", COOL_DOWN, 0, leave_for=45.0)
    assert health.admits("a", COOL_DOWN) is None
    assert health.admits("a", COOL_DOWN + 45.0) == probe


def test_the_first_token_of_a_probe_lets_everybody_through() -> None:
    health, probe = probed()
    health.answering("a", probe)
    assert health.admits("a", COOL_DOWN) == probe
    assert health.admits("a", COOL_DOWN) == probe


def test_a_probe_that_breaks_off_after_its_first_token_opens_the_circuit_for_twice_as_long() -> None:
    health, probe = probed()
    health.answering("a", probe)
    health.failed("a", COOL_DOWN, probe)
    assert health.opens_in("a", COOL_DOWN) == 2 * COOL_DOWN
    assert health.admits("a", COOL_DOWN) is None
    assert health.admits("a", 3 * COOL_DOWN)
    assert health.admits("a", 3 * COOL_DOWN) is None, "nobody is on probation any more"


def test_on_probation_the_first_try_that_ends_well_closes_the_circuit() -> None:
    health, probe = probed()
    health.answering("a", probe)
    other = health.admits("a", COOL_DOWN)
    assert other
    health.succeeded("a", other)
    health.failed("a", COOL_DOWN, probe)
    assert health.report("a", COOL_DOWN).circuit is CircuitState.CLOSED


def test_a_probe_that_is_left_after_its_first_token_leaves_the_others_on_probation() -> None:
    health, probe = probed()
    health.answering("a", probe)
    health.let_go("a", probe)
    assert health.admits("a", COOL_DOWN) == probe
    assert health.admits("a", COOL_DOWN) == probe
    health.failed("a", COOL_DOWN, probe)
    assert health.opens_in("a", COOL_DOWN) == 2 * COOL_DOWN


def test_of_many_streams_that_break_off_together_on_probation_only_one_counts() -> None:
    health, probe = probed()
    health.answering("a", probe)
    for _ in range(20):
        assert health.admits("a", COOL_DOWN) == probe
        health.answering("a", probe)
    for _ in range(21):
        health.failed("a", COOL_DOWN + 1, probe)
    assert health.opens_in("a", COOL_DOWN + 1) == 2 * COOL_DOWN


def test_a_first_token_changes_nothing_for_a_closed_circuit() -> None:
    health = Health()
    health.answering("a", 0)
    for _ in range(FAILURES_TO_OPEN):
        assert health.admits("a", 0.0) == 0
        health.answering("a", 0)
        health.failed("a", 0.0, 0)
    assert health.down(0.0) == {"a"}
    assert health.admits("a", COOL_DOWN)
    assert health.admits("a", COOL_DOWN) is None


@pytest.mark.parametrize("probing", [False, True])
@pytest.mark.parametrize("now", [1.0, COOL_DOWN, 5 * COOL_DOWN])
def test_a_late_failure_of_a_try_from_before_the_circuit_opened_neither_prolongs_nor_doubles(
    now: float, probing: bool
) -> None:
    health = opened()
    probe = health.admits("a", now) if probing else None
    health.failed("a", now, 0)
    assert health.opens_in("a", now) == max(0.0, COOL_DOWN - now)
    assert bool(health.admits("a", max(now, COOL_DOWN))) is (probe is None)


@pytest.mark.parametrize("probing", [False, True])
@pytest.mark.parametrize("now", [1.0, COOL_DOWN])
def test_streams_from_before_the_circuit_opened_do_not_close_it(now: float, probing: bool) -> None:
    health = Health()
    health.failed("a", 0.0, 0, leave_for=COOL_DOWN)
    probe = health.admits("a", now) if probing else None
    before = health.report("a", now)
    health.answering("a", 0)
    health.succeeded("a", 0)
    assert health.report("a", now) == before
    assert bool(health.admits("a", COOL_DOWN)) is (probe is None)


def test_a_try_of_an_earlier_opening_counts_for_nothing_in_a_later_one() -> None:
    health, first = probed()
    health.failed("a", COOL_DOWN, first)
    now = 3 * COOL_DOWN
    assert health.admits("a", now)
    health.let_go("a", first)
    health.answering("a", first)
    health.succeeded("a", first)
    health.failed("a", now, first)
    assert health.admits("a", now) is None
    assert health.report("a", now).circuit is CircuitState.HALF_OPEN


def test_a_try_of_an_earlier_opening_counts_like_any_other_once_the_circuit_is_closed() -> None:
    health, probe = probed()
    health.succeeded("a", probe)
    health.failed("a", COOL_DOWN, probe)
    assert health.report("a", COOL_DOWN).failures_in_a_row == 1
    health.succeeded("a", probe)
    assert health.report("a", COOL_DOWN).failures_in_a_row == 0
