"""Numbers within bounds, multiples of a step: the nearest to zero first. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, islice
from typing import Final

from flatfee.server.providers.simulation.schema.check import exact

_EXACT_BELOW: Final = 1e15
_LARGEST: Final = 10**400
"""Beyond what any reader of JSON takes for a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRules:
    """What a number has to be. Whether a bound itself is left out is for the caller to check."""

    lower: Sequence[float] = ()
    upper: Sequence[float] = ()
    steps: Sequence[float] = ()
    whole: bool = False


def number_values(rules: NumberRules) -> Iterator[int | float]:
    """Yield numbers that may do, for ever if there are as many. The caller checks them: floats are rounded."""
    least, most = max(map(_edge, rules.lower), default=None), min(map(_edge, rules.upper), default=None)
    if least is not None and most is not None and least > most:
        return
    step = _common([exact(step) for step in rules.steps] + ([Fraction(1)] if rules.whole else []))
    if step is not None:
        yield from _multiples(step, least, most)
        return
    whole = _multiples(Fraction(1), least, most)
    yield from islice(whole, 8)
    yield from (_written(edge) for edge in (least, most) if edge is not None)
    yield from _between(least, most)
    yield from whole


def _edge(bound: float) -> Fraction:
    """Return a bound as it is written; a large one as it is stored, for those who check compare it so."""
    return exact(bound) if abs(bound) < _EXACT_BELOW else Fraction(bound)


def _common(steps: Sequence[Fraction]) -> Fraction | None:
    """Return the smallest step that is a multiple of all."""
    if not steps:
        return None
    found = steps[0]
    for step in steps[1:]:
        if found > _LARGEST:
            break  # zero is left, which is a multiple of the others too
        found = Fraction(
            math.lcm(found.numerator * step.denominator, step.numerator * found.denominator),
            found.denominator * step.denominator,
        )
    return found


def _multiples(step: Fraction, least: Fraction | None, most: Fraction | None) -> Iterator[int | float]:
    """Yield the multiples within bounds, from the one nearest to zero outwards, up before down."""
    first = None if least is None else math.ceil(least / step)
    last = None if most is None else math.floor(most / step)
    start = max(0, first) if first is not None else 0
    start = min(start, last) if last is not None else start
    if first is not None and start < first:
        return
    farthest = _LARGEST // step
    for distance in count():
        up, down = start + distance, start - distance
        may_go_up = up <= (farthest if last is None else min(last, farthest))
        may_go_down = down >= (-farthest if first is None else max(first, -farthest))
        if may_go_up:
            yield _written(up * step)
        if may_go_down and distance:
            yield _written(down * step)
        if not may_go_up and not may_go_down:
            return


def _between(least: Fraction | None, most: Fraction | None) -> Iterator[int | float]:
    """Yield fractions between two bounds, the middle first."""
    if least is None or most is None:
        edge = least if least is not None else most or Fraction(0)
        side = 1 if most is None else -1
        yield from (_written(edge + side * Fraction(1, 1 << part)) for part in range(1, 16))
        return
    for parts in (2, 4, 16, 128):
        yield from (_written(least + (most - least) * part / parts) for part in range(1, parts, 2))


def _written(number: Fraction) -> int | float:
    """Return a number as JSON has it: without a fraction where it has none."""
    if number.denominator == 1:
        return number.numerator
    try:
        return float(number)
    except OverflowError:
        return int(number)
