"""The racers' short version, and that it can fail."""

from __future__ import annotations

import pytest
from tests.torture.racers import RACES, race


@pytest.mark.processes
def test_a_thousand_racers_get_what_there_is_and_no_more() -> None:
    result = race(rounds=1)
    assert result.violations == ()
    assert result.runs == len(RACES)


@pytest.mark.torture
def test_a_thousand_racers_get_what_there_is_and_no_more_again_and_again() -> None:
    assert race(rounds=5).violations == ()
