"""The scorecard: verdicts of many runs, as one table in Markdown. No run of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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


def scorecard(judged: Iterable[Judged]) -> str:
    """Return a line for each row that was run, in the order of the table."""
    rows: dict[str, list[Judged]] = {}
    for each in judged:
        rows.setdefault(each.case.row.key, []).append(each)
    lines = [_HEADS, ("---",) * len(_HEADS), *map(_line, rows.values())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def foreseen(rows: Sequence[Row]) -> list[Judged]:
    """Return the judgements of the table itself. A run that comes to another is a failure."""
    return [
        Judged(
            case=Case(row=row, company=company, shape=shape, caller=""), judgement=Judgement(verdict=expected.verdict)
        )
        for row in rows
        for company, expected in row.expects.items()
        for shape in row.shapes
    ]


def totals(judged: Sequence[Judged]) -> str:
    """Say how many runs there were, and with which verdicts."""
    counts = Counter(each.judgement.verdict for each in judged)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in reversed(_WORST_FIRST))
    return f"{len(judged):,} runs: {told}."


def _line(judged: Sequence[Judged]) -> tuple[str, ...]:
    row = judged[0].case.row
    verdicts = {company: [each for each in judged if each.case.company is company] for company in Company}
    others = [f"{_worst(verdicts[company])} {company}" for company in Company if company.other and verdicts[company]]
    remarks = "; ".join([*_remarks(row), *others])
    return (row.says, _worst(verdicts[Company.ALONE]), _worst(verdicts[Company.HEALTHY]), remarks)


def _worst(judged: Sequence[Judged]) -> str:
    found = {each.judgement.verdict for each in judged}
    return next((str(verdict) for verdict in _WORST_FIRST if verdict in found), "")


def _remarks(row: Row) -> list[str]:
    """Tell how it is rescued beside a healthy route, or what is told."""
    expected = row.expects[Company.HEALTHY]
    if expected.verdict is Verdict.CLEAN_ERROR:
        return [f"`{code}`" for code in sorted(map(str, expected.codes))]
    if expected.others:
        return ["by the other route"]
    if len(expected.attempts) > 1:
        return ["asked again"]
    return [row.mends] if row.mends else []
