"""The statistics of the report."""

from __future__ import annotations

import pytest
from benchmarks.stats import median_ratio, percentile, spread


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]


def test_the_percentiles_of_one_value_are_that_value() -> None:
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        percentile([], 0.5)


def test_ratios_are_formed_within_a_round() -> None:
    """A round that was slow on both sides leaves the ratio alone."""
    assert median_ratio([50.0, 5.0, 60.0], [100.0, 10.0, 100.0]) == 0.5


def test_ratios_need_the_same_rounds_on_both_sides() -> None:
    with pytest.raises(ValueError, match="shorter"):
        median_ratio([1.0, 2.0], [1.0])


def test_spread_is_the_share_of_the_median_between_the_extremes() -> None:
    assert spread([90.0, 100.0, 110.0]) == pytest.approx(0.2)
    assert spread([5.0]) == 0.0
    assert spread([0.0, 0.0]) == 0.0
