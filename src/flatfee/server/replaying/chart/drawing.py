"""The chart of a comparison: premium units over time with what plans allow, and the lanes side by side. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from flatfee.server.replaying.chart.scales import Scale, bar_width, date_text, dates, is_long, short, ticks
from flatfee.server.replaying.chart.svg import element, polyline, text, words_of
from flatfee.server.replaying.comparing import Comparison
from flatfee.server.replaying.results import REFUSED
from flatfee.server.replaying.tally import HOUR, MINUTE, Tally
from flatfee.server.replaying.telling import LANES
from flatfee.wire import Lane

WIDTH: Final = 1080.0
HEIGHT: Final = 820.0
_LEFT: Final = 84.0
_RIGHT: Final = 1052.0
_TOP: Final = 138.0
_MIDDLE: Final = 408.0
_BARS: Final = 512.0
_BOTTOM: Final = 730.0
_GUTTER: Final = 76.0
_MOST_POINTS: Final = 500
_WEEK: Final = 7 * 24 * HOUR
_FAR_ABOVE: Final = 4
"""A line that is so many times as high as the others would leave them no room."""

_EVERY: Final[Mapping[int, str]] = {
    MINUTE: "minute",
    5 * MINUTE: "five minutes",
    10 * MINUTE: "ten minutes",
    HOUR: "hour",
    6 * HOUR: "six hours",
    24 * HOUR: "day",
    _WEEK: "week",
}

_COLOURS: Final[Mapping[str, str]] = {
    Lane.PREMIUM: "#7f63d2",
    Lane.BUDGET: "#2f9e77",
    Lane.CONTINUATION: "#d9982f",
    Lane.FALLBACK: "#d5566a",
    REFUSED: "#8b919c",
}
"""Of a middle brightness, so that they stand out on white and on black."""

_STYLE: Final = """
svg { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.ground { fill: #ffffff; } .ink { fill: #1d2129; } .faint { fill: #6a717d; }
.title { font-size: 21px; font-weight: 600; } .heading { font-size: 15px; font-weight: 600; }
.grid { stroke: #e3e6ea; stroke-width: 1; } .axis { stroke: #9aa1ac; stroke-width: 1; }
.was { stroke: #8b919c; } .would { stroke: #3b7ddd; } .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.cap { fill: none; stroke-width: 1.5; stroke-dasharray: 6 4; }
.was-key { fill: #8b919c; } .would-key { fill: #3b7ddd; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #14171c; } .ink { fill: #e8eaee; } .faint { fill: #9aa1ac; }
  .grid { stroke: #2b3038; } .axis { stroke: #59616d; }
}
"""


@dataclass(frozen=True, slots=True)
class _Span:
    """What is drawn, in seconds since the epoch: whole steps from the one of the first request to that of the last."""

    first: int
    last: int
    step: int

    @property
    def days(self) -> bool:
        return is_long(self.first, self.last)


def draw(comparison: Comparison, title: str) -> str:
    """Return the chart as SVG."""
    was, would = comparison.was, comparison.would
    first, last = (int((at or 0.0) // was.step) * was.step for at in (comparison.first, comparison.last))
    span = _Span(first, last + was.step, was.step)
    unit = _unit(was, would)
    parts = [
        element("title", words_of(title)),
        element("style", _STYLE),
        element("rect", class_="ground", width=WIDTH, height=HEIGHT),
        text(title, _LEFT, 44, class_="ink title"),
        text(_subtitle(comparison, span), _LEFT, 68, class_="faint"),
        *_units_panel(was, would, span, unit),
        *_lanes_panels(was, would, span),
    ]
    return element(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        width=WIDTH,
        height=HEIGHT,
        role="img",
    )


def as_html(svg: str, title: str) -> str:
    """Return the chart as a page of its own."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark">'
    )
    style = "<style>body { margin: 0; } svg { display: block; max-width: 100%; height: auto; margin: auto; }</style>"
    head += f"<title>{words_of(title)}</title>{style}"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{svg}</body></html>\n'


def _unit(was: Tally, would: Tally) -> str:
    """Return the unit that most is charged in: units of different meters cannot be added."""
    charged = was.premium + would.premium
    return charged.most_common(1)[0][0] if charged else "token"


def _subtitle(comparison: Comparison, span: _Span) -> str:
    accounts = len(comparison.would.accounts)
    before = "as the receipts tell it" if comparison.before is None else "replayed with the old configuration"
    return (
        f"{comparison.was.requests:,} requests of {accounts:,} account{'s' if accounts != 1 else ''}, "
        f"{date_text(span.first, days=span.days)} to {date_text(span.last - span.step, days=span.days)} (UTC); "
        f"was: {before}"
    )


def _units_panel(was: Tally, would: Tally, span: _Span, unit: str) -> Iterator[str]:
    tallies = {"was": was, "would": would}
    lines = {name: _running(tally.premium_of, span, unit) for name, tally in tallies.items()}
    caps = {name: _running(tally.allowed, span, unit) for name, tally in tallies.items()}
    used, allowed = (max(value for series in sides.values() for _, value in series) for sides in (lines, caps))
    shows_caps = 0 < allowed <= used * _FAR_ABOVE
    marks = ticks(max(allowed, used) if shows_caps else used)
    x, y = Scale(span.first, span.last, _LEFT, _RIGHT), Scale(0, marks[-1], _MIDDLE, _TOP)
    yield text(f"Premium fair-use charged so far, in {unit} units", _LEFT, _TOP - 30, class_="ink heading")
    yield from _axes(x, y, marks, span, most_dates=10)
    for name in ("was", "would"):
        if shows_caps:
            steps = [(x.at(at), y.at(value)) for at, value in _as_steps(caps[name])]
            yield polyline(steps, class_=f"cap {name}")
        points = [(x.at(at), y.at(value)) for at, value in lines[name]]
        yield polyline(points, class_=f"line {name}")
    yield from _key(
        [
            ("was-key", f"was {lines['was'][-1][1]:,.0f}"),
            ("would-key", f"would be {lines['would'][-1][1]:,.0f}"),
            (None, _of_caps(caps, shown=shows_caps)),
        ],
        _MIDDLE + 44,
    )


def _of_caps(caps: Mapping[str, Sequence[tuple[int, float]]], *, shown: bool) -> str:
    if shown:
        return "dashed: where the fair-use of the plans ends"
    was, would = caps["was"][-1][1], caps["would"][-1][1]
    return f"the plans allow far more: {would:,.0f}" + (f", and {was:,.0f} before" if was not in {0, would} else "")


def _running(of_steps: Mapping[int, Counter[str]], span: _Span, unit: str) -> list[tuple[int, float]]:
    """Return the sum so far at each step's end, thinned to what can be seen."""
    total, points = 0.0, [(span.first, 0.0)]
    some = max(1, (span.last - span.first) // span.step // _MOST_POINTS)
    for number, begins in enumerate(range(span.first, span.last, span.step), start=1):
        total += of_steps[begins][unit] if begins in of_steps else 0
        ends = begins + span.step
        if number % some == 0 or ends == span.last:
            points.append((ends, total))
    return points


def _as_steps(points: Sequence[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """Yield the corners of steps: what is allowed is there from the begin of its step on."""
    for (begins, _), (ends, value) in pairwise(points):
        yield begins, value
        yield ends, value


def _lanes_panels(was: Tally, would: Tally, span: _Span) -> Iterator[str]:
    width = bar_width(span.last - span.first, span.step)
    half = (_RIGHT - _LEFT - _GUTTER) / 2
    bins = [_bins(tally, span, width) for tally in (was, would)]
    marks = ticks(max((sum(lanes.values()) for bars in bins for lanes in bars.values()), default=1))
    y = Scale(0, marks[-1], _BOTTOM, _BARS)
    per = _EVERY.get(width, f"{width // _WEEK} weeks")
    for number, (bars, side) in enumerate(zip(bins, ("was", "would be"), strict=True)):
        left = _LEFT + number * (half + _GUTTER)
        x = Scale(span.first, max(span.last, span.first + width), left, left + half)
        yield text(f"Requests by lane, per {per}: {side}", left, _BARS - 22, class_="ink heading")
        yield from _axes(x, y, marks, span, most_dates=4)
        for start, lanes in bars.items():
            end = min((start // width + 1) * width, int(x.high))
            yield from _bar(x, y, start, end, lanes, days=span.days)
    yield from _key([(None, "")] + [(lane, str(lane)) for lane in LANES], _BOTTOM + 52)


def _bins(tally: Tally, span: _Span, width: int) -> dict[int, Counter[str]]:
    found: dict[int, Counter[str]] = {}
    for begins, lanes in tally.lanes_of.items():
        start = max(span.first, begins // width * width)
        found.setdefault(start, Counter()).update(lanes)
    return found


def _bar(x: Scale, y: Scale, start: int, end: int, lanes: Counter[str], *, days: bool) -> Iterator[str]:
    """Draw one bar; who points at a piece is told what it stands for."""
    total = 0
    left, right = x.at(start), x.at(end)
    gap = min(2.0, (right - left) * 0.15)
    for lane in LANES:
        number = lanes[lane]
        if not number:
            continue
        top = y.at(total + number)
        hint = element("title", words_of(f"{date_text(start, days=days)}: {lane} {number:,}"))
        yield element(
            "rect",
            hint,
            x=left + gap / 2,
            y=top,
            width=right - left - gap,
            height=y.at(total) - top,
            fill=_COLOURS[lane],
        )
        total += number


def _axes(x: Scale, y: Scale, marks: Sequence[float], span: _Span, *, most_dates: int) -> Iterator[str]:
    for mark in marks:
        at = y.at(mark)
        yield element("line", class_="grid" if mark else "axis", x1=x.start, x2=x.end, y1=at, y2=at)
        yield text(short(mark), x.start - 10, at + 4.5, class_="faint", text_anchor="end")
    for second in dates(span.first, span.last - span.step, most_dates):
        at = x.at(second)
        yield element("line", class_="axis", x1=at, x2=at, y1=y.start, y2=y.start + 5)
        yield text(date_text(second, days=span.days), at, y.start + 21, class_="faint", text_anchor="middle")


def _key(entries: Sequence[tuple[str | None, str]], y: float) -> Iterator[str]:
    """Draw a legend: a square and a word for each; without a square, a word alone."""
    x = _LEFT
    for sign, words in entries:
        if sign is not None:
            colour = _COLOURS.get(sign)
            yield element(
                "rect", class_=None if colour else sign, fill=colour, x=x, y=y - 10, width=12, height=12, rx=2
            )
            x += 19
        if words:
            yield text(words, x, y, class_="faint")
            x += 7.2 * len(words) + 22
