"""The mixed soak, the short version, and that it sees what it is there for."""

from __future__ import annotations

import random

import pytest
from tests.faults.soak import run_soak
from tests.faults.telling import arguments_of, pieces_of, said_in, text_of, wrong_with
from tests.faults.visitors import Errand

pytestmark = pytest.mark.faults

COUNT = 300


def test_a_text_describes_itself() -> None:
    text = text_of(7, 40)
    assert "".join(pieces_of(text)) == text
    assert wrong_with(text, 7) is None
    assert wrong_with(text, 8) is not None


@pytest.mark.parametrize("seed", range(20))
def test_a_text_that_was_cut_or_put_together_is_seen(seed: int) -> None:
    rng = random.Random(seed)
    one, other = text_of(7, 40), text_of(7, 40, "b")
    cut = rng.randrange(1, len(one))
    assert wrong_with(one[:cut], 7) is not None
    assert wrong_with(one[:cut] + other[cut:], 7) is not None
    assert wrong_with(one[:cut] + one, 7) is not None


def test_a_tool_call_carries_a_text_as_well() -> None:
    arguments = arguments_of(3, 10)
    calls = [{"delta": {"tool_calls": [{"function": {"arguments": part}}]}} for part in (arguments[:9], arguments[9:])]
    assert wrong_with(said_in(calls), 3) is None
    assert wrong_with(said_in(calls[:1]), 3) is not None


def test_an_errand_is_its_seed_and_number() -> None:
    assert Errand.drawn(1, 2, "run") == Errand.drawn(1, 2, "run")
    assert len({Errand.drawn(1, number, "run").request() for number in range(100)}) == 100


def test_nothing_is_left_of_three_hundred_requests() -> None:
    run = run_soak(1, COUNT)
    assert run.wrong == []
    assert run.verdicts["whole"] > COUNT // 3
    assert sum(run.mishaps.values()) > COUNT // 3


def test_what_a_gateway_leaves_behind_is_found() -> None:
    wrong = run_soak(2, 120, rest=2.0, broken=["task", "file", "memory"]).wrong
    for told in ("at rest the tasks are", "files are open", "it grew by"):
        assert any(told in text for text in wrong)


def test_what_a_gateway_does_not_give_back_is_found() -> None:
    wrong = run_soak(2, 120, rest=2.0, broken=["slot", "response"]).wrong
    for told in ("running", "acquired", "units are pending", "still holds units"):
        assert any(told in text for text in wrong)


def test_a_cut_answer_that_looks_whole_is_found() -> None:
    assert any("without a finish reason" in text for text in run_soak(2, 200, rest=2.0, broken=["cut"]).wrong)


def test_an_answer_of_two_halves_that_overlap_is_found() -> None:
    assert any("ends with" in text for text in run_soak(2, 200, rest=2.0, broken=["joint"]).wrong)
