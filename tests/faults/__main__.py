"""``make faults``: every fault, every caller, alone and in company; one scorecard. ``--only`` picks rows by name."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.faults.callers import ALL_CALLERS, CALLERS
from tests.faults.judge import Judgement, judge
from tests.faults.rows import TABLE
from tests.faults.scenario import Case, run
from tests.faults.scorecard import Judged, foreseen, scorecard, totals
from tests.faults.table import Row, Verdict
from tests.torture.results import Progress, quiet

AT_ONCE: Final = 8
PAGE: Final = Path(__file__).parents[2] / "docs/operations/faults.md"
BEGIN: Final = "<!-- Written by python -m tests.faults --page -->"
END: Final = "<!-- The end of what is written -->"
BLOCKING: Final = frozenset({"healthy", "http-500", "cut-midway"})
"""Rows that our blocking client is asked for as well."""


def cases(rows: Sequence[Row]) -> list[Case]:
    """Return every case of some rows."""
    return [
        Case(row=row, company=company, shape=shape, caller=caller)
        for row in rows
        for company in row.expects
        for shape in row.shapes
        for caller in (ALL_CALLERS if row.name in BLOCKING else CALLERS)
    ]


async def judge_all(cases: Sequence[Case]) -> list[Judged]:
    """Run every case, a few at once, and tell at once what is wrong with one."""
    bound = asyncio.Semaphore(AT_ONCE)
    progress = Progress("faults", len(cases))
    done: list[Judged] = []

    async def one(case: Case) -> Judged:
        async with bound:
            try:
                judgement = judge(await run(case))
            except Exception as error:  # one run that cannot be judged must not hide the others
                judgement = Judgement(verdict=Verdict.FAIL, wrongs=[f"could not be judged: {error!r}"])
        for wrong in judgement.wrongs:
            print(f"{case}: {wrong}", file=sys.stderr, flush=True)
        done.append(Judged(case=case, judgement=judgement))
        progress.at(len(done), sum(each.judgement.verdict is Verdict.FAIL for each in done))
        return done[-1]

    return list(await asyncio.gather(*map(one, cases)))


def page(text: str) -> str:
    """Return the page of the documentation with the table, as it is now, between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{scorecard(foreseen(TABLE))}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="run the rows of this name; may be repeated")
    parser.add_argument("--page", action="store_true", help="run nothing: write the table into the documentation")
    asked = parser.parse_args(arguments)
    if asked.page:
        PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
        return 0
    rows = [row for row in TABLE if asked.only is None or row.name in asked.only]
    if not rows:
        parser.error(f"there is no row {', '.join(asked.only)}; use one of: {', '.join(row.name for row in TABLE)}")
    started = time.monotonic()
    with quiet():
        judged = asyncio.run(judge_all(cases(rows)))
    print(f"{scorecard(judged)}\n\n{totals(judged)}")
    print(f"They took {time.monotonic() - started:.0f} seconds.", file=sys.stderr)
    return 1 if any(each.judgement.verdict is Verdict.FAIL for each in judged) else 0


if __name__ == "__main__":
    sys.exit(main())
