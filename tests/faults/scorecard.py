"""The scorecard: verdicts of many runs, as one table in Markdown. No run of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.faults.judge import Judgement
from tests.faults.scenario import Case
from tests.faults.table import Company, Row, Verdict

_WORST_FIRST: Final = (Verdict.FAIL, Verdict.CLEAN_ERROR, Verdict.RESCUED, Verdict.PASS)
_HEADS: Final = ("a provider that…", "alone", "beside a healthy route", "remarks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A case and its judgement."""

    case: Case
    judgement: Judgement


def scorecard(rows: Sequence[Row], judged: Iterable[Judged]) -> str:
    """Return a line for each row, and the totals of all runs."""
    by_row: dict[str, list[Judged]] = {}
    for each in judged:
        by_row.setdefault(each.case.row.key, []).append(each)
    lines = [_HEADS, ("---",) * len(_HEADS), *(_line(row, by_row[row.key]) for row in rows if row.key in by_row)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{totals([each for found in by_row.values() for each in found])}"


def totals(judged: Sequence[Judged]) -> str:
    """Say how many runs there were, and with which verdicts."""
    counts = Counter(each.judgement.verdict for each in judged)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in reversed(_WORST_FIRST))
    return f"{len(judged)} runs: {told}."


def _line(row: Row, judged: Sequence[Judged]) -> tuple[str, ...]:
    verdicts = {company: [each for each in judged if each.case.company is company] for company in Company}
    return (row.says, _worst(verdicts[Company.ALONE]), _worst(verdicts[Company.HEALTHY]), _remarks(verdicts))


def _worst(judged: Sequence[Judged]) -> str:
    found = {each.judgement.verdict for each in judged}
    return next((str(verdict) for verdict in _WORST_FIRST if verdict in found), "")


def _remarks(verdicts: Mapping[Company, Sequence[Judged]]) -> str:
    """Tell how it was rescued, and what came of other company than the healthy."""
    remarks = sorted(
        {
            remark
            for each in verdicts[Company.HEALTHY]
            if each.judgement.verdict is not Verdict.FAIL
            for remark in each.judgement.remarks
        }
    )
    others = [f"{company}: {_worst(verdicts[company])}" for company in Company if company.other and verdicts[company]]
    return "; ".join([*(f"`{remark}`" if "_" in remark else remark for remark in remarks), *others])
