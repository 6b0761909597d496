"""The double beside the truth: the same row on raw sockets and in the double, and the client cannot tell them apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.faults.rows import TABLE
from tests.faults.scenario import Case
from tests.faults.scenario import run as run_on_sockets
from tests.faults.table import Company
from tests.testing.faults.row_runs import Heard, Places, all_places, ask

import flatfee

pytestmark = pytest.mark.faults

OURS = 0
SAME = (
    *("refused", "silent", "reset-before-a-byte", "not-kept", "http-400", "http-503", "429-retry-after-30"),
    *("html-with-200", "half-of-the-json", "cut-midway", "stalls-midway", "error-midway-anthropic", "broken-events-4"),
    *("tool-call-cut", "no-done", "usage-negative"),
)
"""A few of each kind. All rows that the double plays were compared so once; what comes of each is in both suites."""

_ROWS = [row for row in TABLE if row.name in SAME]


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    with all_places() as places:
        yield places


@pytest.mark.parametrize("company", [Company.ALONE, Company.HEALTHY])
@pytest.mark.parametrize("row", _ROWS, ids=[row.key for row in _ROWS])
async def test_a_client_cannot_tell_the_double_from_sockets(row: Any, company: Company, places: Places) -> None:
    shape = row.shapes[0]
    there = await run_on_sockets(Case(row=row, company=company, shape=shape, caller="flatfee"))
    here = ask(row, company, shape, places[company], OURS)
    assert there.heard is not None
    assert told(here.receipt.model_dump(mode="json").get("attempts") if here.receipt else None) == told(
        (there.receipt or {}).get("attempts")
    )
    assert (error_of(here), code_of(here), bool(here.texts)) == (
        there.heard.error,
        there.heard.code,
        bool(there.heard.texts),
    )
    if here.receipt is not None and there.heard.receipt is not None:
        for name in ("lane", "reason", "state"):
            assert getattr(here.receipt, name) == there.heard.receipt.get(name)


def told(attempts: Sequence[Any] | None) -> list[tuple[Any, ...]]:
    return [(each["route"], each["outcome"], each.get("status")) for each in attempts or ()]


def error_of(heard: Heard) -> str | None:
    return type(heard.error).__name__ if heard.error is not None else None


def code_of(heard: Heard) -> str | None:
    return heard.error.code if isinstance(heard.error, flatfee.APIError) else None
