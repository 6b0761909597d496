"""Which tape answers a try: by what is asked, nearest route first, in the order of recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flatfee.testing.scripting.asked import Asked
from flatfee.testing.tapes.folder import Filed
from flatfee.testing.tapes.replay import Player, Tapes
from flatfee.testing.tapes.tape import Tape
from flatfee.wire import Tier


def filed(name: str, route: str, tier: str, said: str = "Hi") -> Filed:
    tape = {
        "recorded": "2026-11-25",
        "route": route,
        "tier": tier,
        "model": "m",
        "stream": False,
        "request": {"messages": [{"role": "user", "content": said}]},
        "answer": {"status": 200, "text": name, "ended_ms": 0},
    }
    return Filed(path=Path(name), tape=Tape.model_validate(tape))


def player(*tapes: Filed, **options: Any) -> Player:
    return Player(Tapes(folder=Path("tapes"), filed=tapes, **options))


def asked(route: str, tier: Tier = Tier.PREMIUM, said: str = "Hi") -> Asked:
    body = {"model": "m", "messages": [{"role": "user", "content": said}]}
    return Asked(
        number=1, attempt=1, nth=1, route=route, tier=tier, model="m", stream=False, upstream=json.dumps(body).encode()
    )


def chosen(player: Player, *tries: Asked) -> list[str]:
    found = [player.choose(each) for each in tries]
    return [each[0] if isinstance(each, tuple) else "none" for each in found]


TWO_ROUTES = (filed("1", "a", "premium"), filed("2", "a", "premium"), filed("3", "b", "premium"))


def test_tries_are_answered_in_order_by_their_own_route_and_the_last_answer_stays() -> None:
    assert chosen(player(*TWO_ROUTES), *map(asked, ("a", "b", "a", "a", "b"))) == ["1", "3", "2", "2", "3"]


def test_routes_of_other_names_are_answered_in_the_order_of_recording() -> None:
    assert chosen(player(*TWO_ROUTES), *map(asked, ("x", "x", "y", "y"))) == ["1", "2", "3", "3"]


def test_the_same_tier_goes_before_any_other() -> None:
    tapes = player(filed("1", "a", "premium"), filed("2", "b", "economy"))
    assert chosen(tapes, asked("x", Tier.ECONOMY), asked("x"), asked("x", Tier.ECONOMY)) == ["2", "1", "2"]


def test_another_tier_answers_unless_it_is_told_not_to() -> None:
    tape = filed("1", "a", "premium")
    assert chosen(player(tape), asked("a", Tier.ECONOMY), asked("x", Tier.ECONOMY)) == ["1", "1"]
    assert chosen(player(tape, routes="tier"), asked("x"), asked("x", Tier.ECONOMY)) == ["1", "none"]
    assert chosen(player(tape, routes="route"), asked("a"), asked("x")) == ["1", "none"]


@pytest.mark.parametrize(("routes", "told"), [("tier", "'premium', asked 'economy'"), ("route", "'a', asked 'x'")])
def test_what_is_recorded_elsewhere_only_is_told(routes: Any, told: str) -> None:
    missed = player(filed("1", "a", "premium"), routes=routes).choose(asked("x", Tier.ECONOMY))
    assert isinstance(missed, str)
    assert f"{routes}: recorded {told}" in missed


def test_a_tape_with_something_redacted_answers_what_it_was_and_an_exact_one_goes_before() -> None:
    tapes = player(filed("1", "a", "premium", "key [redacted]"), filed("2", "a", "premium", "key abc"))
    assert chosen(tapes, asked("a", said="key xyz"), asked("a", said="key abc")) == ["1", "2"]


def test_the_nearest_tape_is_named_with_what_differs() -> None:
    tapes = player(filed("far", "a", "premium", "Bye"), filed("near", "a", "premium", "Hi."))
    missed = tapes.choose(asked("a", said="Hi!"))
    assert isinstance(missed, str)
    assert "completion 1, attempt 1 (route 'a', premium)" in missed
    assert 'recorded "Bye", asked "Hi!"' in missed
    assert "ignore=" in missed


def test_two_players_know_nothing_of_each_other() -> None:
    tapes = Tapes(folder=Path("tapes"), filed=TWO_ROUTES)
    assert chosen(Player(tapes), asked("a")) == chosen(Player(tapes), asked("a")) == ["1"]
    assert len(tapes) == 3
