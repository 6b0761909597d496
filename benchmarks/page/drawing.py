"""Drawing of charts: rows of targets, columns of measures, as SVG that needs nothing beside it. Pure.

Two kinds of column: dots on a scale of powers of ten, where neighbours differ a hundredfold and a bar's length would
tell nothing, and bars on a plain scale. Both have whiskers from least to greatest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.page.figures import shown
from flatfee.server.replaying.chart.svg import element, text, words_of

Kind = Literal["ours", "chosen", "other", "limit"]
"""``chosen`` is the one of ours that the others are held against; a ``limit`` does no gateway's work."""

WIDTH: Final = 760.0
"""As wide as a page's text is on most screens, so that words are as large as they are meant to be."""

_EDGE: Final = 16.0
_TOP: Final = 104.0
_FOOT: Final = 34.0
_GUTTER: Final = 26.0

_STYLE: Final = """
svg { font: 12.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.ground { fill: #ffffff; } .ink { fill: #1d2129; } .faint { fill: #626975; }
.title { font-size: 16px; font-weight: 600; } .heading { font-weight: 600; } .small { font-size: 11px; }
.band { fill: #e6f4f1; } .grid { stroke: #e3e6ea; } .rule { stroke: #c5cad2; }
.halo { stroke: #ffffff; stroke-width: 3px; paint-order: stroke; } .halo.on-band { stroke: #e6f4f1; }
.whisker { stroke-width: 1.6; fill: none; } .here { stroke: #0f8f7e; stroke-dasharray: 3 3; opacity: 0.7; }
.ours { fill: #3fae9d; stroke: #3fae9d; } .chosen { fill: #0b7f6f; stroke: #0b7f6f; }
.other { fill: #64708a; stroke: #64708a; } .limit { fill: #ffffff; stroke: #8f98a8; stroke-width: 1.6; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #1b1e26; } .ink { fill: #e8eaee; } .faint { fill: #a3abb8; }
  .band { fill: #1d3534; } .grid { stroke: #2f343f; } .rule { stroke: #4a515e; } .here { stroke: #4ecdb9; }
  .halo { stroke: #1b1e26; } .halo.on-band { stroke: #1d3534; }
  .ours { fill: #37998a; stroke: #37998a; } .chosen { fill: #4ecdb9; stroke: #4ecdb9; }
  .other { fill: #9aa6bd; stroke: #9aa6bd; } .limit { fill: #1b1e26; stroke: #7f8898; }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a chart."""

    label: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One figure: its median, least and greatest; ``None`` with what is written instead."""

    middle: float | None = None
    low: float = 0.0
    high: float = 0.0
    instead: str = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One measure: its name, its unit with which way is better, and a mark for each row."""

    heading: str
    unit: str
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture: what it shows, how its columns are drawn, and how wide the names of rows are."""

    title: str
    note: str
    rows: Sequence[Row]
    columns: Sequence[Column]
    style: Literal["dots", "bars"]
    names: float = 184.0

    @property
    def height(self) -> float:
        """Height in pixels."""
        return _TOP + len(self.rows) * self.step + _FOOT

    @property
    def step(self) -> float:
        """Height of a row in pixels: figures stand above dots, and beside bars."""
        return 34.0 if self.style == "dots" else 21.0


def draw(chart: Chart) -> str:
    """Return the chart as SVG, with all its figures in words for who cannot see it."""
    parts = [
        element("title", words_of(chart.title), id="title"),
        element("desc", words_of(describe(chart)), id="desc"),
        element("style", _STYLE),
        element("rect", class_="ground", width=WIDTH, height=chart.height, rx=6),
        text(chart.title, _EDGE, 30, class_="ink title"),
        text(chart.note, _EDGE, 50, class_="faint small"),
        *_names(chart),
    ]
    width = (WIDTH - _EDGE * 2 - chart.names) / len(chart.columns)
    paint = _dots if chart.style == "dots" else _bars
    for number, column in enumerate(chart.columns):
        left = _EDGE + chart.names + number * width
        parts += [
            text(column.heading, left, _TOP - 24, class_="ink heading"),
            text(column.unit, left, _TOP - 9, class_="faint small"),
            *paint(chart, column, left, width - _GUTTER),
        ]
    return element(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {chart.height:g}",
        width=WIDTH,
        height=chart.height,
        role="img",
        aria_labelledby="title desc",
    )


def describe(chart: Chart) -> str:
    """Return the figures of a chart in words."""
    told = []
    for column in chart.columns:
        figures = (
            f"{row.label} {mark.instead if mark.middle is None else shown(mark.middle)}"
            for row, mark in zip(chart.rows, column.marks, strict=True)
        )
        told.append(f"{column.heading}, {column.unit}: {'; '.join(figures)}.")
    return " ".join(told)


def decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten that hold all of these values, which are above 0."""
    if not values:
        return 0, 1
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _names(chart: Chart) -> Iterator[str]:
    for number, row in enumerate(chart.rows):
        top = _TOP + number * chart.step
        if row.kind in {"ours", "chosen"} and chart.style == "dots":
            yield element("rect", class_="band", x=_EDGE - 8, y=top, width=WIDTH - 2 * _EDGE + 16, height=chart.step)
        weight = " heading" if row.kind == "chosen" and chart.style == "dots" else ""
        yield text(row.label, _EDGE, top + chart.step / 2 + 4.5, class_=f"ink{weight}")


def _dots(chart: Chart, column: Column, left: float, width: float) -> Iterator[str]:
    known = [mark for mark in column.marks if mark.middle]
    low, high = decades([value for mark in known for value in (mark.low, mark.high) if value > 0])
    bottom = _TOP + len(chart.rows) * chart.step

    def at(value: float) -> float:
        return left + (math.log10(max(value, 10.0**low)) - low) / (high - low) * width

    few = max(1, math.ceil((high - low) * 30 / width))
    for power in range(low, high + 1):
        yield element("line", class_="grid", x1=at(10.0**power), x2=at(10.0**power), y1=_TOP, y2=bottom)
        if (power - low) % few == 0:
            anchor = "start" if power == low else "end" if power == high else "middle"
            yield text(_power(power), at(10.0**power), bottom + 15, class_="faint small", text_anchor=anchor)
    for row, mark in zip(chart.rows, column.marks, strict=True):
        if row.kind == "chosen" and mark.middle:
            here = at(mark.middle)
            yield element("line", class_="here", x1=here, x2=here, y1=_TOP, y2=bottom)
    for number, (row, mark) in enumerate(zip(chart.rows, column.marks, strict=True)):
        y = _TOP + (number + 0.68) * chart.step
        if not mark.middle:
            yield text(mark.instead, left, y, class_="faint small")
            continue
        x = at(mark.middle)
        yield _whisker(at(mark.low), at(mark.high), y, row.kind)
        hint = element("title", words_of(f"{row.label}: {shown(mark.middle)} ({shown(mark.low)}–{shown(mark.high)})"))
        yield element("circle", hint, class_=row.kind, cx=x, cy=y, r=5.0 if row.kind == "chosen" else 4.2)
        weight = " heading" if row.kind == "chosen" else ""
        ground = " on-band" if row.kind in {"ours", "chosen"} else ""
        inside = min(max(x, left + 14), left + width - 14)
        yield text(shown(mark.middle), inside, y - 9, class_=f"ink small halo{ground}{weight}", text_anchor="middle")


def _bars(chart: Chart, column: Column, left: float, width: float) -> Iterator[str]:
    most = max((mark.high for mark in column.marks), default=0.0) or 1.0
    room = width - 44
    bottom = _TOP + len(chart.rows) * chart.step
    yield element("line", class_="rule", x1=left, x2=left, y1=_TOP, y2=bottom)
    for number, (row, mark) in enumerate(zip(chart.rows, column.marks, strict=True)):
        y = _TOP + (number + 0.5) * chart.step
        if mark.middle is None:
            yield text(mark.instead, left + 6, y + 4, class_="faint small")
            continue
        long, low, high = (max(0.0, value) / most * room for value in (mark.middle, mark.low, mark.high))
        hint = element("title", words_of(f"{row.label}: {shown(mark.middle)}"))
        yield element("rect", hint, class_=row.kind, stroke_width=0, x=left, y=y - 7, width=long, height=14.0)
        if high - low > 2:
            yield _whisker(left + low, left + high, y, "limit")
        yield text(shown(round(mark.middle, 2)), left + max(long, high) + 6, y + 4, class_="ink small")


def _whisker(low: float, high: float, y: float, kind: Kind) -> str:
    ends = "".join(f"M{x:.2f},{y - 3:.2f}V{y + 3:.2f}" for x in (low, high))
    return element("path", class_=f"{kind} whisker", d=f"M{low:.2f},{y:.2f}H{high:.2f}{ends}")


def _power(power: int) -> str:
    value = 10.0**power
    return f"{value / 1e6:g}M" if power >= 6 else f"{value / 1e3:g}k" if power >= 3 else f"{value:g}"
