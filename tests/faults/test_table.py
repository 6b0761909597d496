"""Every row of the table, alone and in company; the callers take turns."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
from tests.faults.callers import CALLERS
from tests.faults.judge import judge
from tests.faults.rows import TABLE
from tests.faults.scenario import Case, run

_CALLERS = list(CALLERS)


def cases() -> Iterator[Case]:
    for row in TABLE:
        for company in row.expects:
            for shape in row.shapes:
                turn = zlib.crc32(f"{row.name} {company} {shape}".encode()) % len(_CALLERS)
                yield Case(row=row, company=company, shape=shape, caller=_CALLERS[turn])


@pytest.mark.faults
@pytest.mark.parametrize("case", list(cases()), ids=str)
async def test_a_row(case: Case) -> None:
    """The row's verdict, from the caller's side, the ledger's and the provider's."""
    assert list(judge(await run(case)).wrongs) == []
