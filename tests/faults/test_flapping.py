"""Flapping routes under virtual time: the short version, and that each check can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.faults.flapping import (
    alone,
    alone_in_a_crowd,
    at_the_end_of_a_cool_down,
    beside_healthy_ones,
    flapping_fast,
    two_at_once,
)
from tests.faults.outages import Down, most_asks

from flatfee.server import health
from flatfee.server.stages import relay
from flatfee.server.stages.failures import Failed

pytestmark = pytest.mark.faults

SEEDS = range(3)
EACH_WAY = pytest.mark.parametrize("how", Down)


def over(seeds: range, run: Callable[[int], list[str]]) -> list[str]:
    return [f"seed {seed}: {text}" for seed in seeds for text in run(seed)]


def test_a_route_that_is_down_for_a_minute_is_asked_five_times() -> None:
    assert [most_asks(seconds) for seconds in (5.0, 15.0, 60.0, 100.0, 200.0)] == [3, 4, 5, 6, 8]


@EACH_WAY
@pytest.mark.parametrize("seconds", [2.0, 25.0, 60.0, 200.0])
def test_beside_a_healthy_route_every_question_is_answered(how: Down, seconds: float) -> None:
    assert over(SEEDS, lambda seed: beside_healthy_ones(seed, how, seconds)) == []


@EACH_WAY
def test_a_route_that_is_up_and_down_every_few_seconds_costs_nobody_an_answer(how: Down) -> None:
    assert over(SEEDS, lambda seed: flapping_fast(seed, how)) == []


@EACH_WAY
@pytest.mark.parametrize("and_how", Down)
def test_two_routes_that_flap_at_once_cost_nobody_an_answer(how: Down, and_how: Down) -> None:
    assert over(SEEDS, lambda seed: two_at_once(seed, how, and_how)) == []


@EACH_WAY
@pytest.mark.parametrize("up_again", [False, True])
def test_a_crowd_at_the_end_of_a_cool_down_sends_one_probe(how: Down, up_again: bool) -> None:
    assert over(SEEDS, lambda seed: at_the_end_of_a_cool_down(seed, how, up_again=up_again)) == []


@EACH_WAY
@pytest.mark.parametrize("seconds", [25.0, 60.0, 200.0])
def test_without_another_route_who_waits_as_told_gets_a_try(how: Down, seconds: float) -> None:
    assert over(SEEDS, lambda seed: alone(seed, how, seconds)) == []


@EACH_WAY
@pytest.mark.parametrize("seconds", [60.0, 200.0])
def test_without_another_route_a_crowd_is_refused_cleanly_and_storms_nobody(how: Down, seconds: float) -> None:
    assert over(SEEDS, lambda seed: alone_in_a_crowd(seed, how, seconds)) == []


def test_a_circuit_that_lets_everybody_through_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health.Health, "admits", lambda *_: 0)
    assert any("left alone until" in text for text in beside_healthy_ones(1, Down.ERROR, 60.0))
    assert any("asked" in text and "times, not 5" in text for text in beside_healthy_ones(1, Down.ERROR, 60.0))


def test_a_probe_that_is_not_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health._Circuit, "probing", lambda *_: False)
    assert any("probes" in text for text in at_the_end_of_a_cool_down(1, Down.SILENT, up_again=True))


def test_a_circuit_that_stays_open_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = health.Health.failed
    monkeypatch.setattr(health.Health, "failed", lambda *args, **_: failed(*args, leave_for=60.0))
    assert any("was up again and due" in text for text in beside_healthy_ones(1, Down.REFUSED, 2.0))


def test_a_retry_after_that_is_not_true_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health.Health, "opens_in", lambda *_: 0.0)
    assert any("got no try" in text for text in alone(1, Down.ERROR, 60.0))


def test_a_retry_of_what_was_silent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(_: object, failed: Failed) -> Failed:
        failed.pause = 0.3
        return failed

    monkeypatch.setattr(relay, "_judge", judge)
    assert any("left alone until" in text for text in beside_healthy_ones(1, Down.SILENT, 60.0))
