"""Windows and leases to the millisecond."""

from __future__ import annotations

import pytest
from tests.torture.clocks import calendars, edges


@pytest.mark.slow
def test_every_day_of_four_years_is_in_the_window_that_its_billing_day_says() -> None:
    """A leap year is among them."""
    assert calendars(4).violations == ()


@pytest.mark.slow
def test_windows_and_leases_end_to_the_millisecond() -> None:
    assert edges(8).violations == ()
