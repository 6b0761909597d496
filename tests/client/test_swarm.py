"""Swarms of calls in one line before a gateway with limits, in virtual time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.fakes_swarm import Gateway, Task, World

from flatfee.client.pacing import LONGEST_PROBE, Line

seeds = st.integers(0, 2**32)


def swarm(
    seed: int,
    calls: int,
    *,
    lines: int = 1,
    service: float = 1.0,
    streamed: bool = False,
    spread: float = 0.01,
    leaving: float = 0.0,
    **limits: object,
) -> tuple[list[Task], Gateway]:
    """Run ``calls`` that arrive within ``spread`` seconds; ``leaving`` of them give up at some time, if they wait."""
    chance, world = random.Random(seed), World()
    gateway = Gateway(world, **limits)  # type: ignore[arg-type]  # the fake's own fields
    own = [Line(chance.random) for _ in range(lines)]
    tasks = []
    for index in range(calls):
        task = Task(own[index % lines], gateway, chance, chance.uniform(0.5, 1.5) * service, streamed)
        world.after(chance.uniform(0, spread), task.arrive)
        if chance.random() < leaving:
            world.after(spread + chance.uniform(0, 3 * service), task.leave)
        tasks.append(task)
    world.run()
    assert all(line.waiting == [] and line.slots_held == 0 for line in own)
    return tasks, gateway


def longest(tasks: list[Task]) -> float:
    return max(task.done_at for task in tasks if task.done_at is not None)


def burst(tasks: list[Task]) -> int:
    """Return how many calls had left before the first refusal was heard: nobody could have held them back."""
    heard = min((task.refused_at for task in tasks if task.refused_at is not None), default=float("inf"))
    return sum(task.first_sent_at is not None and task.first_sent_at <= heard for task in tasks)


def overtaken(task: Task, tasks: list[Task]) -> int:
    assert task.let_go_at is not None
    return sum(
        other.number > task.number and other.let_go_at is not None and other.let_go_at < task.let_go_at
        for other in tasks
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    calls=st.integers(1, 120),
    lines=st.integers(1, 3),
    slots=st.integers(1, 8),
    service=st.sampled_from([0.05, 1.0, 10.0]),
    streamed=st.booleans(),
    tells=st.booleans(),
    rate=st.sampled_from([None, 2.0, 20.0]),
    leaving=st.sampled_from([0.0, 0.3]),
    retry_after=st.sampled_from([1.0, 30.0]),
)
def test_nobody_waits_for_ever(**world: object) -> None:
    """Whatever the limits, the mix and who gives up: every call is served, or has left by itself."""
    tasks, gateway = swarm(burst=5, **world)  # type: ignore[arg-type]  # hypothesis knows no keyword's type
    assert all(task.done_at is not None for task in tasks)
    assert gateway.active == {}


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    calls=st.integers(1, 150),
    slots=st.integers(1, 8),
    service=st.sampled_from([0.2, 1.0, 10.0]),
    streamed=st.booleans(),
)
def test_a_swarm_is_refused_once_then_follows_the_limit(
    seed: int, calls: int, slots: int, service: float, streamed: bool
) -> None:
    """The bound: who had left before the first refusal came, less the slots; and then a probe now and then."""
    tasks, gateway = swarm(seed, calls, slots=slots, service=service, streamed=streamed)
    probes = 2 + longest(tasks) / LONGEST_PROBE
    assert gateway.refusals <= max(0, burst(tasks) - slots) + probes
    work = sum(task.service for task in tasks)
    assert longest(tasks) <= 1.1 * work / slots + 3 * service + 0.5
    later = [task for task in tasks if task.let_go_at is not None and task.let_go_at > 0.1]  # the burst is answered
    assert all(overtaken(task, later) <= slots for task in later)


@settings(max_examples=12, deadline=None)
@given(seed=seeds, lines=st.integers(2, 4), tells=st.booleans(), streamed=st.booleans())
def test_several_clients_share_what_there_is(seed: int, lines: int, tells: bool, streamed: bool) -> None:
    """Each learns of the others by asking now and then, and slots that others give back do not lie idle for long."""
    tasks, gateway = swarm(seed, 200, lines=lines, slots=5, tells=tells, streamed=streamed)
    assert gateway.refusals <= 1.5 * len(tasks)
    assert longest(tasks) <= 1.5 * sum(task.service for task in tasks) / 5 + 10


@settings(max_examples=12, deadline=None)
@given(seed=seeds, streamed=st.booleans(), service=st.sampled_from([0.1, 3.0]))
def test_a_rate_is_found_and_kept(seed: int, streamed: bool, service: float) -> None:
    tasks, gateway = swarm(seed, 200, rate=5.0, burst=10, streamed=streamed, service=service)
    assert gateway.refusals <= burst(tasks) + 0.3 * len(tasks)
    assert longest(tasks) <= 1.5 * 190 / 5 + 2 * service


@pytest.mark.parametrize("calls", [10, 100, 1000])
def test_the_first_in_line_is_woken_for_itself_alone(calls: int) -> None:
    """No thundering herd: how often one is woken does not grow with those who wait."""
    tasks, _ = swarm(7, calls, slots=5)
    assert max(task.wakes for task in tasks) <= 20
    assert sum(task.wakes for task in tasks) <= 4 * calls
