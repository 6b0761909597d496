"""The few statistics of the report. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

__all__ = ["median", "median_ratio", "percentile", "spread"]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of ascending values; ``share`` is 0–1.

    Raises:
        ValueError: there are no values.
    """
    if not ordered:
        raise ValueError("A percentile needs at least one value.")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> float:
    """Return the distance from least to greatest as a share of the median; 0 for one value."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def median_ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """Return the median of the ratios round by round: what slows a whole round cancels out."""
    return median([value / reference for value, reference in zip(values, references, strict=True)])
