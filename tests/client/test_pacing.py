"""The line's rules, one by one. Whole swarms are in ``test_swarm``."""

from __future__ import annotations

from typing import Any

from flatfee.client.pacing import KEPT_WORKFLOWS, Limit, Line, Ticket


class Calls:
    """A line at a time that the test sets, without chance; ``woken`` tells whom it woke, by number."""

    def __init__(self) -> None:
        self.line = Line(lambda: 0.0)
        self.now = 100.0
        self.woken: list[int] = []

    def arrive(self, workflow: str | None = None) -> Ticket:
        def wake() -> bool:
            self.woken.append(ticket.number)
            return True

        ticket = self.line.ticket(workflow, wake)
        self.line.enter(ticket, self.now)
        return ticket

    def refuse(self, ticket: Ticket, wait: float = 30.0, told: int | None = None, limit: Limit = Limit.SLOTS) -> None:
        self.line.refused(ticket, limit, wait, told, self.now)

    def admit(self, ticket: Ticket, active: int | None = None, told: int | None = None) -> None:
        self.line.admitted(ticket, active, told, self.now)

    def end(self, *tickets: Ticket) -> None:
        for ticket in tickets:
            self.line.left(ticket, self.now)

    def looks(self, ticket: Ticket) -> Any:
        return self.line.look(ticket, self.now)


def test_nobody_waits_before_the_first_refusal() -> None:
    calls = Calls()
    assert all(calls.arrive().inside for _ in range(100))


def test_a_refused_call_stands_in_front_of_who_came_later() -> None:
    calls = Calls()
    first, second = calls.arrive(), calls.arrive()
    calls.refuse(second)
    third = calls.arrive()
    assert [third.inside, second.inside] == [False, False]
    calls.end(first)
    assert (second.inside, third.inside, calls.woken[-2:]) == (True, False, [second.number, third.number])


def test_an_answer_tells_how_much_room_there_is() -> None:
    calls = Calls()
    first, second = calls.arrive(), calls.arrive()
    calls.refuse(second, told=4)
    waiting = [second, *(calls.arrive() for _ in range(4))]
    calls.admit(first, active=2, told=4)
    assert [ticket.inside for ticket in waiting] == [True, True, False, False, False]


def test_what_others_hold_is_asked_for_later_and_later() -> None:
    calls = Calls()
    ticket, waits = calls.arrive(), []
    for _ in range(5):
        calls.refuse(ticket)
        waits.append(calls.looks(ticket))
        calls.now += waits[-1]
        assert calls.looks(ticket) is None
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0]


def test_the_gateways_time_counts_while_all_slots_are_ours() -> None:
    calls = Calls()
    calls.arrive()
    second = calls.arrive()
    calls.refuse(second, wait=30.0, told=1)
    assert calls.looks(second) == 30.0


def test_a_refusal_that_crossed_an_end_is_asked_about_again_soon() -> None:
    calls = Calls()
    first, second = calls.arrive(), calls.arrive()
    calls.end(first)
    calls.refuse(second, told=2)
    assert second.inside, "by what was known, one slot is free now"
    calls.refuse(second, told=2)
    assert calls.looks(second) == 0.5


def test_a_workflow_that_has_its_slot_passes_those_who_wait_for_one() -> None:
    calls = Calls()
    step = calls.arrive("run-1")
    calls.admit(step)
    calls.refuse(calls.arrive(), told=1)
    assert calls.arrive("run-1").inside
    assert not calls.arrive("run-2").inside
    calls.end(step)
    assert calls.line.slots_held == 1
    calls.line.released("run-2", calls.now)
    assert calls.line.slots_held == 1


def test_a_released_workflow_lets_the_next_one_go() -> None:
    calls = Calls()
    calls.end(step := calls.arrive("run-1"))
    calls.admit(step := calls.arrive("run-1"))
    calls.end(step)
    calls.refuse(waiting := calls.arrive("run-2"), told=1)
    calls.line.released("run-1", calls.now)
    assert waiting.inside


def test_too_many_calls_within_a_workflow_wait_for_one_of_its_own() -> None:
    calls = Calls()
    first, second = calls.arrive("run-1"), calls.arrive("run-1")
    calls.admit(first)
    calls.refuse(second)
    assert not second.inside
    assert calls.arrive().inside, "the limit of one workflow is nobody else's"
    calls.end(first)
    assert second.inside


def test_a_rate_opens_wider_until_it_is_refused_again() -> None:
    calls = Calls()
    calls.refuse(calls.arrive(), wait=1.0, limit=Limit.RATE)
    rest = [calls.line.waiting[0], *(calls.arrive() for _ in range(29))]
    let_go: list[int] = []
    for _ in range(4):
        calls.now += 1.0
        calls.looks(calls.line.waiting[0])
        let_go.append(sum(ticket.inside for ticket in rest) - sum(let_go))
    assert let_go == [1, 2, 4, 8]
    for ticket in rest[10:15]:
        calls.refuse(ticket, wait=1.0, limit=Limit.RATE)
    calls.now += 1.0
    calls.looks(calls.line.waiting[0])
    assert [ticket.inside for ticket in rest[10:20]] == [True] * 4 + [False] * 6, "five refusals of one time are one"


def test_a_rate_limit_holds_back_workflows_too() -> None:
    calls = Calls()
    calls.admit(calls.arrive("run-1"))
    calls.refuse(calls.arrive(), wait=1.0, limit=Limit.RATE)
    assert not calls.arrive("run-1").inside


def test_a_rate_limit_is_forgotten_when_nobody_waits_for_it() -> None:
    calls = Calls()
    calls.refuse(ticket := calls.arrive(), wait=1.0, limit=Limit.RATE)
    calls.end(ticket)
    assert not calls.arrive().inside
    calls.end(calls.line.waiting[0])
    calls.now += 1.0
    assert all(calls.arrive().inside for _ in range(10))


def test_who_leaves_the_front_has_the_next_one_look() -> None:
    calls = Calls()
    calls.refuse(first := calls.arrive())
    second = calls.arrive()
    assert calls.looks(second) == float("inf")
    calls.end(first)
    assert calls.woken[-1] == second.number
    assert calls.looks(second) == 1.0


def test_only_so_many_idle_workflows_are_remembered() -> None:
    calls = Calls()
    for number in range(KEPT_WORKFLOWS + 50):
        calls.admit(ticket := calls.arrive(f"run-{number}"))
        calls.end(ticket)
    assert calls.line.slots_held == KEPT_WORKFLOWS
