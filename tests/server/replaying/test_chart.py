"""The chart: well-formed, escaped, and drawn to scale."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from tests.server.replaying.past import line, settings
from tests.server.replaying.test_comparing import DAY, compared

from flatfee.server.replaying.chart.drawing import as_html, draw
from flatfee.server.replaying.chart.scales import MOST_BARS, Scale, bar_width, date_text, dates, short, ticks

SVG = "{http://www.w3.org/2000/svg}"
MONTH = [line(day * 86_400.0, number=day) for day in range(30)]


def drawn(*lines: bytes, title: str = "A title") -> ElementTree.Element:
    return ElementTree.fromstring(draw(compared(settings(fair_use=1200), *lines), title))


def test_a_chart_shows_both_sides_of_units_and_lanes() -> None:
    chart = drawn(*MONTH)
    words = [each.text for each in chart.iter(f"{SVG}text")]
    assert {"Requests by lane, per day: was", "Requests by lane, per day: would be", "premium", "refused"} <= {*words}
    lines = [each.get("class") for each in chart.iter(f"{SVG}polyline")]
    assert {"line was", "line would", "cap would"} <= {*lines}


def test_bars_are_as_high_as_what_they_stand_for() -> None:
    minute = [line(number * 10.0, number=number) for number in range(5)]
    bars = [
        (float(bar.get("height", 0)), hint.text or "")
        for bar in drawn(*minute).iter(f"{SVG}rect")
        if (hint := bar.find(f"{SVG}title")) is not None
    ]
    heights = {text.rsplit(": ", 1)[1]: height for height, text in bars}
    assert heights["premium 5"] == pytest.approx(heights["premium 2"] * 2.5, abs=0.1)
    assert heights["continuation 3"] == pytest.approx(heights["premium 2"] * 1.5, abs=0.1)


def test_lines_stay_within_their_panel_and_never_fall() -> None:
    for each in drawn(*MONTH).iter(f"{SVG}polyline"):
        points = [tuple(map(float, point.split(","))) for point in each.get("points", "").split()]
        assert all(84 <= x <= 1052 and 138 <= y <= 408 for x, y in points)
        assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_a_plan_that_shrank_stays_within_its_panel() -> None:
    use = {"unit": "token", "charged": 140, "remaining": 0, "resets_at": "2026-12-01T00:00:00Z"}
    shrunk = [
        line(n * 600.0, number=n, fair_use=use | {"limit": limit})
        for n, limit in enumerate((2500, 2500, 2500, 2500, 1500))
    ]
    for each in drawn(*shrunk).iter(f"{SVG}polyline"):
        assert all(138 <= float(point.split(",")[1]) <= 408 for point in each.get("points", "").split())


def test_traffic_of_some_minutes_is_drawn_by_the_minute() -> None:
    chart = drawn(*DAY)
    words = [each.text for each in chart.iter(f"{SVG}text")]
    assert {"Requests by lane, per minute: was", "1 Nov 12:00", "1 Nov 12:04"} <= {*words}
    assert len([bar for bar in chart.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]) == 10


def test_bars_do_not_overlap_where_the_first_is_cut() -> None:
    late = [line(number * 3600.0, number=number) for number in range(1, 60)]  # from 13:00, and bars of six hours
    spans = [
        (float(bar.get("x", 0)), float(bar.get("width", 0)))
        for bar in drawn(*late).iter(f"{SVG}rect")
        if bar.find(f"{SVG}title") is not None
    ]
    assert all(x + width <= after for (x, width), (after, _) in pairwise(sorted({*spans})))


def test_text_is_escaped() -> None:
    title = '<script>alert("x")</script> & \x00more'
    chart = drawn(*DAY, title=title)
    assert not list(chart.iter(f"{SVG}script"))
    assert any("<script>" in (each.text or "") for each in chart.iter(f"{SVG}text"))
    page = as_html(draw(compared(settings(), *DAY), title), title)
    assert "<script>" not in page
    assert page.startswith("<!doctype html>")


def test_one_request_is_a_chart_too() -> None:
    assert drawn(line()).get("viewBox") == "0 0 1080 820"


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (7, [0, 2, 4, 6, 8]),
        (1_000_000, [0, 250_000, 500_000, 750_000, 1_000_000]),
    ],
)
def test_ticks_are_round_and_reach_the_top(most: float, expected: list[float]) -> None:
    assert ticks(most) == expected


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (950, "950"), (1500, "1.5 k"), (2_500_000, "2.5 M"), (3e12, "3 T")]
)
def test_figures_on_an_axis_are_short(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("minutes", "step", "width"),
    [(1, 1, 1), (45, 1, 1), (46, 1, 5), (361, 1, 10), (60, 60, 60), (45 * 60, 60, 60), (46 * 60, 60, 360)],
)
def test_there_are_never_more_bars_than_can_be_told_apart(minutes: int, step: int, width: int) -> None:
    assert bar_width(minutes * 60, step * 60) == width * 60
    assert minutes / width <= MOST_BARS


@pytest.mark.parametrize(("days", "width"), [(30, 1), (365, 14)])
def test_long_traffic_has_bars_of_days_and_weeks(days: int, width: int) -> None:
    assert bar_width(days * 86_400, 3600) == width * 86_400


@pytest.mark.parametrize(
    ("minutes", "most", "expected"),
    [
        (30 * 24 * 60, 7, [0, 7200, 14_400, 21_600, 28_800, 36_000, 43_200]),
        (300, 3, [0, 120, 240]),
        (300, 10, [0, 60, 120, 180, 240, 300]),
        (8, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (8, 4, [0, 5]),
        (0, 4, [0]),
    ],
)
def test_dates_are_evenly_spread(minutes: int, most: int, expected: list[int]) -> None:
    first = 494_880 * 3600
    assert [(second - first) // 60 for second in dates(first, first + minutes * 60, most)] == expected
    assert date_text(first, days=True)
    assert ":" in date_text(first, days=False)


def test_a_scale_without_extent_is_a_point() -> None:
    assert Scale(3, 3, 10, 20).at(3) == 10
