"""Workflow slots and the request rate: who may run at once, and for how long to wait."""

from typing import Any

import pytest

from flatfee.server.store.ledger import next_arrival
from flatfee.server.store.memory import MemoryStore
from flatfee.wire import ErrorCode


async def test_a_named_workflow_holds_one_slot_for_all_its_requests(desk: Any) -> None:
    tickets = [await desk.admitted(workflow="run", workflows=1) for _ in range(3)]
    assert [ticket.standing.workflows_active for ticket in tickets] == [1, 1, 1]
    refusal = await desk.refused(workflow="other", workflows=1)
    assert refusal.code is ErrorCode.WORKFLOW_LIMIT
    assert (refusal.standing.workflows_active, refusal.standing.workflows_limit) == (1, 1)


async def test_requests_without_a_name_hold_a_slot_each(desk: Any) -> None:
    first = await desk.admitted(workflows=2)
    await desk.admitted(workflows=2)
    await desk.refused(workflows=2)
    await desk.refused(workflow="run", workflows=2)
    await desk.settle(first)
    await desk.admitted(workflows=2)


async def test_a_workflow_has_a_limit_of_parallel_requests(desk: Any) -> None:
    first = await desk.admitted(workflow="run", fanout=2)
    await desk.admitted(workflow="run", fanout=2)
    refusal = await desk.refused(workflow="run", fanout=2)
    assert refusal.code is ErrorCode.WORKFLOW_LIMIT
    assert refusal.retry_after == 60
    await desk.settle(first)
    await desk.admitted(workflow="run", fanout=2)


async def test_parallel_requests_of_another_workflow_do_not_count(desk: Any) -> None:
    await desk.admitted(workflow="a", fanout=1)
    await desk.admitted(workflow="b", fanout=1)
    await desk.admitted(workflow="a", fanout=1, caller=desk.caller("other"))


async def test_a_slot_is_kept_between_requests_until_it_was_idle_for_its_time(desk: Any) -> None:
    ticket = await desk.admitted(workflow="run", workflows=1, idle=120.0)
    desk.clock.advance(30)
    await desk.settle(ticket)
    desk.clock.advance(119)
    await desk.refused(workflow="other", workflows=1)
    desk.clock.advance(1)
    await desk.admitted(workflow="other", workflows=1)


async def test_an_idle_time_below_the_lease_counts_from_the_last_answer(desk: Any) -> None:
    ticket = await desk.admitted(workflow="run", workflows=1, idle=10.0, lease=60.0)
    await desk.settle(ticket)
    desk.clock.advance(9)
    await desk.refused(workflow="other", workflows=1)
    desk.clock.advance(1)
    await desk.admitted(workflow="other", workflows=1)


async def test_a_slot_stays_while_another_request_of_its_workflow_runs(desk: Any) -> None:
    first = await desk.admitted(workflow="run", workflows=1, idle=10.0, lease=60.0)
    await desk.admitted(workflow="run", workflows=1, idle=10.0, lease=60.0)
    await desk.settle(first)
    desk.clock.advance(59)
    await desk.refused(workflow="other", workflows=1)


async def test_a_new_request_keeps_its_workflow_alive(desk: Any) -> None:
    for _ in range(4):
        await desk.settle(await desk.admitted(workflow="run", workflows=1, idle=100.0))
        desk.clock.advance(99)
        await desk.refused(workflow="other", workflows=1)


async def test_a_released_workflow_that_is_idle_frees_its_slot_at_once(desk: Any) -> None:
    await desk.settle(await desk.admitted(workflow="run", workflows=1))
    assert await desk.store.release(desk.caller(), "run")
    await desk.admitted(workflow="other", workflows=1)
    assert not await desk.store.release(desk.caller(), "run")


async def test_a_release_frees_no_slot_that_a_running_request_holds(desk: Any) -> None:
    """Else a caller that releases after every request could run as many at once as it likes."""
    first = await desk.admitted(workflow="run", workflows=1, fanout=2)
    last = await desk.admitted(workflow="run", workflows=1, fanout=2)
    assert await desk.store.release(desk.caller(), "run")
    await desk.store.heartbeat([first, last], 60.0)
    await desk.store.sweep()
    for ticket in (first, last):
        assert (await desk.refused(workflow="other", workflows=1)).standing.workflows_active == 1
        await desk.refused(workflow="run", workflows=1, fanout=1)
        assert (await desk.usage()).workflows_active == 1
        settlement = await desk.settle(ticket)
    assert (await desk.usage()).workflows_active == 0
    assert settlement.receipt.workflow.active == 1, "as it was when the request was admitted"
    assert await desk.store.workflows(desk.caller()) == []
    await desk.admitted(workflow="other", workflows=1)


async def test_a_released_slot_goes_with_the_last_of_its_requests_that_is_lost(desk: Any) -> None:
    await desk.admitted(workflow="run", workflows=1, lease=60.0, idle=1000.0)
    await desk.admitted(workflow="run", workflows=1, lease=90.0, idle=1000.0)
    await desk.store.release(desk.caller(), "run")
    for seconds, active in ((60, 1), (30, 0)):
        desk.clock.advance(seconds)
        assert await desk.store.sweep() == 1
        assert (await desk.usage()).workflows_active == active


async def test_a_new_request_takes_a_released_slot_up_again(desk: Any) -> None:
    tickets = [await desk.admitted(workflow="run", workflows=1)]
    await desk.store.release(desk.caller(), "run")
    tickets.append(await desk.admitted(workflow="run", workflows=1))
    for ticket in tickets:
        await desk.settle(ticket)
    await desk.store.sweep()
    assert [lease.id for lease in await desk.store.workflows(desk.caller())] == ["run"]


async def test_projects_do_not_share_a_workflow_by_choosing_the_same_id(desk: Any) -> None:
    ci, web, team = desk.caller(), desk.caller(project="web"), desk.caller(project=None)
    for caller in (ci, web, team):
        for _ in range(2):
            ticket = await desk.admitted(workflow="run", caller=caller, workflows=3, fanout=2)
        await desk.refused(workflow="run", caller=caller, workflows=3, fanout=2)
        await desk.settle(ticket, route=caller.project)
        assert await desk.store.last_route(caller, "run") == caller.project
    await desk.refused(workflow="other", workflows=3)
    assert await desk.store.release(web, "run")
    await desk.store.heartbeat([ticket], 60.0)
    assert [lease.in_flight for lease in await desk.store.workflows(ci)] == [1]


async def test_a_project_lists_and_releases_its_own_workflows_and_a_team_key_lists_the_accounts(desk: Any) -> None:
    ci, web, team = desk.caller(), desk.caller(project="web"), desk.caller(project=None)
    for caller, workflow in ((ci, "a"), (web, "b"), (team, "c")):
        await desk.settle(await desk.admitted(workflow=workflow, caller=caller))
        desk.clock.advance(1)
    seen = [[lease.id for lease in await desk.store.workflows(caller)] for caller in (ci, web, team)]
    assert seen == [["a"], ["b"], ["a", "b", "c"]]
    assert not await desk.store.release(web, "a")
    assert await desk.store.last_route(web, "a") is None
    assert await desk.store.release(ci, "a")
    assert await desk.store.release(team, "c")


async def test_releasing_what_is_idle_for_too_long_tells_that_it_held_nothing(desk: Any) -> None:
    await desk.settle(await desk.admitted(workflow="run"))
    desk.clock.advance(120)
    assert not await desk.store.release(desk.caller(), "run")


async def test_another_accounts_workflow_cannot_be_released(desk: Any) -> None:
    await desk.admitted(workflow="run")
    assert not await desk.store.release(desk.caller("other"), "run")
    assert [lease.id for lease in await desk.store.workflows(desk.caller())] == ["run"]


async def test_a_request_that_outlives_its_released_slot_does_not_bring_it_back(desk: Any) -> None:
    ticket = await desk.admitted(workflow="run", workflows=1)
    await desk.store.release(desk.caller(), "run")
    await desk.store.heartbeat([ticket], 60.0)
    await desk.settle(ticket)
    assert (await desk.usage()).workflows_active == 0


async def test_a_slot_that_ran_out_is_not_brought_back_over_the_limit(desk: Any) -> None:
    lost = await desk.admitted(workflow="lost", workflows=1, idle=60.0, lease=60.0)
    desk.clock.advance(60)
    await desk.admitted(workflow="next", workflows=1)
    await desk.store.heartbeat([lost], 60.0)
    await desk.settle(lost)
    assert [lease.id for lease in await desk.store.workflows(desk.caller())] == ["next"]


async def test_workflows_are_listed_oldest_first_with_what_runs(desk: Any) -> None:
    began = desk.clock.now
    await desk.admitted(workflow="b", idle=120.0)
    desk.clock.advance(1)
    await desk.admitted(workflow="a")
    await desk.admitted(workflow="a")
    await desk.admitted(caller=desk.caller("other"), workflow="c")
    await desk.admitted()
    leases = await desk.store.workflows(desk.caller())
    assert [(lease.id, lease.in_flight) for lease in leases] == [("b", 1), ("a", 2)]
    assert (leases[0].started_at, leases[0].expires_at) == (began, began + 120)


async def test_a_workflow_that_ran_out_is_listed_no_more_and_begins_anew(desk: Any) -> None:
    await desk.settle(await desk.admitted(workflow="run"), route="openai")
    desk.clock.advance(120)
    assert await desk.store.workflows(desk.caller()) == []
    assert await desk.store.last_route(desk.caller(), "run") is None
    await desk.admitted(workflow="run")
    (lease,) = await desk.store.workflows(desk.caller())
    assert lease.started_at == desk.clock.now
    assert await desk.store.last_route(desk.caller(), "run") is None


async def test_the_route_that_answered_last_is_remembered_for_the_workflow(desk: Any) -> None:
    first = await desk.admitted(workflow="run")
    second = await desk.admitted(workflow="run")
    third = await desk.admitted(workflow="run")
    await desk.settle(first, route="openai")
    assert await desk.store.last_route(desk.caller(), "run") == "openai"
    await desk.settle(second, route="azure")
    await desk.settle(third, route=None)
    assert await desk.store.last_route(desk.caller(), "run") == "azure"
    await desk.admitted(workflow="run")
    assert await desk.store.last_route(desk.caller(), "run") == "azure"


async def test_another_accounts_route_is_not_told(desk: Any) -> None:
    await desk.settle(await desk.admitted(workflow="run"), route="openai")
    assert await desk.store.last_route(desk.caller("other"), "run") is None
    assert await desk.store.last_route(desk.caller(), "unknown") is None


@pytest.mark.parametrize("workflow", [None, "run"])
async def test_waiting_for_a_slot_as_long_as_told_is_enough(desk: Any, workflow: str | None) -> None:
    holds = {"workflow": workflow, "workflows": 1, "idle": 77.7, "lease": 30.3}
    await desk.admitted(**holds)
    desk.clock.advance(3.21)
    refusal = await desk.refused(workflow="other", workflows=1)
    desk.clock.advance(refusal.retry_after - 1)
    await desk.refused(workflow="other", workflows=1)
    desk.clock.advance(1)
    await desk.admitted(workflow="other", workflows=1)


async def test_the_wait_is_that_for_the_slot_that_is_free_first(desk: Any) -> None:
    await desk.admitted(workflow="long", workflows=2, idle=100.0)
    await desk.admitted(workflows=2, lease=20.0)
    assert (await desk.refused(workflows=2)).retry_after == 20


async def test_a_smaller_plan_refuses_more_workflows_than_it_allows(desk: Any) -> None:
    for name in ("a", "b", "c"):
        await desk.admitted(workflow=name, workflows=4)
    await desk.refused(workflow="d", workflows=2)
    await desk.admitted(workflow="a", workflows=2)


async def test_a_key_may_burst_a_minutes_requests_and_then_waits(desk: Any) -> None:
    for _ in range(3):
        await desk.admitted(desk.premium(0), requests_per_minute=3)
    refusal = await desk.refused(desk.premium(0), requests_per_minute=3)
    assert refusal.code is ErrorCode.RATE_LIMITED
    assert refusal.retry_after == 20


@pytest.mark.parametrize("now", [0.0, 1_793_534_400.123, 2_147_483_647.77777])
def test_a_burst_is_a_full_minutes_requests_at_every_rate(now: float) -> None:
    """Sums of fractions of a second are not exact, and must not cost the last request of a burst."""
    for rate in (*range(1, 400), 1000, 9999):
        arrival, admitted = None, 0
        while True:
            arrival, wait = next_arrival(arrival, rate, now)
            if wait is not None:
                break
            admitted += 1
        assert admitted == rate
        assert next_arrival(arrival, rate, now + wait)[1] is None


async def test_after_a_burst_requests_pass_at_an_even_pace(desk: Any) -> None:
    for _ in range(6):
        await desk.settle(await desk.admitted(requests_per_minute=6))
    for _ in range(4):
        refusal = await desk.refused(requests_per_minute=6)
        desk.clock.advance(refusal.retry_after - 0.01)
        await desk.refused(requests_per_minute=6)
        desk.clock.advance(0.01)
        await desk.settle(await desk.admitted(requests_per_minute=6))


@pytest.mark.parametrize("rest", [60, 86_400])
async def test_a_rest_allows_a_full_burst_again_and_no_more(desk: Any, rest: float) -> None:
    for _ in range(2):
        for _ in range(5):
            await desk.settle(await desk.admitted(requests_per_minute=5))
        await desk.refused(requests_per_minute=5)
        desk.clock.advance(rest)


async def test_the_sweep_forgets_the_rate_of_keys_at_rest_and_of_no_others(desk: Any) -> None:
    await desk.admitted(requests_per_minute=1)
    desk.clock.advance(30)
    await desk.admitted(requests_per_minute=4, caller=desk.caller(key="at rest"))
    desk.clock.advance(29.9)
    await desk.store.sweep()
    await desk.refused(requests_per_minute=1)
    assert await arrivals(desk) == ["acme/ci/key"]
    desk.clock.advance(1)
    await desk.store.sweep()
    assert await arrivals(desk) == []


async def arrivals(desk: Any) -> list[str]:
    if isinstance(desk.store, MemoryStore):
        return list(desk.store._book.arrivals)
    return [row[0] for row in await desk.store._read(lambda book: book._execute("SELECT * FROM arrivals").fetchall())]


async def test_keys_have_rates_of_their_own(desk: Any) -> None:
    await desk.admitted(requests_per_minute=1)
    await desk.refused(requests_per_minute=1)
    await desk.admitted(requests_per_minute=1, caller=desk.caller(key="second"))


async def test_a_request_refused_for_its_rate_does_not_make_the_wait_longer(desk: Any) -> None:
    await desk.admitted(requests_per_minute=1)
    waits = [(await desk.refused(requests_per_minute=1)).retry_after for _ in range(3)]
    assert waits == [60, 60, 60]


async def test_requests_refused_for_other_reasons_count_against_the_rate(desk: Any) -> None:
    await desk.refused(desk.premium(1000), requests_per_minute=1)
    assert (await desk.refused(requests_per_minute=1)).code is ErrorCode.RATE_LIMITED
