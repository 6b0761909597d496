"""Every row of the table, in every company; the callers take turns."""

from __future__ import annotations

import asyncio
import zlib

import pytest
from tests.faults.callers import CALLERS
from tests.faults.judge import judge
from tests.faults.rows import TABLE
from tests.faults.scenario import Case, run
from tests.faults.table import Row

_CALLERS = list(CALLERS)


def cases_of(row: Row) -> list[Case]:
    """Return every company and shape of a row, each with one caller."""
    return [
        Case(
            row=row,
            company=company,
            shape=shape,
            caller=_CALLERS[zlib.crc32(f"{row.key}{company}{shape}".encode()) % 3],
        )
        for company in row.expects
        for shape in row.shapes
    ]


@pytest.mark.faults
@pytest.mark.parametrize("row", TABLE, ids=[row.key for row in TABLE])
async def test_a_row(row: Row) -> None:
    """The row's verdicts, from the caller's side, the ledger's and the provider's."""
    runs = await asyncio.gather(*map(run, cases_of(row)))
    assert [f"{each.case}: {wrong}" for each in runs for wrong in judge(each).wrongs] == []
