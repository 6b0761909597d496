"""Billing windows: which one holds a moment, whatever the month, the day and the year."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatfee.server.windows import Window, check_window, window_at


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def shown(window: Window) -> tuple[str, str]:
    start, end = (datetime.fromtimestamp(moment, UTC) for moment in (window.start, window.end))
    return f"{start:%Y-%m-%d}", f"{end:%Y-%m-%d}"


@pytest.mark.parametrize(
    ("day", "now", "start", "end"),
    [
        (1, "2026-11-01T00:00:00", "2026-11-01", "2026-12-01"),
        (1, "2026-11-30T23:59:59.999", "2026-11-01", "2026-12-01"),
        (1, "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        (15, "2026-01-14T23:59:59", "2025-12-15", "2026-01-15"),
        (15, "2026-01-15T00:00:00", "2026-01-15", "2026-02-15"),
        (29, "2026-02-15T00:00:00", "2026-01-29", "2026-02-28"),
        (29, "2028-02-28T23:00:00", "2028-01-29", "2028-02-29"),
        (30, "2028-02-29T00:00:00", "2028-02-29", "2028-03-30"),
        (31, "2026-02-27T23:59:59", "2026-01-31", "2026-02-28"),
        (31, "2026-02-28T00:00:00", "2026-02-28", "2026-03-31"),
        (31, "2026-03-30T12:00:00", "2026-02-28", "2026-03-31"),
        (31, "2026-04-30T00:00:00", "2026-04-30", "2026-05-31"),
        (31, "2026-12-31T00:00:00", "2026-12-31", "2027-01-31"),
        (31, "2100-02-28T00:00:00", "2100-02-28", "2100-03-31"),
        (29, "2000-02-29T00:00:00", "2000-02-29", "2000-03-29"),
    ],
)
def test_a_month_runs_from_billing_day_to_billing_day(day: int, now: str, start: str, end: str) -> None:
    assert shown(window_at("month", day, at(now))) == (start, end)


def test_a_length_is_cut_from_the_epoch() -> None:
    assert window_at("5h", 31, 5 * 3600 - 0.001) == Window(0, 5 * 3600)
    assert window_at("5h", 31, 5 * 3600) == Window(5 * 3600, 10 * 3600)
    assert window_at("7d", 1, at("2026-11-22T12:00:00")) == Window(
        int(at("2026-11-19T00:00:00")), int(at("2026-11-26T00:00:00"))
    )


kinds = st.sampled_from(["month", "1h", "5h", "7d", "30d", "9999d"])
days = st.integers(1, 31)
moments = st.floats(0, 7_000_000_000, allow_nan=False)


@given(kinds, days, moments)
def test_a_window_holds_its_moment(kind: str, day: int, now: float) -> None:
    window = window_at(kind, day, now)
    assert window.start <= now < window.end


@given(kinds, days, moments)
def test_every_moment_of_a_window_finds_the_same_one(kind: str, day: int, now: float) -> None:
    window = window_at(kind, day, now)
    assert window_at(kind, day, window.start) == window
    assert window_at(kind, day, window.end - 0.001) == window


@given(kinds, days, moments)
def test_windows_touch_without_gap_or_overlap(kind: str, day: int, now: float) -> None:
    window = window_at(kind, day, now)
    assert window_at(kind, day, window.end).start == window.end
    assert window_at(kind, day, window.start - 0.001).end == window.start


@given(days, moments)
def test_a_month_has_28_to_31_days(day: int, now: float) -> None:
    window = window_at("month", day, now)
    assert (window.end - window.start) / 86_400 in {28, 29, 30, 31}


@pytest.mark.parametrize("kind", ["month", "1h", "24h", "7d", "9999d"])
def test_a_kind_of_window_is_accepted(kind: str) -> None:
    assert check_window(kind) == kind


@pytest.mark.parametrize("kind", ["", "week", "0h", "05h", "5", "h", "5m", "-1d", "10000d", "5h ", "1.5h", "Month"])
def test_an_unknown_kind_of_window_is_named_with_the_cure(kind: str) -> None:
    with pytest.raises(ValueError, match=r"unknown window .*use 'month' or a length such as '5h' or '7d'"):
        check_window(kind)
