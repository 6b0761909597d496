"""``python -m tests.faults``, the scorecard, the table and its page."""

from __future__ import annotations

import pytest
from tests.faults import __main__ as command
from tests.faults.catalogue import CATALOGUE
from tests.faults.judge import Judgement
from tests.faults.rows import TABLE
from tests.faults.scorecard import foreseen, scorecard
from tests.faults.table import Company, Verdict

ELSEWHERE = {"refused", "deaf"}
"""Rows whose provider is never reached."""


def test_every_row_is_in_the_catalogue_and_has_a_key_of_its_own() -> None:
    assert {row.name for row in TABLE} - ELSEWHERE <= set(CATALOGUE)
    assert len({row.key for row in TABLE}) == len(TABLE)


def test_everything_in_the_catalogue_is_in_the_table_or_has_a_test_of_its_own() -> None:
    own = {"healthy-otherwise", "bytes-after-the-answer"}
    assert set(CATALOGUE) - {row.name for row in TABLE} - own == set()


def test_every_fault_that_a_healthy_route_can_cure_is_rescued() -> None:
    """What is not, is no fault of the route, or cannot be continued by anybody."""
    told = {row.name for row in TABLE if row.expects[Company.HEALTHY].verdict is Verdict.CLEAN_ERROR}
    assert told == {
        "http-400",
        "endless-refusal",
        "content-policy-400",
        "content-policy-403",
        "tool-call-cut",
        "tool-call-then-error",
        "reasoning-cut",
        "two-choices-one-cut",
    }


def test_the_page_shows_the_table_as_it_is() -> None:
    text = command.PAGE.read_text("utf-8")
    assert command.page(text) == text, "run: python -m tests.faults --page"


def test_one_failure_is_what_a_row_came_to() -> None:
    rows = [row for row in TABLE if row.name == "http-500" and row.times is None]
    first, *rest = foreseen(rows)
    failed = type(first)(case=first.case, judgement=Judgement(verdict=Verdict.FAIL))
    assert scorecard([first, *rest]).splitlines()[-1] == "| answers 500 | clean error | rescued | by the other route |"
    assert scorecard([failed, *rest]).splitlines()[-1] == "| answers 500 | fail | rescued | by the other route |"


def test_a_row_that_is_not_there_is_named_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "no-such"])
    assert "no row no-such; use one of: refused, deaf" in capsys.readouterr().err


@pytest.mark.processes
def test_the_command_runs_what_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "http-401"]) == 0
    out = capsys.readouterr().out
    assert "| answers 401: the operator's key is wrong | clean error | rescued | by the other route |" in out
    assert "12 runs: 0 pass, 6 rescued, 6 clean error, 0 fail." in out


@pytest.mark.processes
def test_a_wrong_makes_the_command_fail_and_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Judgement(verdict=Verdict.FAIL, wrongs=["stitched"])
    monkeypatch.setattr(command, "judge", lambda run: wrong)
    assert command.main(["--only", "http-401"]) == 1
    assert "http-401, alone, stream, flatfee: stitched" in capsys.readouterr().err
