"""Lengths and moments as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flatfee.cli.admin.values import NotAValue, moment, seconds

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "length"), [("0", 0), ("0h", 0), ("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800)]
)
def test_a_length_is_a_number_and_a_unit(text: str, length: int) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1.5h", "1w", "1h30m", " 1h", "1" * 10 + "d"])
def test_what_is_no_length_is_told_with_an_example(text: str) -> None:
    with pytest.raises(NotAValue, match="24h"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("30d", "2026-12-25T12:00:00Z"),
        ("90s", "2026-11-25T12:01:30Z"),
        ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z"),
        ("2027-01-31T12:00:00+02:00", "2027-01-31T10:00:00Z"),
        ("2027-01-31", "2027-01-31T00:00:00Z"),
    ],
)
def test_a_moment_is_told_in_utc(text: str, at: str) -> None:
    assert moment(text, NOON) == at


@pytest.mark.parametrize("text", ["", "soon", "2027-13-01", "999999999d", "9999-12-31T23:59:59-12:00"])
def test_what_is_no_moment_is_told_with_an_example(text: str) -> None:
    with pytest.raises(NotAValue, match="30d"):
        moment(text, NOON)
