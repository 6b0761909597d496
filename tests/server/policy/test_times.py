"""Hours and days of rules: ends, midnight, and the two days a year on which clocks jump."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flatfee.server.policy.rules import decide
from flatfee.server.policy.times import DAYS, Day, Times, check_timezone, zone_of
from flatfee.server.settings import PolicySettings
from flatfee.wire import Reason

WED, THU = "2026-11-25", "2026-11-26"


@pytest.mark.parametrize(
    ("hours", "days", "moment", "holds"),
    [
        (("09:00-17:30",), None, f"{WED}T09:00", True),
        (("09:00-17:30",), None, f"{WED}T17:29:59", True),
        (("09:00-17:30",), None, f"{WED}T17:30", False),
        (("09:00-17:30",), None, f"{WED}T08:59:59", False),
        (("08:00-09:00", "18:00-24:00"), None, f"{WED}T23:59", True),
        (("08:00-09:00", "18:00-24:00"), None, f"{WED}T12:00", False),
        (("00:00-24:00",), None, f"{WED}T00:00", True),
        (("22:00-06:00",), None, f"{WED}T22:00", True),
        (("22:00-06:00",), None, f"{WED}T05:59", True),
        (("22:00-06:00",), None, f"{WED}T06:00", False),
        (None, ("wed",), f"{WED}T00:00", True),
        (None, ("wed",), f"{THU}T00:00", False),
        (("22:00-06:00",), ("wed",), f"{WED}T23:00", True),
        (("22:00-06:00",), ("wed",), f"{THU}T05:00", True),
        (("22:00-06:00",), ("wed",), f"{WED}T05:00", False),
        (("22:00-06:00",), ("sun",), "2026-11-30T05:00", True),
        (("22:00-00:00",), ("wed",), f"{WED}T23:59", True),
        (("22:00-00:00",), ("wed",), f"{THU}T00:00", False),
    ],
)
def test_a_span_holds_from_its_start_to_before_its_end_on_the_day_on_which_it_began(
    hours: tuple[str, ...] | None, days: tuple[Day, ...] | None, moment: str, holds: bool
) -> None:
    assert Times.of(hours, days).hold(datetime.fromisoformat(moment)) is holds


@pytest.mark.parametrize(
    ("hours", "days"),
    [
        (("22:30-01:00", "12:00-12:01"), ("sun", "tue")),
        (("00:00-24:00",), ("mon",)),
        (None, None),
        (("23:59-00:00",), None),
    ],
)
def test_the_week_has_a_bit_for_each_minute_in_which_it_holds(
    hours: tuple[str, ...] | None, days: tuple[Day, ...] | None
) -> None:
    times = Times.of(hours, days)
    monday = datetime(2026, 11, 23, tzinfo=UTC)
    held = [times.hold(monday + timedelta(minutes=minute)) for minute in range(7 * 24 * 60)]
    assert sum(1 << minute for minute, holds in enumerate(held) if holds) == times.week


@pytest.mark.parametrize(
    ("utc", "holds"),
    [
        ("2026-03-29T00:30", False),  # 01:30 in Berlin
        ("2026-03-29T00:59", False),
        ("2026-03-29T01:00", False),  # 03:00: two o'clock was skipped
        ("2026-10-25T00:30", True),  # 02:30 in summer time
        ("2026-10-25T01:30", True),  # 02:30 again, in winter time
        ("2026-10-25T02:00", False),
        ("2026-07-01T00:30", True),
        ("2026-12-01T00:30", False),
        ("2026-12-01T01:30", True),
    ],
)
def test_the_wall_clock_counts_also_when_it_jumps(facts: Any, utc: str, holds: bool) -> None:
    rules = [{"when": {"hours": ["02:00-03:00"]}, "tier": "economy", "reason": "small_task"}]
    policy = PolicySettings.model_validate({"timezone": "Europe/Berlin", "rules": rules})
    at = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert decide(policy, facts(at=at)).reason == (Reason.SMALL_TASK if holds else Reason.DEFAULT)


@pytest.mark.parametrize(
    "text", ["", "9-17", "9:00-17:00", "24:00-06:00", "23:60-24:00", "22:00-24:01", "22:00-06:00 "]
)
def test_what_is_no_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not a span of hours; write one such as '22:00-06:00'"):
        Times.of((text,), None)


def test_a_span_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="'06:00-06:00' has no length; '00:00-24:00' is the whole day"):
        Times.of(("06:00-06:00",), None)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "Europe", "../etc/passwd", "/etc/localtime", "x" * 500, "Europe/Berlin\0"]
)
def test_an_unknown_timezone_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(ValueError, match="is no timezone that this machine knows; use an IANA name such as"):
        check_timezone(name)


def test_utc_needs_no_database_of_timezones() -> None:
    assert zone_of("UTC") is UTC
    assert len(DAYS) == 7
