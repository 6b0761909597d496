"""``kill -9`` at every point; the short version."""

from __future__ import annotations

import pytest
from tests.torture.kills import Kill, at_any_moment, at_every_point, kills

POINTS = [
    "in mid-stream",
    pytest.param("after dispatch", marks=pytest.mark.processes),
    pytest.param("before the settle's commit", marks=pytest.mark.processes),
]


@pytest.mark.parametrize("point", POINTS)
def test_what_a_killed_process_held_is_accounted_for(point: str) -> None:
    assert kills([Kill(point=point)], "kill").violations == ()


@pytest.mark.torture
def test_what_a_killed_process_held_is_accounted_for_wherever_it_dies() -> None:
    assert kills(at_every_point(1), "kill").violations == ()


@pytest.mark.torture
def test_what_sixteen_requests_held_is_accounted_for() -> None:
    assert kills(at_any_moment(5), "kill").violations == ()
