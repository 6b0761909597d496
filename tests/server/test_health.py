"""The circuit of a route: when it opens, what it lets through, how it closes."""

from flatfee.server.health import COOL_DOWN, FAILURES_TO_OPEN, LONGEST_COOL_DOWN, PROBE_LEASE, Circuits


def opened(now: float = 0.0) -> Circuits:
    circuits = Circuits()
    for _ in range(FAILURES_TO_OPEN):
        circuits.failed("a", now)
    return circuits


def test_a_route_that_was_never_tried_is_admitted() -> None:
    circuits = Circuits()
    assert circuits.admits("a", 0.0)
    assert circuits.down(0.0) == frozenset()
    assert circuits.opens_in("a", 0.0) == 0.0


def test_a_circuit_opens_after_failures_in_a_row() -> None:
    circuits = Circuits()
    for _ in range(FAILURES_TO_OPEN - 1):
        circuits.failed("a", 0.0)
        assert circuits.admits("a", 0.0)
    circuits.failed("a", 0.0)
    assert not circuits.admits("a", 0.0)
    assert circuits.down(0.0) == {"a"}


def test_a_success_between_failures_starts_the_count_again() -> None:
    circuits = Circuits()
    for _ in range(5):
        circuits.failed("a", 0.0)
        circuits.failed("a", 0.0)
        circuits.succeeded("a")
    assert circuits.admits("a", 0.0)


def test_routes_have_circuits_of_their_own() -> None:
    circuits = opened()
    assert circuits.admits("b", 0.0)
    assert circuits.down(0.0) == {"a"}


def test_after_its_cool_down_one_probe_passes() -> None:
    circuits = opened()
    assert not circuits.admits("a", COOL_DOWN - 0.001)
    assert circuits.down(COOL_DOWN) == frozenset()
    assert circuits.admits("a", COOL_DOWN)
    assert not circuits.admits("a", COOL_DOWN)


def test_a_probe_that_succeeds_closes_the_circuit() -> None:
    circuits = opened()
    assert circuits.admits("a", COOL_DOWN)
    circuits.succeeded("a")
    assert circuits.admits("a", COOL_DOWN)
    assert circuits.admits("a", COOL_DOWN)
    assert circuits.opens_in("a", COOL_DOWN) == 0.0


def test_a_probe_that_fails_opens_the_circuit_for_twice_as_long_up_to_a_limit() -> None:
    circuits, now, cool_down = opened(), 0.0, COOL_DOWN
    for _ in range(6):
        now += cool_down
        assert circuits.admits("a", now)
        circuits.failed("a", now)
        cool_down = min(cool_down * 2, LONGEST_COOL_DOWN)
        assert not circuits.admits("a", now + cool_down - 0.001)
    assert cool_down == LONGEST_COOL_DOWN


def test_a_circuit_that_closed_cools_down_from_the_beginning() -> None:
    circuits = opened()
    circuits.admits("a", COOL_DOWN)
    circuits.failed("a", COOL_DOWN)
    circuits.succeeded("a")
    for _ in range(FAILURES_TO_OPEN):
        circuits.failed("a", 100.0)
    assert circuits.admits("a", 100.0 + COOL_DOWN)


def test_failures_that_were_under_way_when_the_circuit_opened_do_not_prolong_it() -> None:
    circuits = opened()
    for _ in range(50):
        circuits.failed("a", 1.0)
    assert circuits.opens_in("a", 1.0) == COOL_DOWN - 1.0
    assert circuits.admits("a", COOL_DOWN)


def test_a_probe_that_was_let_go_is_free_for_the_next_request() -> None:
    circuits = opened()
    circuits.let_go("unknown")
    assert circuits.admits("a", COOL_DOWN)
    circuits.let_go("a")
    assert circuits.admits("a", COOL_DOWN)


def test_a_probe_that_never_came_back_is_given_up() -> None:
    circuits = opened()
    assert circuits.admits("a", COOL_DOWN)
    assert not circuits.admits("a", COOL_DOWN + PROBE_LEASE - 0.001)
    assert circuits.admits("a", COOL_DOWN + PROBE_LEASE)


def test_the_wait_is_that_for_the_routes_own_circuit() -> None:
    circuits = opened()
    for _ in range(FAILURES_TO_OPEN):
        circuits.failed("b", 4.0)
    circuits.failed("c", 0.0)
    assert circuits.opens_in("a", 3.0) == COOL_DOWN - 3.0
    assert circuits.opens_in("b", 5.0) == COOL_DOWN - 1.0
    assert circuits.opens_in("c", 3.0) == 0.0
    assert circuits.opens_in("a", 1000.0) == 0.0
