"""Runs: what is collected, how it is counted, and that nothing is counted twice."""

import contextvars
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import anyio
import anyio.to_thread
import pytest

import flatfee
from flatfee import FairUse, Receipt, TokenUsage, WorkflowState
from flatfee.collecting import Run, active, note


def receipt(name: str | None = "req_1", lane: str | None = "premium", **fields: Any) -> Receipt:
    return Receipt(request_id=name, lane=lane, **{"reason": "default", "state": "settled", **fields})


def charged(units: int, unit: str | None = "token", **fields: Any) -> FairUse:
    return FairUse(unit=unit, charged=units, **fields)


def test_a_run_holds_the_receipts_of_its_block_in_order() -> None:
    note(receipt("before"))
    with flatfee.receipts() as run:
        note(receipt("a"))
        note(receipt("b"))
    note(receipt("after"))
    assert [told.request_id for told in run.receipts] == ["a", "b"]
    assert active() is None


def test_the_figures_of_a_run() -> None:
    with flatfee.receipts() as run:
        usage = TokenUsage(prompt_tokens=10, completion_tokens=5, cached_tokens=2)
        note(receipt("a", fair_use=charged(30, remaining=70), usage=usage, workflow=WorkflowState(id="run-1")))
        note(receipt("b", "fallback", reason="provider_timeout", fair_use=charged(7), state="estimated"))
        note(receipt("c", "budget", fair_use=charged(1, "request", remaining=69), usage=usage))
        note(receipt("d", None, reason=None, state="refused"))
    assert (run.requests, run.refused, run.fallbacks, run.fair_use_remaining) == (4, 1, 1, 69)
    assert run.lanes == Counter(premium=1, fallback=1, budget=1)
    assert run.reasons == Counter(default=2, provider_timeout=1)
    assert (run.units, run.estimated_units) == (Counter(token=37, request=1), Counter(token=7))
    assert run.tokens == TokenUsage(prompt_tokens=20, completion_tokens=10, cached_tokens=4)
    assert run.workflows == ("run-1",)


def test_the_settled_receipt_takes_the_place_of_the_one_in_flight() -> None:
    with flatfee.receipts() as run:
        note(receipt("a", state="in_flight", model_served="m"))
        note(receipt("b"))
        note(receipt("a", "fallback", fair_use=charged(9)))
    assert [told.request_id for told in run.receipts] == ["a", "b"]
    assert (run.requests, run.lanes, run.units) == (2, Counter(premium=1, fallback=1), Counter(token=9))
    assert run.receipts[0].model_served == "m"


@pytest.mark.parametrize("earlier", [None, "in_flight", "estimated"])
def test_what_is_settled_does_not_go_back(earlier: Any) -> None:
    with flatfee.receipts() as run:
        note(receipt("a", fair_use=charged(9)))
        note(receipt("a", "budget", state=earlier, fair_use=charged(50), model_served="m"))
    (told,) = run.receipts
    assert (told.lane, told.state, told.model_served, run.units) == ("premium", "settled", "m", Counter(token=9))


def test_receipts_without_an_id_are_requests_of_their_own() -> None:
    with flatfee.receipts() as run:
        note(receipt(None))
        note(receipt(None))
    assert (run.requests, len(run.receipts)) == (2, 2)


def test_runs_nest_and_the_outer_one_hears_of_everything() -> None:
    with flatfee.receipts() as outer:
        note(receipt("a"))
        with flatfee.receipts() as inner:
            note(receipt("b"))
        note(receipt("c"))
    assert [told.request_id for told in inner.receipts] == ["b"]
    assert [told.request_id for told in outer.receipts] == ["a", "b", "c"]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_tasks_and_worker_threads_belong_to_the_run_they_were_started_in() -> None:
    found: dict[str, list[str | None]] = {}

    async def agent(name: str) -> None:
        with flatfee.receipts() as own:
            note(receipt(f"{name}-1"))
            await anyio.to_thread.run_sync(note, receipt(f"{name}-2"))
        found[name] = [told.request_id for told in own.receipts]

    with flatfee.receipts() as run:
        async with anyio.create_task_group() as group:
            for name in "ab":
                group.start_soon(agent, name)
    assert found == {"a": ["a-1", "a-2"], "b": ["b-1", "b-2"]}
    assert run.requests == 4


class Hesitant(Run):
    """A run that lets other threads go on in the midst of a note."""

    def _tally(self, receipt: Receipt) -> Any:
        time.sleep(0)
        return super()._tally(receipt)


def test_many_threads_lose_nothing_and_count_nothing_twice() -> None:
    begin, run = Barrier(4), Hesitant()

    def work() -> None:
        begin.wait(60)
        for number in range(200):
            run.note(receipt(f"r{number}", state="in_flight"))
            run.note(receipt(f"r{number}", fair_use=charged(1)))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert (run.requests, run.units, len(run.receipts)) == (200, Counter(token=200), 200)


def test_what_ends_after_the_run_still_settles_in_it() -> None:
    now = 5.0
    with flatfee.receipts(clock=lambda: now) as run:
        note(receipt("a", state="in_flight"))
        kept = active()
        now = 7.5
        assert run.seconds == 2.5
    now = 100.0
    assert kept
    kept.note(receipt("a", fair_use=charged(9)))
    assert (run.seconds, run.requests, run.units) == (2.5, 1, Counter(token=9))


def test_a_long_run_keeps_its_last_receipts_and_counts_all() -> None:
    run = Run(keep=10)
    run.note(receipt("stream", state="in_flight", workflow=WorkflowState(id="first")))
    for number in range(50):
        run.note(receipt(f"r{number}", fair_use=charged(1), workflow=WorkflowState(id=f"w{number}")))
    assert [told.request_id for told in run.receipts] == ["stream", *(f"r{number}" for number in range(40, 50))]
    run.note(receipt("stream", "fallback", fair_use=charged(5)))
    assert (run.requests, run.units, run.lanes) == (51, Counter(token=55), Counter(premium=50, fallback=1))
    assert (len(run.receipts), len(run.workflows)) == (10, 10)


def test_streams_that_never_end_are_bounded_too() -> None:
    run = Run(keep=3)
    for number in range(20):
        run.note(receipt(f"r{number}", state="in_flight"))
    assert (len(run.receipts), run.requests) == (6, 20)


def test_a_gateway_that_invents_lanes_cannot_grow_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatfee.collecting._MOST_WAYS", 3)
    run = Run()
    for number in range(9):
        run.note(receipt(f"r{number}", f"lane-{number}", state="in_flight"))
    run.note(receipt("r8", "lane-8", fair_use=charged(4)))
    assert (run.requests, len(run.lanes), run.units) == (9, 3, Counter(token=4))


def test_a_run_ends_in_another_context_than_it_began_in() -> None:
    block = flatfee.receipts()
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert active() is None


def test_the_summary_is_an_aligned_table() -> None:
    now = 0.0
    with flatfee.receipts(clock=lambda: now) as run:
        usage = TokenUsage(prompt_tokens=1000, completion_tokens=234)
        for name in "ab":
            note(receipt(name, model_served="gpt-5.1", fair_use=charged(900, remaining=1998200), usage=usage))
        note(receipt("c", "fallback", reason="provider_timeout", state="estimated", fair_use=charged(12)))
        now = 3.21
    assert run.summary() == str(run)
    assert str(run).splitlines() == [
        "lane      reason            model    requests  units  tokens",
        "fallback  provider_timeout  -               1    ~12       0",
        "premium   default           gpt-5.1         2  1,800   2,468",
        "3 requests in 3.2 s, about 1,812 units charged, 1 fallback, 1,998,200 left of fair-use",
    ]
    assert repr(run).startswith("<Run: 3 requests in 3.2 s, ")


def test_the_summary_shows_no_figure_for_what_was_not_told() -> None:
    with flatfee.receipts() as run:
        note(receipt("open", model_served="m", state="in_flight", fair_use=FairUse(remaining=90)))
        note(receipt("over", model_served="m", fair_use=charged(3), usage=TokenUsage(prompt_tokens=9)))
    rows = [line.split() for line in run.summary().splitlines()[1:3]]
    assert rows == [["premium", "default", "m", "1", "3", "9"], ["premium", "default", "m", "1", "?", "?"]]


def test_an_empty_run_says_so() -> None:
    assert str(Run(clock=lambda: 0.0)) == "0 requests in 0.0 s"


def test_what_has_not_told_its_charge_is_counted_apart() -> None:
    with flatfee.receipts() as run:
        note(receipt("running", state="in_flight"))
        note(receipt("headers alone", state=None))
        note(receipt("settled", fair_use=charged(3)))
        note(Receipt(request_id="never routed"))
    assert (run.unsettled, run.units) == (2, Counter(token=3))
    assert "2 not settled" in str(run)
    run.note(receipt("running", fair_use=charged(4)))
    assert (run.unsettled, run.units) == (1, Counter(token=7))


def test_a_summary_moves_no_cursor() -> None:
    run = Run()
    run.note(receipt("a", "premium\x1b[2J\n" + "x" * 99))
    assert "\x1b" not in str(run)
    assert len(str(run).splitlines()[0]) < 100


def test_a_run_can_be_written_as_json() -> None:
    with flatfee.receipts() as run:
        note(receipt("a", fair_use=charged(3, remaining=5), usage=TokenUsage(prompt_tokens=1)))
        note(receipt("b", state="refused"))
    told = json.loads(json.dumps(run.to_dict()))
    assert (told["requests"], told["refused"], told["units"], told["fair_use_remaining"]) == (2, 1, {"token": 3}, 5)
    assert [entry["request_id"] for entry in told["receipts"]] == ["a", "b"]
    assert told["tokens"]["prompt_tokens"] == 1
