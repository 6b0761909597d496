"""The scorecard: verdicts of many runs, as one table in Markdown. No run of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.faults.judge import Judgement
from tests.faults.scenario import Case
from tests.faults.table import NO_MORE, Company, Row, Verdict

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
    alone, healthy = ([each for each in judged if each.case.company is one] for one in (Company.ALONE, Company.HEALTHY))
    failed = [each for each in judged if each.judgement.verdict is Verdict.FAIL and each.case.company.has_other]
    return (row.says, _worst(alone), _worst([*healthy, *failed]), _remarks(row))


def _worst(judged: Sequence[Judged]) -> str:
    found = {each.judgement.verdict for each in judged}
    return next((str(verdict) for verdict in _WORST_FIRST if verdict in found), "")


def _remarks(row: Row) -> str:
    """Tell how it is rescued beside a healthy route, or why it is not."""
    expected = row.expects[Company.HEALTHY]
    if expected.verdict is Verdict.CLEAN_ERROR:
        return "nobody can go on with it" if expected.codes & NO_MORE else "the refusal is passed on"
    if expected.others:
        same = ", if that says the same or can go on" if Company.OTHERWISE in row.expects else ""
        return f"by the other route{same}"
    return "asked again" if len(expected.attempts) > 1 else row.mends
